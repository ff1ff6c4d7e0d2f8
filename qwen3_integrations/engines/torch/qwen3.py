"""The Qwen3 transformer over packed sequences; only the last token's hidden state of each prompt is computed to the end.

The architecture is the published one, as in transformers' `Qwen3Model`; the tests compare with that. Differences in the execution:
matrices with the same input are concatenated, sequences are packed without padding (`packing`), and the last layer computes queries and
everything after attention for the last tokens only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn.functional import linear, rms_norm, silu

from qwen3_integrations.engines.torch.attention import Attention, merge_attn_states
from qwen3_integrations.engines.torch.packing import PackedBatch
from qwen3_integrations.engines.torch.rope import read_rope
from qwen3_integrations.engines.torch.weights import Layer, Matrix, Weights, copy_weights, read_weights
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.torch_support import torch_refusals

Tensor = torch.Tensor


ShortAttentionMaker = Callable[[PackedBatch, torch.device, float, int, Attention], Attention]
"""See `short_attention.short_attention`."""


def norm(residual: Tensor, pending: Tensor | None, weight: Tensor, epsilon: float) -> Matrix:
    """RMSNorm of the residual.

    Args:
        residual: Shape (tokens, hidden size); changed if there is a pending product.
        pending: A product that is not added to the residual yet, of the same shape; None if there is none.
        weight: Weights of the norm, shape (hidden size,).
        epsilon: Epsilon of the norm.
    """
    if pending is not None:
        residual.add_(pending)
    return rms_norm(residual, weight.shape, weight, epsilon)


def as_operand(states: Tensor) -> Matrix:
    """States as an operand of a product: unchanged here, quantised in FP8."""
    return states


def add_product(residual: Tensor, states: Matrix, weight: Matrix) -> Tensor | None:
    """Add the product `states @ weight.T` to the residual, in place; or return it, pending, for the next norm to add."""
    residual.addmm_(states, weight.t())
    return None


class LayerFunctions(NamedTuple):
    """The functions that compute a layer, either of PyTorch or kernels of this package (`kernels`, `fused_gemm`, `fp8_kernels`).

    Attributes:
        qkv_norm_rope, gate_up_swiglu, merge_attn_states, norm, as_operand, add_product: See the functions of these names.
        angle_dtype: Number format of the cosines and sines.
        mlp_tokens: Tokens that the feed-forward part computes at once, so that intermediate results stay in the processor's cache; None
            for all, as `add_product` needs it where it returns a product.
        short_attention: Attention for batches of short sequences (`short_attention`); None if there is none.
        residual_dtype: Number format of the residual; None for the model's.
    """

    qkv_norm_rope: Callable[[Matrix, Matrix, Tensor, Tensor, Tensor, float], Tensor]
    gate_up_swiglu: Callable[[Matrix, Matrix], Matrix]
    merge_attn_states: Callable[[Tensor, Tensor, Tensor, Tensor], None]
    angle_dtype: torch.dtype
    mlp_tokens: int | None
    short_attention: ShortAttentionMaker | None = None
    norm: Callable[[Tensor, Tensor | None, Tensor, float], Matrix] = norm
    as_operand: Callable[[Tensor], Matrix] = as_operand
    add_product: Callable[[Tensor, Matrix, Matrix], Tensor | None] = add_product
    residual_dtype: torch.dtype | None = None


class Qwen3:
    """The transformer of a checkpoint on a device.

    Args:
        files: The checkpoint.
        device: Device of the weights.
        dtype: Number format of weights and activations.
        fp8: Whether the layers' matrix products are in FP8: their weights are quantised here, their other operands in each pass.
        weights: The weights on another device, which are copied; None to read them from the checkpoint.

    Attributes:
        head_dim: Width of one head.
        group: Query heads per KV head (grouped-query attention).
        scale: Factor for the attention scores.

    Raises:
        ConfigError: If the checkpoint needs a feature that this engine does not have, or lacks a tensor.
    """

    def __init__(
        self, files: ModelFiles, device: torch.device, dtype: torch.dtype, *, fp8: bool = False, weights: Weights | None = None
    ) -> None:
        _check(files)
        shape = files.shape
        self.head_dim = shape.head_dim
        self.group = shape.query_heads // shape.kv_heads
        self.scale: float = shape.head_dim**-0.5
        self.fp8 = fp8
        self.weights = copy_weights(weights, device) if weights else read_weights(files, shape, device, dtype, fp8=fp8)
        self._epsilon = float(files.config.get("rms_norm_eps", 1e-6))
        self._rope = read_rope(files.config, shape.head_dim, files.folder, device)

    def __call__(self, ids: Tensor, positions: Tensor, last: Tensor, attention: Attention, functions: LayerFunctions) -> Tensor:
        """Compute the last hidden state of each prompt's last token.

        Args:
            ids: Token ids, shape (tokens,).
            positions: Each token's position in its own prompt, shape (tokens,).
            last: Index of each prompt's last token, shape (prompts,).
            attention: Attention of this batch.
            functions: The functions that compute a layer.

        Returns:
            float32, shape (prompts, hidden size), after the final RMSNorm.
        """
        cos, sin = self._rope.angles(positions, functions.angle_dtype)
        residual, pending = self._embedded(ids, functions), None
        for layer in self.weights.layers[:-1]:
            pending = self._attend(residual, pending, layer, cos, sin, attention, functions)
            pending = self._feed_forward(residual, pending, layer, functions)
        final = self.weights.layers[-1]
        residual, pending = self._attend_last(residual, pending, final, cos, sin, last, attention, functions)
        pending = self._feed_forward(residual, pending, final, functions)
        return self._final(residual, pending)

    def all_states(self, ids: Tensor, positions: Tensor, attention: Attention, functions: LayerFunctions) -> Tensor:
        """Compute the last hidden state of every token, for a pooling that reads more than the last ones.

        Args:
            ids, positions, attention, functions: As in a call of the model.

        Returns:
            float32, shape (tokens, hidden size), after the final RMSNorm.
        """
        cos, sin = self._rope.angles(positions, functions.angle_dtype)
        residual, pending = self._embedded(ids, functions), None
        for layer in self.weights.layers:
            pending = self._attend(residual, pending, layer, cos, sin, attention, functions)
            pending = self._feed_forward(residual, pending, layer, functions)
        return self._final(residual, pending)

    def _embedded(self, ids: Tensor, functions: LayerFunctions) -> Tensor:
        return self.weights.embeddings[ids].to(functions.residual_dtype)

    def _final(self, residual: Tensor, pending: Tensor | None) -> Tensor:
        """The final RMSNorm, in float32."""
        states = residual.float() if pending is None else residual.float() + pending
        return rms_norm(states, self.weights.final_norm.shape, self.weights.final_norm.float(), self._epsilon)

    # Each of these methods frees its intermediate results when it returns. The memory plan counts the larger of the two (`memory_plan`).
    # They take the product that is not added to the residual yet, and return the next one (see `add_product`).

    def _attend(
        self, residual: Tensor, pending: Tensor | None, layer: Layer, cos: Tensor, sin: Tensor, attention: Attention,
        functions: LayerFunctions,
    ) -> Tensor | None:  # fmt: skip
        """Add a layer's attention to `residual`, in place."""
        query_heads, kv_heads = _head_counts(layer)
        states = functions.norm(residual, pending, layer.input_norm, self._epsilon)
        qkv = functions.qkv_norm_rope(states, layer.qkv, layer.qk_norms, cos, sin, self._epsilon)
        attended = attention.all_tokens(*torch.split(qkv, [query_heads, kv_heads, kv_heads], dim=1))
        return functions.add_product(residual, functions.as_operand(attended.flatten(1)), layer.output)

    def _attend_last(
        self, residual: Tensor, pending: Tensor | None, layer: Layer, cos: Tensor, sin: Tensor, last: Tensor, attention: Attention,
        functions: LayerFunctions,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """Attention of the last layer: keys and values of all tokens, queries of the last tokens only.

        Returns:
            The residual of the last tokens, with the attention added or pending.
        """
        query_heads, kv_heads = _head_counts(layer)
        width = query_heads * layer.qk_norms.shape[1]
        states = functions.norm(residual, pending, layer.input_norm, self._epsilon)
        kv = functions.qkv_norm_rope(states, layer.qkv[width:], layer.qk_norms[query_heads:], cos, sin, self._epsilon)
        queries = functions.qkv_norm_rope(
            states[last], layer.qkv[:width], layer.qk_norms[:query_heads], cos[last], sin[last], self._epsilon
        )  # fmt: skip
        attended = attention.last_tokens(queries, *torch.split(kv, kv_heads, dim=1))
        residual = residual[last]
        return residual, functions.add_product(residual, functions.as_operand(attended.flatten(1)), layer.output)

    def _feed_forward(self, residual: Tensor, pending: Tensor | None, layer: Layer, functions: LayerFunctions) -> Tensor | None:
        """Add a layer's feed-forward part to `residual`, in place."""
        if functions.mlp_tokens is None:
            return self._feed_forward_rows(residual, pending, layer, functions)
        for rows in _chunks(len(residual), functions.mlp_tokens):
            self._feed_forward_rows(residual[rows], None if pending is None else pending[rows], layer, functions)
        return None

    def _feed_forward_rows(self, residual: Tensor, pending: Tensor | None, layer: Layer, functions: LayerFunctions) -> Tensor | None:
        states = functions.norm(residual, pending, layer.mlp_norm, self._epsilon)
        return functions.add_product(residual, functions.gate_up_swiglu(states, layer.gate_up), layer.down)


def qkv_norm_rope(states: Tensor, weight: Tensor, norms: Tensor, cos: Tensor, sin: Tensor, epsilon: float) -> Tensor:
    """Project to query, key and value heads; apply RMSNorm and RoPE to the first of them (the query and key heads).

    Args:
        states: Shape (tokens, hidden size).
        weight: Shape (heads * head dim, hidden size).
        norms: RMSNorm weights of the first heads, shape (first heads, head dim).
        cos, sin: See `apply_rope`.
        epsilon: Epsilon of the RMSNorm.

    Returns:
        Shape (tokens, heads, head dim).
    """
    qkv = linear(states, weight).view(len(states), -1, norms.shape[1])
    rope_of_first_heads(qkv, norms, cos, sin, epsilon)
    return qkv


def rope_of_first_heads(qkv: Tensor, norms: Tensor, cos: Tensor, sin: Tensor, epsilon: float) -> None:
    """`apply_rope` to the heads that have norms, the first ones, a part of the tokens at a time."""
    for rows in _chunks(len(qkv), _CHUNK_TOKENS):
        apply_rope(qkv[rows, : len(norms)], norms, cos[rows], sin[rows], epsilon)


def apply_rope(states: Tensor, norms: Tensor, cos: Tensor, sin: Tensor, epsilon: float) -> None:
    """Apply RMSNorm, then rotary position embedding (RoPE, in halves as in the published model), in place.

    Args:
        states: Shape (tokens, heads, head dim); changed.
        norms: RMSNorm weights, shape (heads, head dim).
        cos, sin: Shape (tokens, head dim / 2).
        epsilon: Epsilon of the RMSNorm.
    """
    normed = rms_norm(states.float(), norms.shape[-1:], None, epsilon).mul_(norms)
    first, second = normed.chunk(2, dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    half = states.shape[-1] // 2
    states[..., :half] = (first * cos).addcmul_(second, sin, value=-1)
    states[..., half:] = (second * cos).addcmul_(first, sin)


def gate_up_swiglu(states: Tensor, weight: Tensor) -> Tensor:
    """Project to gate and up, then SwiGLU: shapes (tokens, hidden), (2 * intermediate, hidden) to (tokens, intermediate)."""
    return swiglu(linear(states, weight))


def swiglu(gate_up: Tensor) -> Tensor:
    """SwiGLU of concatenated gate and up: shape (tokens, 2 * intermediate) to (tokens, intermediate)."""
    gate, up = gate_up.chunk(2, dim=-1)
    return silu(gate).mul_(up)


_CHUNK_TOKENS = 512
"""The fastest of 256 to 2048 on a CPU with 2 MiB of L2 cache (bfloat16, shapes of the 0.6B model): 1.2 times the speed of 2048."""

plain_functions = LayerFunctions(qkv_norm_rope, gate_up_swiglu, merge_attn_states, angle_dtype=torch.float32, mlp_tokens=_CHUNK_TOKENS)
"""The functions of PyTorch: any device, any dtype."""


def _chunks(tokens: int, size: int) -> list[slice]:
    return [slice(begin, begin + size) for begin in range(0, tokens, size)]


def _head_counts(layer: Layer) -> tuple[int, int]:
    """Number of query heads and of KV heads."""
    both, head_dim = layer.qk_norms.shape
    query_heads = layer.output.shape[1] // head_dim
    return query_heads, both - query_heads


def _check(files: ModelFiles) -> None:
    if reason := torch_refusals(files):
        raise ConfigError(reason)
