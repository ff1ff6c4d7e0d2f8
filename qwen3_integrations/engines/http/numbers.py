"""Numbers in a server's JSON, read strictly: no booleans, no texts, nothing that float32 does not have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from qwen3_integrations.core.types import Rows
from qwen3_integrations.errors import BadReply, printable

_BRIEF = 120
"""Characters of a server's value in a message."""

_NAME = 1024
"""Characters of a name."""

_MOST = 1 << 40
"""The largest count that is believed: tokens, lengths, limits."""


def number(value: Any) -> float:
    """A number of JSON as a float.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is too large.
    """
    if type(value) not in (int, float):
        raise TypeError(f"{brief(repr(value))} is no number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError("a number is too large") from None


def numbers(values: Any) -> Rows:
    """A list of numbers, or a list of such lists, as float32.

    Raises:
        TypeError: If a value is no number.
        ValueError: If the lists have different lengths, or a number is too large.
    """
    rows = values if isinstance(values, list) and values and isinstance(values[0], list) else [values]
    for row in rows:
        if not isinstance(row, list):
            raise TypeError(f"{brief(repr(row))} is no list of numbers")
        if not set(map(type, row)) <= {int, float}:
            wrong = next(value for value in row if type(value) not in (int, float))
            kind = "a list" if isinstance(wrong, list) else brief(repr(wrong))
            raise TypeError(f"{kind} is no number")
    try:
        with np.errstate(over="ignore"):  # becomes infinite, which is refused
            return np.asarray(values, dtype=np.float32)
    except OverflowError:
        raise ValueError("a number is too large") from None


def whole(value: Any) -> int | None:
    """A count that a server reports; None for what is no possible count."""
    return value if type(value) is int and 0 <= value <= _MOST else None


def is_name(value: Any) -> bool:
    """Whether a server's value can be the name of a model: printable, and not longer than a path."""
    return isinstance(value, str) and 0 < len(value) <= _NAME and value.isprintable()


def brief(value: object) -> str:
    """A server's value, or an error about it, for a message: short and printable."""
    text = printable(str(value))
    return text if len(text) <= _BRIEF else f"{text[:_BRIEF]}..."


def check_finite(rows: Rows) -> None:
    """Check that all numbers of an answer are finite, and that no vector is zero.

    Raises:
        BadReply: With the position of the first row that can't be right.
    """
    usable = np.isfinite(rows) if rows.ndim == 1 else np.isfinite(rows).all(axis=1) & rows.any(axis=1)
    if not usable.all():
        index = int(np.argmin(usable))
        vector = "server's vector is zero" if np.isfinite(rows[index]).all() else "server's vector is not finite"
        what = f"score {rows[index]} is not in [0, 1]" if rows.ndim == 1 else vector
        raise BadReply(f"the {what}", index=index)


def short_list(names: Iterable[str], most: int = 10) -> str:
    """Names in a message: the first of them, and how many there are."""
    listed = list(names)
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return ", ".join(brief(name) for name in listed[:most]) + more
