"""The result of a whole call, collected from its slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from qwen3_integrations.core.engine import Engine
from qwen3_integrations.core.pipeline import arun_slices, run_slices
from qwen3_integrations.core.planned import Slice, Work
from qwen3_integrations.core.results import Usage
from qwen3_integrations.core.types import Rows
from qwen3_integrations.errors import BadReply, EngineError, Partial, Qwen3Error

T = TypeVar("T")

Report = Callable[[int], object]
"""Called in the caller's thread with the number of items of each finished slice."""


@dataclass(frozen=True, slots=True, eq=False)
class CallResult:
    """The result of a call.

    Attributes:
        rows: One row for each item, in the order of the items.
        usage: The usage of all slices together.
        truncated: Positions of the items with a cut prompt. The plan or the engine may cut it.
        replaced: Positions of the items in which lone surrogates were replaced.
        preprocessed: Positions of the items that the caller's `preprocess` changed.
        max_tokens: The budget that was used, if it is less than the wanted one (a server's own limit); else None.
        planned_at: Time at which the first slice was planned and the engine started, by `time.perf_counter`.
        failed: The errors of the items that were left out, by position. Their rows are not numbers.
    """

    rows: Rows
    usage: Usage
    truncated: frozenset[int]
    replaced: frozenset[int]
    preprocessed: frozenset[int]
    max_tokens: int | None
    planned_at: float
    failed: Mapping[int, Qwen3Error]


def run_call(engine: Engine, work: Work[T], items: Sequence[T], report: Report | None = None, *, skip: bool = False) -> CallResult:
    """Run all items and collect their rows; see `pipeline.run_slices`.

    Args:
        engine: The engine that runs the prompts.
        work: How items become prompts, and rows become results; `Work.finish` must return one row for each item.
        items: A list or a tuple.
        report: Called with the number of items of each finished slice.
        skip: Leave out the items that can't be planned or run.

    Raises:
        Qwen3Error: An error of the planning or the engine; its `index` is the item's position.
        BadReply: If the rows of slices have different widths.
    """
    whole = _Whole(len(items))
    with whole.partial_in_errors(), closing(run_slices(engine, work, items, skip=skip)) as parts:
        for part in parts:
            whole.take(part)
            if report:
                report(len(part.items))
    return whole.result


async def arun_call(engine: Engine, work: Work[T], items: Sequence[T], report: Report | None = None) -> CallResult:
    """As `run_call`, without blocking the event loop."""
    whole = _Whole(len(items))
    with whole.partial_in_errors():
        async with aclosing(arun_slices(engine, work, items)) as parts:
            async for part in parts:
                whole.take(part)
                if report:
                    report(len(part.items))
    return whole.result


class _Whole:
    """Collects slices."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._rows: Rows | None = None
        self._usage = Usage()
        self._truncated: set[int] = set()
        self._replaced: set[int] = set()
        self._preprocessed: set[int] = set()
        self._max_tokens: int | None = None
        self._planned_at = 0.0
        self._taken = 0
        self._failed: dict[int, Qwen3Error] = {}

    def take(self, part: Slice[Any]) -> None:
        """Keep the rows of a slice."""
        rows = _with_gaps(part) if part.failed else part.rows
        self._failed |= part.failed
        if self._rows is None:
            self._rows = rows if len(part.items) == self._count else np.empty((self._count, *rows.shape[1:]), dtype=np.float32)
            self._planned_at = part.planned_at
        if rows.shape[1:] != self._rows.shape[1:]:
            raise BadReply(f"rows of shape {rows.shape[1:]} came after rows of shape {self._rows.shape[1:]} in the same call")
        if rows is not self._rows:
            self._rows[part.begin : part.begin + len(rows)] = rows
        self._taken = part.begin + len(rows)
        self._usage += part.usage
        self._truncated |= part.truncated
        self._replaced |= part.replaced
        self._preprocessed |= part.preprocessed
        self._max_tokens = self._max_tokens or part.max_tokens

    @contextmanager
    def partial_in_errors(self) -> Iterator[None]:
        """Add the rows of the finished slices to an error of the engine."""
        try:
            yield
        except EngineError as error:
            if self._rows is None or not self._taken:
                raise
            rows, which = self._rows[: self._taken], tuple(range(self._taken))
            if error.partial is not None and error.partial.rows.shape[1:] == rows.shape[1:]:
                rows, which = np.concatenate([rows, error.partial.rows]), which + error.partial.which
            raise error.replace(partial=Partial(rows.copy(), which)) from error.__cause__

    @property
    def result(self) -> CallResult:
        """The result, after the last slice."""
        assert self._rows is not None  # a list has at least one slice
        return CallResult(
            rows=self._rows,
            usage=self._usage,
            truncated=frozenset(self._truncated),
            replaced=frozenset(self._replaced),
            preprocessed=frozenset(self._preprocessed),
            max_tokens=self._max_tokens,
            planned_at=self._planned_at,
            failed=self._failed,
        )


def _with_gaps(part: Slice[Any]) -> Rows:
    """The rows of a slice with one row for each item: not numbers for those that were left out."""
    rows = np.full((len(part.items), *part.rows.shape[1:]), np.nan, dtype=np.float32)
    rows[[at for at in range(len(part.items)) if part.begin + at not in part.failed]] = part.rows
    return rows
