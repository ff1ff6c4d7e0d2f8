"""The result of a whole call, collected from its slices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from qwen3_integrations.core.engine import Engine
from qwen3_integrations.core.pipeline import Slice, Work, arun_slices, run_slices
from qwen3_integrations.core.results import Usage
from qwen3_integrations.core.types import Rows
from qwen3_integrations.errors import BadReply

T = TypeVar("T")

Tell = Callable[[int], object]
"""Called in the caller's thread with the number of items of each finished slice."""


@dataclass(frozen=True, slots=True, eq=False)
class CallResult:
    """The result of a call.

    Attributes:
        rows: One row for each item, in the order of the items.
        usage: Of all slices together.
        truncated: Positions of the items of which a prompt was cut, by the plan or by the engine.
        max_tokens: The budget that held, where it was less than asked for: a server's own limit.
        planned_at: When the first slice was planned, by `time.perf_counter`: the engine starts then.
    """

    rows: Rows
    usage: Usage
    truncated: frozenset[int]
    max_tokens: int | None
    planned_at: float


def run_call(engine: Engine, work: Work[T], items: Sequence[T], tell: Tell | None = None) -> CallResult:
    """Run all items and collect their rows; see `pipeline.run_slices`.

    Args:
        engine: What runs the prompts.
        work: What is done with each item; `Work.finish` must return one row for each item.
        items: A list or a tuple.
        tell: Told of progress.

    Raises:
        Qwen3Error: What planning or the engine raises; its `index` is the item's position.
        BadReply: If slices are answered with rows of different widths.
    """
    whole = _Whole(len(items))
    with closing(run_slices(engine, work, items)) as parts:
        for part in parts:
            whole.take(part)
            if tell:
                tell(len(part.items))
    return whole.result


async def arun_call(engine: Engine, work: Work[T], items: Sequence[T], tell: Tell | None = None) -> CallResult:
    """As `run_call`, without blocking the event loop."""
    whole = _Whole(len(items))
    async with aclosing(arun_slices(engine, work, items)) as parts:
        async for part in parts:
            whole.take(part)
            if tell:
                tell(len(part.items))
    return whole.result


class _Whole:
    """Collects slices."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._rows: Rows | None = None
        self._usage = Usage()
        self._truncated: set[int] = set()
        self._max_tokens: int | None = None
        self._planned_at = 0.0

    def take(self, part: Slice[Any]) -> None:
        """Keep the rows of a slice."""
        rows = part.rows
        if self._rows is None:
            self._rows = rows if len(part.items) == self._count else np.empty((self._count, *rows.shape[1:]), dtype=np.float32)
            self._planned_at = part.planned_at
        if rows.shape[1:] != self._rows.shape[1:]:
            raise BadReply(f"rows of shape {rows.shape[1:]} came after rows of shape {self._rows.shape[1:]} in the same call")
        if rows is not self._rows:
            self._rows[part.begin : part.begin + len(rows)] = rows
        self._usage += part.usage
        self._truncated |= part.truncated
        self._max_tokens = self._max_tokens or part.max_tokens

    @property
    def result(self) -> CallResult:
        """The result, after the last slice."""
        assert self._rows is not None  # a list has at least one slice
        return CallResult(self._rows, self._usage, frozenset(self._truncated), self._max_tokens, self._planned_at)
