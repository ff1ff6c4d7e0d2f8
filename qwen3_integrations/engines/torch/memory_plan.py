"""What the torch engine needs of a GPU's memory: arithmetic over the model's sizes, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.memory import GIB, ModelShape, in_gib

MOST_TOKENS = 65536
"""Tokens in a pass, unless told otherwise. Source: measured on an H100 with the 0.6B model: twice as many gain half a percent."""

LEAST_TOKENS = 2048
"""Tokens in a pass below which the engine is not opened: a GPU would mostly wait."""

CAPTURED_TOKENS = 4096
"""Tokens in the largest captured pass (`graphs`), at most. Captured passes have memory of their own, and share it."""

RUNTIME_BYTES = 3 * GIB // 4
"""Kept for CUDA's context and its libraries' workspaces. Source: measured, 0.7 GiB on an H100."""

SPARE = 1.1
"""For what the sum of the blocks does not tell. Source: measured with the 0.6B model, 0.99 of the sum, at all lengths alike."""


@dataclass(frozen=True, slots=True)
class PassPlan:
    """The memory of one device, in bytes, and the numbers it comes from. `str()` shows the sum.

    Attributes:
        model: The model's name, for messages.
        weights_bytes: The weights.
        token_bytes: What a pass needs for one token.
        pass_tokens: Tokens in one pass.
    """

    model: str
    weights_bytes: int
    token_bytes: int
    pass_tokens: int

    @property
    def pass_bytes(self) -> int:
        """What passes need, and captured ones."""
        return int(SPARE * self.token_bytes * (self.pass_tokens + CAPTURED_TOKENS))

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.pass_bytes + RUNTIME_BYTES

    def __str__(self) -> str:
        return (
            f"{self.model} needs {in_gib(self.total_bytes)}: weights {in_gib(self.weights_bytes)} "
            f"+ forward passes {in_gib(self.pass_bytes)} ({self.pass_tokens:,} + {CAPTURED_TOKENS:,} tokens "
            f"of {self.token_bytes / 1024:.3g} KiB) "
            f"+ runtime {in_gib(RUNTIME_BYTES)}"
        )


def plan_passes(model: str, shape: ModelShape, weights_bytes: int, value_bytes: int, free_bytes: int, tokens: int | None) -> PassPlan:
    """Plan a device's memory.

    Args:
        model: A name to show.
        shape: The model's sizes.
        weights_bytes: All weights together.
        value_bytes: Bytes of one value: 2 for bfloat16 and float16, 4 for float32.
        free_bytes: What is free on the device.
        tokens: Tokens in one pass; None for `MOST_TOKENS`, or what half of the memory beside the weights has room for.

    Raises:
        ConfigError: If not even `LEAST_TOKENS` fit (or `tokens`), with the sum.
    """
    token_bytes = _token_bytes(shape, value_bytes)
    if tokens is None:
        room = (free_bytes - weights_bytes - RUNTIME_BYTES) // 2
        tokens = max(LEAST_TOKENS, min(MOST_TOKENS, int(room / (SPARE * token_bytes)) - CAPTURED_TOKENS))
    plan = PassPlan(model, weights_bytes, token_bytes, tokens)
    if plan.total_bytes > free_bytes:
        advice = "free some memory, take a smaller model, or lower max_batch_tokens"
        raise ConfigError(f"{plan}, but the device has {in_gib(free_bytes)} free: {advice}")
    return plan


def _token_bytes(shape: ModelShape, value_bytes: int) -> int:
    """What a pass keeps for one token: its results, and the blocks that PyTorch's allocator can't use twice.

    The state and the normed state; queries, keys and values, and what they saw; gate and up, which fit into no block of these; their
    product, which fits into the one of queries, keys and values, or not. Besides, the weights of attention and the position's angles.
    """
    joined = (shape.heads + 2 * shape.cache_heads) * shape.head_width
    product = shape.inner_width if shape.inner_width > joined else 0
    values = 2 * shape.width + joined + shape.heads * shape.head_width + 2 * shape.inner_width + product
    return values * value_bytes + 8 * shape.heads + 3 * 4 * shape.head_width // 2
