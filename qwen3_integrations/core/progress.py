"""A progress bar (tqdm) for calls of many texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from qwen3_integrations.core.extras import require

DELAY_S = 0.5
"""A call that is done within so many seconds shows no bar."""


@contextmanager
def texts_bar(total: int, *, shown: bool) -> Iterator[Callable[[int], object]]:
    """A bar that counts texts; what it yields is told how many more are done.

    Args:
        total: How many there are.
        shown: False: nothing is shown.

    Raises:
        MissingExtra: If it is to be shown and tqdm is not installed.
    """
    if not shown:
        yield _unseen
        return
    with require("tqdm.auto", "notebook").tqdm(total=total, unit=" texts", delay=DELAY_S) as bar:
        yield bar.update


def _unseen(count: int) -> None:
    pass
