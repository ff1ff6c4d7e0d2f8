"""Memory and use of this machine's devices over time, sampled while somebody looks."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

from qwen3_integrations.errors import EngineError
from qwen3_integrations.models.devices import gpus, host_memory
from qwen3_integrations.models.memory import in_gib

KEPT = 120
"""Number of samples that are kept."""

_LEAST_S = 1.0
_GAP_S = 30.0
"""A longer gap between two samples restarts the curves: nobody looked."""


class DeviceUsage:
    """The devices of this machine: its visible GPUs, or its main memory where there are none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at = 0.0
        self._devices: list[dict[str, Any]] = []
        self._memory: dict[str, deque[float]] = {}
        self._use: dict[str, deque[float]] = {}

    def now(self) -> list[dict[str, Any]]:
        """Each device: name, memory in bytes and as text, `use` in [0, 1] or None, and the curves of `memory` and `use`, in [0, 1].

        The machine is asked at most once a second, however many pages look.
        """
        with self._lock:
            at = time.monotonic()
            if at - self._at >= _LEAST_S or not self._devices:
                if at - self._at > _GAP_S:
                    self._memory, self._use = {}, {}
                self._at, self._devices = at, [self._device(*each) for each in _sampled()]
            return self._devices

    def _device(self, name: str, total: int, free: int, use: float | None) -> dict[str, Any]:
        used = total - free
        memory = self._memory.setdefault(name, deque(maxlen=KEPT))
        memory.append(round(used / total, 4) if total else 0.0)
        busy = self._use.setdefault(name, deque(maxlen=KEPT))
        if use is not None:
            busy.append(round(use, 4))
        words = {"total": in_gib(total), "used": in_gib(used)}
        return {
            "name": name,
            "total_bytes": total,
            "used_bytes": used,
            "use": use,
            **words,
            "curves": {"memory": list(memory), "use": list(busy)},
        }


def _sampled() -> list[tuple[str, int, int, float | None]]:
    import psutil

    try:
        found = gpus(None)
    except EngineError:  # `doctor` says what is wrong with the driver
        found = ()
    if found:
        return [(f"GPU {gpu.index} ({gpu.name})", gpu.total_bytes, gpu.free_bytes, gpu.use) for gpu in found]
    memory = host_memory()
    return [("this machine", memory.total_bytes, memory.available_bytes, psutil.cpu_percent() / 100)]
