"""A progress bar (tqdm) for calls of many texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from qwen3_integrations.core.extras import require

DELAY_S = 0.5
"""Seconds before a bar is shown. Shorter calls show none."""


@contextmanager
def texts_bar(total: int, *, shown: bool) -> Iterator[Callable[[int], object]]:
    """A bar that counts texts. The yielded function is called with the number of newly finished texts.

    Args:
        total: Number of texts.
        shown: Whether to show the bar.

    Raises:
        MissingExtra: If `shown` is true and tqdm is not installed.
    """
    if not shown:
        yield _unseen
        return
    with require("tqdm.auto", "notebook").tqdm(total=total, unit=" texts", delay=DELAY_S) as bar:
        yield bar.update


def _unseen(count: int) -> None:
    pass
