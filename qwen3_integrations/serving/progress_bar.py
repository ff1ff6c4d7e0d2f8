"""A progress bar (tqdm) for the start of a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import get_args

from qwen3_integrations.core.extras import require
from qwen3_integrations.serving.log import Phase, Progress


@contextmanager
def start_bar() -> Iterator[Callable[[Progress], None]]:
    """A progress bar for the start of a server; yields the `on_progress` for `serving.start`."""
    phases = get_args(Phase)
    with require("tqdm.auto", "notebook").tqdm(
        total=len(phases) - 1, bar_format="{desc} {bar} {elapsed}", desc=phases[0], leave=False
    ) as shown:

        def report(progress: Progress) -> None:
            share = "" if progress.fraction is None else f" {progress.fraction:.0%}"
            shown.set_description_str(f"{progress.phase}{share}", refresh=False)
            shown.n = phases.index(progress.phase) + (progress.fraction or 0.0)
            shown.refresh()

        yield report
