"""The pipeline: items in, finished slices out, in order.

All code that turns many texts into rows uses this pipeline. Items are read from any iterable, cut into slices (`core.slicing`), planned
into prompts, run by an engine with several slices in flight, and finished into rows. For each device of the engine, at most `IN_FLIGHT`
slices are planned, in flight, or finished and not yet read by the consumer. So a slow consumer also slows down the reading of items.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import Generic, TypeVar

from qwen3_integrations.core import slicing
from qwen3_integrations.core.engine import Engine
from qwen3_integrations.core.event_loop import BackgroundLoop
from qwen3_integrations.core.results import Usage
from qwen3_integrations.core.slicing import SliceSize, slices
from qwen3_integrations.core.types import Call, Job, Prompt, Reply, Rows, Task
from qwen3_integrations.errors import EngineError, Partial, Qwen3Error

T = TypeVar("T")

IN_FLIGHT = 8
"""Maximum number of slices in flight for each device of an engine: 2,048 prompts. While one is planned, the engine has seven: three and a
half passes of 65,536 tokens on a GPU (texts of 128 tokens), or the 8 requests of 128 texts that `HttpEngine` sends at once and three
quarters as many that wait."""

QUICK_ITEMS = 32
QUICK_CHARACTERS = 4096
"""Calls up to this size are planned in about a millisecond. A worker thread costs more time if many callers share it."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The prompts of some items.

    Attributes:
        prompts: All prompts, those of one item next to each other, in the order of the items.
        counts: Number of prompts of each item; None if each item has one.
        replaced: Positions of the items in which lone surrogates were replaced.
        preprocessed: Positions of the items that the caller's `preprocess` changed.
    """

    prompts: tuple[Prompt, ...]
    counts: tuple[int, ...] | None = None
    replaced: frozenset[int] = frozenset()
    preprocessed: frozenset[int] = frozenset()

    def item_of(self, prompt: int) -> int:
        """The position of the item that a prompt belongs to."""
        return prompt if self.counts is None else bisect_right(list(accumulate(self.counts)), prompt)


def _one(item: object) -> int:  # noqa: ARG001
    return 1


@dataclass(frozen=True, slots=True, eq=False)
class Work(Generic[T]):
    """How items become prompts, and how an engine's rows become results.

    Attributes:
        task: `embed` or `rerank`.
        max_tokens: Budget of a prompt, in tokens.
        plan: Makes the prompts of a slice's items. It is called for one slice after another, in order, from any thread.
        finish: Makes checked rows from an engine's rows, their plan, and the position of the slice's first item.
        characters: Estimated number of characters of an item's prompts.
        prompts: Estimated number of prompts of an item.
        blocks: Whether `plan` may take long even for few items: then it never runs in the event loop's thread.
    """

    task: Task
    max_tokens: int
    plan: Callable[[Sequence[T]], Plan]
    finish: Callable[[Rows, Plan, int], Rows]
    characters: Callable[[T], int]
    prompts: Callable[[T], int] = _one
    blocks: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Slice(Generic[T]):
    """A finished slice of a call.

    Attributes:
        items: The items, in their order.
        begin: The position of the first item in the whole call.
        rows: The result of `Work.finish`.
        usage: Prompts, tokens and cut prompts of this slice.
        truncated: Positions in the whole call of the items with a cut prompt. The plan or the engine may cut it.
        replaced: Positions in the whole call of the items in which lone surrogates were replaced.
        preprocessed: Positions in the whole call of the items that the caller's `preprocess` changed.
        max_tokens: The budget that was used, if it is less than `Work.max_tokens` (a server's own limit); else None.
        planned_at: Time at which the planning ended, by `time.perf_counter`.
    """

    items: Sequence[T]
    begin: int
    rows: Rows
    usage: Usage
    truncated: frozenset[int]
    replaced: frozenset[int]
    preprocessed: frozenset[int]
    max_tokens: int | None
    planned_at: float


def is_quick(texts: object) -> bool:
    """Whether unchecked texts are few and short enough to be checked in the event loop's thread."""
    return (
        isinstance(texts, list | tuple)
        and len(texts) <= QUICK_ITEMS
        and sum(len(text) for text in texts if isinstance(text, str)) <= QUICK_CHARACTERS
    )


def run_slices(engine: Engine, work: Work[T], items: Iterable[T], size: SliceSize | None = None) -> Generator[Slice[T], None, None]:
    """Plan, run and finish items, slice after slice.

    Items are read and planned in the caller's thread. A list or tuple that fits one slice also runs in the caller's thread. Otherwise an
    event loop in its own thread keeps several slices in flight. Closing the generator cancels them.

    Args:
        engine: The engine that runs the prompts.
        work: How items become prompts, and rows become results.
        items: Any iterable. The length is known only for a list or a tuple.
        size: Bounds of a slice; None for `slicing.DEFAULT_SIZE`.

    Yields:
        Finished slices, in the order of the items; one empty slice for an empty list, none for another empty iterable.

    Raises:
        Qwen3Error: An error of the planning or the engine. The slices before it are yielded first. Its `index` is the item's position in
            the whole call.
    """
    planner = _Planner(engine, work, items, size)
    in_flight: deque[Future[Slice[T]]] = deque()
    loop: BackgroundLoop | None = None
    try:
        while True:
            while planner.wants_next(in_flight) and (planned := planner.next()):
                if planned.is_whole:
                    yield planned.run(engine)
                    return
                loop = loop or BackgroundLoop(engine.model)
                in_flight.append(loop.submit(planned.arun(engine)))
                del planned  # so that its prompts can be freed before the next slice is planned
            if not in_flight:
                break
            yield in_flight.popleft().result()
    finally:
        if loop:
            loop.close(_nothing)  # cancels the slices in flight
    planner.raise_failure()


async def arun_slices(engine: Engine, work: Work[T], items: Iterable[T], size: SliceSize | None = None) -> AsyncGenerator[Slice[T], None]:
    """As `run_slices`, without blocking the event loop: items are read and planned in worker threads, one slice at a time.

    A short list is planned in the event loop's thread (see `QUICK_ITEMS`).
    """
    planner = _Planner(engine, work, items, size)
    in_flight: deque[asyncio.Task[Slice[T]]] = deque()
    try:
        while True:
            while planner.wants_next(in_flight) and (
                planned := planner.next() if planner.is_quick else await asyncio.to_thread(planner.next)
            ):
                if planned.is_whole:
                    yield await planned.arun(engine)
                    return
                in_flight.append(asyncio.create_task(planned.arun(engine)))
                del planned
            if not in_flight:
                break
            yield await in_flight.popleft()
    finally:
        for task in in_flight:
            task.cancel()
        await asyncio.gather(*in_flight, return_exceptions=True)
    planner.raise_failure()


@dataclass(frozen=True, slots=True, eq=False)
class _Planned(Generic[T]):
    """A slice whose prompts are planned."""

    work: Work[T]
    items: Sequence[T]
    begin: int
    plan: Plan
    job: Job
    planned_at: float

    @property
    def is_whole(self) -> bool:
        """Whether this slice is the whole call."""
        return self.job.call is None

    def run(self, engine: Engine) -> Slice[T]:
        """Run and finish the slice."""
        try:
            reply = engine.run(self.job)
        except Qwen3Error as error:
            raise self._of_call(error) from error.__cause__
        return self._finished(reply, engine)

    async def arun(self, engine: Engine) -> Slice[T]:
        """As `run`, without blocking the event loop."""
        try:
            reply = await engine.arun(self.job)
        except Qwen3Error as error:
            raise self._of_call(error) from error.__cause__
        return self._finished(reply, engine)

    def _of_call(self, error: Qwen3Error) -> Qwen3Error:
        """The error of this slice as the error of the whole call. Of items with several prompts no part is kept."""
        moved = _moved(error, self._position_of)
        if not isinstance(moved, EngineError) or moved.partial is None:
            return moved
        partial, rows = moved.partial, None
        if self.plan.counts is None:
            with suppress(Qwen3Error):  # the first failure is the one to report
                rows = self.work.finish(partial.rows, Plan(tuple(self.plan.prompts[at] for at in partial.which)), self.begin)
        return moved.replace(partial=None if rows is None else Partial(rows, tuple(self.begin + at for at in partial.which)))

    def _position_of(self, prompt: int) -> int:
        """The position in the whole call of the item that a prompt belongs to."""
        return self.begin + self.plan.item_of(prompt)

    def _finished(self, reply: Reply, engine: Engine) -> Slice[T]:
        try:
            rows = self.work.finish(reply.rows, self.plan, self.begin)
        except EngineError as error:
            where = getattr(engine, "where", None)
            url = where if isinstance(where, str) and "://" in where else None
            raise error.replace(model=error.model or engine.model, url=error.url or url) from error.__cause__
        cut = {position for position, prompt in enumerate(self.job.prompts) if prompt.truncated} | reply.truncated
        return Slice(
            items=self.items,
            begin=self.begin,
            rows=rows,
            usage=Usage(len(self.job.prompts), reply.total_tokens, len(cut), len(self.plan.replaced), len(self.plan.preprocessed)),
            truncated=frozenset(map(self._position_of, cut)),
            replaced=frozenset(self.begin + item for item in self.plan.replaced),
            preprocessed=frozenset(self.begin + item for item in self.plan.preprocessed),
            max_tokens=reply.max_tokens,
            planned_at=self.planned_at,
        )


class _Planner(Generic[T]):
    """Reads items and plans their prompts, one slice per `next`. An error ends the planning; `raise_failure` raises it."""

    def __init__(self, engine: Engine, work: Work[T], items: Iterable[T], size: SliceSize | None) -> None:
        size = size or slicing.DEFAULT_SIZE
        listed = items if isinstance(items, list | tuple) else None
        self._work = work
        self._in_flight = IN_FLIGHT * (engine.capabilities.devices or 1)
        self._total = None if listed is None else len(listed)
        self._call = Call(self._total if listed is None or work.prompts is _one else sum(map(work.prompts, listed)))
        self._begin = 0
        self._ended = False
        self._failure: Exception | None = None
        self._slices = slices(items, work.prompts, work.characters, size, self._total)
        is_short = listed is not None and len(listed) <= QUICK_ITEMS and sum(map(work.characters, listed)) <= QUICK_CHARACTERS
        self.is_quick = is_short and not work.blocks

    def wants_next(self, in_flight: Sequence[Future[Slice[T]]] | Sequence[asyncio.Task[Slice[T]]]) -> bool:
        """Whether to plan another slice now. Otherwise the oldest one is yielded."""
        return not self._ended and len(in_flight) < self._in_flight and not (in_flight and in_flight[0].done())

    def next(self) -> _Planned[T] | None:
        """Plan the next slice; None at the end."""
        try:
            items = next(self._slices, None)
            if items is not None:
                return self._planned(items)
        except Exception as error:  # noqa: BLE001  raised by `raise_failure`
            self._failure = error
        self._ended = True
        return None

    def raise_failure(self) -> None:
        """Raise the error that ended the planning, if there is one."""
        if self._failure:
            raise self._failure

    def _planned(self, items: list[T]) -> _Planned[T]:
        begin = self._begin
        self._begin += len(items)
        try:
            plan = self._work.plan(items)
        except Qwen3Error as error:
            raise _moved(error, lambda item: begin + item) from error.__cause__
        whole = len(items) == self._total
        job = Job(self._work.task, plan.prompts, self._work.max_tokens, None if whole else self._call)
        self._ended = whole
        return _Planned(self._work, items, begin, plan, job, time.perf_counter())


def _moved(error: Qwen3Error, position: Callable[[int], int]) -> Qwen3Error:
    """The error of a slice as the error of the whole call."""
    return error if error.index is None else error.replace(index=position(error.index))


async def _nothing() -> None:
    pass
