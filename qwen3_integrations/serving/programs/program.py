"""What a program is to the code that starts and watches servers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.devices import gpus
from qwen3_integrations.models.memory import MemoryPlan, plan_memory
from qwen3_integrations.serving.argv import Command
from qwen3_integrations.serving.extra_flags import values_of
from qwen3_integrations.serving.hidden import Masked
from qwen3_integrations.serving.installed import Installed
from qwen3_integrations.serving.options import ServerOptions

VALUE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class Request:
    """What a command is made from.

    Attributes:
        options: The options.
        files: The model on disk.
        installed: The program; its version decides which flags exist.
        port: The port to listen on; not used with `options.uds`.
        key: The key; None in it for no key.
        plan: The memory plan; None where `gpu_memory_utilization` leaves the sizes to the server.
        share: The plan as a share of the smallest device, in (0, 1]; None where it is not known.
        cpu: Whether it runs on the CPU.
    """

    options: ServerOptions
    files: ModelFiles
    installed: Installed
    port: int
    key: Masked
    plan: MemoryPlan | None
    share: float | None
    cpu: bool


class Program(ABC):
    """A program that serves. Its methods are pure functions of options, model and version."""

    ready_route: ClassVar[str] = "/health"
    """Answers 200 once the model can be used, and needs no key."""

    closed_route: ClassVar[str] = "/metrics"
    """A route that answers 401 without the key only if all routes do."""

    @abstractmethod
    def refusal(self, options: ServerOptions, files: ModelFiles) -> str | None:
        """Why the program would serve a folder with other numbers than it declares; None where it does not."""

    @abstractmethod
    def command(self, request: Request) -> Command:
        """The command that serves.

        Raises:
            ConfigError: For an option that the program or its version does not have.
        """

    def longest_prompt(self, options: ServerOptions, files: ModelFiles) -> int:
        """The context of the server in tokens: the longest prompt, and what the program reserves, where the model's context allows it."""
        return max_tokens_of(options, files)

    def runs_on_cpu(self, options: ServerOptions, installed: Installed) -> bool:  # noqa: ARG002  vLLM needs it
        """Whether it runs on the CPU: with the words `--device cpu`, or without a device where no GPU is visible."""
        named = values_of(options.extra_args, "device")
        return named[-1] == "cpu" if named else not gpus((options.env or {}).get("CUDA_VISIBLE_DEVICES"))

    def plan(self, options: ServerOptions, files: ModelFiles, *, cpu: bool) -> MemoryPlan | None:  # noqa: ARG002  ours needs it
        """The memory of one of the server's processes; None where the options leave the sizes to the program.

        The weights have the size of the checkpoint's safetensors files, so a quantised checkpoint has its stored size.
        """
        if options.gpu_memory_utilization is not None:
            return None
        dtype = options.dtype if options.dtype != "auto" else files.dtype
        # By default vLLM serves float32 checkpoints in half precision.
        value_bytes = 2 if options.dtype == "auto" and dtype == "float32" else VALUE_BYTES.get(dtype, 2)
        return plan_memory(
            options.name,
            files.shape,
            files.stored_bytes(value_bytes, options.quantization),
            value_bytes=value_bytes,
            max_model_len=self.longest_prompt(options, files),
            concurrency=options.concurrency,
            pass_tokens=options.batched_tokens,
            tensor_parallel_size=options.tensor_parallel_size,
            pipeline_parallel_size=options.pipeline_parallel_size,
            cache_bytes=options.kv_cache_memory_bytes,
            enforce_eager=options.enforce_eager,
        )


def max_tokens_of(options: ServerOptions, files: ModelFiles) -> int:
    """The longest prompt that the server takes, in tokens: the option's value, at most the model's context."""
    return min(options.max_tokens, files.context)
