"""Fingerprints: which model an engine runs, and in which number format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np

from qwen3_integrations.core.prompts import RERANK_PREFIX, RERANK_SUFFIX, embedding_query, rerank_body, rerank_query
from qwen3_integrations.core.types import Rows

Fact: TypeAlias = str | int | None
Part: TypeAlias = Literal["identity", "numerics"]

SAMPLE_TEXT = "The library opens at nine, and the oldest map in it shows a coast that no ship had seen before 1620. 图书馆九点开门。"
"""The text that a server embeds for `Fingerprint.sample`. It has no control token and is much shorter than any context."""

SAME_SAMPLE = 1e-3
"""The largest distance (1 - cosine) between two samples of one model. Another batch order moves the last of the 8 bits of a bfloat16
value: the distance is below 1e-3, and 1e-6 in float32. Other weights of the same shape give distances from 0.01 to 1."""

_SAMPLE_VALUES = 256
_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Difference:
    """One fact in which two fingerprints differ. `str()` describes it.

    Attributes:
        part: `identity` or `numerics`.
        name: The fact, such as `weights` or `dtype`; `sample` for the vectors of `SAMPLE_TEXT`.
        before: Its value in the first fingerprint.
        now: Its value in the other one.
    """

    part: Part
    name: str
    before: Fact
    now: Fact

    def __str__(self) -> str:
        if self.name == "sample":
            return f"the vector of a fixed text is {self.now} away from what it was (1 - cosine; rounding explains {SAME_SAMPLE:g})"
        return f"{self.name} was {self.before!r} and is {self.now!r}"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Which model an engine runs (`identity`), and how its numbers are computed (`numerics`).

    Vectors of engines with different identities must not be mixed. Vectors of one identity with different numerics differ by
    rounding: they may be compared with each other, and are not equal. A fingerprint is the same in every process, holds plain
    values only, and can be written as JSON (`to_dict`, `from_dict`). It never holds a path, an address or a key.

    Attributes:
        identity: The model. Engines that read a folder state `task`, `weights` (a digest), `config` (a digest), `revision` (a
            hub's commit, left out where it is not known), `tokenizer` and `templates` (digests), `pooling`, `prompts` (taken from
            the folder), `adapter` and `width`.
        numerics: How it is computed: `backend`, `dtype`, `quantisation`, and further facts of some engines.
        sample: The first values of the unit vector of `SAMPLE_TEXT`; empty for an engine that reads the weights. It differs
            between models, but not between bfloat16 and float32.
        partial: True if the engine does not know all of the facts above, for example over HTTP. Unknown facts are missing in
            `identity` and `numerics`. A fact with the value None is known: the model has no such thing.

    Raises:
        TypeError: If a fact is not a string, an integer or None.
    """

    identity: Mapping[str, Fact]
    numerics: Mapping[str, Fact]
    sample: tuple[float, ...] = ()
    partial: bool = False

    def __post_init__(self) -> None:
        for part in ("identity", "numerics"):
            facts = dict(getattr(self, part))
            for name, value in facts.items():
                if not isinstance(name, str) or not (value is None or isinstance(value, str | int)):
                    raise TypeError(f"{part} holds {name!r}: {value!r}; a fact is a string, an integer or None")
            object.__setattr__(self, part, facts)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of identity and numerics, for keys. Equal facts give equal digits; `sample` is not included.

        Two models with partial fingerprints may have equal digits.
        """
        return digest_of(json.dumps([self.identity, self.numerics], sort_keys=True))

    @property
    def identity_digest(self) -> str:
        """As `digest`, for the identity only."""
        return digest_of(json.dumps(self.identity, sort_keys=True))

    def differences(self, other: Fingerprint) -> tuple[Difference, ...]:
        """The facts in which another fingerprint differs from this one, identity first; empty if there are none.

        A fact that is missing in one of the two is not compared.

        Args:
            other: The later fingerprint. Messages read "dtype was 'float32' and is 'bfloat16'".
        """
        return tuple(self._compared(other))

    def _compared(self, other: Fingerprint) -> Iterator[Difference]:
        parts: tuple[tuple[Part, Mapping[str, Fact], Mapping[str, Fact]], ...] = (
            ("identity", self.identity, other.identity),
            ("numerics", self.numerics, other.numerics),
        )
        for part, before, now in parts:
            yield from (Difference(part, name, before[name], now[name]) for name in before if name in now and before[name] != now[name])
            if part == "identity" and self.sample and other.sample:
                distance = _distance(self.sample, other.sample)
                if distance > SAME_SAMPLE:
                    yield Difference("identity", "sample", None, f"{distance:.2g}")

    def to_dict(self) -> dict[str, Any]:
        """The fingerprint as plain values, for JSON."""
        return {
            "identity": dict(self.identity),
            "numerics": dict(self.numerics),
            "sample": list(self.sample),
            "partial": self.partial,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Fingerprint:
        """The inverse of `to_dict`.

        Raises:
            KeyError, TypeError, ValueError: If `plain` is not a fingerprint.
        """
        sample = tuple(map(float, plain["sample"]))
        return cls(dict(plain["identity"]), dict(plain["numerics"]), sample, bool(plain["partial"]))

    def __hash__(self) -> int:
        return hash(self.digest)

    def __str__(self) -> str:
        return f"{self.digest}{' (partial)' if self.partial else ''}"


def digest_of(text: str) -> str:
    """The first 16 hexadecimal digits of a text's SHA-256."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_DIGITS]


@cache
def templates_digest() -> str:
    """The digest of this package's templates. It serves as their version."""
    rerank = (RERANK_PREFIX, rerank_query("{query}", "{instruction}"), rerank_body("{document}"), RERANK_SUFFIX)
    return digest_of("\0".join((embedding_query("{query}", "{instruction}"), *rerank)))


def sample_of(row: Rows) -> tuple[float, ...]:
    """The part of the vector of `SAMPLE_TEXT` that a fingerprint keeps.

    Args:
        row: Shape (width,).
    """
    start = np.asarray(row, dtype=np.float64)[:_SAMPLE_VALUES]
    return tuple(round(float(value), 5) for value in start / (np.linalg.norm(start) or 1))


def _distance(these: tuple[float, ...], those: tuple[float, ...]) -> float:
    """1 - cosine; 2 for samples of different widths."""
    if len(these) != len(those):
        return 2.0
    one, other = (np.asarray(sample) for sample in (these, those))
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    return 1 - float(one @ other) / norms if norms else 0.0
