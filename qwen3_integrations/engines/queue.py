"""One worker for many callers: jobs that arrive together are run together."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from qwen3_integrations.engines.forks import Birthplace
from qwen3_integrations.engines.packing import fill, own_tokens
from qwen3_integrations.errors import EngineClosed, EngineError
from qwen3_integrations.jobs import Job, Prompt, Reply, Rows


class Forward(Protocol):
    """One pass of a model."""

    def __call__(self, prompts: Sequence[Prompt]) -> Rows:
        """Rows of prompts that fit one pass, in their order."""

    def nothing(self) -> Rows:
        """The rows of no prompts."""

    def close(self) -> None:
        """Give memory back."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A job on its way: which prompts are still to run, and the rows so far."""

    job: Job
    order: list[int]  # prompts still to run, the next one last
    rows: Rows | None = None
    future: Future[Reply] = field(default_factory=Future)


_OLDEST = 4
"""The oldest job gets one part in so many of each pass, however many shorter ones come."""


def _left(waiting: _Waiting) -> int:
    return len(waiting.order)


class JobQueue:
    """Takes jobs from any thread and runs their prompts in passes of at most `budget` tokens.

    A quarter of a pass is for the job that has waited longest, the rest begins with the job that has least left to do and is
    filled up from the others: a single query does not wait behind a corpus, nor a corpus for ever behind queries.

    Args:
        forward: The model; called from one thread only.
        budget: Tokens in one pass, shared heads counted once.
        name: For messages.
    """

    def __init__(self, forward: Forward, budget: int, name: str) -> None:
        self._forward = forward
        self._budget = budget
        self._name = name
        self._birthplace = Birthplace(name)
        self._waiting: list[_Waiting] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"qwen3 {name}", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> Future[Reply]:
        """Queue a job. Cancelling the future drops the prompts that have not begun.

        Raises:
            EngineClosed: After `close`, and in a process that was forked from the one that opened the engine.
        """
        self._birthplace.check()
        # Long prompts last in `order` means first to run: prompts of like length then share a pass.
        order = sorted(range(len(job.prompts)), key=lambda index: (id(job.prompts[index].head), own_tokens(job.prompts[index])))
        waiting = _Waiting(job, order)
        if not order:
            waiting.future.set_result(Reply(self._forward.nothing(), 0))
            return waiting.future
        with self._changed:
            if self._closed:
                raise EngineClosed(f"the engine for {self._name} is closed; open it again")
            self._waiting.append(waiting)
            self._changed.notify()
        return waiting.future

    def close(self) -> None:
        """Finish the pass that runs, refuse the rest, and give memory back. May be called from any thread, twice."""
        if not self._birthplace.is_here:
            return
        with self._changed:
            self._closed = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                self._waiting = [waiting for waiting in self._waiting if not waiting.future.cancelled()]
                if self._closed:
                    break
                turn = self._next_pass()
            if turn:
                self._run(turn)
        for waiting in self._waiting:
            _fail(waiting, EngineClosed(f"the engine for {self._name} was closed before this job was done"))
        self._forward.close()

    def _next_pass(self) -> list[tuple[_Waiting, int]]:
        oldest = self._waiting[0]
        shares = [(oldest, self._budget // _OLDEST), *((waiting, self._budget) for waiting in sorted(self._waiting, key=_left))]
        candidates: list[tuple[_Waiting, int]] = []
        taken: dict[int, int] = {}
        room = self._budget
        for waiting, share in shares:
            left = share
            while room > 0 and left > 0 and (at := taken.get(id(waiting), 0)) < len(waiting.order):
                index = waiting.order[-1 - at]
                tokens = own_tokens(waiting.job.prompts[index])
                candidates.append((waiting, index))
                taken[id(waiting)] = at + 1
                room, left = room - tokens, left - tokens
        count = fill([waiting.job.prompts[index] for waiting, index in candidates], self._budget) if candidates else 0
        for waiting, _ in candidates[:count]:
            waiting.order.pop()
        return candidates[:count]

    def _run(self, turn: list[tuple[_Waiting, int]]) -> None:
        try:
            rows = self._forward([waiting.job.prompts[index] for waiting, index in turn])
        except Exception as error:  # noqa: BLE001  whatever a forward pass raises belongs to those who wait for it
            failure = EngineError(f"the engine for {self._name} failed: {type(error).__name__}: {error}")
            failure.__cause__ = error
            for waiting in {id(waiting): waiting for waiting, _ in turn}.values():
                self._leave(waiting)
                _fail(waiting, failure)
            return
        for (waiting, index), row in zip(turn, rows, strict=True):
            if waiting.rows is None:
                waiting.rows = np.empty((len(waiting.job.prompts), *np.shape(row)), dtype=np.float32)
            waiting.rows[index] = row
        for waiting in {id(waiting): waiting for waiting, _ in turn}.values():
            if not waiting.order:
                self._leave(waiting)
                _finish(waiting)

    def _leave(self, waiting: _Waiting) -> None:
        with self._changed:
            self._waiting = [other for other in self._waiting if other is not waiting]


def _finish(waiting: _Waiting) -> None:
    assert waiting.rows is not None
    tokens = sum(len(ids) for prompt in waiting.job.prompts if (ids := prompt.ids) is not None)
    if waiting.future.set_running_or_notify_cancel():
        waiting.future.set_result(Reply(waiting.rows, tokens))


def _fail(waiting: _Waiting, error: EngineError) -> None:
    if waiting.future.set_running_or_notify_cancel():
        waiting.future.set_exception(error)
