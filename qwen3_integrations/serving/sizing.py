"""Plan a server's memory and check it against the free memory before the start."""

from __future__ import annotations

from dataclasses import dataclass

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.devices import gpus, host_memory
from qwen3_integrations.models.memory import MemoryPlan, plan_memory
from qwen3_integrations.serving.command import max_model_len_of
from qwen3_integrations.serving.extra_flags import values_of
from qwen3_integrations.serving.installed import Installed
from qwen3_integrations.serving.options import ServerOptions

_VALUE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


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
            advice="Lower them, check CUDA_VISIBLE_DEVICES and nvidia-smi, or install a CPU build of vLLM",
        )
    return tuple(Device(f"GPU {gpu.index} ({gpu.name})", gpu.total_bytes, gpu.free_bytes) for gpu in found[:wanted])


def on_cpu(options: ServerOptions, installed: Installed) -> bool:
    """Whether a server runs on the CPU: a CPU build; SGLang with the words `--device cpu`, or without a device where no GPU is visible."""
    if installed.is_cpu_build:
        return True
    if installed.engine != "sglang":
        return False
    named = values_of(options.extra_args, "device")
    return named[-1] == "cpu" if named else not gpus((options.env or {}).get("CUDA_VISIBLE_DEVICES"))


def plan_server(options: ServerOptions, files: ModelFiles) -> MemoryPlan | None:
    """The memory of one of the server's processes; None where `gpu_memory_utilization` leaves the sizes to the server.

    The weights have the size of the checkpoint's safetensors files, so a quantised checkpoint has its stored size.

    Args:
        options: The options.
        files: The model on disk.
    """
    if options.gpu_memory_utilization is not None:
        return None
    dtype = options.dtype if options.dtype != "auto" else files.dtype
    # By default vLLM serves float32 checkpoints in half precision.
    value_bytes = 2 if options.dtype == "auto" and dtype == "float32" else _VALUE_BYTES.get(dtype, 2)
    return plan_memory(
        options.name,
        files.shape,
        files.stored_bytes(value_bytes, options.quantization),
        value_bytes=value_bytes,
        max_model_len=max_model_len_of(options, files),
        concurrency=options.concurrency,
        pass_tokens=options.batched_tokens,
        tensor_parallel_size=options.tensor_parallel_size,
        pipeline_parallel_size=options.pipeline_parallel_size,
        cache_bytes=options.kv_cache_memory_bytes,
        enforce_eager=options.enforce_eager,
    )


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
