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
from qwen3_integrations.models.json_files import check_no_pointer, file_exists
from qwen3_integrations.models.pickles import check_layers, indexed_files, missing_weights

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

_WRAPPERS = re.compile(r"^(?:_orig_mod\.|module\.|base_model\.model\.|0\.auto_model\.|auto_model\.|model\.)+")
"""What the names of a Qwen3 model's tensors may begin with: `model.` (transformers), nothing (its `AutoModel`), `_orig_mod.` (saved while
compiled), `module.` (data parallel), `base_model.model.` (PEFT), `0.auto_model.` (sentence-transformers)."""

_FLOATS = ("F64", "F32", "F16", "BF16")
_BITS: Mapping[str, int] = {
    "F4": 4,
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
"""Bits of a value by its type. Source: `Dtype` of the format's reference implementation."""

_MOST_FILES = 10_000
_NUMBERED = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")
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
                    raise ConfigError(
                        f"{path} has the tensor {stored!r}, but another tensor of {self.folder} is {name!r} too",
                        advice="Download the model again",
                    )
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
        for path in self.files():
            with _opened(path) as stored:
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
        for path in self.files():
            with _opened(path) as file:
                for stored in file.keys():  # noqa: SIM118  not a mapping
                    if plain_name(stored) == tensor:
                        matrix = file.get_slice(stored)
                        wanted = [matrix[index : index + 1][0] for index in indices] if indices is not None else list(matrix[:])
                        return np.stack([row.float().numpy() for row in wanted])
        raise ConfigError(f"{self.folder} has no tensor {tensor!r}, which a model with this config.json needs", advice=_AGAIN)

    def prefixes(self) -> frozenset[str]:
        """What the names of the tensors begin with in the files, before their plain names."""
        stored = (name for path in self.files() for name in safetensors_header(path) if name != "__metadata__")
        return frozenset(name.removesuffix(plain_name(name)) for name in stored)

    def check(self, wanted: Mapping[str, tuple[int, ...]]) -> None:
        """Prove that these tensors are stored, in these shapes. No weights are read.

        Args:
            wanted: Shapes by plain names.

        Raises:
            ModelNotFound: If the folder has no safetensors weights.
            ConfigError: If a file is not whole, or a tensor is missing or of another shape.
        """
        shapes = self.shapes()
        if missing := [name for name in wanted if name not in shapes]:
            raise ConfigError(
                f"{self.folder} lacks {len(missing)} tensor{'s' * (len(missing) > 1)}, such as {missing[0]!r}, which its config.json "
                "promises: the weights are of another model, or not complete",
                advice=_AGAIN,
            )
        for name, shape in wanted.items():
            if shapes[name] != shape:
                raise ConfigError(
                    f"{name!r} in {self.folder} has the shape {shapes[name]}, but its config.json says {shape}: config.json and weights "
                    "belong to different models",
                    advice=_AGAIN,
                )

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

    Without an index, all parts of a numbered set (`model-00001-of-00002.safetensors`) are taken, as vLLM does.

    Raises:
        ModelNotFound: If there are none, one is missing, or one could be a pickled one: engines by themselves would load that.
        ConfigError: If a file can't be read.
    """
    names = weight_names(folder)
    if missing := [name for name in names if not file_exists(folder / name)]:
        raise missing_weights(folder, missing)
    check_layers(folder)
    return [folder / name for name in names]


def weight_names(folder: Path) -> list[str]:
    """Names of the weight files that a model's folder must have, each once.

    Raises:
        ModelNotFound: If its index names no safetensors files of the folder.
        ConfigError: If a file can't be read.
    """
    index = folder / INDEX
    if file_exists(folder / SINGLE):
        return [SINGLE]
    if file_exists(index):
        return indexed_files(index)
    counts = {int(match[2]) for path in folder.glob("model-*.safetensors") if (match := _NUMBERED.fullmatch(path.name))}
    if len(counts) == 1 and 0 < (count := counts.pop()) < _MOST_FILES:
        return [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    return [SINGLE]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An open safetensors file; an error of the library becomes a `ConfigError`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{path} can't be read: {error}", advice=_AGAIN) from error


def safetensors_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file, after the check that the file is whole.

    Source: the format's documentation: 8 bytes of length, then JSON, then the values without gaps.

    Raises:
        ConfigError: If it is a Git LFS pointer, no safetensors file, or its size is not what its header says.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            beginning = file.read(64)
            length = struct.unpack("<Q", beginning[:8])[0] if len(beginning) >= 8 else _HEADER_LIMIT
            file.seek(8)
            text = file.read(length) if length < _HEADER_LIMIT else b""
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror or error}", advice="Check the file and its permissions") from error
    check_no_pointer(path, beginning)
    try:
        header: dict[str, Any] = json.loads(text)
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        places = sorted((int(entry["data_offsets"][0]), int(entry["data_offsets"][1])) for entry in tensors.values())
        is_valid = all(map(_is_entry, tensors.values()))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        what = "is empty" if not size else "is not a safetensors file, or its download is not complete"
        raise ConfigError(f"{path} {what}", advice=_AGAIN) from None
    end = max((end for _, end in places), default=0)
    if 8 + length + end != size:
        raise ConfigError(
            f"{path} has {size:,} bytes, but its header says {8 + length + end:,}: its download is not complete", advice=_AGAIN
        )
    if not is_valid or any(begin != before for (begin, _), (_, before) in zip(places, [(0, 0), *places], strict=False)):
        raise ConfigError(f"{path} has a damaged header: the places or the types of its tensors can't be right", advice=_AGAIN)
    return header


def _is_entry(entry: Mapping[str, Any]) -> bool:
    """Whether a tensor's type, shape and place fit each other."""
    (begin, end), shape, dtype = entry["data_offsets"], entry["shape"], entry["dtype"]
    sizes = all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in (*shape, begin, end))
    bits = _BITS.get(dtype) if isinstance(dtype, str) else None
    return sizes and begin <= end and bits is not None and math.prod(shape) * bits == 8 * (end - begin)


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
