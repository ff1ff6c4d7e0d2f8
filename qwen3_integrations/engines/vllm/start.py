"""Start of an embedded vLLM engine: options, memory plan, and the check that the plan fits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from qwen3_integrations.core.fingerprint import Fact
from qwen3_integrations.engines.vllm.process import PROCESS_WIDE, first_line
from qwen3_integrations.engines.vllm.start_errors import heard_errors
from qwen3_integrations.errors import ConfigError, EngineError
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.devices import gpus, host_memory
from qwen3_integrations.models.identity import quantisation_of
from qwen3_integrations.models.memory import MemoryPlan, plan_memory
from qwen3_integrations.models.vllm_support import LONGER_THAN_DECLARED, exceeds_declared_length

_SILENCERS = ("VLLM_NO_USAGE_STATS", "VLLM_DO_NOT_TRACK", "DO_NOT_TRACK")

_FOUR_BITS = ("gptq", "awq")
_FOUR_BITS_KERNEL = "cpu_gemm_wna16"


class VllmStart:
    """Starts one engine when it is called.

    Args:
        files: The model.
        name: The model's name, for messages.
        options: `EngineArgs` by name, checked.
        concurrency: Number of longest prompts that fit into the planned cache at once.

    Attributes:
        plan: After the call: the memory plan; None if the caller leaves the sizes to vLLM.
        max_tokens: After the call: length of the longest prompt, in tokens.
        numerics: After the call: number format, quantisation, and the options that change numbers.
        devices: After the call: number of devices.
    """

    def __init__(self, files: ModelFiles, name: str, options: Mapping[str, Any], concurrency: int) -> None:
        self._files = files
        self._name = name
        self._options = dict(options)
        self._concurrency = concurrency
        self.plan: MemoryPlan | None = None
        self.max_tokens = 0
        self.numerics: dict[str, Fact] = {}
        self.devices = 1

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

        # One start at a time: each plan must count the memory that the earlier engines use.
        with PROCESS_WIDE, _no_usage_reports(), heard_errors() as (heard, variables), _environment(self._variables() | variables):
            try:
                config = EngineArgs(**self._options).create_engine_config(UsageContext.LLM_CLASS)
            except Exception as error:
                raise refusal(error, self._options, self._name) from error
            _check_kernels(self._files)
            self._apply_plan(config)
            try:
                engine = LLMEngine.from_vllm_config(
                    config, usage_context=UsageContext.LLM_CLASS, disable_log_stats=bool(self._options.get("disable_log_stats"))
                )
            except Exception as error:
                raise EngineError(
                    f"vLLM did not start for {self._name}: {heard.cause or f'{type(error).__name__}: {first_line(error)}'}",
                    advice='Its log above has more. In a script, open engines under `if __name__ == "__main__":`. If this process has '
                    "already used CUDA through PyTorch (torch.cuda.is_available() is enough), set VLLM_WORKER_MULTIPROC_METHOD=spawn",
                ) from error
            self.max_tokens = int(config.model_config.max_model_len)
            self.numerics = self._numerics(config)
            self.devices = int(config.parallel_config.tensor_parallel_size * config.parallel_config.pipeline_parallel_size)
            return engine

    def _variables(self) -> dict[str, str]:
        longest = self._options.get("max_model_len")
        return {LONGER_THAN_DECLARED: "1"} if isinstance(longest, int) and exceeds_declared_length(self._files, longest) else {}

    def _numerics(self, config: Any) -> dict[str, Fact]:
        model = config.model_config
        load_format = self._options.get("load_format")
        return {
            "dtype": str(model.dtype).removeprefix("torch."),
            "quantisation": None if model.quantization is None else str(model.quantization),
            "cache dtype": str(config.cache_config.cache_dtype),
            "load format": None if load_format is None else str(getattr(load_format, "value", load_format)),
        }

    def _apply_plan(self, config: Any) -> None:
        cache, parallel = config.cache_config, config.parallel_config
        given = cache.kv_cache_memory_bytes  # from the option, or from VLLM_CPU_KVCACHE_SPACE
        if given is None and "gpu_memory_utilization" in self._options:
            return
        devices = parallel.tensor_parallel_size * parallel.pipeline_parallel_size
        self.plan = plan_of(self._files, self._name, config, self._concurrency, given)
        cache.kv_cache_memory_bytes = self.plan.cache_bytes
        for device in range(devices):
            total, free, device_name = device_memory(device)
            if free is not None:
                self.plan.check(free, device_name)
            if "gpu_memory_utilization" not in self._options:
                # vLLM checks that this share of the device is free, even if the size of the cache is fixed.
                cache.gpu_memory_utilization = self.plan.share(total)


def refusal(error: Exception, options: Mapping[str, Any], name: str) -> ConfigError:
    """The error for options that vLLM refuses. vLLM checks most options with pydantic, whose errors name the field.

    Args:
        error: From `EngineArgs` or `create_engine_config`.
        options: The options that were passed.
        name: The model's name, for the message.
    """
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return ConfigError(f"vLLM refused the options for {name}: {first_line(error)}")
    first = error.errors()[0]
    reason = first["msg"].removeprefix("Value error, ")[:400]
    fields = [str(part) for part in first["loc"][:1]]
    if fields and fields[0] in options:
        return ConfigError(f"is refused by vLLM for {name}: {reason}", option=fields[0])
    return ConfigError(f"vLLM refused the options for {name}: {': '.join([*fields, reason])}")


def _check_kernels(files: ModelFiles) -> None:
    """Refuse 4-bit weights if vLLM's CPU build has no kernel for them: vLLM would die in its first pass.

    Source: vLLM 0.32: `cpu_gemm_wna16` is in the libraries for AVX-512, not in the one for AVX2.
    """
    import torch
    from vllm.platforms import current_platform

    method = quantisation_of(files)
    if method not in _FOUR_BITS or not current_platform.is_cpu():
        return
    current_platform.import_kernels()
    if not hasattr(torch.ops._C, _FOUR_BITS_KERNEL):
        raise ConfigError(
            f"{files.folder} is quantised ({method}), and vLLM has kernels for it only on processors with AVX-512, which this one lacks",
            advice="Use the model without quantisation, or a machine with a GPU or such a processor",
        )


def plan_of(files: ModelFiles, name: str, config: Any, concurrency: int, cache_bytes: int | None) -> MemoryPlan:
    """The memory plan for a finished `VllmConfig`."""
    model, cache = config.model_config, config.cache_config
    value_bytes = int(model.dtype.itemsize)
    return plan_memory(
        name,
        files.shape,
        files.stored_bytes(value_bytes, model.quantization),
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


def device_memory(device: int) -> tuple[int, int | None, str]:
    """Total bytes, free bytes and name of a device, or of this machine for vLLM's CPU build.

    CUDA stays uninitialised: vLLM could not fork from a process that uses CUDA.

    Returns:
        All three; None for the free bytes of other accelerators, because only the running vLLM can read them.

    Raises:
        ConfigError: If there is no such GPU.
    """
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        memory = host_memory()
        return memory.total_bytes, memory.available_bytes, "this machine"
    if current_platform.is_cuda():
        visible = gpus()
        if device >= len(visible):
            raise ConfigError(
                f"vLLM needs {device + 1} GPUs, but only {len(visible)} are visible", advice="Check CUDA_VISIBLE_DEVICES and nvidia-smi"
            )
        return visible[device].total_bytes, visible[device].free_bytes, f"device {device}"
    return int(current_platform.get_device_total_memory(device)), None, f"device {device}"


def _no_usage_reports() -> AbstractContextManager[None]:
    """Switch vLLM's usage reports off, unless the environment has a setting for them."""
    return nullcontext() if any(name in os.environ for name in _SILENCERS) else _environment({_SILENCERS[0]: "1"})


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    _read_environment_again()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _read_environment_again()


def _read_environment_again() -> None:
    """Let vLLM read its variables again: once an engine has started in a process, vLLM goes on with the values of that time."""
    from vllm import envs

    if (is_cached := getattr(envs, "_is_envs_cache_enabled", None)) and is_cached():
        envs.disable_envs_cache()
        envs.enable_envs_cache()
