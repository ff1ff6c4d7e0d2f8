"""Progress bars (tqdm) for what takes long: embedding many texts, and the start of a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, get_args

from qwen3_integrations.extras import require

if TYPE_CHECKING:
    from qwen3_integrations.serving import Progress

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
    with _tqdm()(total=total, unit=" texts", delay=DELAY_S) as bar:
        yield bar.update


@contextmanager
def start_bar() -> Iterator[Callable[[Progress], None]]:
    """A bar for the start of a server; what it yields is an `on_progress` for `serving.start`."""
    from qwen3_integrations.serving.log import Phase

    phases = get_args(Phase)
    with _tqdm()(total=len(phases) - 1, bar_format="{desc} {bar} {elapsed}", desc=phases[0], leave=False) as shown:

        def tell(progress: Progress) -> None:
            share = "" if progress.fraction is None else f" {progress.fraction:.0%}"
            shown.set_description_str(f"{progress.phase}{share}", refresh=False)
            shown.n = phases.index(progress.phase) + (progress.fraction or 0.0)
            shown.refresh()

        yield tell


def _tqdm() -> Any:
    return require("tqdm.auto", "notebook").tqdm


def _unseen(count: int) -> None:
    pass
