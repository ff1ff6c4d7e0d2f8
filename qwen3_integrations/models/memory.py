"""Memory of a vLLM engine on one device: arithmetic over a model's sizes, before anything is loaded.

By default vLLM takes a fixed share of the whole GPU, whatever the model. This plan is a sum instead: the weights as stored, a KV cache for
a number of prompts, the intermediate results of forward passes, and the runtime. So an embedder and a reranker fit one device, and a
model that does not fit is refused with the sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qwen3_integrations.core.validation import optional_whole_number, whole_number
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.shapes import ModelShape

GIB = 1 << 30

RUNTIME_BYTES = 17 * GIB // 16
"""Reserve for memory that does not depend on shapes, in every process. Source: measured, 0.95 to 0.99 GiB (vLLM 0.24, H100): CUDA context
and kernels 0.73, RoPE table, workspaces and input buffers 0.08, rounding of PyTorch's allocator 0.14 to 0.18. On an H200, plans with this
reserve exceed the memory of seven servers by 0.44 to 0.99 GiB."""

GRAPHS_BYTES = 3 * GIB // 8
"""Reserve for captured graphs and compiled kernels, except in eager mode. Source: measured, 0.25 to 0.35 GiB (0.6B, 4B)."""

PEERS_BYTES = 7 * GIB // 8
"""Reserve for the buffers of NCCL and of vLLM's own all-reduce, if GPUs share a model. Source: measured, 0.84 GiB on each of two."""

PASSES = 3
"""Number of forward passes to reserve memory for. Texts of different lengths give passes of different sizes, and PyTorch's allocator keeps
blocks of earlier passes that later ones cannot reuse. Source: measured, 1.3 to 2.5 passes besides the running one; none if all passes
have one size."""

CACHE_BLOCK = 128
"""Tokens of the largest block of vLLM's KV cache (on the CPU; CUDA has 16). Sizes are rounded up to it."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The memory plan of one device, in bytes, and the numbers it comes from. `str()` shows the sum.

    Attributes:
        model: The model's name, for messages.
        weights_bytes: The weights on one device.
        cache_bytes: The KV cache of `cache_tokens` tokens: vLLM's `kv_cache_memory_bytes`.
        pass_bytes: The largest intermediate results of forward passes, see `PASSES`.
        runtime_bytes: See `RUNTIME_BYTES`, `GRAPHS_BYTES` and `PEERS_BYTES`.
        cache_tokens: Tokens that fit into the cache at once.
        token_bytes: Keys and values of one token on one device.
        max_model_len: Length of the longest prompt, in tokens.
        pass_tokens: Tokens of one forward pass: vLLM's `max_num_batched_tokens`.
    """

    model: str
    weights_bytes: int
    cache_bytes: int
    pass_bytes: int
    runtime_bytes: int
    cache_tokens: int
    token_bytes: int
    max_model_len: int
    pass_tokens: int

    @property
    def total_bytes(self) -> int:
        """The sum: weights, cache, forward passes, runtime."""
        return self.weights_bytes + self.cache_bytes + self.pass_bytes + self.runtime_bytes

    @property
    def detail(self) -> str:
        """The numbers behind the sum."""
        return f"cache for {self.cache_tokens:,} tokens, {self.pass_tokens:,} tokens in a forward pass"

    def share(self, device_bytes: int) -> float:
        """The plan as a share of a device, in (0, 1]: vLLM's `gpu_memory_utilization`."""
        return min(1.0, max(0.001, math.ceil(1000 * self.total_bytes / device_bytes) / 1000))

    def check(self, free_bytes: int, device: str) -> None:
        """Check that the plan fits a device.

        Args:
            free_bytes: Free memory of the device now.
            device: Its name, for the message.

        Raises:
            ConfigError: If it does not fit, with the sum and with options that would fit.
        """
        if self.total_bytes > free_bytes:
            raise ConfigError(f"{self}, but {device} has {in_gib(free_bytes)} free", advice=self._advice(free_bytes))

    def _advice(self, free_bytes: int) -> str:
        room = free_bytes - (self.total_bytes - self.cache_bytes)
        tokens = max(0, room // self.token_bytes // CACHE_BLOCK * CACHE_BLOCK - CACHE_BLOCK)
        if tokens >= self.max_model_len:
            return f"concurrency={tokens // self.max_model_len} with max_model_len={self.max_model_len} would fit"
        if tokens >= CACHE_BLOCK:
            return f"concurrency=1 with max_model_len={tokens} would fit"
        return (
            "Even the shortest prompts would not fit: free some memory, or use a smaller or a quantised model, a smaller "
            "max_num_batched_tokens, or more devices (tensor_parallel_size)"
        )

    def __str__(self) -> str:
        return (
            f"{self.model} needs {in_gib(self.total_bytes)}: weights {in_gib(self.weights_bytes)} "
            f"+ cache {in_gib(self.cache_bytes)} ({self.cache_tokens:,} tokens of {self.token_bytes / 1024:.3g} KiB) "
            f"+ forward pass {in_gib(self.pass_bytes)} ({PASSES} of {self.pass_tokens:,} tokens) + runtime {in_gib(self.runtime_bytes)}"
        )


def plan_memory(
    model: str,
    shape: ModelShape,
    weights_bytes: int,
    *,
    value_bytes: int,
    cache_value_bytes: int | None = None,
    max_model_len: int = 8192,
    concurrency: int = 4,
    pass_tokens: int = 8192,
    tensor_parallel_size: int = 1,
    pipeline_parallel_size: int = 1,
    cache_bytes: int | None = None,
    enforce_eager: bool = False,
) -> MemoryPlan:
    """Plan one device's memory.

    Args:
        model: A name to show.
        shape: The model's sizes.
        weights_bytes: All weights together, see `ModelFiles.stored_bytes`.
        value_bytes: Bytes of one value in the forward pass: 2 for bfloat16 and float16, 4 for float32.
        cache_value_bytes: Bytes of one cached value; None for `value_bytes`.
        max_model_len: Length of the longest prompt, in tokens.
        concurrency: Number of longest prompts that must fit into the cache at once; at least 1. More of shorter prompts fit. The
            cache has room for at least one forward pass.
        pass_tokens: Tokens of one forward pass.
        tensor_parallel_size: Devices that each layer is split over.
        pipeline_parallel_size: Devices that the layers are distributed over.
        cache_bytes: A fixed size of the cache; None to compute it from `concurrency`.
        enforce_eager: Whether vLLM runs eagerly, without compiled kernels and CUDA graphs.

    Raises:
        ConfigError: If a count is not a whole number of at least 1.
    """
    concurrency, max_model_len = whole_number(concurrency, "concurrency"), whole_number(max_model_len, "max_model_len")
    pass_tokens = whole_number(pass_tokens, "pass_tokens")
    tensor_parallel_size = whole_number(tensor_parallel_size, "tensor_parallel_size")
    pipeline_parallel_size = whole_number(pipeline_parallel_size, "pipeline_parallel_size")
    cache_bytes = optional_whole_number(cache_bytes, "cache_bytes")
    devices = tensor_parallel_size * pipeline_parallel_size
    layers = math.ceil(shape.layers / pipeline_parallel_size)
    # With more devices than KV heads, vLLM repeats the heads, so that each device has at least one.
    kv_heads = math.ceil(shape.kv_heads / tensor_parallel_size)
    token_bytes = 2 * layers * kv_heads * shape.head_dim * (cache_value_bytes or value_bytes)
    if cache_bytes is None:
        # vLLM reserves one block.
        cache_tokens = max(concurrency * _in_blocks(max_model_len), _in_blocks(pass_tokens)) + CACHE_BLOCK
        cache_bytes = cache_tokens * token_bytes
    else:
        cache_tokens = cache_bytes // token_bytes
    return MemoryPlan(
        model=model,
        weights_bytes=math.ceil(weights_bytes / devices),
        cache_bytes=cache_bytes,
        pass_bytes=PASSES * pass_tokens * _peak_width(shape, tensor_parallel_size) * value_bytes,
        runtime_bytes=RUNTIME_BYTES + (0 if enforce_eager else GRAPHS_BYTES) + (PEERS_BYTES if devices > 1 else 0),
        cache_tokens=cache_tokens,
        token_bytes=token_bytes,
        max_model_len=max_model_len,
        pass_tokens=pass_tokens,
    )


def _peak_width(shape: ModelShape, devices: int) -> int:
    """Largest number of values that a layer keeps for a token, without the cache: in the feed-forward part or in attention.

    Four results and vLLM's buffer for the embeddings of a pass have the hidden size, and are whole on every device. Gate, up and their
    product, or queries, keys, values and the attention output, are split over the devices. Source: the number of results depends on
    vLLM; it comes from the measured peaks of passes of 8192 and of 32768 tokens (vLLM 0.24, eager, 0.6B).
    """
    feed_forward = 3 * shape.intermediate_size
    attention = 2 * (shape.query_heads + shape.kv_heads) * shape.head_dim
    return 5 * shape.hidden_size + math.ceil(max(feed_forward, attention) / devices)


def _in_blocks(tokens: int) -> int:
    return math.ceil(tokens / CACHE_BLOCK) * CACHE_BLOCK


def in_gib(count: int) -> str:
    """A number of bytes as text, such as `1.25 GiB`."""
    return f"{count / GIB:.2f} GiB"
