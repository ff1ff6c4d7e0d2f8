"""One worker for many callers: jobs that arrive together are run together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from qwen3_integrations.core.fork_guard import ForkGuard
from qwen3_integrations.core.types import Job, Prompt, Reply, Rows
from qwen3_integrations.engines.torch.packing import fill, own_tokens
from qwen3_integrations.errors import EngineClosed, EngineError

log = logging.getLogger("qwen3_integrations")


class PassTooLarge(Exception):
    """The device has not the memory for a pass."""


class PassRunner(Protocol):
    """Passes of a model.

    Attributes:
        ahead: Whether a pass is computed after `start` has returned, so that another can be begun meanwhile.
    """

    ahead: bool

    def start(self, prompts: Sequence[Prompt]) -> Callable[[], Rows]:
        """Begin a pass with prompts that fit one; what comes back waits for it and gives their rows, in their order.

        Raises:
            PassTooLarge: If the device has not the memory for it.
        """

    def nothing(self) -> Rows:
        """The rows of no prompts."""

    def close(self) -> None:
        """Give memory back."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A job on its way: which prompts are still to begin, how many are still to end, and the rows so far."""

    job: Job
    order: list[int]  # prompts still to begin, the next one last
    left: int
    rows: Rows | None = None
    over: bool = False
    future: Future[Reply] = field(default_factory=Future)


Turn = list[tuple[_Waiting, int]]


_CALM = 16
"""Passes without a lack of memory after which they may be twice as large again."""

_OLDEST = 4
"""The oldest job gets one part in so many of each pass, however many shorter ones come."""


def _left(waiting: _Waiting) -> int:
    return len(waiting.order)


class JobQueue:
    """Takes jobs from any thread and runs their prompts in passes of at most `budget` tokens.

    While the device computes a pass, the next one is begun. A pass that is too large for the device's memory is tried again in
    halves; passes then stay that small until `_CALM` of them have gone well, and grow twice as large.

    A quarter of a pass is for the job that has waited longest, the rest begins with the job that has least left to do and is
    filled up from the others: a single query does not wait behind a corpus, nor a corpus for ever behind queries.

    Args:
        forward: The model; called from one thread only.
        budget: Tokens in one pass, shared heads counted once.
        name: For messages.
    """

    def __init__(self, forward: PassRunner, budget: int, name: str) -> None:
        self._forward = forward
        self._budget = self._most = budget
        self._calm = 0
        self._name = name
        self._birthplace = ForkGuard(name)
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
        order = sorted(range(len(job.prompts)), key=lambda index: (id(job.prompts[index].prefix), own_tokens(job.prompts[index])))
        waiting = _Waiting(job, order, len(order))
        if not order:
            waiting.future.set_result(Reply(self._forward.nothing(), ()))
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
        flying: tuple[Turn, Callable[[], Rows]] | None = None
        while True:
            with self._changed:
                while not (self._closed or flying or any(waiting.order for waiting in self._waiting)):
                    self._changed.wait()
                for waiting in [waiting for waiting in self._waiting if waiting.future.cancelled()]:
                    self._leave(waiting)
                    waiting.future.set_running_or_notify_cancel()  # or those who wait for several futures would wait on
                turn = self._next_pass() if not self._closed else []
            begun = self._begin(turn) if turn else None
            for one in (flying, None if self._forward.ahead else begun):
                if one:
                    self._land(*one)
            flying = begun if self._forward.ahead else None
            if self._closed and not flying:
                break
        for waiting in self._waiting:
            _fail(waiting, EngineClosed(f"the engine for {self._name} was closed before this job was done"))
        self._forward.close()

    def _next_pass(self) -> Turn:
        ready = [waiting for waiting in self._waiting if waiting.order]
        if not ready:
            return []
        shares = [(ready[0], self._budget // _OLDEST), *((waiting, self._budget) for waiting in sorted(ready, key=_left))]
        candidates: Turn = []
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
        count = fill([waiting.job.prompts[index] for waiting, index in candidates], self._budget)
        for waiting, _ in candidates[:count]:
            waiting.order.pop()
        return candidates[:count]

    def _begin(self, turn: Turn) -> tuple[Turn, Callable[[], Rows]] | None:
        """Begin a pass; None if it failed, or has to be smaller."""
        try:
            return turn, self._forward.start([waiting.job.prompts[index] for waiting, index in turn])
        except PassTooLarge as error:
            self._make_smaller(turn, error)
        except Exception as error:  # noqa: BLE001  whatever a pass raises belongs to those who wait for it
            self._fail_all(turn, error)
        return None

    def _make_smaller(self, turn: Turn, error: PassTooLarge) -> None:
        tokens = sum(own_tokens(waiting.job.prompts[index]) for waiting, index in turn)
        if len(turn) == 1:
            advice = f"for one prompt of {tokens} tokens: free memory on the device, or lower max_tokens"
            self._fail_all(turn, PassTooLarge(f"{error}, {advice}"))
            return
        self._budget, self._calm = max(1, min(self._budget, tokens) // 2), 0
        log.warning("%s: a pass of %d tokens was too large (%s); passes now have at most %d", self._name, tokens, error, self._budget)
        for waiting, index in reversed(turn):
            waiting.order.append(index)

    def _land(self, turn: Turn, landed: Callable[[], Rows]) -> None:
        try:
            for (waiting, index), row in zip(turn, landed(), strict=True):
                if waiting.rows is None:
                    waiting.rows = np.empty((len(waiting.job.prompts), *np.shape(row)), dtype=np.float32)
                waiting.rows[index] = row
                waiting.left -= 1
                if not waiting.left and not waiting.over:
                    self._leave(waiting)
                    _finish(waiting)
        except Exception as error:  # noqa: BLE001  as in _begin
            self._fail_all(turn, error)
            return
        self._calm += 1
        if self._budget < self._most and self._calm >= _CALM:
            self._budget, self._calm = min(self._most, 2 * self._budget), 0

    def _fail_all(self, turn: Turn, error: Exception) -> None:
        for waiting in {id(waiting): waiting for waiting, _ in turn}.values():
            if not waiting.over:
                self._leave(waiting)
                failure = EngineError(f"the engine for {self._name} failed: {type(error).__name__}: {error}")
                failure.__cause__ = error  # of each caller's own error: a shared one's traceback would grow with every caller
                _fail(waiting, failure)

    def _leave(self, waiting: _Waiting) -> None:
        waiting.over = True
        waiting.order.clear()
        with self._changed:
            self._waiting = [other for other in self._waiting if other is not waiting]


def _finish(waiting: _Waiting) -> None:
    assert waiting.rows is not None
    tokens = tuple(prompt.tokens for prompt in waiting.job.prompts)
    if waiting.future.set_running_or_notify_cancel():
        waiting.future.set_result(Reply(waiting.rows, tokens))


def _fail(waiting: _Waiting, error: EngineError) -> None:
    if waiting.future.set_running_or_notify_cancel():
        waiting.future.set_exception(error)
