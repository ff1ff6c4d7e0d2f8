"""Progress bars (tqdm) for what takes long: embedding many texts, and the start of a server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from qwen3_integrations.engines.loop import BackgroundLoop
from qwen3_integrations.engines.protocol import Engine
from qwen3_integrations.errors import EngineError, ServerError
from qwen3_integrations.extras import require
from qwen3_integrations.jobs import Job, Reply

if TYPE_CHECKING:
    from qwen3_integrations.serving import Progress

SLICE = 256
"""Prompts an engine is given at once."""

IN_FLIGHT = 4
"""Slices an engine has at once: 1,024 prompts, as many as `HttpEngine` sends at once (8 requests of 128)."""

DELAY_S = 0.5
"""A call that is done within so many seconds shows no bar."""


def run_with_bar(engine: Engine, job: Job) -> Reply:
    """As `engine.run`, with a bar that counts prompts.

    Raises:
        MissingExtra: If tqdm is not installed.
    """
    done: SimpleQueue[int | None] = SimpleQueue()
    with _bar(len(job.prompts)) as shown:
        loop = BackgroundLoop(engine.model)
        try:
            reply = loop.submit(run_in_slices(engine, job, done.put))
            reply.add_done_callback(lambda _: done.put(None))
            while (count := done.get()) is not None:  # in this thread: a notebook shows a bar where it was made
                shown.update(count)
            return reply.result()
        finally:
            loop.close(_nothing)  # after an interrupt, cancels what still runs


async def arun_with_bar(engine: Engine, job: Job) -> Reply:
    """As `run_with_bar`, without blocking the event loop."""
    with _bar(len(job.prompts)) as shown:
        return await run_in_slices(engine, job, shown.update)


async def run_in_slices(engine: Engine, job: Job, tell: Callable[[int], object]) -> Reply:
    """As `engine.arun`, in slices of which several are always on their way.

    Args:
        engine: What runs them.
        job: The whole.
        tell: Called after each slice with the number of its prompts.
    """
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def one(begin: int) -> Reply:
        part = Job(job.task, job.prompts[begin : begin + SLICE], job.max_tokens)
        async with slots:
            try:
                reply = await engine.arun(part)
            except EngineError as error:
                raise _of_the_whole(error, begin) from None
        tell(len(part.prompts))
        return reply

    begins = range(0, max(1, len(job.prompts)), SLICE)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(begin)) for begin in begins]
    except BaseExceptionGroup as failed:  # the first failure; its siblings were only cancelled for it
        raise failed.exceptions[0] from None
    replies = [task.result() for task in tasks]
    return Reply(
        np.concatenate([reply.rows for reply in replies]),
        sum(reply.tokens for reply in replies),
        frozenset(begin + position for begin, reply in zip(begins, replies, strict=True) for position in reply.truncated),
        replies[0].max_tokens,
    )


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


def _bar(total: int) -> Any:
    return _tqdm()(total=total, unit=" texts", delay=DELAY_S)


def _tqdm() -> Any:
    return require("tqdm.auto", "notebook").tqdm


def _of_the_whole(error: EngineError, begin: int) -> EngineError:
    """The same error, about the position in the whole call and not in its slice."""
    said = re.sub(r"(?<=\bitem )\d+(?= of this call)", lambda number: str(int(number[0]) + begin), str(error))
    error.args = (said, *error.args[1:])
    if isinstance(error, ServerError) and error.index is not None:
        error.index += begin
    return error


async def _nothing() -> None:
    pass
