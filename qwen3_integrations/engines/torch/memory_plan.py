"""GPU memory of the torch engine, planned from the model's sizes before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.memory import GIB, in_gib
from qwen3_integrations.models.shapes import ModelShape

MAX_PASS_TOKENS = 65536
"""Default tokens of a forward pass. Source: measured on an H100 with the 0.6B model; twice as many tokens gain 0.5 % of throughput."""

MIN_PASS_TOKENS = 2048
"""Smallest default tokens of a forward pass. With fewer, the GPU would be idle most of the time, so the engine refuses to open."""

CPU_TOKENS = 2048
"""Tokens of a pass on a CPU. The intermediate results of larger passes do not fit into its caches."""

CAPTURED_TOKENS = 4096
"""Tokens of the largest captured pass (`graphs`). All captured passes share one memory pool of their own."""

RUNTIME_BYTES = 3 * GIB // 4
"""Reserve for the CUDA context and the libraries' workspaces. Source: measured, 0.7 GiB on an H100."""

OVERHEAD = 1.1
"""Safety factor on the sum of the blocks. Source: measured with the 0.6B model, 0.99 of the sum, at all lengths."""

Products = Literal["plain", "fused", "fp8"]
"""PyTorch's; with fused steps (`fused_gemm`), which never write gate and up; in FP8."""


@dataclass(frozen=True, slots=True)
class PassPlan:
    """The memory plan of one device, in bytes, and the numbers it comes from. `str()` shows the sum.

    Attributes:
        model: The model's name, for messages.
        weights_bytes: The weights.
        token_bytes: Memory of a forward pass per token.
        pass_tokens: Tokens of one forward pass.
        captured_token_bytes: Memory of a captured pass per token; it has no fused products.
    """

    model: str
    weights_bytes: int
    token_bytes: int
    pass_tokens: int
    captured_token_bytes: int

    @property
    def pass_bytes(self) -> int:
        """Memory of the largest forward pass and of the captured passes."""
        return int(OVERHEAD * (self.token_bytes * self.pass_tokens + self.captured_token_bytes * CAPTURED_TOKENS))

    @property
    def total_bytes(self) -> int:
        """The sum: weights, forward passes, runtime."""
        return self.weights_bytes + self.pass_bytes + RUNTIME_BYTES

    @property
    def _kib_per_token(self) -> str:
        sizes = dict.fromkeys(f"{size / 1024:.3g}" for size in (self.token_bytes, self.captured_token_bytes))
        return " and ".join(sizes)

    def __str__(self) -> str:
        return (
            f"{self.model} needs {in_gib(self.total_bytes)}: weights {in_gib(self.weights_bytes)} "
            f"+ forward passes {in_gib(self.pass_bytes)} ({self.pass_tokens:,} + {CAPTURED_TOKENS:,} tokens "
            f"of {self._kib_per_token} KiB) "
            f"+ runtime {in_gib(RUNTIME_BYTES)}"
        )


def plan_passes(
    model: str, shape: ModelShape, weights_bytes: int, value_bytes: int, free_bytes: int, tokens: int | None, *,
    products: Products = "plain",
) -> PassPlan:  # fmt: skip
    """Plan a device's memory.

    Args:
        model: The model's name, for messages.
        shape: The model's sizes.
        weights_bytes: The sum of all weights.
        value_bytes: Bytes of one value: 2 for bfloat16 and float16, 4 for float32.
        free_bytes: Free memory of the device.
        tokens: Tokens of one pass; None for `MAX_PASS_TOKENS`, or fewer so that passes take half of the memory that the weights leave.
        products: The matrix products of large passes.

    Raises:
        ConfigError: If `MIN_PASS_TOKENS` (or `tokens`) do not fit; the message has the sum.
    """
    captured = _token_bytes_fp8(shape) if products == "fp8" else _token_bytes(shape, value_bytes, False)
    token_bytes = _token_bytes(shape, value_bytes, True) if products == "fused" else captured
    if tokens is None:
        room = (free_bytes - weights_bytes - RUNTIME_BYTES) // 2
        fitting = (room / OVERHEAD - captured * CAPTURED_TOKENS) / token_bytes
        tokens = max(MIN_PASS_TOKENS, min(MAX_PASS_TOKENS, int(fitting)))
    plan = PassPlan(model, weights_bytes, token_bytes, tokens, captured)
    if plan.total_bytes > free_bytes:
        advice = "Free some memory, use a smaller model, or lower max_batch_tokens"
        raise ConfigError(f"{plan}, but the device has {in_gib(free_bytes)} free", advice=advice)
    return plan


def _token_bytes(shape: ModelShape, value_bytes: int, fused: bool) -> int:
    """Memory of a forward pass per token: intermediate results, and blocks that PyTorch's allocator cannot reuse.

    The values are: the normed residual; queries, keys and values; attention output; gate and up, which no freed block can hold; their
    product, which reuses the block of queries, keys and values if it fits. With fused products there are no gate and up, and the product
    counts in any case. In addition: the residual, in float32; the log-sum-exps of attention, and the angles of the position.
    """
    qkv = (shape.query_heads + 2 * shape.kv_heads) * shape.head_dim
    product = shape.intermediate_size if fused or shape.intermediate_size > qkv else 0
    gate_up = 0 if fused else 2 * shape.intermediate_size
    values = shape.hidden_size + qkv + shape.query_heads * shape.head_dim + gate_up + product
    return values * value_bytes + 4 * shape.hidden_size + _angles_bytes(shape)


def _token_bytes_fp8(shape: ModelShape) -> int:
    """As `_token_bytes`, in FP8.

    In bfloat16: the residual and two products to add to it, queries, keys and values, attention output, and twice gate and up, because one
    of those products can lie in the block that they had in the layer before. In FP8: the normed residual, the attention output again, and
    the product of gate and up. Source: 3.96 GiB held on an H200 with four layers of the 0.6B shape, where this plan has 4.39.
    """
    heads = shape.query_heads * shape.head_dim
    qkv = heads + 2 * shape.kv_heads * shape.head_dim
    halves = 3 * shape.hidden_size + qkv + heads + 4 * shape.intermediate_size
    return 2 * halves + shape.hidden_size + heads + shape.intermediate_size + _angles_bytes(shape)


def _angles_bytes(shape: ModelShape) -> int:
    """The log-sum-exps of attention, and the angles of a position."""
    return 8 * shape.query_heads + 3 * 4 * shape.head_dim // 2
