"""Triton kernels that quantise a layer's intermediate results to FP8 in the step that makes them, so that each is written once, in FP8.

One program computes one row: the scale of a row depends on all of its values.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from qwen3_integrations.engines.torch import kernels
from qwen3_integrations.engines.torch.qwen3 import LayerFunctions
from qwen3_integrations.engines.torch.scaled import LARGEST, SMALLEST_ROW, Scaled, product

_LARGEST, _SMALLEST_ROW = tl.constexpr(LARGEST), tl.constexpr(SMALLEST_ROW)

_VALUES = 512
"""Values of a row for each warp of a program; 16 for each thread."""

_WIDE = 4096
"""Wider rows of SwiGLU are computed in parts, twice: whole, so many values of one program would leave room for no second program."""


def norm(residual: torch.Tensor, pending: torch.Tensor | None, weight: torch.Tensor, epsilon: float) -> Scaled:
    """See `fp8.norm`. The rows of the residual are contiguous."""
    rows, width = residual.shape
    out = Scaled.empty(rows, width, residual.device)
    added = residual if pending is None else pending
    _norm_kernel[(rows,)](
        residual, added, weight, out.values, out.scales, width, epsilon, pending is not None, **_launch(width)
    )  # fmt: skip
    return out


def quantise(matrix: torch.Tensor) -> Scaled:
    """See `scaled.quantise`. The rows are contiguous."""
    rows, width = matrix.shape
    out = Scaled.empty(rows, width, matrix.device)
    _quantise_kernel[(rows,)](matrix, out.values, out.scales, width, **_launch(width))
    return out


def swiglu(gate_up: torch.Tensor) -> Scaled:
    """SwiGLU of concatenated gate and up, quantised: shape (tokens, 2 * intermediate) to (tokens, intermediate)."""
    rows, both = gate_up.shape
    width = both // 2
    out = Scaled.empty(rows, width, gate_up.device)
    if width <= _WIDE:
        _swiglu_kernel[(rows,)](gate_up, out.values, out.scales, width, **_launch(width))
    else:
        _wide_swiglu_kernel[(rows,)](gate_up, out.values, out.scales, width, COLUMNS=2048, num_warps=8)
    return out


def qkv_norm_rope(
    states: Scaled, weight: Scaled, norms: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, epsilon: float
) -> torch.Tensor:
    """See `qwen3.qkv_norm_rope`; the head dim must be a power of two."""
    qkv = product(states, weight).view(len(states), -1, norms.shape[1])
    kernels.apply_rope(qkv[:, : len(norms)], norms, cos, sin, epsilon)
    return qkv


def gate_up_swiglu(states: Scaled, weight: Scaled) -> Scaled:
    """See `fp8.gate_up_swiglu`."""
    return swiglu(product(states, weight))


triton_functions = LayerFunctions(
    qkv_norm_rope,
    gate_up_swiglu,
    kernels.merge_attn_states,
    angle_dtype=torch.float32,
    mlp_tokens=None,
    norm=norm,
    as_operand=quantise,
    add_product=lambda _, states, weight: product(states, weight),
)
"""PyTorch's FP8 products, and the kernels of this module between them. The next norm adds a product to the residual."""


def _launch(width: int) -> dict[str, int]:
    columns = triton.next_power_of_2(width)
    return {"COLUMNS": columns, "num_warps": min(16, max(1, columns // _VALUES))}


@triton.jit
def _store(row_values, values, scales, width, COLUMNS: tl.constexpr):
    """Quantise the row of this program, and write it."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, COLUMNS)
    largest = tl.maximum(tl.max(tl.abs(row_values), axis=0), _SMALLEST_ROW)
    scaled = tl.minimum(tl.maximum(row_values * (_LARGEST / largest), -_LARGEST), _LARGEST)
    tl.store(values + row * width + columns, scaled.to(values.dtype.element_ty), mask=columns < width)
    tl.store(scales + row, largest / _LARGEST)


@triton.jit
def _norm_kernel(residual, pending, weight, values, scales, width, epsilon, PENDING: tl.constexpr, COLUMNS: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * width + tl.arange(0, COLUMNS)
    valid = tl.arange(0, COLUMNS) < width
    states = tl.load(residual + at, mask=valid, other=0.0).to(tl.float32)
    if PENDING:
        states += tl.load(pending + at, mask=valid, other=0.0).to(tl.float32)
        tl.store(residual + at, states, mask=valid)
    inverse = tl.rsqrt(tl.sum(states * states, axis=0) / width + epsilon)
    scale = tl.load(weight + tl.arange(0, COLUMNS), mask=valid, other=0.0).to(tl.float32)
    _store(states * inverse * scale, values, scales, width, COLUMNS)


@triton.jit
def _quantise_kernel(matrix, values, scales, width, COLUMNS: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * width + tl.arange(0, COLUMNS)
    states = tl.load(matrix + at, mask=tl.arange(0, COLUMNS) < width, other=0.0).to(tl.float32)
    _store(states, values, scales, width, COLUMNS)


@triton.jit
def _swiglu_kernel(gate_up, values, scales, width, COLUMNS: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * 2 * width + tl.arange(0, COLUMNS)
    valid = tl.arange(0, COLUMNS) < width
    gate = tl.load(gate_up + at, mask=valid, other=0.0).to(tl.float32)
    up = tl.load(gate_up + at + width, mask=valid, other=0.0).to(tl.float32)
    _store(gate * tl.sigmoid(gate) * up, values, scales, width, COLUMNS)


@triton.jit
def _wide_swiglu_kernel(gate_up, values, scales, width, COLUMNS: tl.constexpr):
    """As `_swiglu_kernel`, in parts: first the largest value, then all values, from the cache."""
    row = tl.program_id(0).to(tl.int64)
    largest = tl.zeros((COLUMNS,), tl.float32)
    for begin in range(0, width, COLUMNS):
        columns = begin + tl.arange(0, COLUMNS)
        valid = columns < width
        gate = tl.load(gate_up + row * 2 * width + columns, mask=valid, other=0.0).to(tl.float32)
        up = tl.load(gate_up + row * 2 * width + width + columns, mask=valid, other=0.0).to(tl.float32)
        largest = tl.maximum(largest, tl.abs(gate * tl.sigmoid(gate) * up))
    most = tl.maximum(tl.max(largest, axis=0), _SMALLEST_ROW)
    for begin in range(0, width, COLUMNS):
        columns = begin + tl.arange(0, COLUMNS)
        valid = columns < width
        gate = tl.load(gate_up + row * 2 * width + columns, mask=valid, other=0.0).to(tl.float32)
        up = tl.load(gate_up + row * 2 * width + width + columns, mask=valid, other=0.0).to(tl.float32)
        scaled = tl.minimum(tl.maximum(gate * tl.sigmoid(gate) * up * (_LARGEST / most), -_LARGEST), _LARGEST)
        tl.store(values + row * width + columns, scaled.to(values.dtype.element_ty), mask=valid)
    tl.store(scales + row, most / _LARGEST)
