"""The pipeline: items in, finished slices out, in order.

All code that turns many texts into rows uses this pipeline. Items are read from any iterable, cut into slices (`core.slicing`), planned
into prompts, run by an engine with several slices in flight, and finished into rows. For each device of the engine, at most `IN_FLIGHT`
slices are planned, in flight, or finished and not yet read by the consumer. So a slow consumer also slows down the reading of items.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from qwen3_integrations.core import slicing
from qwen3_integrations.core.engine import Engine
from qwen3_integrations.core.event_loop import BackgroundLoop
from qwen3_integrations.core.planned import Planned, Skipping, Slice, Work, error_of_call, one_prompt
from qwen3_integrations.core.slicing import SliceSize, slices
from qwen3_integrations.core.types import Call, Job
from qwen3_integrations.errors import Qwen3Error

T = TypeVar("T")

IN_FLIGHT = 8
"""Maximum number of slices in flight for each device of an engine: 2,048 prompts. While one is planned, the engine has seven: three and a
half passes of 65,536 tokens on a GPU (texts of 128 tokens), or the 8 requests of 128 texts that `HttpEngine` sends at once and three
quarters as many that wait."""

QUICK_ITEMS = 32
QUICK_CHARACTERS = 4096
"""Calls up to this size are planned in about a millisecond. A worker thread costs more time if many callers share it."""


def is_quick(texts: object) -> bool:
    """Whether unchecked texts are few and short enough to be checked in the event loop's thread."""
    return (
        isinstance(texts, list | tuple)
        and len(texts) <= QUICK_ITEMS
        and sum(len(text) for text in texts if isinstance(text, str)) <= QUICK_CHARACTERS
    )


def run_slices(
    engine: Engine, work: Work[T], items: Iterable[T], size: SliceSize | None = None, *, skip: bool = False
) -> Generator[Slice[T], None, None]:
    """Plan, run and finish items, slice after slice.

    Items are read and planned in the caller's thread. A list or tuple that fits one slice also runs in the caller's thread. Otherwise an
    event loop in its own thread keeps several slices in flight. Closing the generator cancels them.

    Args:
        engine: The engine that runs the prompts.
        work: How items become prompts, and rows become results.
        items: Any iterable. The length is known only for a list or a tuple.
        size: Bounds of a slice; None for `slicing.DEFAULT_SIZE`.
        skip: Leave out the items that can't be planned or run: their errors are in `Slice.failed`. An error about no single item is raised.

    Yields:
        Finished slices, in the order of the items; one empty slice for an empty list, none for another empty iterable.

    Raises:
        Qwen3Error: An error of the planning or the engine. The slices before it are yielded first. Its `index` is the item's position in
            the whole call.
    """
    planner = _Planner(engine, work, items, size, skip=skip)
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


async def arun_slices(
    engine: Engine, work: Work[T], items: Iterable[T], size: SliceSize | None = None, *, skip: bool = False
) -> AsyncGenerator[Slice[T], None]:
    """As `run_slices`, without blocking the event loop: items are read and planned in worker threads, one slice at a time.

    A short list is planned in the event loop's thread (see `QUICK_ITEMS`).
    """
    planner = _Planner(engine, work, items, size, skip=skip)
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


class _Planner(Generic[T]):
    """Reads items and plans their prompts, one slice per `next`. An error ends the planning; `raise_failure` raises it."""

    def __init__(self, engine: Engine, work: Work[T], items: Iterable[T], size: SliceSize | None, *, skip: bool) -> None:
        self._skip = skip
        size = size or slicing.DEFAULT_SIZE
        listed = items if isinstance(items, list | tuple) else None
        self._work = work
        self._in_flight = IN_FLIGHT * (engine.capabilities.devices or 1)
        self._total = None if listed is None else len(listed)
        self._call = Call(self._total if listed is None or work.prompts is one_prompt else sum(map(work.prompts, listed)))
        self._begin = 0
        self._ended = False
        self._failure: Exception | None = None
        self._slices = slices(items, work.prompts, work.characters, size, self._total)
        is_short = listed is not None and len(listed) <= QUICK_ITEMS and sum(map(work.characters, listed)) <= QUICK_CHARACTERS
        self.is_quick = is_short and not work.blocks

    def wants_next(self, in_flight: Sequence[Future[Slice[T]]] | Sequence[asyncio.Task[Slice[T]]]) -> bool:
        """Whether to plan another slice now. Otherwise the oldest one is yielded."""
        return not self._ended and len(in_flight) < self._in_flight and not (in_flight and in_flight[0].done())

    def next(self) -> Planned[T] | Skipping[T] | None:
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

    def _planned(self, items: list[T]) -> Planned[T] | Skipping[T]:
        begin = self._begin
        self._begin += len(items)
        try:
            planned = self._slice(items, begin)
        except Qwen3Error as error:
            if not self._skip or error.index is None:
                raise
            singles = [self._single(item, begin + at) for at, item in enumerate(items)]
            return Skipping(items, begin, None, lambda: singles)
        self._ended = planned.is_whole
        if not self._skip:
            return planned
        return Skipping(items, begin, planned, lambda: [planned.single(at) for at in range(len(items))])

    def _single(self, item: T, at: int) -> Planned[T] | Qwen3Error:
        try:
            return self._slice([item], at)
        except Qwen3Error as error:
            if error.index is None:
                raise
            return error

    def _slice(self, items: list[T], begin: int) -> Planned[T]:
        try:
            plan = self._work.plan(items)
        except Qwen3Error as error:
            raise error_of_call(error, lambda item: begin + item) from error.__cause__
        job = Job(self._work.task, plan.prompts, self._work.max_tokens, None if len(items) == self._total else self._call)
        return Planned(self._work, items, begin, plan, job, time.perf_counter())


async def _nothing() -> None:
    pass
