"""Plan a server's memory and check it against the free memory before the start."""

from __future__ import annotations

from dataclasses import dataclass

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.devices import gpus, host_memory
from qwen3_integrations.models.memory import MemoryPlan
from qwen3_integrations.serving.installed import Installed
from qwen3_integrations.serving.options import ServerOptions
from qwen3_integrations.serving.programs import PROGRAMS


@dataclass(frozen=True, slots=True)
class Device:
    """A device whose memory a server's process uses.

    Attributes:
        name: Such as `GPU 0 (NVIDIA H200)` or `this machine`.
        total_bytes: Its memory.
        free_bytes: Its free memory now.
        processes: How many processes of the server share it: one on a GPU, all of them in main memory.
    """

    name: str
    total_bytes: int
    free_bytes: int
    processes: int = 1


def devices_for(options: ServerOptions, installed: Installed) -> tuple[Device, ...]:
    """The devices of a server: the first visible GPUs, or this machine's memory for a CPU build.

    Raises:
        ConfigError: If fewer GPUs are visible than the options ask for.
    """
    wanted = options.devices * options.data_parallel_size
    if on_cpu(options, installed):
        memory = host_memory()
        return (Device("this machine", memory.total_bytes, memory.available_bytes, wanted),)
    found = gpus((options.env or {}).get("CUDA_VISIBLE_DEVICES"))
    if len(found) < wanted:
        raise ConfigError(
            f"the options need {wanted} GPU{'s' * (wanted > 1)} (tensor {options.tensor_parallel_size} x pipeline "
            f"{options.pipeline_parallel_size} x data {options.data_parallel_size}), but {len(found)} can be used",
            advice="Lower them, check CUDA_VISIBLE_DEVICES and nvidia-smi, or "
            + ("leave --device out" if installed.engine == "torch" else "install a CPU build of vLLM"),
        )
    return tuple(Device(f"GPU {gpu.index} ({gpu.name})", gpu.total_bytes, gpu.free_bytes) for gpu in found[:wanted])


def on_cpu(options: ServerOptions, installed: Installed) -> bool:
    """Whether a server runs on the CPU."""
    return PROGRAMS[installed.engine].runs_on_cpu(options, installed)


def plan_server(options: ServerOptions, files: ModelFiles, installed: Installed) -> MemoryPlan | None:
    """The memory of one of the server's processes; None where `gpu_memory_utilization` leaves the sizes to the server.

    Args:
        options: The options.
        files: The model on disk.
        installed: The program.
    """
    return PROGRAMS[installed.engine].plan(options, files, cpu=on_cpu(options, installed))


def check_fit(plan: MemoryPlan, devices: tuple[Device, ...]) -> float:
    """Check that the plan fits every device.

    Args:
        plan: The plan of one process.
        devices: The server's devices.

    Returns:
        The plan as a share of the smallest device, in (0, 1].

    Raises:
        ConfigError: With the plan, the free memory, and the options that would fit.
    """
    for device in devices:
        plan.check(device.free_bytes // device.processes, device.name)
    return max(plan.share(device.total_bytes) for device in devices)
