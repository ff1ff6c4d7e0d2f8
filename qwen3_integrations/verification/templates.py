"""Identify a server's template for query and document from its scores. Pure functions.

The number of tokens is not enough: vLLM's own template has as many tokens as the right template, and only one of them differs.
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
"""(query, document, instruction) -> prompt."""


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
"""The known prompts of servers. Sources: the model card (right); vLLM's examples/pooling/score/template/qwen3_reranker.jinja,
whose last newline Jinja drops (newline lost); the official repository's evaluation (two newlines); the template that SGLang ships (no
thinking block); vLLM's entrypoints/pooling/scoring/io_processor.py without a chat template, `prompt_1 + prompt_2` (bare)."""

SAYS: Mapping[FormName, str] = {
    "right": "right template: the scores are those of the model card's prompt",
    "newline lost": "vLLM's own template, which lacks the last newline",
    "two newlines": "template with two newlines between the lines, as in the official repository's evaluation; the model card has one",
    "no thinking block": "template without the empty thinking block",
    "bare": "no chat template: {route} concatenates query and document",
}

TOLERANCE = 1e-3
"""Tolerance of the mean difference of scores, on a server without run-to-run noise, as in float32."""

NOISY = 4.0
"""Tolerance, as a multiple of the server's own run-to-run noise; for bfloat16."""

CLEAR = 2.0
"""Factor by which the nearest form must be nearer than the right form (or the right form, if it is the nearest, than any other)."""

RESOLUTION = 1e-4
"""Mean difference of scores below which two forms can't be distinguished; float32 differs by 1e-6."""


@dataclass(frozen=True, slots=True)
class Match:
    """The known scores nearest to the observed ones.

    Attributes:
        name: The name of their form; None if none is near.
        distance: Mean difference from them.
        rival: Mean difference from the right form; if that is the nearest, from the next.
        clear: Whether the nearest is clearly nearer than the rival.
    """

    name: str | None
    distance: float
    rival: float
    clear: bool


def nearest(observed: Rows, known: Mapping[str, Rows], noise: float, right: str = "right") -> Match:
    """Find the form of observed scores.

    Args:
        observed: Shape (pairs,).
        known: Name -> scores of the same pairs; at least two, `right` among them.
        noise: Mean difference of the server's own answers to one prompt.
        right: Name of the correct form.
    """
    distances = {name: mean_difference(observed, scores) for name, scores in known.items()}
    best = min(distances, key=distances.__getitem__)
    distance = distances[best]
    rival = distances[right] if best != right else min(other for name, other in distances.items() if name != right)
    near = distance <= max(TOLERANCE, NOISY * noise)
    return Match(best if near else None, distance, rival, clear=rival > max(CLEAR * distance, CLEAR * noise, RESOLUTION))


def mean_difference(these: Rows, those: Rows) -> float:
    """Mean absolute difference of scores in [0, 1]."""
    return float(np.abs(these - those).mean())
