"""Qwen3's transformer over packed sequences, read for their last tokens only.

The published architecture as transformers' `Qwen3Model` computes it, to which the tests hold it, arranged for that one reading:
the matrices that read the same input are one, sequences lie end to end (`packing`), and the last layer computes queries, and what
follows them, for last tokens alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.nn.functional import linear, rms_norm, silu

from qwen3_integrations.engines.torch.attention import Attention, join
from qwen3_integrations.engines.torch.packing import Pack
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.memory import ModelShape, weight_files

Tensor = torch.Tensor


class Layer(NamedTuple):
    """One layer's weights; matrices as (outputs, inputs)."""

    norm: Tensor
    qkv: Tensor
    head_norms: Tensor
    """Of query heads and then key heads, shape (heads + key heads, head width)."""
    output: Tensor
    inner_norm: Tensor
    gate_up: Tensor
    down: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """All that a forward pass reads: the token table, the layers, the last norm."""

    table: Tensor
    layers: tuple[Layer, ...]
    norm: Tensor


Short = Callable[[Pack, torch.device, float, int, Attention], Attention]
"""See `short_attention.short_attention`."""


class Parts(NamedTuple):
    """How a layer computes what is neither a norm nor general attention: as PyTorch does it, or by kernels (`kernels`, `products`).

    Attributes:
        heads, inner, join: The functions; see `heads`, `inner` and `attention.join`.
        angles: Number format of the cosines and sines.
        rows: Tokens that the feed-forward takes at once, so that what one function writes is still in the processor's cache when the
            next one reads it; None: all.
        short: Attention for packs of short sequences (`short_attention`); None: there is none but the general one.
    """

    heads: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, float], Tensor]
    inner: Callable[[Tensor, Tensor], Tensor]
    join: Callable[[Tensor, Tensor, Tensor, Tensor], None]
    angles: torch.dtype
    rows: int | None
    short: Short | None = None


class Qwen3:
    """A checkpoint's transformer on a device.

    Args:
        files: The checkpoint.
        device: Where it computes.
        dtype: What it computes in.

    Attributes:
        head_width: Width of one head.
        group: Query heads of a key head.
        scale: Factor on attention's scores.

    Raises:
        ConfigError: If the checkpoint needs what is not done here, or lacks a tensor.
    """

    def __init__(self, files: ModelFiles, device: torch.device, dtype: torch.dtype) -> None:
        _check(files)
        shape = ModelShape.from_config(files.config)
        self.head_width = shape.head_width
        self.group = shape.heads // shape.cache_heads
        self.scale: float = shape.head_width**-0.5
        self.weights = read_weights(files, shape, device, dtype)
        self._epsilon = float(files.config.get("rms_norm_eps", 1e-6))
        self._frequencies = _rotary(files, shape.head_width, device)

    def __call__(self, ids: Tensor, positions: Tensor, last: Tensor, attention: Attention, parts: Parts) -> Tensor:
        """The last hidden states of prompts' last tokens.

        Args:
            ids: Token ids, shape (tokens,).
            positions: Each token's position in its own prompt, shape (tokens,).
            last: Where the prompts' last tokens lie, shape (prompts,).
            attention: Who sees whom.
            parts: `plain_parts`, or kernels.

        Returns:
            float32, shape (prompts, width), normed as the model gives them.
        """
        angles = torch.outer(positions.float(), self._frequencies)
        cos, sin = angles.cos().to(parts.angles), angles.sin().to(parts.angles)
        states = self.weights.table[ids]
        for layer in self.weights.layers[:-1]:
            self._attend(states, layer, cos, sin, attention, parts)
            self._feed_forward(states, layer, parts)
        final = self.weights.layers[-1]
        states = self._attend_last(states, final, cos, sin, last, attention, parts)
        self._feed_forward(states, final, parts)
        return rms_norm(states.float(), self.weights.norm.shape, self.weights.norm.float(), self._epsilon)

    # Each of these frees what it made before the next begins: memory is planned for the larger of the two (`pass_plan`).

    def _attend(self, states: Tensor, layer: Layer, cos: Tensor, sin: Tensor, attention: Attention, parts: Parts) -> None:
        """A layer's attention, added to `states`."""
        heads, key_heads = _head_counts(layer)
        joined = parts.heads(self._normed(states, layer.norm), layer.qkv, layer.head_norms, cos, sin, self._epsilon)
        seen = attention.over_all(*torch.split(joined, [heads, key_heads, key_heads], dim=1))
        states.addmm_(seen.flatten(1), layer.output.t())

    def _attend_last(
        self, states: Tensor, layer: Layer, cos: Tensor, sin: Tensor, last: Tensor, attention: Attention, parts: Parts
    ) -> Tensor:
        """As `_attend` for the last layer: keys and values of all tokens, all else of the last ones alone, whose states come back."""
        heads, key_heads = _head_counts(layer)
        width = heads * layer.head_norms.shape[1]
        hidden = self._normed(states, layer.norm)
        both = parts.heads(hidden, layer.qkv[width:], layer.head_norms[heads:], cos, sin, self._epsilon)
        queries = parts.heads(hidden[last], layer.qkv[:width], layer.head_norms[:heads], cos[last], sin[last], self._epsilon)
        seen = attention.over_last(queries, *torch.split(both, key_heads, dim=1))
        return states[last].addmm_(seen.flatten(1), layer.output.t())

    def _feed_forward(self, states: Tensor, layer: Layer, parts: Parts) -> None:
        """The rest of a layer, added to `states`."""
        for rows in _blocks(len(states), parts.rows):
            inner = parts.inner(self._normed(states[rows], layer.inner_norm), layer.gate_up)
            states[rows].addmm_(inner, layer.down.t())

    def _normed(self, states: Tensor, norm: Tensor) -> Tensor:
        return rms_norm(states, norm.shape, norm, self._epsilon)


def heads(states: Tensor, weight: Tensor, norms: Tensor, cos: Tensor, sin: Tensor, epsilon: float) -> Tensor:
    """A matrix product, and the first of its heads normed and turned.

    Args:
        states: Shape (tokens, width).
        weight: Shape (heads * head width, width).
        norms: Of the heads that are normed and turned, shape (so many heads, head width).
        cos, sin: See `turn`.
        epsilon: Of the norm.

    Returns:
        Shape (tokens, heads, head width).
    """
    joined = linear(states, weight).view(len(states), -1, norms.shape[1])
    for rows in _blocks(len(states), _ROWS):
        turn(joined[rows, : len(norms)], norms, cos[rows], sin[rows], epsilon)
    return joined


def turn(states: Tensor, norms: Tensor, cos: Tensor, sin: Tensor, epsilon: float) -> None:
    """Norm heads, and turn them by their positions: rotary embedding in halves, as in the model's own code.

    Args:
        states: Shape (tokens, heads, head width); changed.
        norms: Shape (heads, head width).
        cos, sin: Shape (tokens, head width / 2).
        epsilon: Of the norm.
    """
    normed = rms_norm(states.float(), norms.shape[-1:], None, epsilon).mul_(norms)
    one, other = normed.chunk(2, dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    half = states.shape[-1] // 2
    states[..., :half] = (one * cos).addcmul_(other, sin, value=-1)
    states[..., half:] = (other * cos).addcmul_(one, sin)


def inner(states: Tensor, weight: Tensor) -> Tensor:
    """A matrix product, gate and up one behind the other, and SwiGLU: shapes (tokens, width), (2 * inner, width) to (tokens, inner)."""
    return gated(linear(states, weight))


def gated(joined: Tensor) -> Tensor:
    """SwiGLU from gate and up side by side: shape (tokens, 2 * inner) to (tokens, inner)."""
    gate, up = joined.chunk(2, dim=-1)
    return silu(gate).mul_(up)


_ROWS = 512
"""The best of 256 to 2048 on a CPU with 2 MiB of second-level cache (bfloat16, the 0.6B model's shapes): 1.2 times 2048's speed."""

plain_parts = Parts(heads, inner, join, angles=torch.float32, rows=_ROWS)


def _blocks(tokens: int, rows: int | None) -> list[slice]:
    step = rows or tokens
    return [slice(begin, begin + step) for begin in range(0, tokens, step)]


def _head_counts(layer: Layer) -> tuple[int, int]:
    """Query heads and key heads."""
    both, width = layer.head_norms.shape
    heads = layer.output.shape[1] // width
    return heads, both - heads


def read_weights(files: ModelFiles, shape: ModelShape, device: torch.device, dtype: torch.dtype) -> Weights:
    """Read a checkpoint's weights, a tensor at a time.

    Raises:
        ConfigError: If one is missing, or of another shape than `config.json` says.
    """
    from safetensors import safe_open

    query, key, inner, width = shape.heads * shape.head_width, shape.cache_heads * shape.head_width, shape.inner_width, shape.width

    def empty(*sizes: int) -> Tensor:
        return torch.nn.Parameter(torch.empty(*sizes, dtype=dtype, device=device), requires_grad=False)

    layers = tuple(
        Layer(
            empty(width), empty(query + 2 * key, width), empty(shape.heads + shape.cache_heads, shape.head_width),
            empty(width, query), empty(width), empty(2 * inner, width), empty(width, inner),
        )
        for _ in range(shape.layers)
    )  # fmt: skip
    weights = Weights(empty(int(files.config["vocab_size"]), width), layers, empty(width))
    places: dict[str, Tensor] = {"embed_tokens.weight": weights.table, "norm.weight": weights.norm}
    for number, layer in enumerate(layers):
        of_attention = zip("qkv", torch.split(layer.qkv, [query, key, key]), strict=True)
        of_inner = zip(("gate", "up"), torch.split(layer.gate_up, inner), strict=True)
        named = {
            "input_layernorm": layer.norm,
            "self_attn.q_norm": layer.head_norms[: shape.heads],
            "self_attn.k_norm": layer.head_norms[shape.heads :],
            "self_attn.o_proj": layer.output,
            "post_attention_layernorm": layer.inner_norm,
            "mlp.down_proj": layer.down,
            **{f"self_attn.{name}_proj": part for name, part in of_attention},
            **{f"mlp.{name}_proj": part for name, part in of_inner},
        }
        places |= {f"layers.{number}.{name}.weight": place for name, place in named.items()}
    for path in weight_files(files.folder):
        with safe_open(path, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118  it is no mapping
                place = places.pop(name.removeprefix("model."), None)
                if place is not None:
                    _fill(place, stored.get_tensor(name), name, files)
    if places:
        raise ConfigError(f"{files.folder} lacks {len(places)} tensors, such as {next(iter(places))!r}: it is no whole Qwen3 checkpoint")
    return weights


def _fill(place: Tensor, stored: Tensor, name: str, files: ModelFiles) -> None:
    heads_alike = place.shape[1:] == stored.shape  # a norm of every head
    if place.shape != stored.shape and not heads_alike:
        said = f"{name!r} in {files.folder} has the shape {tuple(stored.shape)}, its config.json says {tuple(place.shape)}"
        raise ConfigError(f"{said}: the two are of different models")
    with torch.no_grad():
        place.copy_(stored)


def _rotary(files: ModelFiles, head_width: int, device: torch.device) -> Tensor:
    """The angle that one position turns each pair of dimensions by, shape (head_width / 2,)."""
    config = files.config
    told: Mapping[str, Any] = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = told.get("rope_type") or told.get("type") or "default"
    if kind != "default":
        raise ConfigError(f"{files.folder} scales its positions by {kind!r}, which the torch engine does not; use the vllm engine")
    base = float(told.get("rope_theta") or config.get("rope_theta") or 10000.0)
    steps = torch.arange(0, head_width, 2, dtype=torch.float32, device=device) / head_width
    return 1.0 / base**steps


def _check(files: ModelFiles) -> None:
    config = files.config
    foreign = {
        "use_sliding_window": "uses a sliding window",
        "attention_bias": "adds a bias in attention",
        "quantization_config": "is quantised",
    }
    for option, does in foreign.items():
        if config.get(option):
            raise ConfigError(f"{files.folder} {does}, which the torch engine does not; use the vllm engine")
    if config.get("hidden_act", "silu") != "silu":
        raise ConfigError(f"{files.folder} uses {config['hidden_act']!r} and not silu: it is no Qwen3 model as published")
