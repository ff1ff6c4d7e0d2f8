"""The Qwen3 transformer over packed sequences; only the last token's hidden state of each prompt is computed to the end.

The architecture is the published one, as in transformers' `Qwen3Model`; the tests compare with that. Differences in the execution:
matrices with the same input are concatenated, sequences are packed without padding (`packing`), and the last layer computes queries and
everything after attention for the last tokens only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn.functional import linear, rms_norm, silu

from qwen3_integrations.engines.torch.attention import Attention, merge_attn_states
from qwen3_integrations.engines.torch.packing import PackedBatch
from qwen3_integrations.engines.torch.rope import read_rope
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.shapes import ModelShape
from qwen3_integrations.models.torch_support import torch_refusals

Tensor = torch.Tensor


class Layer(NamedTuple):
    """The weights of one layer. Matrices have the shape (outputs, inputs)."""

    input_norm: Tensor
    qkv: Tensor
    qk_norms: Tensor
    """RMSNorm weights of the query heads, then of the key heads, shape (query heads + KV heads, head dim)."""
    output: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """All weights of the forward pass: token embeddings, layers, final norm."""

    embeddings: Tensor
    layers: tuple[Layer, ...]
    final_norm: Tensor


ShortAttentionMaker = Callable[[PackedBatch, torch.device, float, int, Attention], Attention]
"""See `short_attention.short_attention`."""


class LayerFunctions(NamedTuple):
    """The functions that compute a layer, either of PyTorch or kernels of this package (`kernels`, `fused_gemm`).

    Attributes:
        qkv_norm_rope, gate_up_swiglu, merge_attn_states: See the functions of these names.
        angle_dtype: Number format of the cosines and sines.
        mlp_tokens: Tokens that the feed-forward part computes at once, so that intermediate results stay in the processor's cache; None
            for all.
        short_attention: Attention for batches of short sequences (`short_attention`); None if there is none.
    """

    qkv_norm_rope: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, float], Tensor]
    gate_up_swiglu: Callable[[Tensor, Tensor], Tensor]
    merge_attn_states: Callable[[Tensor, Tensor, Tensor, Tensor], None]
    angle_dtype: torch.dtype
    mlp_tokens: int | None
    short_attention: ShortAttentionMaker | None = None


class Qwen3:
    """The transformer of a checkpoint on a device.

    Args:
        files: The checkpoint.
        device: Device of the weights.
        dtype: Number format of weights and activations.

    Attributes:
        head_dim: Width of one head.
        group: Query heads per KV head (grouped-query attention).
        scale: Factor for the attention scores.

    Raises:
        ConfigError: If the checkpoint needs a feature that this engine does not have, or lacks a tensor.
    """

    def __init__(self, files: ModelFiles, device: torch.device, dtype: torch.dtype) -> None:
        _check(files)
        shape = files.shape
        self.head_dim = shape.head_dim
        self.group = shape.query_heads // shape.kv_heads
        self.scale: float = shape.head_dim**-0.5
        self.weights = read_weights(files, shape, device, dtype)
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
        residual = self.weights.embeddings[ids]
        for layer in self.weights.layers[:-1]:
            self._attend(residual, layer, cos, sin, attention, functions)
            self._feed_forward(residual, layer, functions)
        final = self.weights.layers[-1]
        residual = self._attend_last(residual, final, cos, sin, last, attention, functions)
        self._feed_forward(residual, final, functions)
        return self._final(residual)

    def all_states(self, ids: Tensor, positions: Tensor, attention: Attention, functions: LayerFunctions) -> Tensor:
        """Compute the last hidden state of every token, for a pooling that reads more than the last ones.

        Args:
            ids, positions, attention, functions: As in a call of the model.

        Returns:
            float32, shape (tokens, hidden size), after the final RMSNorm.
        """
        cos, sin = self._rope.angles(positions, functions.angle_dtype)
        residual = self.weights.embeddings[ids]
        for layer in self.weights.layers:
            self._attend(residual, layer, cos, sin, attention, functions)
            self._feed_forward(residual, layer, functions)
        return self._final(residual)

    def _final(self, residual: Tensor) -> Tensor:
        """The final RMSNorm, in float32."""
        return rms_norm(residual.float(), self.weights.final_norm.shape, self.weights.final_norm.float(), self._epsilon)

    # Each of these methods frees its intermediate results when it returns. The memory plan counts the larger of the two (`memory_plan`).

    def _attend(self, residual: Tensor, layer: Layer, cos: Tensor, sin: Tensor, attention: Attention, functions: LayerFunctions) -> None:
        """Add a layer's attention to `residual`, in place."""
        query_heads, kv_heads = _head_counts(layer)
        qkv = functions.qkv_norm_rope(self._norm(residual, layer.input_norm), layer.qkv, layer.qk_norms, cos, sin, self._epsilon)
        attended = attention.all_tokens(*torch.split(qkv, [query_heads, kv_heads, kv_heads], dim=1))
        residual.addmm_(attended.flatten(1), layer.output.t())

    def _attend_last(
        self, residual: Tensor, layer: Layer, cos: Tensor, sin: Tensor, last: Tensor, attention: Attention, functions: LayerFunctions
    ) -> Tensor:
        """Attention of the last layer: keys and values of all tokens, queries of the last tokens only.

        Returns:
            The residual of the last tokens, with the attention added.
        """
        query_heads, kv_heads = _head_counts(layer)
        width = query_heads * layer.qk_norms.shape[1]
        hidden = self._norm(residual, layer.input_norm)
        kv = functions.qkv_norm_rope(hidden, layer.qkv[width:], layer.qk_norms[query_heads:], cos, sin, self._epsilon)
        queries = functions.qkv_norm_rope(
            hidden[last], layer.qkv[:width], layer.qk_norms[:query_heads], cos[last], sin[last], self._epsilon
        )  # fmt: skip
        attended = attention.last_tokens(queries, *torch.split(kv, kv_heads, dim=1))
        return residual[last].addmm_(attended.flatten(1), layer.output.t())

    def _feed_forward(self, residual: Tensor, layer: Layer, functions: LayerFunctions) -> None:
        """Add a layer's feed-forward part to `residual`, in place."""
        for rows in _chunks(len(residual), functions.mlp_tokens):
            activated = functions.gate_up_swiglu(self._norm(residual[rows], layer.mlp_norm), layer.gate_up)
            residual[rows].addmm_(activated, layer.down.t())

    def _norm(self, states: Tensor, weight: Tensor) -> Tensor:
        return rms_norm(states, weight.shape, weight, self._epsilon)


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
    for rows in _chunks(len(states), _CHUNK_TOKENS):
        apply_rope(qkv[rows, : len(norms)], norms, cos[rows], sin[rows], epsilon)
    return qkv


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


def _chunks(tokens: int, size: int | None) -> list[slice]:
    step = size or tokens
    return [slice(begin, begin + step) for begin in range(0, tokens, step)]


def _head_counts(layer: Layer) -> tuple[int, int]:
    """Number of query heads and of KV heads."""
    both, head_dim = layer.qk_norms.shape
    query_heads = layer.output.shape[1] // head_dim
    return query_heads, both - query_heads


def read_weights(files: ModelFiles, shape: ModelShape, device: torch.device, dtype: torch.dtype) -> Weights:
    """Read a checkpoint's weights, one tensor at a time.

    Raises:
        ConfigError: If a tensor is missing, or has another shape than `config.json` says.
    """
    query, key = shape.query_heads * shape.head_dim, shape.kv_heads * shape.head_dim
    hidden, intermediate = shape.hidden_size, shape.intermediate_size

    def empty(*sizes: int) -> Tensor:
        return torch.nn.Parameter(torch.empty(*sizes, dtype=dtype, device=device), requires_grad=False)

    layers = tuple(
        Layer(
            empty(hidden), empty(query + 2 * key, hidden), empty(shape.query_heads + shape.kv_heads, shape.head_dim),
            empty(hidden, query), empty(hidden), empty(2 * intermediate, hidden), empty(hidden, intermediate),
        )
        for _ in range(shape.layers)
    )  # fmt: skip
    weights = Weights(empty(files.vocabulary, hidden), layers, empty(hidden))
    targets: dict[str, Tensor] = {"embed_tokens.weight": weights.embeddings, "norm.weight": weights.final_norm}
    for number, layer in enumerate(layers):
        qkv = zip("qkv", torch.split(layer.qkv, [query, key, key]), strict=True)
        gate_up = zip(("gate", "up"), torch.split(layer.gate_up, intermediate), strict=True)
        named = {
            "input_layernorm": layer.input_norm,
            "self_attn.q_norm": layer.qk_norms[: shape.query_heads],
            "self_attn.k_norm": layer.qk_norms[shape.query_heads :],
            "self_attn.o_proj": layer.output,
            "post_attention_layernorm": layer.mlp_norm,
            "mlp.down_proj": layer.down,
            **{f"self_attn.{name}_proj": part for name, part in qkv},
            **{f"mlp.{name}_proj": part for name, part in gate_up},
        }
        targets |= {f"layers.{number}.{name}.weight": target for name, target in named.items()}
    for name, read in files.weights.tensors():
        target = targets.pop(name, None)
        if target is not None:
            _fill(target, read(), name, files)
    if targets:
        raise ConfigError(
            f"{files.folder} lacks {len(targets)} tensors, such as {next(iter(targets))!r}: it is not a complete Qwen3 checkpoint. "
            "Download it again"
        )
    return weights


def _fill(target: Tensor, stored: Tensor, name: str, files: ModelFiles) -> None:
    one_for_all_heads = target.shape[1:] == stored.shape  # a norm weight that all heads share
    if target.shape != stored.shape and not one_for_all_heads:
        found = f"{name!r} in {files.folder} has the shape {tuple(stored.shape)}, but its config.json says {tuple(target.shape)}"
        raise ConfigError(f"{found}: config.json and weights belong to different models. Download the model again")
    with torch.no_grad():
        target.copy_(stored)


def _check(files: ModelFiles) -> None:
    if reason := torch_refusals(files):
        raise ConfigError(reason)
