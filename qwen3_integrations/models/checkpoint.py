"""A model's folder: the only place that reads its config, its weight index and the headers of its weight files."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from qwen3_integrations.core.types import Rows, Task
from qwen3_integrations.errors import ConfigError, ModelNotFound
from qwen3_integrations.models.labels import Labels, declared_labels
from qwen3_integrations.models.pickles import check_layers, indexed_files, missing_weights


@dataclass(frozen=True, slots=True)
class StoredHead:
    """The head of a sequence-classification conversion.

    Attributes:
        rows: Rows of `score.weight`, 1 or 2: one a label.
        bias: Whether there is a `score.bias`.
    """

    rows: int
    bias: bool


CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

_CLASSIFIER = "Qwen3ForSequenceClassification"
_FLOATS = ("F64", "F32", "F16", "BF16")
_EIGHT_BITS = ("fp8", "mxfp8")
_HEADER_LIMIT = 100_000_000
"""Bytes; a file with a longer header is not safetensors. Source: the limit of the format's reference implementation."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes in a Qwen3 `config.json` that memory and weights depend on.

    Attributes:
        layers: Number of transformer layers.
        hidden_size: Width of the hidden state.
        query_heads: Query heads of a layer.
        kv_heads: Key and value heads of a layer.
        head_dim: Width of one head.
        intermediate_size: Width of the feed-forward part.
    """

    layers: int
    hidden_size: int
    query_heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelShape:
        """Read the sizes.

        Raises:
            ConfigError: If a size is missing.
        """
        try:
            heads = int(config["num_attention_heads"])
            return cls(
                layers=int(config["num_hidden_layers"]),
                hidden_size=int(config["hidden_size"]),
                query_heads=heads,
                kv_heads=int(config.get("num_key_value_heads") or heads),
                head_dim=int(config.get("head_dim") or config["hidden_size"] // heads),
                intermediate_size=int(config["intermediate_size"]),
            )
        except KeyError as error:
            raise ConfigError(f"{CONFIG} has no {error}, so the model's memory can't be planned: download the model again") from None

    def weights_bytes(self, vocabulary: int, value_bytes: int) -> int:
        """Bytes of the weights of a model of this shape, without its language-model head and its norms.

        Args:
            vocabulary: Rows of the token embeddings.
            value_bytes: Bytes of one value.
        """
        attention = 2 * self.hidden_size * (self.query_heads + self.kv_heads) * self.head_dim
        return value_bytes * (vocabulary * self.hidden_size + self.layers * (attention + 3 * self.hidden_size * self.intermediate_size))


PUBLISHED_SHAPES: Mapping[str, ModelShape] = MappingProxyType(
    {
        "0.6B": ModelShape(layers=28, hidden_size=1024, query_heads=16, kv_heads=8, head_dim=128, intermediate_size=3072),
        "4B": ModelShape(layers=36, hidden_size=2560, query_heads=32, kv_heads=8, head_dim=128, intermediate_size=9728),
        "8B": ModelShape(layers=36, hidden_size=4096, query_heads=32, kv_heads=8, head_dim=128, intermediate_size=12288),
    }
)
"""Shapes of the published models. A reranker has the shape of the embedding model of its size. Source: their config.json."""

PUBLISHED_VOCABULARY = 151_669
"""Rows of the token embeddings. Source: config.json of the 0.6B models; the larger models have four rows less."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on disk.

    Attributes:
        folder: The folder of its files.
        config: The content of `config.json`.
        classifier: True for a sequence-classification conversion of a reranker: its head is stored, one row or two, and
            not the rows of "yes" and "no".
        labels: What the rows of a stored head mean.
    """

    folder: Path
    config: Mapping[str, Any]
    classifier: bool
    labels: Labels = Labels()  # noqa: RUF009  a frozen value

    @property
    def width(self) -> int:
        """Width of the hidden state, which is the width of a full embedding."""
        return int(self.config["hidden_size"])

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
        shapes = self.stored_shapes()
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
        return ModelShape.from_config(self.config)

    def weight_files(self) -> list[Path]:
        """As the function `weight_files`, of this folder."""
        return weight_files(self.folder)

    def stored_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each stored tensor by its name, from the headers of the safetensors files. No weights are read.

        Raises:
            ModelNotFound: If the folder has no safetensors weights.
            ConfigError: If one of its files is not a safetensors file.
        """
        entries = (item for path in self.weight_files() for item in safetensors_header(path).items())
        return {name: tuple(entry["shape"]) for name, entry in entries if name != "__metadata__"}

    def tensors(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """All stored tensors: name, and a function that reads the tensor as a `torch.Tensor`. Each function is valid until the next item.

        Raises:
            ModelNotFound: If a file of weights is missing.
        """
        from safetensors import safe_open

        for path in self.weight_files():
            with safe_open(path, framework="pt") as stored:
                for name in stored.keys():  # noqa: SIM118  not a mapping
                    yield name, partial(stored.get_tensor, name)

    def rows(self, tensor: str, indices: Sequence[int] | None) -> Rows:
        """Rows of a stored matrix as float32. The rest of the matrix is not read.

        Args:
            tensor: Its name in the safetensors files.
            indices: Indices of the rows; None for all.

        Raises:
            ConfigError: If the model has no such tensor.
        """
        from safetensors import safe_open

        path = self.folder / _weight_map(self.folder).get(tensor, SINGLE)
        with safe_open(path, framework="pt") as stored:
            if tensor not in stored.keys():  # noqa: SIM118  not a mapping
                raise ConfigError(f"{path} has no tensor {tensor!r}, which a model with this {CONFIG} needs: download the model again")
            matrix = stored.get_slice(tensor)
            wanted = [matrix[index : index + 1][0] for index in indices] if indices is not None else list(matrix[:])
            return np.stack([row.float().numpy() for row in wanted])

    def stored_bytes(self, value_bytes: int | None = None, quantization: str | None = None) -> int:
        """Bytes of the weights in memory, from the headers of the safetensors files. No weights are read.

        The language-model head is not counted: an embedding model has none, and vLLM keeps one row of a reranker's.

        Args:
            value_bytes: Bytes of one value after loading, for floating-point weights that are cast; None if nothing is cast. A quantised
                checkpoint counts as stored.
            quantization: The format that vLLM quantises to while loading. 8-bit floats (`fp8`, `mxfp8`) count as 8 bits, other formats
                as not quantised.

        Raises:
            ModelNotFound: If the folder has no safetensors weights.
            ConfigError: If one of its files is not a safetensors file.
        """
        cast = None if self.quantised else value_bytes
        matrices = 1 if cast and (quantization or "").startswith(_EIGHT_BITS) else cast
        return sum(
            _tensor_bytes(entry, matrices if _is_matrix(name, entry) else cast)
            for path in self.weight_files()
            for name, entry in safetensors_header(path).items()
            if name != "__metadata__" and not name.startswith("lm_head.")
        )


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
    labels = declared_labels(config, folder / CONFIG) if classifier else Labels()
    return ModelFiles(folder, MappingProxyType(config), classifier, labels)


def read_config(folder: Path) -> dict[str, Any]:
    """The content of a folder's `config.json`.

    Raises:
        ModelNotFound: If there is none.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ModelNotFound(f"{folder} has no {CONFIG}: it is not a model folder, or its download is not complete")
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


def stated_task(folder: Path) -> Task | None:
    """The task that a folder's files state: a converted reranker, or an embedding model with a pooling config; else None."""
    if (folder / CONFIG).is_file() and _is_classifier(read_config(folder)):
        return "rerank"
    return "embed" if _pools(folder) else None


def _is_classifier(config: Mapping[str, Any]) -> bool:
    return _CLASSIFIER in config.get("architectures", [])


def _pools(folder: Path) -> bool:
    return (folder / "1_Pooling").is_dir()


def weight_files(folder: Path) -> list[Path]:
    """A model's safetensors files, each once, as its index names them.

    Raises:
        ModelNotFound: If there are none, one is missing, or one could be a pickled one: engines by themselves would load that.
    """
    index = folder / INDEX
    names = indexed_files(index) if index.is_file() else [SINGLE]
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise missing_weights(folder, missing)
    check_layers(folder)
    return [folder / name for name in names]


def weight_names(folder: Path) -> list[str]:
    """Names of the weight files that a model's folder must have, each once."""
    return sorted(set(_weight_map(folder).values())) or [SINGLE]


def _weight_map(folder: Path) -> dict[str, str]:
    """For each tensor the name of its file; empty for a model without an index."""
    index = folder / INDEX
    names: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"] if index.is_file() else {}
    return names


def _is_matrix(name: str, entry: Mapping[str, Any]) -> bool:
    """Whether a tensor is a matrix of a layer. Only these are quantised; the token embeddings are not."""
    return "layers." in name and len(entry["shape"]) > 1


def safetensors_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file. Source: the format's documentation: 8 bytes of length, then JSON."""
    with path.open("rb") as file:
        size = file.read(8)
        length = struct.unpack("<Q", size)[0] if len(size) == 8 else _HEADER_LIMIT
        text = file.read(length) if length < _HEADER_LIMIT else b""
    try:
        header: dict[str, Any] = json.loads(text)
    except ValueError:
        raise ConfigError(f"{path} is not a safetensors file, or its download is not complete") from None
    return header


def _tensor_bytes(entry: Mapping[str, Any], cast: int | None) -> int:
    begin, end = entry["data_offsets"]
    if cast is not None and entry["dtype"] in _FLOATS:
        return int(math.prod(entry["shape"])) * cast
    return int(end) - int(begin)
