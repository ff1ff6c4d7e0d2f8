"""A model's folder: what its files declare, read and checked once, for all engines and for serving."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from qwen3_integrations.core.prompts import MODEL_CARD, TextConventions, query_prompt
from qwen3_integrations.core.types import Task
from qwen3_integrations.errors import ConfigError, ModelNotFound
from qwen3_integrations.models.adapter_config import ADAPTER_CONFIG
from qwen3_integrations.models.catalog import ORIGINAL_RERANKER
from qwen3_integrations.models.conventions import declared_length, declared_lower_case, declared_prompts
from qwen3_integrations.models.cross_encoder import read_cross_encoder
from qwen3_integrations.models.heads import EMBEDDINGS, OUTPUT, ScoreHead, StoredHead, label_head, stored_head, token_head
from qwen3_integrations.models.json_files import read_object
from qwen3_integrations.models.labels import Labels, declared_labels
from qwen3_integrations.models.lora import AdaptedWeights, Adapter, read_adapter
from qwen3_integrations.models.modules import EmbeddingModules, embedding_modules
from qwen3_integrations.models.shapes import ModelShape, extended_context
from qwen3_integrations.models.weights import INDEX, SINGLE, StoredWeights

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
        adapter: The adapter in its folder, or the one that was opened; `folder` is that of its base then.
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
    def original_overrides(self) -> dict[str, Any]:
        """The `hf_overrides` by which vLLM reads the score of a causal reranker: its tokens, and a stored head beside tied embeddings."""
        head = self.score_head
        overrides = dict(ORIGINAL_RERANKER) | {"classifier_from_token": list(head.token_names(self.tokenizer_folder))}
        return overrides | ({"tie_word_embeddings": False} if head.matrix == OUTPUT and self.config.get("tie_word_embeddings") else {})

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

    @property
    def tokenizer_folder(self) -> Path:
        """The folder with the tokenizer: an adapter that was saved with one has its own."""
        return self.adapter.folder if self.adapter and (self.adapter.folder / "tokenizer.json").is_file() else self.folder

    def refuse_unread(self, task: Task, engine: str) -> None:
        """Refuse an adapter or a head that an engine would leave out: with vLLM's usual overrides it reads `yes` and `no` of the tied head.

        Args:
            task: What the model is opened for.
            engine: The engine's name, for the message.

        Raises:
            ConfigError: If there is one.
        """
        if self.adapter:
            raise ConfigError(
                f"{self.adapter.folder} has an adapter ({ADAPTER_CONFIG}), which {engine} would leave out",
                advice="Use the torch engine, or merge the adapter with peft (merge_and_unload) and open the merged model",
            )
        if task == "rerank" and not self.classifier and self.original_overrides != ORIGINAL_RERANKER:
            raise ConfigError(
                f"{self.folder} is scored by a head of its own ({self.score_head}), which {engine} would not read",
                advice="Use the torch engine",
            )

    def stored_bytes(self, value_bytes: int | None = None, quantization: str | None = None) -> int:
        """Bytes of the weights in memory; see `StoredWeights.bytes`. A quantised checkpoint counts as stored."""
        return self.weights.bytes(value_bytes, quantised=self.quantised, quantization=quantization)


FindBase = Callable[[str, str | None], Path]
"""From the name of an adapter's base and its revision to the base's folder."""


def read_model(folder: Path, task: Task, find_base: FindBase | None = None) -> ModelFiles:
    """Read a model's description from its folder.

    Args:
        folder: With `config.json`, weights and tokenizer; or an adapter, beside them or alone.
        task: What the model must do.
        find_base: Finds the base of an adapter that is alone; `hub.open_model` passes one. None: only a base beside the adapter is read.

    Raises:
        ModelNotFound: If the folder has no `config.json`, or an adapter's base is not found.
        ConfigError: If it is not a Qwen3 model, a model for the other task, or a reranker whose labels do not say which one means "yes";
            for an adapter that this package does not compute.
    """
    adapter = read_adapter(folder)
    declared = folder
    if adapter and is_adapter_alone(folder):
        folder = _base_of(adapter, find_base)
        if not (declared / "modules.json").is_file() and not _pools(declared):
            declared = folder
    config = read_config(folder)
    if config.get("model_type") != "qwen3":
        raise ConfigError(
            f"{folder} contains a {config.get('model_type')!r} model, but this package runs only Qwen3-Embedding and Qwen3-Reranker"
        )
    classifier = _is_classifier(config)
    if adapter:
        config = _adapted(config, adapter, StoredWeights(folder).shapes())
        classifier = classifier or adapter.has_score
    if task == "embed" and classifier:
        raise ConfigError(f"{declared} contains a reranker ({_CLASSIFIER})", advice="Open it with task rerank")
    if task == "rerank" and _pools(declared):
        raise ConfigError(f"{declared} contains an embedding model (it has a pooling config)", advice="Open it with task embed")
    files = ModelFiles(folder, MappingProxyType(config), classifier, adapter=adapter)
    if task == "rerank":
        pair = read_cross_encoder(declared, classifier=classifier)
        return replace(
            files,
            labels=declared_labels(config, folder / CONFIG) if classifier else Labels(),
            conventions=TextConventions(query_prompt(pair.instruction)) if pair.instruction else MODEL_CARD,
            token_ids=pair.token_ids,
        )
    modules = embedding_modules(declared, int(config["hidden_size"]))
    conventions = replace(
        declared_prompts(declared), pooled=modules.pooling.include_prompt, max_tokens=declared_length(declared, extended_context(config))
    )
    return replace(files, modules=modules, conventions=conventions, lower_case=declared_lower_case(declared))


def is_adapter_alone(folder: Path) -> bool:
    """Whether a folder has an adapter without the weights of its base."""
    return (folder / ADAPTER_CONFIG).is_file() and not any((folder / name).is_file() for name in (SINGLE, INDEX))


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
    try:
        base = find_base(name, adapter.config.revision)
    except ModelNotFound as error:
        raise ModelNotFound(f"the base of the adapter in {adapter.folder} was not found: {error}") from error
    if is_adapter_alone(base):
        raise ConfigError(f"{where} names {name!r}, which is an adapter too", advice="Merge that one into its base, and name the result")
    return base


def _adapted(config: dict[str, Any], adapter: Adapter, base: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The config of a base with an adapter: with the size of the vocabulary that the adapter has."""
    adapter.check(base, tied=bool(config.get("tie_word_embeddings")) and OUTPUT not in base)
    return config | {"vocab_size": adapter.shape(EMBEDDINGS)[0]} if EMBEDDINGS in adapter.saved else config


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
