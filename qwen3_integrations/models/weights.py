"""The stored weights of a model's folder: the only place that reads its weight index and the headers of its safetensors files."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from qwen3_integrations.core.types import Rows
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.json_files import check_no_pointer, read_object
from qwen3_integrations.models.pickles import check_layers, indexed_files, missing_weights

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

_WRAPPERS = re.compile(r"^(?:_orig_mod\.|module\.|base_model\.model\.|0\.auto_model\.|auto_model\.|model\.)+")
"""What the names of a Qwen3 model's tensors may begin with: `model.` (transformers), nothing (its `AutoModel`), `_orig_mod.` (saved while
compiled), `module.` (data parallel), `base_model.model.` (PEFT), `0.auto_model.` (sentence-transformers)."""

_FLOATS = ("F64", "F32", "F16", "BF16")
_EIGHT_BITS = ("fp8", "mxfp8")
_HEADER_LIMIT = 100_000_000
"""Bytes; a file with a longer header is not safetensors. Source: the limit of the format's reference implementation."""

_AGAIN = "Download the model again"


def plain_name(stored: str) -> str:
    """A tensor's name without what wraps the model: `model.layers.0.input_layernorm.weight` is `layers.0.input_layernorm.weight`."""
    return _WRAPPERS.sub("", stored)


@dataclass(frozen=True, slots=True)
class StoredWeights:
    """The tensors of a model's folder. Tensors have their plain names (`plain_name`), whatever wraps the model in the files.

    Attributes:
        folder: The model's folder.
    """

    folder: Path

    def files(self) -> list[Path]:
        """As the function `weight_files`, of this folder."""
        return weight_files(self.folder)

    def entries(self) -> dict[str, Mapping[str, Any]]:
        """The header of each tensor by its plain name: `dtype`, `shape`, `data_offsets`. No weights are read.

        Raises:
            ModelNotFound: If the folder has no safetensors weights.
            ConfigError: If one of its files is not a whole safetensors file, or two tensors have one plain name.
        """
        found: dict[str, Mapping[str, Any]] = {}
        for path in self.files():
            for stored, entry in safetensors_header(path).items():
                if stored == "__metadata__":
                    continue
                name = plain_name(stored)
                if name in found:
                    raise ConfigError(f"{path} has the tensor {stored!r}, but another tensor of {self.folder} is {name!r} too")
                found[name] = entry
        return found

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor; errors as in `entries`."""
        return {name: tuple(entry["shape"]) for name, entry in self.entries().items()}

    def tensors(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """All tensors: name, and a function that reads the tensor as a `torch.Tensor`. Each function is valid until the next item.

        Raises:
            ModelNotFound: If a file of weights is missing.
        """
        from safetensors import safe_open

        for path in self.files():
            with safe_open(path, framework="pt") as stored:
                for name in stored.keys():  # noqa: SIM118  not a mapping
                    yield plain_name(name), partial(stored.get_tensor, name)

    def rows(self, tensor: str, indices: Sequence[int] | None = None) -> Rows:
        """Rows of a matrix as float32. The rest of the matrix is not read.

        Args:
            tensor: Its name.
            indices: Indices of the rows; None for all.

        Raises:
            ConfigError: If the model has no such tensor.
        """
        from safetensors import safe_open

        for path in self.files():
            with safe_open(path, framework="pt") as file:
                for stored in file.keys():  # noqa: SIM118  not a mapping
                    if plain_name(stored) == tensor:
                        matrix = file.get_slice(stored)
                        wanted = [matrix[index : index + 1][0] for index in indices] if indices is not None else list(matrix[:])
                        return np.stack([row.float().numpy() for row in wanted])
        raise ConfigError(f"{self.folder} has no tensor {tensor!r}, which a model with this config.json needs", advice=_AGAIN)

    def bytes(self, value_bytes: int | None = None, *, quantised: bool = False, quantization: str | None = None) -> int:
        """Bytes of the weights in memory, from the headers of the safetensors files. No weights are read.

        The language-model head is not counted: an embedding model has none, and vLLM keeps one row of a reranker's.

        Args:
            value_bytes: Bytes of one value after loading, for floating-point weights that are cast; None if nothing is cast.
            quantised: Whether the checkpoint is quantised: then it counts as stored.
            quantization: The format that vLLM quantises to while loading. 8-bit floats (`fp8`, `mxfp8`) count as 8 bits, other formats
                as not quantised.

        Raises:
            ModelNotFound: If the folder has no safetensors weights.
            ConfigError: If one of its files is not a safetensors file.
        """
        cast = None if quantised else value_bytes
        matrices = 1 if cast and (quantization or "").startswith(_EIGHT_BITS) else cast
        return sum(
            _tensor_bytes(entry, matrices if _is_matrix(name, entry) else cast)
            for name, entry in self.entries().items()
            if not name.startswith("lm_head.")
        )


def weight_files(folder: Path) -> list[Path]:
    """A model's safetensors files, each once: `model.safetensors` where there is one, as transformers does, else those of the index.

    Raises:
        ModelNotFound: If there are none, one is missing, or one could be a pickled one: engines by themselves would load that.
    """
    index = folder / INDEX
    names = [SINGLE] if (folder / SINGLE).is_file() or not index.is_file() else indexed_files(index)
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise missing_weights(folder, missing)
    check_layers(folder)
    return [folder / name for name in names]


def weight_names(folder: Path) -> list[str]:
    """Names of the weight files that a model's folder must have, each once.

    Raises:
        ConfigError: If its index is damaged.
    """
    index = folder / INDEX
    if (folder / SINGLE).is_file() or not index.is_file():
        return [SINGLE]
    names = read_object(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ConfigError(f"{index} names no file of weights: its download is not complete, or it is damaged", advice=_AGAIN)
    return sorted(set(map(str, names.values())))


def safetensors_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file, after the check that the file is whole.

    Source: the format's documentation: 8 bytes of length, then JSON, then the values.

    Raises:
        ConfigError: If it is a Git LFS pointer, no safetensors file, or its size is not what its header says.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        beginning = file.read(64)
        check_no_pointer(path, beginning)
        length = struct.unpack("<Q", beginning[:8])[0] if len(beginning) >= 8 else _HEADER_LIMIT
        file.seek(8)
        text = file.read(length) if length < _HEADER_LIMIT else b""
    try:
        header: dict[str, Any] = json.loads(text)
        end = max((int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        what = "is empty" if not size else "is not a safetensors file, or its download is not complete"
        raise ConfigError(f"{path} {what}", advice=_AGAIN) from None
    if 8 + length + end != size:
        raise ConfigError(
            f"{path} has {size:,} bytes, but its header says {8 + length + end:,}: its download is not complete", advice=_AGAIN
        )
    return header


def _is_matrix(name: str, entry: Mapping[str, Any]) -> bool:
    """Whether a tensor is a matrix of a layer. Only these are quantised; the token embeddings are not."""
    return "layers." in name and len(entry["shape"]) > 1


def _tensor_bytes(entry: Mapping[str, Any], cast: int | None) -> int:
    begin, end = entry["data_offsets"]
    if cast is not None and entry["dtype"] in _FLOATS:
        return int(math.prod(entry["shape"])) * cast
    return int(end) - int(begin)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An open safetensors file, whose tensors are PyTorch's.

    Raises:
        ConfigError: If the library can't read it.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{path} can't be read: {error}", advice=_AGAIN) from error
