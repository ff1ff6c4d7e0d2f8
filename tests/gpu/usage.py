"""What processes hold of the GPUs, by NVML; whoever else uses them does not count."""

from __future__ import annotations

import time
from collections.abc import Iterable

import psutil
import pynvml


def tree_of(pid: int) -> frozenset[int]:
    """A process and all that it has started."""
    root = psutil.Process(pid)
    return frozenset(process.pid for process in (root, *root.children(recursive=True)))


def used_bytes(pids: Iterable[int]) -> int:
    """Bytes that these processes hold together, on the GPU on which that is most."""
    wanted = set(pids)
    pynvml.nvmlInit()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        held = [pynvml.nvmlDeviceGetComputeRunningProcesses(handle) for handle in handles]
        return max(sum(process.usedGpuMemory or 0 for process in on_one if process.pid in wanted) for on_one in held)
    finally:
        pynvml.nvmlShutdown()


def settled_bytes(pids: Iterable[int], most: int) -> int:
    """As `used_bytes`, once that has fallen to `most` or half a minute has gone by: the driver frees with a delay."""
    wanted = frozenset(pids)
    for _ in range(60):
        if used_bytes(wanted) <= most:
            break
        time.sleep(0.5)
    return used_bytes(wanted)
