"""The jobs that wait for an engine, and the choice of the prompts of the next pass. Every method may be called by any thread."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from qwen3_integrations.core.types import Job, Reply, Rows
from qwen3_integrations.engines.torch.packing import count_fitting, suffix_tokens
from qwen3_integrations.errors import EngineClosed, EngineError

OLDEST_SHARE = 4
"""The oldest job gets 1 / 4 of each pass, so that shorter jobs cannot starve it."""

SMALLEST_SHARE = 8
"""Idle devices divide the last prompts of the queue among them, but no share is smaller than 1 / 8 of a full pass."""


@dataclass(slots=True, eq=False)
class PendingJob:
    """A job that is not finished.

    Attributes:
        job: The job.
        to_start: Indices of the prompts that are in no pass yet; the next one is the last element.
        unfinished: Number of prompts without a row.
        rows: The rows so far; None before the first.
        finished: Whether the future is resolved, failed or cancelled.
        retried: Indices of the prompts whose device failed, and which run on another one.
        future: Future of the reply.
    """

    job: Job
    to_start: list[int]
    unfinished: int
    rows: Rows | None = None
    finished: bool = False
    retried: set[int] = field(default_factory=set)
    future: Future[Reply] = field(default_factory=Future)


PassItems = list[tuple[PendingJob, int]]
"""The prompts of one pass: for each, its job and its index in the job."""


def _prompts_left(pending: PendingJob) -> int:
    return len(pending.to_start)


class WaitingJobs:
    """Jobs from any thread, whose prompts the workers of the devices take.

    Fairness: a quarter of each pass belongs to the oldest job. The rest goes to the jobs with the fewest prompts left, in this order.
    So a single query does not wait for a corpus, and queries cannot starve a corpus.

    Args:
        name: The engine's name, for messages.
        workers: Number of workers.
    """

    def __init__(self, name: str, workers: int) -> None:
        self._name = name
        self._workers = workers
        self._idle = 0
        self._pending: list[PendingJob] = []
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        """Number of jobs that are not finished."""
        return len(self._pending)

    @property
    def closed(self) -> bool:
        """Whether no job is accepted any more."""
        return self._closed

    @property
    def has_others(self) -> bool:
        """Whether there is more than one worker."""
        return self._workers > 1

    def add(self, job: Job) -> Future[Reply]:
        """Add a job with at least one prompt. Cancelling the future drops the prompts that are in no pass yet.

        Raises:
            EngineClosed: After `close`.
        """
        # The longest prompt is the last element, so it runs first. Neighbours have similar lengths and share a pass.
        to_start = sorted(range(len(job.prompts)), key=lambda index: (id(job.prompts[index].prefix), suffix_tokens(job.prompts[index])))
        pending = PendingJob(job, to_start, len(to_start))
        with self._changed:
            if self._closed:
                raise EngineClosed(f"the engine for {self._name} is closed", advice="Open it again")
            self._pending.append(pending)
            self._changed.notify_all()
        return pending.future

    def take(self, budget: int, *, wait: bool) -> PassItems:
        """The prompts of the next pass.

        Args:
            budget: Tokens of the pass.
            wait: Whether to wait until there are prompts.

        Returns:
            At least one prompt; none after `close`, or if none waits and `wait` is false.
        """
        with self._changed:
            self._idle += 1
            while wait and not self._closed and not any(pending.to_start for pending in self._pending):
                self._changed.wait()
            self._idle -= 1
            for pending in [pending for pending in self._pending if pending.future.cancelled()]:
                self._remove(pending)
                pending.future.set_running_or_notify_cancel()  # wakes callers that wait for several futures
            return [] if self._closed else self._choose(budget)

    def give_back(self, items: PassItems) -> None:
        """Take prompts back whose pass was not computed. They are the next ones."""
        with self._changed:
            for pending, index in reversed(items):
                if not pending.finished:
                    pending.to_start.append(index)
            self._changed.notify_all()

    def retry(self, items: PassItems, error: Exception) -> None:
        """Take prompts back whose device failed.

        If the device of a prompt fails for the second time, its job fails: perhaps the prompt is the cause.
        """
        again = {id(pending) for pending, index in items if index in pending.retried}
        self.fail([item for item in items if id(item[0]) in again], error)
        for pending, index in items:
            pending.retried.add(index)
        self.give_back(items)

    def finish(self, items: PassItems, rows: Rows) -> None:
        """Store the rows of a pass, and resolve the jobs that have all rows now.

        Raises:
            ValueError: If the number of rows is not the number of prompts.
        """
        done: list[PendingJob] = []
        try:
            with self._changed:
                for (pending, index), row in zip(items, rows, strict=True):
                    if pending.rows is None:
                        pending.rows = np.empty((len(pending.job.prompts), *np.shape(row)), dtype=np.float32)
                    pending.rows[index] = row
                    pending.unfinished -= 1
                    if not pending.unfinished and not pending.finished:
                        self._remove(pending)
                        done.append(pending)
        finally:
            for pending in done:
                _resolve(pending)

    def fail(self, items: PassItems, error: Exception) -> None:
        """Fail the jobs of a pass."""
        with self._changed:
            failed = [pending for pending in {id(pending): pending for pending, _ in items}.values() if not pending.finished]
            for pending in failed:
                self._remove(pending)
        for pending in failed:
            failure = EngineError(f"the engine for {self._name} failed: {type(error).__name__}: {error}")
            failure.__cause__ = error  # an error for each caller: the traceback of a shared one would grow with every caller
            _fail(pending, failure)

    def close(self) -> None:
        """Accept no job any more, and let no prompt be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def leave_to_others(self) -> bool:
        """A worker whose device failed stops, if there is another worker. Returns whether there is."""
        with self._changed:
            if self._workers == 1:
                return False
            self._workers -= 1
            return True

    def leave(self) -> None:
        """A worker stops after `close`. The last one fails the jobs that are left."""
        with self._changed:
            self._workers -= 1
            left = [] if self._workers else self._pending
        for pending in left:
            _fail(pending, EngineClosed(f"the engine for {self._name} was closed before this job was done"))

    def _choose(self, budget: int) -> PassItems:
        ready = [pending for pending in self._pending if pending.to_start]
        if not ready:
            return []
        shares = [(ready[0], budget // OLDEST_SHARE), *((pending, budget) for pending in sorted(ready, key=_prompts_left))]
        candidates: PassItems = []
        taken: dict[int, int] = {}
        room = budget
        for pending, share in shares:
            left = share
            while room > 0 and left > 0 and (at := taken.get(id(pending), 0)) < len(pending.to_start):
                index = pending.to_start[-1 - at]
                tokens = suffix_tokens(pending.job.prompts[index])
                candidates.append((pending, index))
                taken[id(pending)] = at + 1
                room, left = room - tokens, left - tokens
        if self._idle and len(candidates) == sum(len(pending.to_start) for pending in ready):
            budget = max(budget // SMALLEST_SHARE, -((room - budget) // (1 + self._idle)))
        count = count_fitting([pending.job.prompts[index] for pending, index in candidates], budget)
        for pending, _ in candidates[:count]:
            pending.to_start.pop()
        return candidates[:count]

    def _remove(self, pending: PendingJob) -> None:
        pending.finished = True
        pending.to_start.clear()
        self._pending = [other for other in self._pending if other is not pending]


def _resolve(pending: PendingJob) -> None:
    assert pending.rows is not None
    tokens = tuple(prompt.tokens for prompt in pending.job.prompts)
    if pending.future.set_running_or_notify_cancel():
        pending.future.set_result(Reply(pending.rows, tokens))


def _fail(pending: PendingJob, error: EngineError) -> None:
    if pending.future.set_running_or_notify_cancel():
        pending.future.set_exception(error)
