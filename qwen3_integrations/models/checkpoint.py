"""A model's folder: what its files declare, read and checked once, for all engines and for serving."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from qwen3_integrations.core.prompts import MODEL_CARD, TextConventions
from qwen3_integrations.core.tokenizer import Tokenizer
from qwen3_integrations.core.types import Task
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.config import CLASSIFIER, check_config, read_config
from qwen3_integrations.models.conventions import declared_length, declared_lower_case, declared_prompts
from qwen3_integrations.models.folders import CONFIG, check_declared_quantisation
from qwen3_integrations.models.json_files import file_exists
from qwen3_integrations.models.labels import Labels, declared_labels
from qwen3_integrations.models.modules import EmbeddingModules, embedding_modules
from qwen3_integrations.models.shapes import ModelShape
from qwen3_integrations.models.tasks import check_task, task_evidence
from qwen3_integrations.models.tokenizer_files import read_tokenizer
from qwen3_integrations.models.weights import StoredWeights


@dataclass(frozen=True, slots=True)
class StoredHead:
    """The head of a sequence-classification conversion.

    Attributes:
        rows: Rows of `score.weight`, 1 or 2: one a label.
        bias: Whether there is a `score.bias`.
    """

    rows: int
    bias: bool


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on disk.

    Attributes:
        folder: The folder of its files.
        config: The content of `config.json`.
        classifier: True for a sequence-classification conversion of a reranker: its head is stored, one row or two, and
            not the rows of "yes" and "no".
        labels: What the rows of a stored head mean.
        modules: Of an embedding model: how token states become a vector.
        conventions: Of an embedding model: what it declares about its texts.
        lower_case: Whether texts are put into lower case.
    """

    folder: Path
    config: Mapping[str, Any]
    classifier: bool
    labels: Labels = Labels()  # noqa: RUF009  a frozen value
    modules: EmbeddingModules = EmbeddingModules()  # noqa: RUF009  a frozen value
    conventions: TextConventions = MODEL_CARD
    lower_case: bool = False

    @property
    def width(self) -> int:
        """Width of the hidden state."""
        return int(self.config["hidden_size"])

    @property
    def dimensions(self) -> int:
        """Width of a full embedding."""
        return self.modules.width(self.width)

    @property
    def context(self) -> int:
        """Length of the longest prompt, in tokens."""
        return int(self.config["max_position_embeddings"])

    def stored_head(self) -> StoredHead:
        """The head of a sequence-classification conversion, from the headers of its weights alone.

        Raises:
            ModelNotFound: If the folder has no safetensors weights.
            ConfigError: If the head is not there, or of another shape than the labels in `config.json` say.
        """
        shapes = self.weights.shapes()
        weight, bias = shapes.get("score.weight"), shapes.get("score.bias")
        if weight is None:
            raise ConfigError(f"{self.folder} has no 'score.weight', which its config.json promises")
        if len(weight) != 2 or weight[0] not in (1, 2) or weight[1] != self.width:
            raise ConfigError(
                f"{self.folder} has a score.weight of shape {weight}; a reranker's is (1, {self.width}) or (2, {self.width}), a row a label"
            )
        if self.labels.count not in (None, weight[0]):
            raise ConfigError(
                f"{self.folder / 'config.json'} declares {self.labels.count} labels (id2label), but score.weight has {weight[0]} rows: "
                "one of the two is wrong"
            )
        if bias is not None and bias != weight[:1]:
            raise ConfigError(f"{self.folder} has a score.bias of shape {bias}; a reranker's has the shape {weight[:1]}, a number a label")
        return StoredHead(weight[0], bias is not None)

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return int(self.config["vocab_size"])

    @property
    def dtype(self) -> str:
        """Number format of the stored weights, such as `bfloat16` (also if `config.json` does not say)."""
        return str(self.config.get("dtype") or self.config.get("torch_dtype") or "bfloat16")

    @property
    def quantised(self) -> bool:
        """Whether the stored weights are quantised (GPTQ, AWQ, FP8, ...)."""
        return bool(self.config.get("quantization_config"))

    @property
    def shape(self) -> ModelShape:
        """The model's sizes.

        Raises:
            ConfigError: If `config.json` lacks a size.
        """
        return ModelShape.from_config(self.config, self.weights.shapes)

    def read_tokenizer(self) -> Tokenizer:
        """The folder's tokenizer, as its files declare it.

        Raises:
            ModelNotFound: If the folder has none.
            ConfigError: If it is damaged, or makes ids that the model has no row for.
        """
        tokenizer = read_tokenizer(self.folder, lower_case=self.lower_case)
        if tokenizer.largest_id >= self.vocabulary:
            raise ConfigError(
                f"{self.folder}: the tokenizer makes the id {tokenizer.largest_id}, but the model has only {self.vocabulary} rows of token "
                "embeddings (vocab_size): tokenizer and weights belong to different models",
                advice="Save both from the same model; after tokens were added, with model.resize_token_embeddings",
            )
        return tokenizer

    @property
    def weights(self) -> StoredWeights:
        """The stored tensors."""
        return StoredWeights(self.folder)

    def check(self, task: Task) -> None:
        """Prove that the weights are whole and fit `config.json`, from their headers alone.

        Args:
            task: What the model is opened for.

        Raises:
            ModelNotFound: If the folder has no safetensors weights.
            ConfigError: If a file is not whole, a tensor is missing or of another shape, or a head is missing or of the other task.
        """
        shapes = self.weights.shapes()
        if not self.quantised:
            check_declared_quantisation(self.folder, shapes)
            self.weights.check(self.shape.tensors(self.vocabulary))
        if self.classifier:
            self.stored_head()
        elif "score.weight" in shapes:
            raise ConfigError(
                f"{self.folder} stores the head of a reranker (score.weight), but architectures in {self.folder / CONFIG} is "
                f"{self.config['architectures'][0]}",
                advice=f"Set it to {CLASSIFIER} and open the model with task rerank",
            )
        elif task == "rerank" and not self.config.get("tie_word_embeddings") and "lm_head.weight" not in shapes:
            raise ConfigError(
                f"{self.folder} has no tensor 'lm_head.weight', and tie_word_embeddings in {self.folder / CONFIG} is not true: "
                "the model has no head to score with",
                advice="Set tie_word_embeddings to true if the reranker has tied embeddings, as the published 0.6B and 4B models have",
            )

    def stored_bytes(self, value_bytes: int | None = None, quantization: str | None = None) -> int:
        """Bytes of the weights in memory; see `StoredWeights.bytes`. A quantised checkpoint counts as stored."""
        return self.weights.bytes(value_bytes, quantised=self.quantised, quantization=quantization)


def read_model(folder: Path, task: Task) -> ModelFiles:
    """Read a model's description from its folder. No weights and no tokenizer are read; see `ModelFiles.check`.

    Args:
        folder: With `config.json`, weights and tokenizer.
        task: What the model must do.

    Raises:
        ModelNotFound: If the folder has no `config.json`.
        ConfigError: If it is not a Qwen3 model, a model for the other task, or a reranker whose labels do not say which one means "yes";
            if a file is damaged. The message names file and field.
    """
    config = read_config(folder)
    check_config(config, folder)
    check_task(folder, config, task)
    classifier = CLASSIFIER in config["architectures"]
    if task == "rerank":
        labels = declared_labels(config, folder / CONFIG) if classifier else Labels()
        return ModelFiles(folder, MappingProxyType(config), classifier, labels)
    modules = embedding_modules(folder, int(config["hidden_size"]))
    conventions = replace(
        declared_prompts(folder),
        pooled=modules.pooling.include_prompt,
        max_tokens=declared_length(folder, int(config["max_position_embeddings"])),
    )
    return ModelFiles(folder, MappingProxyType(config), classifier, Labels(), modules, conventions, declared_lower_case(folder))


def stated_task(folder: Path) -> Task | None:
    """The task that a folder's files, or else its name, state; None where they state none, or both.

    Raises:
        ConfigError: If one of the files can't be read.
    """
    config = read_config(folder) if file_exists(folder / CONFIG) else {}
    tasks = {evidence.task for evidence in task_evidence(folder, config)}
    return tasks.pop() if len(tasks) == 1 else None
