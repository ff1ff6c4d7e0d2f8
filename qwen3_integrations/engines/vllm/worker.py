"""One thread that owns a vLLM engine: jobs of many callers in, rows out, all in vLLM's own continuous batching."""

from __future__ import annotations

import gc
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
from qwen3_integrations.errors import EngineClosed, EngineError

log = logging.getLogger("qwen3_integrations")

PROCESS_WIDE = threading.RLock()
"""Held while an engine starts, and while one that computes in this very process computes: vLLM keeps the running
forward pass, the distributed state and its environment in globals of the process."""

_TURN = 64
"""Prompts one job may add before the next job's turn, so that a query does not wait behind a corpus."""

_WATCH_S = 1.0
"""Seconds between two looks at whether vLLM has lost its process."""

_LEAVE_S = 20.0
"""Seconds for vLLM's processes to leave by themselves before they are killed; vLLM's own 5 are often too few on a CPU."""


@dataclass(slots=True, eq=False)
class _Work:
    """A job on its way."""

    ids: Sequence[Ids]  # of each prompt
    turn: object  # whose it is
    added: int = 0  # prompts handed to vLLM, from the first on
    done: int = 0
    over: bool = False
    flying: set[str] = field(default_factory=set)
    rows: Rows | None = None
    future: Future[Reply] = field(default_factory=Future)


@dataclass(slots=True)
class _InProcess:
    """How many engines compute in this process: the last one out clears what they share."""

    count: int = 0


_in_process = _InProcess()


class _LoopThread(threading.Thread):
    """A thread of `VllmLoop`."""


class VllmLoop:
    """Runs jobs on a vLLM engine from one thread, the only one that ever touches the engine.

    Jobs arrive in an inbox. Between two steps of the engine the thread hands over what has arrived, so the
    prompts of all callers meet in the same batches. At most twice as many prompts as vLLM runs at once are handed
    over; more would only wait inside, in the order of their arrival.

    Args:
        start: Makes the `vllm.v1.engine.llm_engine.LLMEngine`; called once, in the thread.
        task: `embed` or `rerank`.
        name: The model, for messages.
        positive: Of a reranker's two labels, the one that means "yes".
    """

    def __init__(self, start: Callable[[], Any], task: Task, name: str, positive: int = 1) -> None:
        self._start = start
        self._task: Task = task
        self._name = name
        self._positive = positive
        self._birthplace = ForkGuard(name)
        self._engine: Any = None
        self._dead_error: type[Exception] = EngineError
        self._params: Any = None
        self._window = 1
        self._inbox: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._waiting: OrderedDict[object, deque[_Work]] = OrderedDict()  # by whose they are, the next to be fed first
        self._flying: dict[str, tuple[_Work, int]] = {}
        self._names = count()
        self._ready: Future[None] = Future()
        self._gate = threading.Lock()  # between a last submit and the end
        self._ended: Callable[[], EngineError] | None = None
        self._gone = threading.Event()
        self._thread = _LoopThread(target=self._live, name=f"qwen3 vllm {name}", daemon=True)
        self._thread.start()

    def wait_until_ready(self) -> None:
        """Wait until the engine has started; raises what kept it from starting."""
        try:
            self._ready.result()
        except BaseException:
            self._inbox.put(None)  # an interrupted wait: the thread closes the engine once it has started
            raise

    def submit(self, ids: Sequence[Ids], turn: object) -> Future[Reply]:
        """Queue a job of at least one prompt. Cancelling the future takes its prompts out of the engine.

        Args:
            ids: Each prompt's token ids, none empty, all known to the model.
            turn: Whose job it is: those who wait take turns.

        Raises:
            EngineClosed: After `close`, and in a process that was forked from the one that opened the engine.
            EngineError: After the engine has died; says why.
        """
        self._birthplace.check()
        work = _Work(ids, turn)
        with self._gate:
            if self._ended:
                raise self._ended()
            self._inbox.put(work)
        work.future.add_done_callback(lambda future: self._inbox.put(work) if future.cancelled() else None)
        return work.future

    def close(self) -> None:
        """Finish the step that runs, refuse the rest, give memory back. From any thread, twice is fine.

        Takes no lock, because a finalizer may call it at any moment. In the thread of this engine or another, where
        waiting could be for oneself, it only asks for it.
        """
        if not self._birthplace.is_here:
            return
        self._inbox.put(None)
        if not isinstance(threading.current_thread(), _LoopThread):
            self._thread.join()

    @property
    def alive(self) -> bool:
        """False after `close`, and when the engine has died."""
        return self._ended is None

    # Everything below runs in the thread.

    def _live(self) -> None:
        try:
            self._open()
        except BaseException as error:  # noqa: BLE001  the caller of the constructor gets it
            self._end(lambda: EngineError(f"vLLM did not start for {self._name}", advice="Open the engine again"))
            self._ready.set_exception(error)
            self._gone.set()
            return
        self._ready.set_result(None)
        try:
            self._serve()
            self._end(lambda: EngineClosed(f"the vLLM engine for {self._name} is closed", advice="Open it again"))
        except Exception as error:  # noqa: BLE001  whatever kills a step has killed the engine for all who wait
            reason = f"{type(error).__name__}: {first_line(error)}"
            log.error("the vLLM engine for %s died: %s", self._name, reason)
            advice = "The cause is in vLLM's log. Open the engine again"
            self._end(lambda: EngineError(f"the vLLM engine for {self._name} died ({reason})", advice=advice))
        finally:
            self._gone.set()
            self._shut_down()

    def _open(self) -> None:
        from vllm import PoolingParams
        from vllm.v1.engine.exceptions import EngineDeadError

        engine = self._engine = self._start()
        self._dead_error = EngineDeadError
        # Without a task vLLM gives a vector for every token. A reranker's logit is taken as it is, and the sigmoid
        # is ours: so it does not depend on what a converted checkpoint's config says about activations.
        self._params = PoolingParams(task="embed") if self._task == "embed" else PoolingParams(task="classify", use_activation=False)
        self._window = 2 * engine.vllm_config.scheduler_config.max_num_seqs
        if _computes_here(engine):
            with PROCESS_WIDE:
                _in_process.count += 1
        else:
            threading.Thread(target=self._watch, args=(engine.engine_core,), name=f"{self._thread.name} watch", daemon=True).start()

    def _serve(self) -> None:
        guard: AbstractContextManager[Any] = PROCESS_WIDE if _computes_here(self._engine) else nullcontext()
        while self._take():
            self._feed()
            if self._flying:
                with guard:
                    outputs = self._engine.step()
                self._land(outputs)

    def _take(self) -> bool:
        """Read the inbox; wait for something if there is nothing to do. False: it is time to close."""
        idle = not self._flying and not self._waiting
        while True:
            try:
                work = self._inbox.get(block=idle)
            except queue.Empty:
                return True
            idle = False
            if work is None:
                return False
            if work.future.cancelled():
                self._drop(work)
            else:
                self._waiting.setdefault(work.turn, deque()).append(work)

    def _feed(self) -> None:
        """Hand prompts to vLLM, the callers in turn, and each caller's jobs one after another."""
        while self._waiting and (room := self._window - len(self._flying)) > 0:
            turn, works = next(iter(self._waiting.items()))  # left in until it is fed: if vLLM dies meanwhile, it must be told
            work = works[0]
            if not work.over:
                self._add(work, min(room, _TURN))
            if work.over or work.added == len(work.ids):
                works.popleft()
            if works:
                self._waiting.move_to_end(turn)
            else:
                del self._waiting[turn]

    def _add(self, work: _Work, count: int) -> None:
        for position in range(work.added, min(work.added + count, len(work.ids))):
            ids = work.ids[position]
            name = str(next(self._names))
            try:
                self._engine.add_request(name, {"type": "token", "prompt_token_ids": ids.tolist()}, self._params)
            except self._dead_error:
                raise
            except Exception as error:  # noqa: BLE001  vLLM's own types for this differ between its versions
                reason = f"vLLM refused the prompt ({len(ids)} tokens) for {self._name}: {first_line(error)}"
                self._fail(work, EngineError(reason, index=position))
                return
            self._flying[name] = work, position
            work.flying.add(name)
            work.added = position + 1

    def _land(self, outputs: Sequence[Any]) -> None:
        """Hand out what a step has computed, all read in one conversion before the first caller wakes.

        Whoever wakes wants the interpreter's lock, and a conversion for each row would have to win it back each time (0.15 ms).
        """
        landed: list[tuple[_Work, int, Any]] = []
        for output in outputs:
            work, position = self._flying.pop(output.request_id, (None, 0))
            if work is None:
                continue
            work.flying.discard(output.request_id)
            if error := getattr(output, "error", None):
                self._fail(work, EngineError(f"vLLM failed on the prompt for {self._name}: {error}", index=position))
            else:
                landed.append((work, position, output.outputs.data))
        if not landed:
            return
        rows = sys.modules["torch"].stack([row for _, _, row in landed]).float().numpy()
        for (work, position, _), row in zip(landed, rows, strict=True):
            if work.rows is None:
                work.rows = np.empty((len(work.ids), *row.shape), dtype=np.float32)
            work.rows[position] = row
            work.done += 1
        for work in dict.fromkeys(work for work, _, _ in landed):
            if work.done == len(work.ids) and not work.over:
                self._answer(work)

    def _answer(self, work: _Work) -> None:
        work.over = True
        if work.rows is not None and work.future.set_running_or_notify_cancel():
            rows = work.rows if self._task == "embed" else probabilities_of(work.rows, self._positive)
            work.future.set_result(Reply(rows, tuple(map(len, work.ids))))

    def _drop(self, work: _Work) -> None:
        """Take a job's prompts out of vLLM."""
        work.over = True
        if work.flying:
            self._engine.abort_request(list(work.flying))
            for name in work.flying:
                del self._flying[name]
            work.flying.clear()

    def _fail(self, work: _Work, error: EngineError) -> None:
        self._drop(work)
        if work.future.set_running_or_notify_cancel():
            work.future.set_exception(error)

    def _end(self, reason: Callable[[], EngineError]) -> None:
        """Let nobody wait for an answer that won't come."""
        with self._gate:
            self._ended = reason
        waiting = (work for works in self._waiting.values() for work in works)
        works = {id(work): work for work in chain((work for work, _ in self._flying.values()), waiting)}
        while True:
            try:
                work = self._inbox.get_nowait()
            except queue.Empty:
                break
            if work is not None:
                works[id(work)] = work
        self._flying.clear()
        self._waiting.clear()
        for work in works.values():
            if not work.over and not work.future.cancelled() and work.future.set_running_or_notify_cancel():
                work.future.set_exception(reason())

    def _watch(self, client: Any) -> None:
        """Wake the thread when vLLM's process was killed: vLLM notices, but does not wake who waits for its output."""
        while not self._gone.wait(_WATCH_S):
            if client.resources.engine_dead:
                client.outputs_queue.put_nowait(self._dead_error())
                return

    def _shut_down(self) -> None:
        engine, self._engine = self._engine, None
        engine.renderer.shutdown()
        if _computes_here(engine):
            with PROCESS_WIDE:
                _in_process.count -= 1
                _leave_process(engine.engine_core, last=not _in_process.count)
        else:
            outputs = getattr(engine.engine_core, "output_queue_thread", None)  # not in all versions
            engine.engine_core.shutdown(timeout=_LEAVE_S)
            if outputs is not None:  # its last tensors, let go while Python ends, would abort the process
                outputs.join(_LEAVE_S)
        del engine
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def _computes_here(engine: Any) -> bool:
    """True for an engine without a process of its own (VLLM_ENABLE_V1_MULTIPROCESSING=0)."""
    return hasattr(engine.engine_core, "engine_core")


def _leave_process(client: Any, *, last: bool) -> None:
    """Shut an engine of this process down, and vLLM's distributed state with the last one: the others still need it."""
    if last:
        client.shutdown()
        return
    core = client.engine_core
    core.model_executor.shutdown()
    core.scheduler.shutdown()
    finalizer = getattr(client, "_finalizer", None)
    if finalizer is not None:  # would clear the distributed state once the client is collected; not in all versions
        finalizer.detach()


def first_line(error: Exception) -> str:
    """The first line of an error's message, for ours."""
    return (str(error).strip().splitlines() or ["no reason given"])[0][:400]
