"""A call of many texts in slices: the next is planned while an engine runs those before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from queue import SimpleQueue

import numpy as np

from qwen3_integrations.core.engine import Engine
from qwen3_integrations.core.event_loop import BackgroundLoop
from qwen3_integrations.core.results import Usage
from qwen3_integrations.core.types import Job, Reply, Rows
from qwen3_integrations.errors import BadReply, Qwen3Error

SLICE = 256
"""Prompts in a slice, at most. Planning so many of 128 tokens takes 15 ms on two CPU cores."""

FIRST = 32
"""Prompts in the first slice of a call of several; each has twice as many as the one before, up to `SLICE`: the engine begins soon.
Source: `examples/benchmarks/run.py embed`'s texts on an H200 with 16 cores, with this and with `SLICE` in its place, medians of five: it
begins after 7 ms instead of 20; 1,024 texts of 512 tokens take 894 ms instead of 910, 4,096 of 128 no less."""

SLICE_CHARACTERS = 1 << 20
"""Text in a slice, at most, so that slices of long documents are soon planned and small in memory too."""

IN_FLIGHT = 8
"""Slices planned and not yet answered, at most: 2,048 prompts. While one is planned, seven are the engine's: three and a half
passes of 65,536 tokens on a GPU (texts of 128), or `HttpEngine`'s 8 requests of 128 texts and three quarters as many that wait."""

QUICK_TEXTS = 32
QUICK_CHARACTERS = 4096
"""No more texts and characters than this are planned in about a millisecond: less than a thread costs when many callers share it."""

Tell = Callable[[int], object]


def _untold(count: int) -> None:
    pass


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """What one call of a user's wants done.

    Attributes:
        lengths: Characters of each prompt, roughly.
        plan: From begin and end (positions in the call) to the job of these prompts.
        finish: From an engine's rows, their number and the position of the first to rows fit for use.
    """

    lengths: Sequence[int]
    plan: Callable[[int, int], Job]
    finish: Callable[[Rows, int, int], Rows]

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def slices(self) -> list[tuple[int, int]]:
        """Begin and end of each slice, in order; one empty slice for no prompts."""
        bounds, room = [0], SLICE_CHARACTERS
        most = SLICE if len(self) <= SLICE else FIRST
        for position, length in enumerate(self.lengths):
            if position > bounds[-1] and (position - bounds[-1] == most or length > room):
                bounds.append(position)
                most, room = min(2 * most, SLICE), SLICE_CHARACTERS
            room -= length
        return list(zip(bounds, [*bounds[1:], len(self.lengths)], strict=True))

    @property
    def is_quick(self) -> bool:
        """Whether an event loop may plan it in its own thread."""
        return len(self.lengths) <= QUICK_TEXTS and sum(self.lengths) <= QUICK_CHARACTERS


@dataclass(frozen=True, slots=True, eq=False)
class CallResult:
    """What came of a call.

    Attributes:
        rows: Fit for use, in the order of the call.
        usage: Of all slices together.
        truncated: Positions whose texts were cut, by the plan or the engine.
        max_tokens: The budget that held, where it was less than asked for: a server's own limit.
    """

    rows: Rows
    usage: Usage
    truncated: frozenset[int]
    max_tokens: int | None


def is_quick(texts: object) -> bool:
    """Whether texts, still unchecked, are so few and short that an event loop may look through them in its own thread."""
    return (
        isinstance(texts, list | tuple)
        and len(texts) <= QUICK_TEXTS
        and sum(len(text) for text in texts if isinstance(text, str)) <= QUICK_CHARACTERS
    )


def run_call(engine: Engine, call: Call, tell: Tell = _untold) -> CallResult:
    """Plan, run and finish a call, in this thread if it is of one slice.

    Args:
        engine: What runs it.
        call: The whole.
        tell: Called after each slice, in this thread, with the number of its prompts.

    Raises:
        Qwen3Error: What the plan and the engine raise; `index` is the position in the whole call.
        BadReply: If slices are answered with rows of different widths.
    """
    slices = call.slices
    if len(slices) == 1:
        job = call.plan(*slices[0])
        return _told(outcome_of(call, job, engine.run(job)), tell)
    done: SimpleQueue[int | None] = SimpleQueue()
    loop = BackgroundLoop(engine.model)
    try:
        outcome = loop.submit(_in_slices(engine, call, slices, done.put))
        outcome.add_done_callback(lambda _: done.put(None))
        while (count := done.get()) is not None:  # in this thread: a notebook shows a bar where it was made
            tell(count)
        return outcome.result()
    finally:
        loop.close(_nothing)  # after an interrupt, cancels what still runs


async def arun_call(engine: Engine, call: Call, tell: Tell = _untold) -> CallResult:
    """As `run_call`, without blocking the event loop: only a quick plan is made in its thread."""
    slices = call.slices
    if len(slices) > 1:
        return await _in_slices(engine, call, slices, tell)
    job = call.plan(*slices[0]) if call.is_quick else await asyncio.to_thread(call.plan, *slices[0])
    return _told(outcome_of(call, job, await engine.arun(job)), tell)


def outcome_of(call: Call, job: Job, reply: Reply, begin: int = 0) -> CallResult:
    """A reply, finished, counted, and with positions in the whole call.

    Args:
        call: The whole.
        job: What was run of it.
        reply: What the engine answered.
        begin: The position of the job's first prompt.
    """
    cut = {position for position, prompt in enumerate(job.prompts) if prompt.truncated} | reply.truncated
    rows = call.finish(reply.rows, len(job.prompts), begin)
    usage = Usage(len(job.prompts), reply.tokens, len(cut))
    return CallResult(rows, usage, frozenset(begin + position for position in cut), reply.max_tokens)


async def _in_slices(engine: Engine, call: Call, slices: Sequence[tuple[int, int]], tell: Tell) -> CallResult:
    slots = asyncio.Semaphore(IN_FLIGHT)
    whole = _Whole(len(call))

    async def run(begin: int, job: Job) -> None:
        try:
            reply = await engine.arun(job)
        except Qwen3Error as error:
            raise error.at(begin) from error.__cause__
        whole.take(begin, outcome_of(call, job, reply, begin))
        slots.release()
        tell(len(job.prompts))

    try:
        async with asyncio.TaskGroup() as group:
            for begin, end in slices:
                await slots.acquire()
                try:
                    job = await asyncio.to_thread(call.plan, begin, end)
                except Qwen3Error as error:
                    raise error.at(begin) from error.__cause__
                group.create_task(run(begin, replace(job, call=call)))
                del job  # or it would live until the next is planned
    except BaseExceptionGroup as failed:  # the first failure; its siblings were only cancelled for it
        first = failed.exceptions[0]
        raise first from first.__cause__
    return whole.outcome


class _Whole:
    """The outcome of a call, put together from its slices in whatever order they come."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._rows: Rows | None = None
        self._usage = Usage()
        self._truncated: set[int] = set()
        self._max_tokens: int | None = None

    def take(self, begin: int, part: CallResult) -> None:
        """Keep what came of one slice."""
        if self._rows is None:
            self._rows = np.empty((self._count, *part.rows.shape[1:]), dtype=np.float32)
        if part.rows.shape[1:] != self._rows.shape[1:]:
            raise BadReply(f"the engine returned rows of different shapes in one call: {self._rows.shape[1:]}, then {part.rows.shape[1:]}")
        self._rows[begin : begin + len(part.rows)] = part.rows
        self._usage += part.usage
        self._truncated |= part.truncated
        self._max_tokens = self._max_tokens or part.max_tokens

    @property
    def outcome(self) -> CallResult:
        assert self._rows is not None  # there is at least one slice
        return CallResult(self._rows, self._usage, frozenset(self._truncated), self._max_tokens)


def _told(outcome: CallResult, tell: Tell) -> CallResult:
    tell(outcome.usage.prompts)
    return outcome


async def _nothing() -> None:
    pass
