"""One worker thread for many callers: prompts of all waiting jobs share forward passes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from qwen3_integrations.core.fork_guard import ForkGuard, leave_to_parent
from qwen3_integrations.core.types import Job, Prompt, Reply, Rows
from qwen3_integrations.engines.torch.packing import count_fitting, suffix_tokens
from qwen3_integrations.errors import EngineClosed, EngineError

log = logging.getLogger("qwen3_integrations")


class PassTooLarge(Exception):
    """The device has not enough memory for a pass."""


class PassRunner(Protocol):
    """Runs forward passes of a model.

    Attributes:
        asynchronous: Whether the device still computes a pass when `start` returns, so that the next pass can be started meanwhile.
    """

    asynchronous: bool

    def start(self, prompts: Sequence[Prompt]) -> Callable[[], Rows]:
        """Start a pass. The returned function waits for it and returns its rows, in the order of the prompts.

        Raises:
            PassTooLarge: If the device has not enough memory for the pass.
        """

    def empty_rows(self) -> Rows:
        """The rows of zero prompts."""

    def close(self) -> None:
        """Free the memory."""


@dataclass(slots=True, eq=False)
class _PendingJob:
    """A job that is not finished.

    Attributes:
        job: The job.
        to_start: Indices of the prompts that are in no pass yet; the next one is the last element.
        unfinished: Number of prompts without a row.
        rows: The rows so far; None before the first.
        finished: Whether the future is resolved, failed or cancelled.
        future: Future of the reply.
    """

    job: Job
    to_start: list[int]
    unfinished: int
    rows: Rows | None = None
    finished: bool = False
    future: Future[Reply] = field(default_factory=Future)


PassItems = list[tuple[_PendingJob, int]]
"""The prompts of one pass: for each, its job and its index in the job."""


_GROW_AFTER = 16
"""After this number of passes without a lack of memory, the size of passes doubles again."""

_OLDEST_SHARE = 4
"""The oldest job gets 1 / 4 of each pass, so that shorter jobs cannot starve it."""


def _prompts_left(pending: _PendingJob) -> int:
    return len(pending.to_start)


class JobQueue:
    """Takes jobs from any thread and runs their prompts in passes of at most `budget` tokens.

    The next pass is prepared while the device computes one. If a pass needs more memory than the device has, its prompts are retried in
    passes of half the size. The size doubles again after `_GROW_AFTER` passes without an error.

    Fairness: a quarter of each pass belongs to the oldest job. The rest goes to the jobs with the fewest prompts left, in this order.
    So a single query does not wait for a corpus, and queries cannot starve a corpus.

    Args:
        forward: The model; called from one thread only.
        budget: Tokens of one pass, shared prefixes counted once.
        name: A name for messages.
    """

    def __init__(self, forward: PassRunner, budget: int, name: str) -> None:
        self._forward = forward
        self._budget = self._max_budget = budget
        self._passes_since_error = 0
        self._name = name
        self._fork_guard = ForkGuard(name)
        self._pending: list[_PendingJob] = []
        self._changed = threading.Condition()
        self._closed = False
        self._computes = False
        self._thread = threading.Thread(target=self._work, name=f"qwen3 {name}", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> Future[Reply]:
        """Queue a job. Cancelling the future drops the prompts that are in no pass yet.

        Raises:
            EngineClosed: After `close`, and in a process that was forked from the one that opened the engine.
        """
        self._fork_guard.check()
        # The longest prompt is the last element, so it runs first. Neighbours have similar lengths and share a pass.
        to_start = sorted(range(len(job.prompts)), key=lambda index: (id(job.prompts[index].prefix), suffix_tokens(job.prompts[index])))
        pending = _PendingJob(job, to_start, len(to_start))
        if not to_start:
            pending.future.set_result(Reply(self._forward.empty_rows(), ()))
            return pending.future
        with self._changed:
            if self._closed:
                raise EngineClosed(f"the engine for {self._name} is closed", advice="Open it again")
            self._pending.append(pending)
            self._changed.notify()
        return pending.future

    def in_child(self) -> JobQueue:
        """In a forked process, a queue with the same model and a thread of this process.

        Raises:
            EngineClosed: If a pass was computed at the moment of the fork: it stands still here for ever, with all that it holds.
        """
        if self._computes:
            raise self._fork_guard.refusal("computed at the moment of the fork")
        leave_to_parent(self._thread)
        return JobQueue(self._forward, self._max_budget, self._name)

    def close(self) -> None:
        """Finish the running pass, refuse the remaining jobs, and free the memory. Any thread may call it, also twice."""
        if not self._fork_guard.is_here:
            return
        with self._changed:
            self._closed = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        in_flight: tuple[PassItems, Callable[[], Rows]] | None = None
        while True:
            with self._changed:
                while not (self._closed or in_flight or any(pending.to_start for pending in self._pending)):
                    self._changed.wait()
                for pending in [pending for pending in self._pending if pending.future.cancelled()]:
                    self._remove(pending)
                    pending.future.set_running_or_notify_cancel()  # wakes callers that wait for several futures
                items = self._next_pass() if not self._closed else []
            started = self._start_pass(items) if items else None
            for one in (in_flight, None if self._forward.asynchronous else started):
                if one:
                    self._finish_pass(*one)
            in_flight = started if self._forward.asynchronous else None
            if self._closed and not in_flight:
                break
        for pending in self._pending:
            _fail(pending, EngineClosed(f"the engine for {self._name} was closed before this job was done"))
        self._forward.close()

    def _next_pass(self) -> PassItems:
        ready = [pending for pending in self._pending if pending.to_start]
        if not ready:
            return []
        shares = [(ready[0], self._budget // _OLDEST_SHARE), *((pending, self._budget) for pending in sorted(ready, key=_prompts_left))]
        candidates: PassItems = []
        taken: dict[int, int] = {}
        room = self._budget
        for pending, share in shares:
            left = share
            while room > 0 and left > 0 and (at := taken.get(id(pending), 0)) < len(pending.to_start):
                index = pending.to_start[-1 - at]
                tokens = suffix_tokens(pending.job.prompts[index])
                candidates.append((pending, index))
                taken[id(pending)] = at + 1
                room, left = room - tokens, left - tokens
        count = count_fitting([pending.job.prompts[index] for pending, index in candidates], self._budget)
        for pending, _ in candidates[:count]:
            pending.to_start.pop()
        return candidates[:count]

    def _start_pass(self, items: PassItems) -> tuple[PassItems, Callable[[], Rows]] | None:
        """Start a pass; None if it failed or was too large."""
        try:
            self._computes = True
            try:
                return items, self._forward.start([pending.job.prompts[index] for pending, index in items])
            finally:
                self._computes = False
        except PassTooLarge as error:
            self._halve(items, error)
        except Exception as error:  # noqa: BLE001  every error of a pass goes to the jobs in it
            self._fail_all(items, error)
        return None

    def _halve(self, items: PassItems, error: PassTooLarge) -> None:
        """Re-queue the prompts of a pass that was too large, and halve the size of passes."""
        tokens = sum(suffix_tokens(pending.job.prompts[index]) for pending, index in items)
        if len(items) == 1:
            detail = f"for one prompt of {tokens} tokens: free memory on the device, or lower max_tokens"
            self._fail_all(items, PassTooLarge(f"{error}, {detail}"))
            return
        self._budget, self._passes_since_error = max(1, min(self._budget, tokens) // 2), 0
        log.warning("%s: a pass of %d tokens was too large (%s); passes now have at most %d", self._name, tokens, error, self._budget)
        for pending, index in reversed(items):
            pending.to_start.append(index)

    def _finish_pass(self, items: PassItems, wait: Callable[[], Rows]) -> None:
        try:
            for (pending, index), row in zip(items, wait(), strict=True):
                if pending.rows is None:
                    pending.rows = np.empty((len(pending.job.prompts), *np.shape(row)), dtype=np.float32)
                pending.rows[index] = row
                pending.unfinished -= 1
                if not pending.unfinished and not pending.finished:
                    self._remove(pending)
                    _resolve(pending)
        except Exception as error:  # noqa: BLE001  as in _start_pass
            self._fail_all(items, error)
            return
        self._passes_since_error += 1
        if self._budget < self._max_budget and self._passes_since_error >= _GROW_AFTER:
            self._budget, self._passes_since_error = min(self._max_budget, 2 * self._budget), 0

    def _fail_all(self, items: PassItems, error: Exception) -> None:
        for pending in {id(pending): pending for pending, _ in items}.values():
            if not pending.finished:
                self._remove(pending)
                failure = EngineError(f"the engine for {self._name} failed: {type(error).__name__}: {error}")
                failure.__cause__ = error  # an error for each caller: the traceback of a shared one would grow with every caller
                _fail(pending, failure)

    def _remove(self, pending: _PendingJob) -> None:
        pending.finished = True
        pending.to_start.clear()
        with self._changed:
            self._pending = [other for other in self._pending if other is not pending]


def _resolve(pending: _PendingJob) -> None:
    assert pending.rows is not None
    tokens = tuple(prompt.tokens for prompt in pending.job.prompts)
    if pending.future.set_running_or_notify_cancel():
        pending.future.set_result(Reply(pending.rows, tokens))


def _fail(pending: _PendingJob, error: EngineError) -> None:
    if pending.future.set_running_or_notify_cancel():
        pending.future.set_exception(error)
