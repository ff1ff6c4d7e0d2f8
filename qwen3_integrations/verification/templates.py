"""Which template a server puts query and document into, told from its scores. Pure functions.

The number of tokens does not tell: the template that vLLM ships has as many as the right one, and one of them is another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qwen3_integrations.core.prompts import RERANK_PREFIX, RERANK_SUFFIX, Separator, rerank_body, rerank_query
from qwen3_integrations.core.types import Rows

FormName = Literal["right", "newline lost", "two newlines", "no thinking block", "bare"]

Write = Callable[[str, str, str], str]
"""From query, document and instruction to the prompt."""


def _templated(separator: Separator = "\n", suffix: str = RERANK_SUFFIX) -> Write:
    def write(query: str, document: str, instruction: str) -> str:
        return RERANK_PREFIX + rerank_query(query, instruction, separator) + rerank_body(document) + suffix

    return write


FORMS: Mapping[FormName, Write] = {
    "right": _templated(),
    "newline lost": _templated(suffix=RERANK_SUFFIX.removesuffix("\n")),
    "two newlines": _templated(separator="\n\n"),
    "no thinking block": _templated(suffix=RERANK_SUFFIX.partition("<think>")[0]),
    "bare": lambda query, document, _: query + document,
}
"""How servers are known to make a prompt. Sources: the model card (right); vLLM's examples/pooling/score/template/qwen3_reranker.jinja,
whose last newline Jinja drops (newline lost); the official repository's evaluation (two newlines); the template that SGLang ships (no
thinking block); vLLM's entrypoints/pooling/scoring/io_processor.py without a chat template, `prompt_1 + prompt_2` (bare)."""

SAYS: Mapping[FormName, str] = {
    "right": "right: the scores are those of the model card's prompt",
    "newline lost": "vLLM's own template: the last newline is lost",
    "two newlines": "two newlines join the body's lines, as in the official repository's evaluation; the model card has one",
    "no thinking block": "a template without the empty thinking block",
    "bare": "no template: {route} joins query and document bare",
}

TOLERANCE = 1e-3
"""Mean difference up to which scores are those of one prompt, on a server that repeats itself exactly as float32 does."""

NOISY = 4.0
"""How many times as far as a server's own answers to one prompt lie apart its scores may be off instead; for bfloat16."""

CLEAR = 2.0
"""How many times nearer than the right form (or, for the right one, than any other) a form must be."""

RESOLUTION = 1e-4
"""Mean difference of scores below which two forms can't be told apart; float32 is 1e-6 off."""


@dataclass(frozen=True, slots=True)
class Match:
    """The known scores that observed ones are nearest to.

    Attributes:
        name: Whose; None if none is near.
        distance: Mean difference from the nearest.
        rival: Mean difference from the right ones, or if those are the nearest from the next.
        clear: Whether the nearest is clearly nearer than the rival.
    """

    name: str | None
    distance: float
    rival: float
    clear: bool


def nearest(observed: Rows, known: Mapping[str, Rows], noise: float, right: str = "right") -> Match:
    """Find the scores that are meant.

    Args:
        observed: Shape (pairs,).
        known: Name -> scores of the same pairs; at least two, `right` among them.
        noise: Mean difference of the server's own answers to one prompt.
        right: The name that others must be clearly nearer than.
    """
    distances = {name: mean_difference(observed, scores) for name, scores in known.items()}
    best = min(distances, key=distances.__getitem__)
    distance = distances[best]
    rival = distances[right] if best != right else min(other for name, other in distances.items() if name != right)
    near = distance <= max(TOLERANCE, NOISY * noise)
    return Match(best if near else None, distance, rival, clear=rival > max(CLEAR * distance, CLEAR * noise, RESOLUTION))


def mean_difference(these: Rows, those: Rows) -> float:
    """Of scores in [0, 1]."""
    return float(np.abs(these - those).mean())
