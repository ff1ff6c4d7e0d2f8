"""The worker thread that owns a vLLM engine: jobs of many callers in, rows out, through vLLM's continuous batching."""

from __future__ import annotations

import logging
import queue
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any

import numpy as np

from qwen3_integrations.core.fork_guard import ForkGuard
from qwen3_integrations.core.types import Ids, Reply, Rows, Task
from qwen3_integrations.engines.vllm.logits import probabilities_of
from qwen3_integrations.engines.vllm.process import PROCESS_WIDE, computes_here, first_line, free_memory, register, shut_down
from qwen3_integrations.errors import EngineClosed, EngineError

log = logging.getLogger("qwen3_integrations")

_FAIR_SHARE = 64
"""Prompts that a caller may add before the next caller is served, so that a single query does not wait for a corpus."""

_WATCH_S = 1.0
"""Seconds between two checks whether vLLM's process has died."""


@dataclass(slots=True, eq=False)
class _PendingJob:
    """A job that is not finished.

    Attributes:
        ids: Token ids of each prompt.
        fairness_key: Jobs with equal keys belong to one caller.
        added: Number of prompts that were added to vLLM, from the first on.
        done: Number of prompts with a row.
        tokens: Number of tokens of the added prompts.
        finished: Whether the future is resolved, failed or cancelled.
        in_flight: Request ids of the prompts that vLLM computes.
        rows: The rows so far; None before the first.
        future: Future of the reply.
    """

    ids: Sequence[Ids]
    fairness_key: object
    added: int = 0
    done: int = 0
    finished: bool = False
    in_flight: set[str] = field(default_factory=set)
    rows: Rows | None = None
    future: Future[Reply] = field(default_factory=Future)


class _WorkerThread(threading.Thread):
    """The thread of a `VllmWorker`."""


class VllmWorker:
    """Runs jobs on a vLLM engine. Only its thread uses the engine.

    Jobs arrive in an inbox. Between two steps of the engine, the thread adds the prompts of new jobs to vLLM, so that prompts of all
    callers share batches. At most twice as many prompts as vLLM computes at once are in flight. More would wait inside vLLM in order of
    arrival, without fairness.

    Args:
        start: Creates the `vllm.v1.engine.llm_engine.LLMEngine`; called once, in the thread.
        task: `embed` or `rerank`.
        name: The model's name, for messages.
        positive: Index of the label that means "yes", of a reranker's two labels.
    """

    def __init__(self, start: Callable[[], Any], task: Task, name: str, positive: int = 1) -> None:
        self._start = start
        self._task: Task = task
        self._name = name
        self._positive = positive
        self._fork_guard = ForkGuard(name)
        self._engine: Any = None
        self._dead_error: type[Exception] = EngineError
        self._params: Any = None
        self._window = 1
        self._inbox: queue.SimpleQueue[_PendingJob | None] = queue.SimpleQueue()
        self._waiting: OrderedDict[object, deque[_PendingJob]] = OrderedDict()  # by fairness key, the next caller first
        self._in_flight: dict[str, tuple[_PendingJob, int]] = {}
        self._request_ids = count()
        self._ready: Future[None] = Future()
        self._gate = threading.Lock()  # so that no job enters the inbox after the end
        self._ended: Callable[[], EngineError] | None = None
        self._stopped = threading.Event()
        self._thread = _WorkerThread(target=self._run, name=f"qwen3 vllm {name}", daemon=True)
        self._thread.start()

    def wait_until_ready(self) -> None:
        """Wait until the engine has started. If it did not start, this raises the error."""
        try:
            self._ready.result()
        except BaseException:
            self._inbox.put(None)  # after an interrupt: the thread closes the engine when it has started
            raise

    def submit(self, ids: Sequence[Ids], fairness_key: object) -> Future[Reply]:
        """Queue a job of at least one prompt. Cancelling the future removes its prompts from the engine.

        Args:
            ids: Token ids of each prompt; none is empty, and the model knows all ids.
            fairness_key: Jobs with equal keys belong to one caller; callers are served in turn.

        Raises:
            EngineClosed: After `close`, and in a process that was forked from the one that opened the engine.
            EngineError: After the engine has died, with the reason.
        """
        self._fork_guard.check()
        pending = _PendingJob(ids, fairness_key)
        with self._gate:
            if self._ended:
                raise self._ended()
            self._inbox.put(pending)
        pending.future.add_done_callback(lambda future: self._inbox.put(pending) if future.cancelled() else None)
        return pending.future

    def close(self) -> None:
        """Finish the running step, refuse the remaining jobs, and free the memory. Any thread may call it, also twice.

        It takes no lock, because a finalizer may call it at any moment. In the thread of a vLLM engine it does not wait for the end,
        because the thread could wait for itself.
        """
        if not self._fork_guard.is_here:
            return
        self._inbox.put(None)
        if not isinstance(threading.current_thread(), _WorkerThread):
            self._thread.join()

    @property
    def alive(self) -> bool:
        """False after `close`, and after the engine has died."""
        return self._ended is None

    # All methods below run in the thread.

    def _run(self) -> None:
        try:
            self._open()
        except BaseException as error:  # noqa: BLE001  `wait_until_ready` raises it
            self._end(lambda: EngineError(f"vLLM did not start for {self._name}", advice="Open the engine again"))
            self._ready.set_exception(error)
            self._stopped.set()
            return
        self._ready.set_result(None)
        try:
            self._serve()
            self._end(lambda: EngineClosed(f"the vLLM engine for {self._name} is closed", advice="Open it again"))
        except Exception as error:  # noqa: BLE001  after an error in a step, the engine is dead for all callers
            reason = f"{type(error).__name__}: {first_line(error)}"
            log.error("the vLLM engine for %s died: %s", self._name, reason)
            advice = "The cause is in vLLM's log. Open the engine again"
            self._end(lambda: EngineError(f"the vLLM engine for {self._name} died ({reason})", advice=advice))
        finally:
            self._stopped.set()
            self._shut_down()

    def _open(self) -> None:
        from vllm import PoolingParams
        from vllm.v1.engine.exceptions import EngineDeadError

        engine = self._engine = self._start()
        self._dead_error = EngineDeadError
        # Without a task, vLLM returns a vector for every token. A reranker's logits are read without activation, and the sigmoid is
        # computed here, so that the score does not depend on the activation in a converted checkpoint's config.
        self._params = PoolingParams(task="embed") if self._task == "embed" else PoolingParams(task="classify", use_activation=False)
        self._window = 2 * engine.vllm_config.scheduler_config.max_num_seqs
        register(engine)
        if not computes_here(engine):
            threading.Thread(target=self._watch, args=(engine.engine_core,), name=f"{self._thread.name} watch", daemon=True).start()

    def _serve(self) -> None:
        guard: AbstractContextManager[Any] = PROCESS_WIDE if computes_here(self._engine) else nullcontext()
        while self._read_inbox():
            self._add_prompts()
            if self._in_flight:
                with guard:
                    outputs = self._engine.step()
                self._collect(outputs)

    def _read_inbox(self) -> bool:
        """Read the inbox; wait if there is nothing to do.

        Returns:
            False if the worker must close.
        """
        idle = not self._in_flight and not self._waiting
        while True:
            try:
                pending = self._inbox.get(block=idle)
            except queue.Empty:
                return True
            idle = False
            if pending is None:
                return False
            if pending.future.cancelled():
                self._drop(pending)
            else:
                self._waiting.setdefault(pending.fairness_key, deque()).append(pending)

    def _add_prompts(self) -> None:
        """Add prompts to vLLM: callers in turn, and the jobs of each caller one after another."""
        while self._waiting and (room := self._window - len(self._in_flight)) > 0:
            key, jobs = next(iter(self._waiting.items()))  # removed only afterwards: if vLLM dies here, `_end` must fail the job
            pending = jobs[0]
            if not pending.finished:
                self._add(pending, min(room, _FAIR_SHARE))
            if pending.finished or pending.added == len(pending.ids):
                jobs.popleft()
            if jobs:
                self._waiting.move_to_end(key)
            else:
                del self._waiting[key]

    def _add(self, pending: _PendingJob, count: int) -> None:
        for position in range(pending.added, min(pending.added + count, len(pending.ids))):
            ids = pending.ids[position]
            request_id = str(next(self._request_ids))
            try:
                self._engine.add_request(request_id, {"type": "token", "prompt_token_ids": ids.tolist()}, self._params)
            except self._dead_error:
                raise
            except Exception as error:  # noqa: BLE001  the error types differ between vLLM versions
                reason = f"vLLM refused the prompt ({len(ids)} tokens) for {self._name}: {first_line(error)}"
                self._fail(pending, EngineError(reason, index=position))
                return
            self._in_flight[request_id] = pending, position
            pending.in_flight.add(request_id)
            pending.added = position + 1

    def _collect(self, outputs: Sequence[Any]) -> None:
        """Store the rows of a step, and resolve the futures of finished jobs.

        All rows are converted at once, before the first future is resolved. A caller that wakes up takes the interpreter's lock, and
        each further conversion would wait for the lock (0.15 ms).
        """
        computed: list[tuple[_PendingJob, int, Any]] = []
        for output in outputs:
            pending, position = self._in_flight.pop(output.request_id, (None, 0))
            if pending is None:
                continue
            pending.in_flight.discard(output.request_id)
            if error := getattr(output, "error", None):
                self._fail(pending, EngineError(f"vLLM failed on the prompt for {self._name}: {error}", index=position))
            else:
                computed.append((pending, position, output.outputs.data))
        if not computed:
            return
        rows = sys.modules["torch"].stack([row for _, _, row in computed]).float().numpy()
        for (pending, position, _), row in zip(computed, rows, strict=True):
            if pending.rows is None:
                pending.rows = np.empty((len(pending.ids), *row.shape), dtype=np.float32)
            pending.rows[position] = row
            pending.done += 1
        for pending in dict.fromkeys(pending for pending, _, _ in computed):
            if pending.done == len(pending.ids) and not pending.finished:
                self._resolve(pending)

    def _resolve(self, pending: _PendingJob) -> None:
        pending.finished = True
        if pending.rows is not None and pending.future.set_running_or_notify_cancel():
            rows = pending.rows if self._task == "embed" else probabilities_of(pending.rows, self._positive)
            pending.future.set_result(Reply(rows, tuple(map(len, pending.ids))))

    def _drop(self, pending: _PendingJob) -> None:
        """Remove a job's prompts from vLLM."""
        pending.finished = True
        if pending.in_flight:
            self._engine.abort_request(list(pending.in_flight))
            for request_id in pending.in_flight:
                del self._in_flight[request_id]
            pending.in_flight.clear()

    def _fail(self, pending: _PendingJob, error: EngineError) -> None:
        self._drop(pending)
        if pending.future.set_running_or_notify_cancel():
            pending.future.set_exception(error)

    def _end(self, reason: Callable[[], EngineError]) -> None:
        """Fail all jobs that are not finished."""
        with self._gate:
            self._ended = reason
        waiting = (pending for jobs in self._waiting.values() for pending in jobs)
        jobs = {id(pending): pending for pending in chain((pending for pending, _ in self._in_flight.values()), waiting)}
        while True:
            try:
                pending = self._inbox.get_nowait()
            except queue.Empty:
                break
            if pending is not None:
                jobs[id(pending)] = pending
        self._in_flight.clear()
        self._waiting.clear()
        for pending in jobs.values():
            if not pending.finished and not pending.future.cancelled() and pending.future.set_running_or_notify_cancel():
                pending.future.set_exception(reason())

    def _watch(self, client: Any) -> None:
        """Wake the thread after vLLM's process was killed. vLLM notices it, but does not wake the thread that waits for output."""
        while not self._stopped.wait(_WATCH_S):
            if client.resources.engine_dead:
                client.outputs_queue.put_nowait(self._dead_error())
                return

    def _shut_down(self) -> None:
        engine, self._engine = self._engine, None
        shut_down(engine)
        del engine
        free_memory()
