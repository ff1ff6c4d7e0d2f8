"""Devices of this machine: NVIDIA GPUs, and the main memory that a process may use.

The only place that uses NVML. CUDA is not initialised, so the process can still fork.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from qwen3_integrations.errors import EngineError


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU (or MIG slice) and its memory at one moment.

    Attributes:
        index: The GPU's number in `nvidia-smi`: in PCI bus order, before CUDA_VISIBLE_DEVICES. A MIG slice has the number of its GPU.
        name: Such as `NVIDIA H100 80GB HBM3`.
        total_bytes: Total memory.
        free_bytes: Memory that no process uses now.
        driver: The driver's version, such as `580.65.06`.
        use: Share of the last moments in which it computed, in [0, 1]; None where the driver does not report it, as for a MIG slice.
    """

    index: int
    name: str
    total_bytes: int
    free_bytes: int
    driver: str
    use: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Memory:
    """Main memory at one moment, in bytes; in a container, within its limit.

    Attributes:
        total_bytes: Total memory.
        available_bytes: Memory that a process can allocate without swapping. File caches that the kernel can drop count as available.
    """

    total_bytes: int
    available_bytes: int


def gpus(visible: str | None = None) -> tuple[Gpu, ...]:
    """The visible GPUs of a child process, in CUDA's order, with CUDA_VISIBLE_DEVICES applied.

    CUDA orders different GPUs by speed, unless CUDA_DEVICE_ORDER=PCI_BUS_ID is set. This function always uses PCI bus order.

    Args:
        visible: CUDA_VISIBLE_DEVICES of the child process; None for the value in this process.

    Returns:
        One entry for each GPU or MIG slice; empty without an NVIDIA driver. A GPU without memory of its own has the machine's memory.

    Raises:
        EngineError: If there is a driver, but it does not answer.

    Source: NVML, the library under `nvidia-smi`, through NVIDIA's own bindings (`nvidia-ml-py`).
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return ()
    except pynvml.NVMLError as error:
        advice = "Make sure that `nvidia-smi` works; after a driver update, restart the machine"
        raise EngineError(f"the NVIDIA driver does not answer: {error}", advice=advice) from error
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        chosen = visible_devices(
            os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible,
            [_text(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles],
        )
        return tuple(_gpu(pynvml, handles, device) for device in chosen)
    except pynvml.NVMLError as error:
        raise EngineError(f"the NVIDIA driver does not describe a GPU: {error}", advice="Check whether `nvidia-smi` shows it") from error
    finally:
        pynvml.nvmlShutdown()


def has_driver() -> bool:
    """Whether an NVIDIA driver answers, with or without visible GPUs."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    pynvml.nvmlShutdown()
    return True


def visible_devices(wanted: str | None, uuids: Sequence[str]) -> list[int | str]:
    """The devices that CUDA_VISIBLE_DEVICES selects, in its order.

    Args:
        wanted: The variable's value; None if it is not set.
        uuids: UUIDs of all GPUs, by index.

    Returns:
        Indices of GPUs, and UUIDs of MIG slices as given.

    Source: CUDA's documentation of the variable: an unknown entry hides itself and all entries after it; a UUID may be shortened; a GPU
        that is named twice hides all GPUs (PyTorch reads it in the same way).
    """
    if wanted is None:
        return list(range(len(uuids)))
    found: list[int | str] = []
    for entry in (part.strip() for part in wanted.split(",")):
        device = _device(entry, uuids)
        if device is None:
            break
        if device in found:
            return []
        found.append(device)
    return found


def _device(entry: str, uuids: Sequence[str]) -> int | str | None:
    if entry.startswith("MIG-"):
        return entry
    if entry.startswith("GPU-"):
        matches = [index for index, uuid in enumerate(uuids) if uuid.startswith(entry)]
        return matches[0] if len(matches) == 1 else None
    return int(entry) if entry.isdecimal() and int(entry) < len(uuids) else None


def _gpu(pynvml: Any, handles: Sequence[Any], device: int | str) -> Gpu:
    handle = handles[device] if isinstance(device, int) else pynvml.nvmlDeviceGetHandleByUUID(device.encode())
    whole = handle if isinstance(device, int) else pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        total, free = int(memory.total), int(memory.free)
    except pynvml.NVMLError_NotSupported:  # a GPU that shares the machine's memory, such as a Jetson or a GB10
        shared = host_memory()
        total, free = shared.total_bytes, shared.available_bytes
    return Gpu(
        index=int(pynvml.nvmlDeviceGetIndex(whole)),
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        total_bytes=total,
        free_bytes=free,
        driver=_text(pynvml.nvmlSystemGetDriverVersion()),
        use=_use(pynvml, handle),
    )


def _use(pynvml: Any, handle: Any) -> float | None:
    try:
        return float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100
    except pynvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    """Older versions of the bindings return bytes."""
    return value.decode() if isinstance(value, bytes) else value


def host_memory() -> Memory:
    """The main memory that a process may use: the machine's, or the container's limit if that is smaller.

    Source: psutil for the machine; the kernel's control groups (v2 and v1) for the limit.
    """
    import psutil

    machine = psutil.virtual_memory()
    try:
        groups = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    except OSError:  # not Linux
        groups = ""
    return within_limits(Memory(int(machine.total), int(machine.available)), groups, Path("/sys/fs/cgroup"))


def within_limits(machine: Memory, groups: str, root: Path) -> Memory:
    """Apply the limits of the control groups to a machine's memory.

    Args:
        machine: The machine's memory.
        groups: The text of `/proc/self/cgroup`.
        root: Mount point of the control groups.
    """
    total, available = machine.total_bytes, machine.available_bytes
    for folder, limit_file, used_file, dropped in _group_folders(groups, root):
        limit, used = _number(folder / limit_file), _number(folder / used_file)
        if limit is None or limit >= machine.total_bytes:  # v1 writes "no limit" as a number larger than any memory
            continue
        total = min(total, limit)
        # The kernel drops cached files before it refuses memory.
        in_use = max(0, (used or 0) - _statistic(folder / "memory.stat", dropped))
        available = min(available, max(0, limit - in_use))
    return Memory(total, available)


def _group_folders(groups: str, root: Path) -> list[tuple[Path, str, str, str]]:
    """Folders with the limits of this process: of its own control group and of all parent groups.

    A container may see its own group as the root, so some of the folders may not exist; the caller skips them.
    """
    found = []
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        own = PurePosixPath(path.lstrip("/"))
        if not controllers:
            names, base = ("memory.max", "memory.current", "inactive_file"), root
        elif "memory" in controllers.split(","):
            names, base = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"), root / "memory"
        else:
            continue
        found += [(base / group, *names) for group in (own, *own.parents)]
    return found


def _number(path: Path) -> int | None:
    """The number in a file; None for a missing file or the word `max`."""
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _statistic(path: Path, name: str) -> int:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(value) for key, _, value in (line.partition(" ") for line in lines) if key == name), 0)
