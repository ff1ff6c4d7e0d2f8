"""Starting vLLM: from its options to a running engine whose memory is planned and proved to fit."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qwen3_integrations.core.extras import require
from qwen3_integrations.engines.vllm.worker import PROCESS_WIDE, first_line
from qwen3_integrations.errors import ConfigError, EngineError
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.memory import MemoryPlan, ModelShape, plan_memory, stored_bytes

_SILENCERS = ("VLLM_NO_USAGE_STATS", "VLLM_DO_NOT_TRACK", "DO_NOT_TRACK")


class VllmStart:
    """Starts one engine when it is called.

    Args:
        files: The model.
        name: The model's name, for messages.
        options: `EngineArgs` by name, checked.
        concurrency: How many prompts of the greatest length the planned cache holds at once.

    Attributes:
        plan: After the call: the memory plan; None where the caller left the sizes to vLLM.
        max_tokens: After the call: the longest prompt, in tokens.
    """

    def __init__(self, files: ModelFiles, name: str, options: Mapping[str, Any], concurrency: int) -> None:
        self._files = files
        self._name = name
        self._options = dict(options)
        self._concurrency = concurrency
        self.plan: MemoryPlan | None = None
        self.max_tokens = 0

    def __call__(self) -> Any:
        """Start the engine.

        Returns:
            A `vllm.v1.engine.llm_engine.LLMEngine`.

        Raises:
            ConfigError: For options that vLLM refuses, or a plan that does not fit.
            EngineError: If vLLM does not start.
        """
        from vllm.engine.arg_utils import EngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.llm_engine import LLMEngine

        # One start at a time: each plans with the memory that the ones before it have left.
        with PROCESS_WIDE, _no_usage_reports():
            try:
                config = EngineArgs(**self._options).create_engine_config(UsageContext.LLM_CLASS)
            except Exception as error:
                raise ConfigError(f"vLLM refused the options for {self._name}: {first_line(error)}") from error
            self._apply_plan(config)
            try:
                engine = LLMEngine.from_vllm_config(
                    config, usage_context=UsageContext.LLM_CLASS, disable_log_stats=bool(self._options.get("disable_log_stats"))
                )
            except Exception as error:
                raise EngineError(
                    f"vLLM did not start for {self._name}: {type(error).__name__}: {first_line(error)}",
                    advice="The cause is in its log above. In a script, open engines under `if __name__ == \"__main__\":`. If this process "
                    "has used CUDA in PyTorch before (torch.cuda.is_available() is enough), set VLLM_WORKER_MULTIPROC_METHOD=spawn",
                ) from error
            self.max_tokens = int(config.model_config.max_model_len)
            return engine

    def _apply_plan(self, config: Any) -> None:
        cache, parallel = config.cache_config, config.parallel_config
        given = cache.kv_cache_memory_bytes  # by the option, or by VLLM_CPU_KVCACHE_SPACE
        if given is None and "gpu_memory_utilization" in self._options:
            return
        devices = parallel.tensor_parallel_size * parallel.pipeline_parallel_size
        self.plan = plan_of(self._files.folder, self._name, config, self._concurrency, given)
        cache.kv_cache_memory_bytes = self.plan.cache_bytes
        for device in range(devices):
            total, free = device_memory(device)
            if free is not None:
                self.plan.check(free, device_name(device))
            if "gpu_memory_utilization" not in self._options:
                # vLLM proves that this share is free even where the cache's size is given.
                cache.gpu_memory_utilization = self.plan.share(total)


def plan_of(folder: Path, name: str, config: Any, concurrency: int, cache_bytes: int | None) -> MemoryPlan:
    """The memory plan for a finished `VllmConfig`."""
    model, cache = config.model_config, config.cache_config
    value_bytes = int(model.dtype.itemsize)
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return plan_memory(
        name,
        ModelShape.from_config(described),
        stored_bytes(folder, value_bytes, model.quantization),
        value_bytes=value_bytes,
        cache_value_bytes=_cached_value_bytes(str(cache.cache_dtype), value_bytes),
        max_model_len=int(model.max_model_len),
        concurrency=concurrency,
        pass_tokens=int(config.scheduler_config.max_num_batched_tokens),
        tensor_parallel_size=int(config.parallel_config.tensor_parallel_size),
        pipeline_parallel_size=int(config.parallel_config.pipeline_parallel_size),
        cache_bytes=cache_bytes,
        enforce_eager=bool(model.enforce_eager),
    )


def _cached_value_bytes(cache_dtype: str, value_bytes: int) -> int:
    if cache_dtype.startswith(("fp8", "int8")):
        return 1
    return {"float16": 2, "bfloat16": 2, "float32": 4}.get(cache_dtype, value_bytes)


def device_memory(device: int) -> tuple[int, int | None]:
    """Total and free bytes of a device, or of this machine for vLLM's CPU build.

    CUDA is asked without being initialised: a process that has used it can't fork vLLM's.

    Returns:
        Both; None for what is free where only the running vLLM can tell (other accelerators).
    """
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        from vllm.utils.cpu_resource_utils import get_memory_node_info

        # vLLM's view knows the container's limit, psutil's knows all memory nodes.
        memory = get_memory_node_info(0)
        return memory.total_memory, min(memory.available_memory, require("psutil", "vllm").virtual_memory().available)
    if current_platform.is_cuda():
        from vllm.platforms.cuda import pynvml

        pynvml.nvmlInit()
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(current_platform.device_id_to_physical_device_id(device))
            info = pynvml.nvmlDeviceGetMemoryInfo(handle)
            return int(info.total), int(info.free)
        finally:
            pynvml.nvmlShutdown()
    return int(current_platform.get_device_total_memory(device)), None


def device_name(device: int) -> str:
    """A device's name for messages."""
    from vllm.platforms import current_platform

    return "this machine" if current_platform.is_cpu() else f"device {device}"


@contextmanager
def _no_usage_reports() -> Iterator[None]:
    """Keep vLLM from reporting usage to its makers, unless the environment says anything about it."""
    if any(name in os.environ for name in _SILENCERS):
        yield
        return
    os.environ[_SILENCERS[0]] = "1"
    try:
        yield
    finally:
        os.environ.pop(_SILENCERS[0], None)
