"""A model's folder: what its files declare, read and checked once, for all engines and for serving."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from qwen3_integrations.core.prompts import MODEL_CARD, TextConventions, query_prompt
from qwen3_integrations.core.types import Task
from qwen3_integrations.errors import ConfigError, ModelNotFound
from qwen3_integrations.models.conventions import declared_length, declared_lower_case, declared_prompts
from qwen3_integrations.models.cross_encoder import read_cross_encoder
from qwen3_integrations.models.heads import ScoreHead, StoredHead, label_head, stored_head, token_head
from qwen3_integrations.models.json_files import read_object
from qwen3_integrations.models.labels import Labels, declared_labels
from qwen3_integrations.models.modules import EmbeddingModules, embedding_modules
from qwen3_integrations.models.shapes import ModelShape, extended_context
from qwen3_integrations.models.weights import StoredWeights

CONFIG = "config.json"

_CLASSIFIER = "Qwen3ForSequenceClassification"


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
        token_ids: Of a reranker: the ids of the tokens for "yes" and for "no" that it declares; None for the tokens of these words.
        conventions: What it declares about its texts. Of a reranker, the prompt has its instruction.
        lower_case: Whether texts are put into lower case.
    """

    folder: Path
    config: Mapping[str, Any]
    classifier: bool
    labels: Labels = Labels()  # noqa: RUF009  a frozen value
    modules: EmbeddingModules = EmbeddingModules()  # noqa: RUF009  a frozen value
    conventions: TextConventions = MODEL_CARD
    lower_case: bool = False
    token_ids: tuple[int, int] | None = None

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
        """Length of the longest prompt, in tokens: with YaRN the original context times its factor, where that is more."""
        return extended_context(self.config)

    def stored_head(self) -> StoredHead:
        """The head of a sequence-classification conversion, from the headers of its weights alone.

        Raises:
            ModelNotFound: If the folder has no safetensors weights.
            ConfigError: If the head is not there, or of another shape than the labels in `config.json` say.
        """
        return stored_head(self.folder, self.width, self.labels, self.weights.shapes())

    @property
    def score_head(self) -> ScoreHead:
        """Of a reranker: where its score is read, from the headers of its weights.

        Raises:
            ModelNotFound: If the folder has no safetensors weights.
            ConfigError: If the head is not there, or of another shape than the folder's files say.
        """
        if self.classifier:
            return label_head(self.stored_head(), self.labels)
        return token_head(self.folder, self.config, self.weights.shapes(), self.token_ids)

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

    @property
    def weights(self) -> StoredWeights:
        """The stored tensors."""
        return StoredWeights(self.folder)

    def stored_bytes(self, value_bytes: int | None = None, quantization: str | None = None) -> int:
        """Bytes of the weights in memory; see `StoredWeights.bytes`. A quantised checkpoint counts as stored."""
        return self.weights.bytes(value_bytes, quantised=self.quantised, quantization=quantization)


def read_model(folder: Path, task: Task) -> ModelFiles:
    """Read a model's description from its folder.

    Args:
        folder: With `config.json`, weights and tokenizer.
        task: What the model must do.

    Raises:
        ModelNotFound: If the folder has no `config.json`.
        ConfigError: If it is not a Qwen3 model, a model for the other task, or a reranker whose labels do not say which one means "yes".
    """
    config = read_config(folder)
    if config.get("model_type") != "qwen3":
        raise ConfigError(
            f"{folder} contains a {config.get('model_type')!r} model, but this package runs only Qwen3-Embedding and Qwen3-Reranker"
        )
    classifier = _is_classifier(config)
    if task == "embed" and classifier:
        raise ConfigError(f"{folder} contains a reranker ({_CLASSIFIER})", advice="Open it with task rerank")
    if task == "rerank" and _pools(folder):
        raise ConfigError(f"{folder} contains an embedding model (it has a pooling config)", advice="Open it with task embed")
    if task == "rerank":
        labels = declared_labels(config, folder / CONFIG) if classifier else Labels()
        declared = read_cross_encoder(folder, classifier=classifier)
        instructed = TextConventions(query_prompt(declared.instruction)) if declared.instruction else MODEL_CARD
        return ModelFiles(folder, MappingProxyType(config), classifier, labels, conventions=instructed, token_ids=declared.token_ids)
    modules = embedding_modules(folder, int(config["hidden_size"]))
    conventions = replace(
        declared_prompts(folder),
        pooled=modules.pooling.include_prompt,
        max_tokens=declared_length(folder, extended_context(config)),
    )
    return ModelFiles(folder, MappingProxyType(config), classifier, Labels(), modules, conventions, declared_lower_case(folder))


def read_config(folder: Path) -> dict[str, Any]:
    """The content of a folder's `config.json`.

    Raises:
        ModelNotFound: If there is none.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ModelNotFound(f"{folder} has no {CONFIG}: it is not a model folder, or its download is not complete")
    return read_object(path)


def stated_task(folder: Path) -> Task | None:
    """The task that a folder's files state: a converted reranker, or an embedding model with a pooling config; else None."""
    if (folder / CONFIG).is_file() and _is_classifier(read_config(folder)):
        return "rerank"
    return "embed" if _pools(folder) else None


def _is_classifier(config: Mapping[str, Any]) -> bool:
    return _CLASSIFIER in config.get("architectures", [])


def _pools(folder: Path) -> bool:
    return (folder / "1_Pooling").is_dir()
