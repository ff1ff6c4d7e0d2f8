"""The weights of the forward pass, read from a checkpoint: in one number format, or with the layers' matrices in FP8."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from qwen3_integrations.engines.torch.scaled import Scaled
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.shapes import ModelShape

Tensor = torch.Tensor

Matrix = Any
"""An operand of a matrix product: `Tensor`, or `Scaled` in FP8. Both have `shape`, `len()`, and rows by a slice or by indices."""


class Layer(NamedTuple):
    """The weights of one layer. Matrices have the shape (outputs, inputs)."""

    input_norm: Tensor
    qkv: Matrix
    qk_norms: Tensor
    """RMSNorm weights of the query heads, then of the key heads, shape (query heads + KV heads, head dim)."""
    output: Matrix
    mlp_norm: Tensor
    gate_up: Matrix
    down: Matrix


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """All weights of the forward pass: token embeddings, layers, final norm."""

    embeddings: Tensor
    layers: tuple[Layer, ...]
    final_norm: Tensor


def read_weights(files: ModelFiles, shape: ModelShape, device: torch.device, dtype: torch.dtype, *, fp8: bool = False) -> Weights:
    """Read a checkpoint's weights, one tensor at a time.

    Args:
        files: The checkpoint.
        shape: Its sizes.
        device: Device of the weights.
        dtype: Number format of the weights.
        fp8: Whether the layers' matrices are quantised to FP8, row by row, from the stored values.

    Raises:
        ConfigError: If a tensor is missing, or has another shape than `config.json` says.
    """
    query, key = shape.query_heads * shape.head_dim, shape.kv_heads * shape.head_dim
    hidden, intermediate = shape.hidden_size, shape.intermediate_size

    def empty(*sizes: int) -> Tensor:
        return torch.nn.Parameter(torch.empty(*sizes, dtype=dtype, device=device), requires_grad=False)

    def matrix(rows: int, columns: int) -> Matrix:
        return Scaled.empty(rows, columns, device) if fp8 else empty(rows, columns)

    layers = tuple(
        Layer(
            empty(hidden), matrix(query + 2 * key, hidden), empty(shape.query_heads + shape.kv_heads, shape.head_dim),
            matrix(hidden, query), empty(hidden), matrix(2 * intermediate, hidden), matrix(hidden, intermediate),
        )
        for _ in range(shape.layers)
    )  # fmt: skip
    weights = Weights(empty(files.vocabulary, hidden), layers, empty(hidden))
    targets: dict[str, Matrix] = {"embed_tokens.weight": weights.embeddings, "norm.weight": weights.final_norm}
    for number, layer in enumerate(layers):
        named = {
            "input_layernorm": layer.input_norm,
            "self_attn.q_norm": layer.qk_norms[: shape.query_heads],
            "self_attn.k_norm": layer.qk_norms[shape.query_heads :],
            "self_attn.o_proj": layer.output,
            "post_attention_layernorm": layer.mlp_norm,
            "mlp.down_proj": layer.down,
            "self_attn.q_proj": layer.qkv[:query],
            "self_attn.k_proj": layer.qkv[query : query + key],
            "self_attn.v_proj": layer.qkv[query + key :],
            "mlp.gate_proj": layer.gate_up[:intermediate],
            "mlp.up_proj": layer.gate_up[intermediate:],
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


def copy_weights(weights: Weights, device: torch.device) -> Weights:
    """The same weights on another device; on the CPU, the same memory."""

    def moved(matrix: Matrix) -> Matrix:
        if isinstance(matrix, Scaled):
            return Scaled(moved(matrix.values), moved(matrix.scales))
        return matrix if matrix.device.type == device.type == "cpu" else matrix.to(device)

    layers = tuple(Layer(*map(moved, layer)) for layer in weights.layers)
    return Weights(moved(weights.embeddings), layers, moved(weights.final_norm))


def _fill(target: Matrix, stored: Tensor, name: str, files: ModelFiles) -> None:
    one_for_all_heads = target.shape[1:] == stored.shape  # a norm weight that all heads share
    if target.shape != stored.shape and not one_for_all_heads:
        found = f"{name!r} in {files.folder} has the shape {tuple(stored.shape)}, but its config.json says {tuple(target.shape)}"
        raise ConfigError(f"{found}: config.json and weights belong to different models. Download the model again")
    with torch.no_grad():
        target.copy_(stored)
