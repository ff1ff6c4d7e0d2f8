"""What an engine's numbers depend on: which model, and how it is computed. Made once an engine, stable across processes."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias

import numpy as np

from qwen3_integrations.core.prompts import RERANK_PREFIX, RERANK_SUFFIX, embedding_query, rerank_body, rerank_query
from qwen3_integrations.core.types import Rows
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.memory import safetensors_header, weight_files

Fact: TypeAlias = str | int | None

SAMPLE_TEXT = "The library opens at nine, and the oldest map in it shows a coast that no ship had seen before 1620. 图书馆九点开门。"
"""What a server is asked to embed for its `sample`: no easy pair, no control token, far below any context."""

SAME_SAMPLE = 1e-3
"""How far two samples of one model may be apart (1 - cosine). bfloat16 keeps 8 bits, and a kernel that sums a batch in another order
moves the last of them: that is below 1e-3, in float32 1e-6. Other weights of the same shape are 0.01 to 1 apart."""

_SAMPLE_VALUES = 256
_WHOLE = 1 << 16  # bytes of a tensor that is hashed whole
_BLOCK, _BLOCKS = 1 << 12, 4  # of a larger one: as many blocks of so many bytes, spread evenly
_DIGITS = 16
_UNUSED = ("transformers_version", "_name_or_path")
"""Keys of config.json that no number depends on."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Which model an engine runs, and how. Equal ones give numbers that may stand in one file.

    It is partial where an engine can't see its model: of a server, weights, number format and quantisation are not known, and the
    `sample` stands for them. It tells another model, and not bfloat16 from float32.

    Attributes:
        identity: The model: digests of weights (sampled, see `weights_digest`), config, tokenizer and templates; the width.
        numerics: How it is computed: backend, number format, quantisation.
        sample: The first values of the unit vector of `SAMPLE_TEXT`; empty for an engine that sees its weights.
    """

    identity: Mapping[str, Fact]
    numerics: Mapping[str, Fact]
    sample: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Fingerprint:
        """The inverse of `to_dict`.

        Raises:
            TypeError, ValueError: If it is none.
        """
        identity, numerics, sample = plain["identity"], plain["numerics"], tuple(map(float, plain["sample"]))
        return cls(dict(identity), dict(numerics), sample)

    def differences(self, later: Fingerprint) -> list[str]:
        """What differs in a later one, such as `dtype was 'float32' and is 'bfloat16'`; empty if nothing does."""
        before, now = ({**one.identity, **one.numerics} for one in (self, later))
        found = [
            f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
            for name in dict.fromkeys([*before, *now])
            if before.get(name) != now.get(name)
        ]
        apart = _apart(self.sample, later.sample)
        if apart > SAME_SAMPLE:
            found.append(f"the vector of a fixed text is {apart:.2g} away from what it was (1 - cosine; rounding explains {SAME_SAMPLE:g})")
        return found


class _Named(Protocol):
    @property
    def backend(self) -> str: ...

    @property
    def model(self) -> str: ...


def fingerprint_of(engine: _Named) -> Fingerprint:
    """An engine's own fingerprint; of an engine without one, its names."""
    own = getattr(engine, "fingerprint", None)
    made = own() if callable(own) else Fingerprint({"model": engine.model}, {"backend": engine.backend})
    assert isinstance(made, Fingerprint)
    return made


def folder_identity(files: ModelFiles, tokenizer: str) -> dict[str, Fact]:
    """The identity of a model in a folder, as it is now.

    Args:
        files: The model.
        tokenizer: The digest of its tokenizer; see `Tokenizer.digest`.

    Raises:
        ModelNotFound: If it has no safetensors weights.
        ConfigError: If one of its files is no safetensors file.
    """
    config = {name: value for name, value in files.config.items() if name not in _UNUSED}
    return {
        "weights": weights_digest(files.folder),
        "config": digest_of(json.dumps(config, sort_keys=True)),
        "tokenizer": tokenizer,
        "templates": templates_digest(),
        "width": files.width,
    }


def quantisation_of(files: ModelFiles) -> str | None:
    """How the stored weights are quantised, such as `gptq`; None where they are not."""
    told = files.config.get("quantization_config")
    return str(told.get("quant_method")) if isinstance(told, Mapping) else None


def templates_digest() -> str:
    """Of this package's templates."""
    rerank = (RERANK_PREFIX, rerank_query("{query}", "{instruction}"), rerank_body("{document}"), RERANK_SUFFIX)
    return digest_of("\0".join((embedding_query("{query}", "{instruction}"), *rerank)))


def weights_digest(folder: Path) -> str:
    """Of a model's weights: all names, shapes and types; small tensors whole, and of larger ones 16 KiB in four blocks.

    A few milliseconds, and no reading of gigabytes: another training step or another quantisation changes nearly every block, while
    an edit of single values in a large tensor may be missed. How the tensors are spread over files does not matter.

    Raises:
        ModelNotFound: If it has no safetensors weights.
        ConfigError: If one of its files is no safetensors file.
    """
    tensors: dict[str, bytes] = {}
    for path in weight_files(folder):
        header = safetensors_header(path)
        with path.open("rb") as file:
            start = 8 + int(struct.unpack("<Q", file.read(8))[0])
            for name, entry in header.items():
                if name != "__metadata__":
                    begin, end = entry["data_offsets"]
                    digest = hashlib.sha256(f"{name}\0{entry['dtype']}\0{entry['shape']}\0".encode())
                    for block in _sampled(file, start + begin, start + end):
                        digest.update(block)
                    tensors[name] = digest.digest()
    return hashlib.sha256(b"".join(tensors[name] for name in sorted(tensors))).hexdigest()[:_DIGITS]


def digest_of(text: str) -> str:
    """The beginning of a text's SHA-256, as hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def sample_of(row: Rows) -> tuple[float, ...]:
    """What is kept of the vector of `SAMPLE_TEXT`.

    Args:
        row: Shape (width,).
    """
    start = np.asarray(row, dtype=np.float64)[:_SAMPLE_VALUES]
    return tuple(round(float(value), 5) for value in start / (np.linalg.norm(start) or 1))


def _sampled(file: BinaryIO, begin: int, end: int) -> Iterator[bytes]:
    if end - begin <= _WHOLE:
        starts, size = [begin], end - begin
    else:
        starts, size = [begin + (end - begin - _BLOCK) * part // (_BLOCKS - 1) for part in range(_BLOCKS)], _BLOCK
    for at in starts:
        file.seek(at)
        yield file.read(size)


def _apart(these: tuple[float, ...], those: tuple[float, ...]) -> float:
    """1 - cosine; 2 for samples of different widths."""
    if len(these) != len(those):
        return 2.0
    one, other = (np.asarray(sample) for sample in (these, those))
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    return 1 - float(one @ other) / norms if norms else 0.0
