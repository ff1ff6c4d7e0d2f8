"""The process of an embedded vLLM engine (its own, or this one), and its shutdown."""

from __future__ import annotations

import gc
import sys
import threading
from dataclasses import dataclass
from typing import Any

PROCESS_WIDE = threading.RLock()
"""Held while an engine starts, and during each step of an engine that computes in this process. Reason: vLLM keeps the running forward
pass, the distributed state and its environment in global variables of the process."""

_SHUTDOWN_S = 20.0
"""Seconds that vLLM's processes have to exit before they are killed. vLLM's default of 5 is often too short on a CPU."""


@dataclass(slots=True)
class _InProcess:
    """Number of engines that compute in this process. The last one to close clears the state that they share."""

    count: int = 0


_in_process = _InProcess()


def computes_here(engine: Any) -> bool:
    """Whether an engine computes in this process (VLLM_ENABLE_V1_MULTIPROCESSING=0)."""
    return hasattr(engine.engine_core, "engine_core")


def register(engine: Any) -> None:
    """Count an engine that has started, if it computes in this process."""
    if computes_here(engine):
        with PROCESS_WIDE:
            _in_process.count += 1


def shut_down(engine: Any) -> None:
    """Shut an engine down, and its process if it has one."""
    engine.renderer.shutdown()
    if computes_here(engine):
        with PROCESS_WIDE:
            _in_process.count -= 1
            _shut_down_core(engine.engine_core, last=not _in_process.count)
    else:
        output_thread = getattr(engine.engine_core, "output_queue_thread", None)  # not in all versions
        engine.engine_core.shutdown(timeout=_SHUTDOWN_S)
        if output_thread is not None:  # if Python exits before this thread has freed its tensors, the process aborts
            output_thread.join(_SHUTDOWN_S)


def free_memory() -> None:
    """Free the memory of an engine that was shut down and has no references left."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _shut_down_core(client: Any, *, last: bool) -> None:
    """Shut down an engine of this process. vLLM's distributed state is only shut down with the last engine, because all share it."""
    if last:
        client.shutdown()
        return
    core = client.engine_core
    core.model_executor.shutdown()
    core.scheduler.shutdown()
    finalizer = getattr(client, "_finalizer", None)
    if finalizer is not None:  # it would clear the distributed state at garbage collection; not in all versions
        finalizer.detach()


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    return (str(error).strip().splitlines() or ["no reason given"])[0][:400]
