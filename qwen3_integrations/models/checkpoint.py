"""A model's folder: what its files declare, read and checked once, for all engines and for serving."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from qwen3_integrations.core.prompts import MODEL_CARD, RERANK_PREFIX, RERANK_SUFFIX, TextConventions, query_prompt
from qwen3_integrations.core.tokenizer import Tokenizer
from qwen3_integrations.core.types import Task
from qwen3_integrations.errors import ConfigError, ModelNotFound
from qwen3_integrations.models.adapter_config import ADAPTER_CONFIG
from qwen3_integrations.models.config import CLASSIFIER, check_config, read_config
from qwen3_integrations.models.conventions import declared_length, declared_prompts
from qwen3_integrations.models.cross_encoder import read_cross_encoder
from qwen3_integrations.models.folders import CONFIG, MODULES, check_declared_quantisation, check_folder, is_folder
from qwen3_integrations.models.heads import EMBEDDINGS, OUTPUT, SCORE, ScoreHead, StoredHead, label_head, stored_head, token_head
from qwen3_integrations.models.json_files import file_exists
from qwen3_integrations.models.labels import Labels, declared_labels
from qwen3_integrations.models.lora import AdaptedWeights, Adapter, read_adapter
from qwen3_integrations.models.modules import EmbeddingModules, embedding_modules
from qwen3_integrations.models.shapes import ModelShape, extended_context
from qwen3_integrations.models.tasks import check_task, task_evidence
from qwen3_integrations.models.tokenizer_files import missing_tokenizer, read_tokenizer
from qwen3_integrations.models.transformer_config import TransformerConfig
from qwen3_integrations.models.weights import INDEX, SINGLE, StoredWeights


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
        adapter: The adapter in its folder, or the one that was opened; `folder` is that of its base then.
        task: What it is read for.
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
    adapter: Adapter | None = None
    task: Task = "embed"

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
        """The stored tensors, with the adapter's changes."""
        return AdaptedWeights(self.folder, self.adapter) if self.adapter else StoredWeights(self.folder)

    def read_tokenizer(self) -> Tokenizer:
        """The folder's tokenizer, as its files declare it; an adapter that was saved with one has its own.

        Raises:
            ModelNotFound: If the folder has none.
            ConfigError: If it is damaged, makes ids that the model has no row for, or has tokens in prompts that depend on the text
                beside them.
        """
        tokenizer = read_tokenizer(self.tokenizer_folder, lower_case=self.lower_case)
        if tokenizer.largest_id >= self.vocabulary:
            raise ConfigError(
                f"{self.tokenizer_folder}: the tokenizer makes the id {tokenizer.largest_id}, but the model has {self.vocabulary} rows "
                "of token embeddings (vocab_size): tokenizer and weights belong to different models",
                advice="Save both from the same model; after tokens were added, with model.resize_token_embeddings",
            )
        self._check_prompts(tokenizer)
        return tokenizer

    def _check_prompts(self, tokenizer: Tokenizer) -> None:
        instruction, prompts = self.conventions.instruction or "", {self.conventions.before_query(), self.conventions.before_document}
        for prompt in prompts:
            if not prompt.isascii() and prompt.encode(errors="ignore").decode() != prompt:
                raise ConfigError(
                    f"{self.folder} declares the prompt {prompt!r}, which has a lone surrogate", advice="Correct the prompt in its files"
                )
        if self.task == "rerank":
            tokenizer.check_template(RERANK_PREFIX, RERANK_SUFFIX)
            if tokenizer.reads_control_token(instruction):
                raise ConfigError(
                    f"{self.tokenizer_folder}: the tokenizer reads a control token in the instruction {instruction!r} of the folder, and "
                    "this package reads it as text",
                    advice="Take it out of the instruction, or run the model with sentence_transformers.CrossEncoder",
                )
        else:
            for prompt in sorted(prompts - {""}):
                tokenizer.check_template(prompt)

    @property
    def tokenizer_folder(self) -> Path:
        """The folder with the tokenizer: an adapter that was saved with one has its own."""
        return self.adapter.folder if self.adapter and not missing_tokenizer(self.adapter.folder) else self.folder

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
        if not self.classifier and SCORE in shapes:
            raise ConfigError(
                f"{self.folder} stores the head of a reranker (score.weight), but architectures in {self.folder / CONFIG} is "
                f"{self.config['architectures'][0]}",
                advice=f"Set it to {CLASSIFIER} and open the model with task rerank",
            )
        if task == "rerank":
            _ = self.score_head  # raises if it is missing, or has another shape

    def stored_bytes(self, value_bytes: int | None = None, quantization: str | None = None) -> int:
        """Bytes of the weights in memory; see `StoredWeights.bytes`. A quantised checkpoint counts as stored."""
        return self.weights.bytes(value_bytes, quantised=self.quantised, quantization=quantization)


FindBase = Callable[[str, str | None], Path]
"""From the name of an adapter's base and its revision to the base's folder."""


def read_model(folder: Path, task: Task, find_base: FindBase | None = None) -> ModelFiles:
    """Read a model's description from its folder. No weights and no tokenizer are read; see `ModelFiles.check`.

    Args:
        folder: With `config.json`, weights and tokenizer; or an adapter, beside them or alone.
        task: What the model must do.
        find_base: Finds the base of an adapter that is alone; `hub.open_model` passes one. None: only a base beside the adapter is read.

    Raises:
        ModelNotFound: If the folder has no `config.json`, or an adapter's base is not found.
        ConfigError: If it is not a Qwen3 model, a model for the other task, or a reranker whose labels do not say which one means "yes";
            if a file is damaged; for an adapter that this package does not compute. The message names file and field.
    """
    check_folder(folder)
    adapter = read_adapter(folder)
    declared = folder
    if adapter and is_adapter_alone(folder):
        folder = _base_of(adapter, find_base)
        if not file_exists(declared / MODULES) and not (declared / "1_Pooling").is_dir():
            declared = folder
    config = read_config(folder)
    check_config(config, folder)
    classifier = CLASSIFIER in config["architectures"]
    if adapter:
        config = _adapted(config, adapter, StoredWeights(folder).shapes())
        classifier = classifier or adapter.has_score
    check_task(declared, config, task)
    if task == "embed" and classifier:
        raise ConfigError(f"{declared} contains a reranker (the adapter has a score.weight)", advice="Open it with task rerank")
    files = ModelFiles(folder, MappingProxyType(config), classifier, adapter=adapter, task=task)
    longest = declared_length(declared, extended_context(config))
    if task == "rerank":
        pair = read_cross_encoder(declared, config, classifier=classifier)
        return replace(
            files,
            labels=declared_labels(config, folder / CONFIG) if classifier else Labels(),
            conventions=TextConventions(query_prompt(pair.instruction) if pair.instruction else None, max_tokens=longest),
            token_ids=pair.token_ids,
        )
    modules = embedding_modules(declared, int(config["hidden_size"]))
    transformer = TransformerConfig.read(declared)
    transformer.check("embedder", config)
    conventions = replace(declared_prompts(declared), pooled=modules.pooling.include_prompt, max_tokens=longest)
    return replace(files, modules=modules, conventions=conventions, lower_case=transformer.lower_case)


def is_adapter_alone(folder: Path) -> bool:
    """Whether a folder has an adapter without the weights of its base."""
    return file_exists(folder / ADAPTER_CONFIG) and not any(file_exists(folder / name) for name in (SINGLE, INDEX))


def _base_of(adapter: Adapter, find_base: FindBase | None) -> Path:
    """The folder of the base of an adapter that is alone."""
    name, where = adapter.config.base, f"{adapter.config.path}: base_model_name_or_path"
    if name is None:
        raise ConfigError(f"{where} is missing, so the base of the adapter is not known", advice="Add the name or the folder of the base")
    if name.startswith(".") or (Path(name).is_absolute() and not Path(name).is_dir()):
        what = "is a relative path" if name.startswith(".") else "is a folder that does not exist"
        raise ModelNotFound(
            f"{where} {what}: {name!r}",
            advice="Write the folder or the name on the hub of the base there, or put the adapter beside the base",
        )
    if find_base is None:
        raise ConfigError(f"{adapter.folder} has an adapter without its base, {name}", advice="Put the adapter beside the base's weights")
    revision = None if is_folder(Path(name)) else adapter.config.revision  # that of a hub; a folder has none, as for transformers
    try:
        base = find_base(name, revision)
    except ModelNotFound as error:
        raise ModelNotFound(f"the base of the adapter in {adapter.folder} was not found: {error}") from error
    if is_adapter_alone(base):
        raise ConfigError(f"{where} names {name!r}, which is an adapter too", advice="Merge that one into its base, and name the result")
    return base


def _adapted(config: dict[str, Any], adapter: Adapter, base: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The config of a base with an adapter: with the size of the vocabulary that the adapter has."""
    adapter.check(base, tied=bool(config.get("tie_word_embeddings")) and OUTPUT not in base)
    return config | {"vocab_size": adapter.shape(EMBEDDINGS)[0]} if EMBEDDINGS in adapter.saved else config


def stated_task(folder: Path) -> Task | None:
    """The task that a folder's files, or else its name, state; None where they state none, or both.

    Raises:
        ConfigError: If one of the files can't be read.
    """
    config = read_config(folder) if file_exists(folder / CONFIG) else {}
    tasks = {evidence.task for evidence in task_evidence(folder, config)}
    return tasks.pop() if len(tasks) == 1 else None
