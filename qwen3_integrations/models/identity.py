"""The identity of a model in a folder: digests of its weights, config and tokenizer."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen3_integrations.core.fingerprint import Fact, digest_of, templates_digest
from qwen3_integrations.core.types import Task
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.lora import Adapter
from qwen3_integrations.models.weights import safetensors_header, weight_files

WHOLE_MODEL_BYTES = 32 << 20
"""All bytes of a model up to this size are hashed."""

WHOLE_TENSOR_BYTES = 64 << 10
"""All bytes of a tensor up to this size are hashed: every norm and bias."""

BLOCK_BYTES, STRIDE_BYTES, LEAST_BLOCKS = 4 << 10, 2 << 20, 4
"""Of a larger tensor: one block of so many bytes in each stride, spread evenly, the first and the last bytes among them."""

_READERS = 4
"""Threads that read: on a cold disk or a network file system, reads wait for each other otherwise."""

_NO_NUMBER = ("transformers_version", "_name_or_path", "torch_dtype", "dtype", "use_cache")
"""Keys of config.json on which no number of ours depends: the number format is one of the numerics."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


def folder_identity(files: ModelFiles, task: Task, tokenizer: str, overrides: Mapping[str, Any] | None = None) -> dict[str, Fact]:
    """The identity of a model in a folder, as its files are now; see `Fingerprint.identity`.

    Args:
        files: The model.
        task: What it is opened for.
        tokenizer: The digest of its tokenizer; see `Tokenizer.digest`.
        overrides: Settings that take the place of those in `config.json`.

    Raises:
        ModelNotFound: If it has no safetensors weights.
        ConfigError: If one of its weight files is not a safetensors file.
    """
    config = {name: value for name, value in (dict(files.config) | dict(overrides or {})).items() if name not in _NO_NUMBER}
    revision = revision_of(files.folder)
    return {
        "task": task,
        "weights": weights_digest(files.folder),
        "config": digest_of(json.dumps(config, sort_keys=True, default=str)),
        **({"revision": revision} if revision else {}),
        "tokenizer": tokenizer,
        "templates": templates_digest(),
        "pooling": _pooling(files) if task == "embed" else _score(files),
        "prompts": _prompts(files, task),
        "adapter": adapter_digest(files.adapter) if files.adapter else None,
        "width": files.dimensions if task == "embed" else None,
    }


def _pooling(files: ModelFiles) -> str:
    """The pooling, with a digest of the linear layers behind it."""
    layers = "".join(f", {layer} {weights_digest(layer.folder)}" for layer in files.modules.dense)
    return f"{files.modules.pooling}{layers}"


def _score(files: ModelFiles) -> str:
    """Where the score is read; without tokens where they are those of the published models."""
    head = files.score_head
    if head.of_labels or head.token_names(files.tokenizer_folder) == ("no", "yes"):
        return "last token"
    return f"last token, tokens {head.positive} and {head.negative}"


def _prompts(files: ModelFiles, task: Task) -> str | None:
    """What the folder's prompts have else than the model card's."""
    facts = files.conventions.facts
    return facts if task == "embed" or facts is None else f"instruction {files.conventions.instruction!r}"


def revision_of(folder: Path) -> str | None:
    """The hub's commit of a folder in a hub's cache; None elsewhere, and where the cache names a branch or a tag.

    Source: both caches keep a commit's files under `snapshots/COMMIT`.
    """
    return folder.name if folder.parent.name == "snapshots" and _COMMIT.fullmatch(folder.name) else None


def quantisation_of(files: ModelFiles) -> str | None:
    """The method by which the stored weights are quantised, such as `gptq`; None if they are not."""
    told = files.config.get("quantization_config")
    return str(told.get("quant_method")) if isinstance(told, Mapping) else None


def weights_digest(folder: Path) -> str:
    """A digest of a model's weights from a sample of them: names, shapes, number formats, and some bytes of every tensor.

    Models up to 32 MiB are hashed whole. Of larger ones, tensors up to 64 KiB are hashed whole, and of each other tensor one block
    of 4 KiB in each 2 MiB, at least four. Of a model of 16 GB that is 30 MiB in 7,800 reads: 0.1 s on two CPU cores
    (`examples/benchmarks/fingerprint.py`). How the tensors are spread over files does not matter.

    What it finds: another checkpoint, another training step, another quantisation, a merged adapter, a changed norm or bias, and
    any contiguous change of 2 MiB or more (256 rows of 4,096 values in bfloat16). What it can miss in a model of more than 32 MiB:
    changes of single values, or of fewer rows, that fall between the blocks. Of a tensor of 256 MiB in which one row in a hundred
    has changed, 129 blocks are read: the change is missed with a probability of about 0.99 ** 129, 27 %. A hub's revision sees
    every change: it is a fact of its own.

    Args:
        folder: The model's folder.

    Returns:
        16 hexadecimal digits.

    Raises:
        ModelNotFound: If it has no safetensors weights.
        ConfigError: If one of its weight files is not a safetensors file.
    """
    return _weights_digest(weight_files(folder))


def adapter_digest(adapter: Adapter) -> str:
    """A digest of an adapter: its weights, sampled as in `weights_digest`, and the fields of its config that numbers depend on."""
    return digest_of(json.dumps([_weights_digest([adapter.path]), adapter.config.facts], sort_keys=True))


def _weights_digest(paths: Sequence[Path]) -> str:
    tensors = [tensor for path in paths for tensor in _tensors(path)]
    whole = sum(tensor.end - tensor.begin for tensor in tensors) <= WHOLE_MODEL_BYTES
    with ThreadPoolExecutor(_READERS) as readers:
        digests = dict(readers.map(lambda tensor: (tensor.name, _tensor_digest(tensor, whole=whole)), tensors))
    return hashlib.sha256(b"".join(digests[name] for name in sorted(digests))).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A stored tensor: its description, and where its bytes lie in which file."""

    name: str
    kind: str
    path: Path
    begin: int
    end: int


def _tensors(path: Path) -> Iterator[_Tensor]:
    header = safetensors_header(path)
    with path.open("rb") as file:
        start = 8 + int(struct.unpack("<Q", file.read(8))[0])
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            yield _Tensor(name, f"{name}\0{entry['dtype']}\0{entry['shape']}\0", path, start + int(begin), start + int(end))


def _tensor_digest(tensor: _Tensor, *, whole: bool) -> bytes:
    digest = hashlib.sha256(tensor.kind.encode())
    with tensor.path.open("rb", buffering=0) as file:
        for at, size in _blocks(tensor.begin, tensor.end, whole=whole):
            file.seek(at)
            digest.update(file.read(size))
    return digest.digest()


def _blocks(begin: int, end: int, *, whole: bool) -> Iterator[tuple[int, int]]:
    """Where to read, and how many bytes."""
    size = end - begin
    if whole or size <= WHOLE_TENSOR_BYTES:
        for at in range(begin, end, STRIDE_BYTES):
            yield at, min(STRIDE_BYTES, end - at)
        return
    gaps = max(LEAST_BLOCKS - 1, -(-(size - BLOCK_BYTES) // STRIDE_BYTES))
    for number in range(gaps + 1):
        yield begin + (size - BLOCK_BYTES) * number // gaps, BLOCK_BYTES
