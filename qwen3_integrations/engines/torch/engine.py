"""PyTorch on CPU, CUDA or MPS: packed, one queue for all callers."""

from __future__ import annotations

import logging
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

from qwen3_integrations.core.engine import Capabilities, Submitting, check_task
from qwen3_integrations.core.extras import require
from qwen3_integrations.core.fingerprint import Fingerprint
from qwen3_integrations.core.tokenizer import Tokenizer
from qwen3_integrations.core.types import Job, Reply, Task
from qwen3_integrations.core.validation import optional_whole_number
from qwen3_integrations.engines.torch.memory_plan import PassPlan, plan_passes
from qwen3_integrations.engines.torch.queue import JobQueue
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.catalog import Source
from qwen3_integrations.models.checkpoint import ModelFiles, read_model
from qwen3_integrations.models.hub import resolve_model
from qwen3_integrations.models.identity import folder_identity, quantisation_of
from qwen3_integrations.models.memory import ModelShape, in_gib, stored_bytes

log = logging.getLogger("qwen3_integrations")

CPU_TOKENS = 2048
"""Tokens in a pass on a CPU: the results of more don't fit its caches."""

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class TorchEngine(Submitting):
    """Runs a checkpoint with PyTorch in this process.

    Sequences lie end to end without padding, what the documents of one query share is computed once a pass,
    and only last positions are read: by the two rows of the output head that say "yes" and "no", never by the
    whole vocabulary. Calls from many threads and tasks are packed together. On CUDA, FlashAttention 3 is used on Hopper where it is
    installed (`flash-attn-3`, or vLLM's), else PyTorch's own FlashAttention 2; there short sequences have a kernel of their own. Passes of
    at most 4,096 tokens are captured graphs.

    Args:
        task: `embed` or `rerank`.
        model: A folder, a hub's name, or `qwen3-tiny-demo`.
        device: `cpu`, `cuda`, `cuda:1`, `mps`; `auto` takes CUDA, then MPS, then the CPU.
        dtype: `float32`, `bfloat16` or `float16`; `auto` is bfloat16 on CUDA and float32 elsewhere.
        max_batch_tokens: Tokens in one forward pass, by which its memory is planned; None for 65536 on CUDA, or what half of the free
            memory has room for, and 2048 elsewhere. A longer prompt has a pass of its own. Where the memory is not there after all,
            the passes get smaller, which is logged.
        source: Where the model's name may lead: `auto`, `local`, `huggingface` or `modelscope`.
        revision: A branch, tag or commit of the hub's repository.

    Raises:
        MissingExtra: If PyTorch or safetensors is not installed.
        ModelNotFound: If the model is nowhere to be had.
        ConfigError: If the model is of the other task, device or dtype are none, or the memory does not suffice (with the sum).
    """

    backend = "torch"

    def __init__(
        self,
        task: Task,
        model: str,
        *,
        device: str = "auto",
        dtype: Dtype = "auto",
        max_batch_tokens: int | None = None,
        source: Source = "auto",
        revision: str | None = None,
    ) -> None:
        torch = require("torch", "torch")
        require("safetensors", "torch")
        from qwen3_integrations.engines.torch.forward import Forward

        max_batch_tokens = optional_whole_number(max_batch_tokens, "max_batch_tokens")
        self.task: Task = task
        self.model = model
        files = read_model(resolve_model(model, task, source=source, revision=revision), task)
        self.tokenizer = Tokenizer.from_folder(files.folder)
        self.max_tokens = files.context
        self.dimensions = files.width if task == "embed" else None
        self.device = _device(torch, device)
        self.dtype = _dtype(dtype, self.device)
        self.capabilities = Capabilities(exact=self.dtype == "float32")
        numerics = {"backend": self.backend, "dtype": self.dtype, "quantisation": quantisation_of(files)}
        self._fingerprint = Fingerprint(folder_identity(files, task, self.tokenizer.digest), numerics)  # now: the folder may change later
        place = torch.device(self.device)
        if place.type == "cuda" and place.index is None:  # which one is current is each thread's own matter, and the engine has threads
            place = torch.device("cuda", torch.cuda.current_device())
        self.memory = self._plan(files, place, max_batch_tokens) if place.type == "cuda" else None
        """The plan; None where nothing is planned, which is everywhere but on CUDA."""
        budget = self.memory.pass_tokens if self.memory else max_batch_tokens or CPU_TOKENS
        reserved = self.memory.pass_tokens if self.memory else 0
        # In a thread of its own: in a forked process, PyTorch's threads are gone for those that had used them before.
        with ThreadPoolExecutor(1) as loading:
            forward = loading.submit(
                Forward, files, task, self.tokenizer, place, getattr(torch, self.dtype), reserved=reserved
            ).result()  # fmt: skip
        self._queue = JobQueue(forward, budget, f"{model} on {self.device}")
        self._finalizer = weakref.finalize(self, self._queue.close)

    def close(self) -> None:
        """Finish the pass that runs, refuse the rest, and give the memory back."""
        self._finalizer()

    def fingerprint(self) -> Fingerprint:
        """Which model this is, as its folder was when it was opened, and the number format; see `Fingerprint`."""
        return self._fingerprint

    def _submit(self, job: Job) -> Future[Reply]:
        check_task(self, job)
        return self._queue.submit(job)

    def _plan(self, files: ModelFiles, place: Any, tokens: int | None) -> PassPlan:
        import torch

        value_bytes = 4 if self.dtype == "float32" else 2
        weights = stored_bytes(files.folder, value_bytes)
        free, _ = torch.cuda.mem_get_info(place)
        return plan_passes(self.model, ModelShape.from_config(files.config), weights, value_bytes, free, tokens)

    @property
    def where(self) -> str:
        """Where it computes: device and number format, and the memory that was planned for it."""
        return f"{self.device}, {self.dtype}" + (f", {in_gib(self.memory.total_bytes)} planned" if self.memory else "")

    def __repr__(self) -> str:
        return f"TorchEngine({self.task!r}, {self.model!r}, device={self.device!r}, dtype={self.dtype!r})"


def _device(torch: Any, asked: str) -> str:
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind = torch.device(asked).type
    except RuntimeError as error:
        raise ConfigError(f"device {asked!r} is none that PyTorch knows: use auto, cpu, cuda, cuda:0 or mps") from error
    there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}.get(kind)
    if there and not there():
        raise ConfigError(f"device {asked!r} is not there: PyTorch {torch.__version__} sees no {kind} device")
    if kind == "cuda" and (number := torch.device(asked).index or 0) >= (there_are := torch.cuda.device_count()):
        raise ConfigError(f"device {asked!r} is not there: PyTorch sees {there_are}, cuda:0 to cuda:{there_are - 1}; not number {number}")
    return asked


def _dtype(asked: Dtype, device: str) -> str:
    if asked == "auto":
        return "bfloat16" if device.startswith("cuda") else "float32"
    if asked not in ("float32", "bfloat16", "float16"):
        raise ConfigError(f"dtype must be auto, float32, bfloat16 or float16, not {asked!r}")
    return asked
