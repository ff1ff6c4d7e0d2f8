"""Peak memory of this process over a period, and of another process."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

MIB = 1 << 20
LOOK_S = 0.02
"""Seconds between two reads of another process's peak. The kernel keeps the peak, so only a growth just before its end can be missed."""


class Peaks:
    """Measures while it is entered.

    Args:
        device: With `cuda` or `cuda:1`, PyTorch's memory on that GPU is measured too.

    Attributes:
        host: Peak memory of this process, in bytes; 0 if the system does not report it.
        allocated, reserved: Peak of PyTorch's allocated and of its reserved GPU memory, in bytes.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._device = device if device.startswith("cuda") else ""
        self.host = self.allocated = self.reserved = 0

    def __enter__(self) -> Peaks:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak. Source: proc(5)
        if self._device:
            import torch

            torch.cuda.init()  # type: ignore[no-untyped-call]  # the counters of an unused device can't be reset
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)
        return self

    def __exit__(self, *_: object) -> None:
        self.host = _high_water("self")
        if self._device:
            import torch

            self.allocated = torch.cuda.max_memory_allocated(self._device)
            self.reserved = torch.cuda.max_memory_reserved(self._device)

    def to_dict(self) -> dict[str, Any]:
        """The peaks in MiB; without a GPU only that of the host."""
        host = {"host_mib": round(self.host / MIB)}
        gpu = {"gpu_allocated_mib": round(self.allocated / MIB), "gpu_reserved_mib": round(self.reserved / MIB)}
        return host | gpu if self._device else host


def held_of_gpu() -> int:
    """Memory of this process on the first GPU, in bytes, including CUDA's own. Source: NVML."""
    import os

    import pynvml

    pynvml.nvmlInit()
    try:
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(pynvml.nvmlDeviceGetHandleByIndex(0))
        return sum(process.usedGpuMemory or 0 for process in processes if process.pid == os.getpid())
    finally:
        pynvml.nvmlShutdown()


def peak_of(command: Sequence[str]) -> int:
    """Run a process to its end, and return its peak memory in bytes.

    Raises:
        RuntimeError: If it fails, or the system does not report its memory.
    """
    # Not `ru_maxrss`: on Linux it includes the memory of the parent at the start of the child.
    peak = 0
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            peak = max(peak, _high_water(str(process.pid)))
            time.sleep(LOOK_S)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    if not peak:
        raise RuntimeError("this system does not report the peak memory of a process: run this on Linux")
    return peak


def _high_water(process: str) -> int:
    """Peak memory of a process so far, in bytes; 0 if the system does not report it, or the process has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
