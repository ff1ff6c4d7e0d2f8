"""Checks of arguments and options: one home, so that the same mistake gets the same words everywhere."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from numbers import Real

from qwen3_integrations.errors import ConfigError


def check_options(given: Iterable[str], known: Iterable[str], owner: str) -> None:
    """Refuse options that nobody knows, with the nearest known one.

    Raises:
        ConfigError: For the first unknown option.
    """
    names = sorted(known)
    for option in given:
        if option not in names:
            raise ConfigError(f"{owner} has no option {option!r}{suggest(option, names)}; it has: {', '.join(names)}")


def suggest(word: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {near[0]!r}?" if near else ""


MIN_DIMENSIONS = 32
"""The least Matryoshka width of the published embedders. Source: their model cards."""


def checked_budget(max_tokens: int, context: int | None) -> int:
    """A token budget that the model can take: what is asked for, at most the model's context.

    Args:
        max_tokens: Longest prompt wanted, in tokens.
        context: The model's longest; None where it is not known yet.

    Raises:
        ConfigError: If it is no whole number of at least 1.
    """
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
        raise ConfigError(f"max_tokens must be a whole number of at least 1, not {max_tokens!r}")
    return max_tokens if context is None else min(max_tokens, context)


def checked_dimensions(dimensions: int | None, width: int | None, model: str) -> int | None:
    """The dimensions, after proving that they lie in the model's range.

    Args:
        dimensions: What is asked for; None for the model's own width.
        width: The model's own width; None where it is not known yet.
        model: Its name, for the message.

    Raises:
        ConfigError: If they are no whole number, or outside [32, width]; models narrower than 32 have only their own.
    """
    if dimensions is None:
        return None
    least = MIN_DIMENSIONS if width is None else min(MIN_DIMENSIONS, width)
    wrong = isinstance(dimensions, bool) or not isinstance(dimensions, int)
    if wrong or dimensions < least or (width is not None and dimensions > width):
        most = "the model's width" if width is None else width
        raise ConfigError(f"dimensions must be a whole number from {least} to {most} for {model}, not {dimensions!r}")
    return dimensions


def checked_cut(top_n: int | None, score_threshold: float | None) -> None:
    """Prove that a cut makes sense.

    Raises:
        ConfigError: If `top_n` is no whole number of at least 1, or the threshold is no number in [0, 1].
    """
    if top_n is not None and (isinstance(top_n, bool) or not isinstance(top_n, int) or top_n < 1):
        raise ConfigError(f"top_n must be a whole number of at least 1, or None for all, not {top_n!r}")
    real = isinstance(score_threshold, Real) and not isinstance(score_threshold, bool)
    if score_threshold is not None and not (real and 0 <= score_threshold <= 1):
        raise ConfigError(f"score_threshold must be a number in [0, 1], or None for any score, not {score_threshold!r}")
