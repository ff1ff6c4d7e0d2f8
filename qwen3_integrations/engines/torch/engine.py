"""The torch engine: PyTorch on CPU, CUDA or MPS, with packed passes and one queue for all callers."""

from __future__ import annotations

import logging
import os
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, get_args

from qwen3_integrations.core.engine import Capabilities, Submitting, check_task
from qwen3_integrations.core.extras import require
from qwen3_integrations.core.fingerprint import Fingerprint
from qwen3_integrations.core.fork_guard import ForkGuard
from qwen3_integrations.core.types import Job, Reply, Task
from qwen3_integrations.core.validation import check_choice, optional_whole_number
from qwen3_integrations.engines.torch.devices import device_names
from qwen3_integrations.engines.torch.memory_plan import CPU_TOKENS, PassPlan, Products, plan_passes
from qwen3_integrations.engines.torch.passes import Device
from qwen3_integrations.engines.torch.queue import JobQueue
from qwen3_integrations.models.catalog import Source, model_name
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.hub import open_model
from qwen3_integrations.models.identity import folder_identity, quantisation_of
from qwen3_integrations.models.memory import in_gib
from qwen3_integrations.models.shapes import ModelShape

log = logging.getLogger("qwen3_integrations")

Dtype = Literal["auto", "float32", "bfloat16", "float16", "fp8"]


class TorchEngine(Submitting):
    """Runs a checkpoint with PyTorch in this process.

    Sequences are packed without padding. A prefix that several prompts share (the query of a reranker) is computed once per pass. Only the
    last tokens are read, and a reranker uses only the two rows of the output head for "yes" and "no", never the whole vocabulary. Calls
    from many threads and tasks are batched together.

    On CUDA the engine uses FlashAttention 3 on Hopper if it is installed (`flash-attn-3`, or vLLM's), else PyTorch's FlashAttention 2.
    Hopper has an additional kernel for short sequences. Passes of at most 4,096 tokens run as captured CUDA graphs.

    Args:
        task: `embed` or `rerank`.
        model: A folder, a name on the hub, or `qwen3-tiny-demo`.
        device: `cpu`, `cuda`, `cuda:1`, `mps`; `auto` selects CUDA, then MPS, then the CPU. Several GPUs of this machine work on one queue:
            `all`, or `cuda:0,cuda:1`. Each has the whole model. A GPU that fails is left out with a warning in the log, and the others
            compute its prompts.
        dtype: `float32`, `bfloat16` or `float16`; `auto` is bfloat16 on CUDA and float32 elsewhere. `fp8` computes the layers' matrix
            products in FP8 (e4m3, one scale for each row of weights and of inputs), and all else in bfloat16. It is faster and less exact
            than bfloat16, and needs an NVIDIA GPU of compute capability 8.9 or later (Ada, Hopper, Blackwell).
        max_batch_tokens: Tokens of one forward pass; the memory is planned for it. None selects on CUDA 65536, or fewer so that passes take
            half of the memory that the weights leave free, and 2048 on other devices. A longer prompt runs in a pass of its own. If the
            planned memory is not free later, passes become smaller, with a warning in the log.
        source: Where to look for the model: `auto`, `local`, `huggingface` or `modelscope`.
        revision: A branch, tag or commit of the hub's repository.

    Raises:
        MissingExtra: If PyTorch or safetensors is not installed.
        ModelNotFound: If the model could not be found or downloaded.
        ConfigError: If the model is for the other task, the device or dtype does not exist, the device has no FP8 units and `dtype` is
            `fp8`, or the memory is too small (the message has the sum).
    """

    backend = "torch"

    def __init__(
        self,
        task: Task,
        model: str | os.PathLike[str],
        *,
        device: str = "auto",
        dtype: Dtype = "auto",
        max_batch_tokens: int | None = None,
        source: Source = "auto",
        revision: str | None = None,
    ) -> None:
        torch = require("torch", "torch")
        require("safetensors", "torch")
        from qwen3_integrations.engines.torch.forward import TorchForward

        max_batch_tokens = optional_whole_number(max_batch_tokens, "max_batch_tokens")
        self.task: Task = task
        self.model = model = str(model_name(model))
        files = open_model(model, task, source=source, revision=revision)
        files.check(task)
        self.tokenizer = files.read_tokenizer()
        self.max_tokens = files.context
        self.dimensions = files.dimensions if task == "embed" else None
        self.conventions = files.conventions
        """What the folder declares about its texts: prompts, the longest text."""
        self.adapter = files.adapter.name if files.adapter else None
        """The name of the adapter that is merged into the weights; None without one."""
        names = device_names(torch, device)
        self.device = ",".join(names)
        self.dtype = _dtype(dtype, self.device)
        fp8, values = self.dtype == "fp8", "bfloat16" if self.dtype == "fp8" else self.dtype
        self.capabilities = Capabilities(exact=self.dtype == "float32", devices=len(names))
        numerics = {"backend": self.backend, "dtype": values, "quantisation": "fp8" if fp8 else quantisation_of(files)}
        self._fingerprint = Fingerprint(
            folder_identity(files, task, self.tokenizer.digest), numerics
        )  # read now, because the folder may change later
        targets = [_numbered(torch, torch.device(name)) for name in names]
        if fp8:
            for target in targets:
                check_fp8(target, files.shape)
        plans = [self._plan(files, target, max_batch_tokens) for target in targets if target.type == "cuda"]
        self.memory = min(plans, key=lambda plan: plan.pass_tokens, default=None)
        """The memory plan on CUDA, with several GPUs of the one with the smallest passes; None on other devices."""

        def load() -> list[Device]:
            devices: list[Device] = []
            forward: TorchForward | None = None
            for number, (name, target) in enumerate(zip(names, targets, strict=True)):
                reserved = plans[number].pass_tokens if plans else 0
                forward = TorchForward(
                    files, task, self.tokenizer, target, getattr(torch, values), fp8=fp8, reserved=reserved, like=forward
                )  # fmt: skip
                devices.append(Device(f"{model} on {name}", forward, reserved or max_batch_tokens or CPU_TOKENS))
            return devices

        # Loads in a new thread: in a forked process, PyTorch's thread pool is lost for threads that used it before the fork.
        with ThreadPoolExecutor(1) as loading:
            self._queue = JobQueue(f"{model} on {self.device}", loading.submit(load).result())
        self._finalizer = weakref.finalize(self, self._queue.close)
        self._fork_guard = ForkGuard(f"{model} on {self.device}")

    def close(self) -> None:
        """Finish the running pass, refuse the remaining jobs, and free the memory."""
        self._finalizer()

    def fingerprint(self) -> Fingerprint:
        """The model, as its folder was when the engine opened, and the number format; see `Fingerprint`."""
        return self._fingerprint

    def _submit(self, job: Job) -> Future[Reply]:
        check_task(self, job)
        if self._finalizer.alive and self.reopens_itself:
            self._fork_guard.reopened(self._reopen)
        return self._queue.submit(job)

    @property
    def reopens_itself(self) -> bool:
        """Whether the engine works in a forked process: CUDA and other devices can't be used there after the parent used them."""
        return self.device.partition(":")[0] == "cpu"

    def _reopen(self) -> None:
        self._queue, of_parent = self._queue.in_child(), self._finalizer
        self._finalizer = weakref.finalize(self, self._queue.close)
        of_parent.detach()

    def _plan(self, files: ModelFiles, device: Any, tokens: int | None) -> PassPlan:
        import torch

        from qwen3_integrations.engines.torch.kernel_selection import has_fused_products

        value_bytes = 4 if self.dtype == "float32" else 2
        free, _ = torch.cuda.mem_get_info(device)
        weights_bytes = files.stored_bytes(value_bytes, "fp8" if self.dtype == "fp8" else None)
        fused = self.dtype in ("bfloat16", "float16") and has_fused_products(device, files.shape)
        products: Products = "fp8" if self.dtype == "fp8" else "fused" if fused else "plain"
        return plan_passes(self.model, files.shape, weights_bytes, value_bytes, free, tokens, products=products)

    @property
    def where(self) -> str:
        """Device and dtype of the engine, its planned memory, and its adapter."""
        each = " on each" * ("," in self.device)
        planned = f", {in_gib(self.memory.total_bytes)} planned{each}" if self.memory else ""
        return f"{self.device}, {self.dtype}{planned}" + (f", with adapter {self.adapter}" if self.adapter else "")

    def __repr__(self) -> str:
        adapted = f" with adapter {self.adapter}" if self.adapter else ""
        return f"TorchEngine({self.task!r}, {self.model!r}, device={self.device!r}, dtype={self.dtype!r}){adapted}"


def _numbered(torch: Any, device: Any) -> Any:
    """A GPU with its number: each thread has its own current device, and the engine has threads."""
    return torch.device("cuda", torch.cuda.current_device()) if device.type == "cuda" and device.index is None else device


def check_fp8(device: Any, shape: ModelShape) -> None:
    """See `scaled.check_support`."""
    from qwen3_integrations.engines.torch.scaled import check_support

    check_support(device, shape)


def _dtype(wanted: Dtype, device: str) -> str:
    check_choice(wanted, get_args(Dtype), "dtype")
    if wanted == "auto":
        return "bfloat16" if device.startswith("cuda") else "float32"
    return wanted
