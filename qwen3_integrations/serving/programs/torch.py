"""Our own server on the torch engine: `python -m qwen3_integrations.server`."""

from __future__ import annotations

from dataclasses import dataclass

from qwen3_integrations.engines.secrets import KEY_VARIABLE
from qwen3_integrations.engines.torch.memory_plan import CPU_TOKENS, RUNTIME_BYTES, plan_passes
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.devices import gpus
from qwen3_integrations.models.memory import MemoryPlan, in_gib
from qwen3_integrations.models.torch_support import torch_refusals
from qwen3_integrations.serving.argv import Command, Flags, common_values
from qwen3_integrations.serving.guard import KEY
from qwen3_integrations.serving.options import ServerOptions
from qwen3_integrations.serving.programs.program import VALUE_BYTES, Program, Request, max_tokens_of

_NO_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True)
class PassMemory(MemoryPlan):
    """The plan of a server without a key-value cache: weights, forward passes, runtime."""

    def _advice(self, free_bytes: int) -> str:  # noqa: ARG002
        return "Free some memory, use a smaller model, or lower max_num_batched_tokens"

    @property
    def detail(self) -> str:
        """The numbers behind the sum."""
        return f"{self.pass_tokens:,} tokens in a forward pass"

    def __str__(self) -> str:
        return (
            f"{self.model} needs {in_gib(self.total_bytes)}: weights {in_gib(self.weights_bytes)} "
            f"+ forward passes {in_gib(self.pass_bytes)} ({self.pass_tokens:,} tokens) + runtime {in_gib(self.runtime_bytes)}"
        )


class _Torch(Program):
    ready_route = "/ready"  # /health answers also while it loads
    closed_route = "/version"  # /metrics may be opened by --open-metrics

    def refusal(self, options: ServerOptions, files: ModelFiles) -> str | None:  # noqa: ARG002
        return torch_refusals(files)

    def plan(self, options: ServerOptions, files: ModelFiles, *, cpu: bool) -> MemoryPlan | None:
        """The plan of the torch engine; see `engines.torch.memory_plan`."""
        automatic = "float32" if cpu else "bfloat16"
        value_bytes = VALUE_BYTES[automatic if options.dtype == "auto" else options.dtype]
        tokens = options.max_num_batched_tokens or (CPU_TOKENS if cpu else None)
        weights_bytes = files.stored_bytes(value_bytes, options.quantization)
        visible = () if cpu else gpus((options.env or {}).get("CUDA_VISIBLE_DEVICES"))
        free_bytes = min((gpu.free_bytes for gpu in visible), default=_NO_LIMIT)
        found = plan_passes(options.name, files.shape, weights_bytes, value_bytes, free_bytes, tokens)
        return PassMemory(
            model=options.name,
            weights_bytes=weights_bytes,
            cache_bytes=0,
            pass_bytes=found.token_bytes * found.pass_tokens if cpu else found.pass_bytes,
            runtime_bytes=RUNTIME_BYTES,
            cache_tokens=0,
            token_bytes=found.token_bytes,
            max_model_len=self.longest_prompt(options, files),
            pass_tokens=found.pass_tokens,
        )

    def command(self, request: Request) -> Command:
        options, api_key = request.options, request.key.value
        if options.lora is not None:
            raise ConfigError(
                "is served by vLLM only", option="lora", advice="Name the adapter's folder as the model, or use engine='vllm'"
            )
        if options.quantization not in (None, "fp8") or (options.quantization and options.dtype != "auto"):
            raise ConfigError(
                f"can be fp8 with our own server, not {options.quantization!r}, and without dtype",
                option="quantization",
                advice="Leave one of them out, or use engine='vllm'",
            )
        flags = Flags(request.installed)
        values = common_values(options, request.port) | {"served_name": None}
        values["max_tokens"] = max_tokens_of(options, request.files)
        values["max_num_batched_tokens"] = options.max_num_batched_tokens
        values["dtype"] = None if options.dtype == "auto" else options.dtype
        flags.add(options.task, request.files.folder)
        flags.add(f"{options.task}_name", options.name)
        flags.add_options(options, values)
        if api_key is None:
            flags.switch("no_key")
        words = (request.installed.python, "-m", "qwen3_integrations.server", *flags.words, *options.extra_args)
        # The server takes KEY_VARIABLE, also this process's own, so it is set in any case; KEY is for those who attach to the server.
        env = dict(options.env or {}) | {KEY_VARIABLE: api_key or ""} | ({} if api_key is None else {KEY: api_key})
        return Command(words, env)


TORCH = _Torch()
