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
        device: `cuda` or `cuda:1` measures that GPU too, as PyTorch in this process counts it.

    Attributes:
        host: Bytes that this process had in memory at most; 0 where the system does not say.
        allocated, reserved: Bytes that PyTorch gave out on the GPU at most, and kept for itself at most.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._device = device if device.startswith("cuda") else ""
        self.host = self.allocated = self.reserved = 0

    def __enter__(self) -> Peaks:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak. Source: proc(5)
        if self._device:
            import torch

            torch.cuda.init()  # type: ignore[no-untyped-call]  # counters of a device that nothing has used yet can't be reset
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
        """In MiB; without a GPU only the host's."""
        host = {"host_mib": round(self.host / MIB)}
        gpu = {"gpu_allocated_mib": round(self.allocated / MIB), "gpu_reserved_mib": round(self.reserved / MIB)}
        return host | gpu if self._device else host


def held_of_gpu() -> int:
    """Bytes of the first GPU that this process holds, CUDA's own included. Source: NVML."""
    import os

    import pynvml

    pynvml.nvmlInit()
    try:
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(pynvml.nvmlDeviceGetHandleByIndex(0))
        return sum(process.usedGpuMemory or 0 for process in processes if process.pid == os.getpid())
    finally:
        pynvml.nvmlShutdown()


def peak_of(command: Sequence[str]) -> int:
    """Bytes of memory that a process has at most, run to its end.

    Raises:
        RuntimeError: If it fails, or the system does not say.
    """
    # Not `ru_maxrss`: in Linux it includes the memory of the parent at the start of the child.
    peak = 0
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            peak = max(peak, _high_water(str(process.pid)))
            time.sleep(LOOK_S)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    if not peak:
        raise RuntimeError("this system does not say what a process holds at most: Linux does")
    return peak


def _high_water(process: str) -> int:
    """Peak memory of a process so far, in bytes; 0 if the system does not report it, or the process has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
