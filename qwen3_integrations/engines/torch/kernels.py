"""Triton kernels for the steps between a layer's matrix products. Each kernel reads and writes memory once.

Triton is part of PyTorch for CUDA on Linux. It compiles each kernel in a second or two, once for all lengths.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch.nn.functional import linear

from qwen3_integrations.engines.torch.qwen3 import LayerFunctions

_TOKENS = 16
"""Tokens of one program. It reads their cosines and sines once for all heads."""

_COLUMNS = 1024
"""Values of one program of `_swiglu_kernel`."""


def norm(residual: torch.Tensor, pending: torch.Tensor | None, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """See `qwen3.norm`, for a residual in float32: the result has the weight's dtype. The rows are contiguous."""
    assert pending is None
    tokens, width = residual.shape
    out = torch.empty((tokens, width), dtype=weight.dtype, device=residual.device)
    columns = triton.next_power_of_2(width)
    _norm_kernel[(tokens,)](residual, weight, out, width, epsilon, columns, num_warps=min(16, max(1, columns // 512)))
    return out


def add_product_float32(residual: torch.Tensor, states: torch.Tensor, weight: torch.Tensor) -> None:
    """See `qwen3.add_product`, for a residual in float32 and operands in bfloat16 or float16."""
    torch.addmm(residual, states, weight.t(), out_dtype=torch.float32, out=residual)


def qkv_norm_rope(
    states: torch.Tensor, weight: torch.Tensor, norms: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, epsilon: float
) -> torch.Tensor:
    """See `qwen3.qkv_norm_rope`; the head dim must be a power of two."""
    qkv = linear(states, weight).view(len(states), -1, norms.shape[1])
    apply_rope(qkv[:, : len(norms)], norms, cos, sin, epsilon)
    return qkv


def apply_rope(states: torch.Tensor, norms: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, epsilon: float) -> None:
    """See `qwen3.apply_rope`; the head dim must be a power of two."""
    tokens, heads, head_dim = states.shape
    grid = (triton.cdiv(tokens, _TOKENS),)
    _apply_rope_kernel[grid](states, norms, cos, sin, tokens, states.stride(0), epsilon, heads, head_dim // 2, _TOKENS)


def gate_up_swiglu(states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """See `qwen3.gate_up_swiglu`."""
    return swiglu(linear(states, weight))


def swiglu(gate_up: torch.Tensor) -> torch.Tensor:
    """See `qwen3.swiglu`."""
    tokens, both = gate_up.shape
    out = torch.empty((tokens, both // 2), dtype=gate_up.dtype, device=gate_up.device)
    _swiglu_kernel[tokens, triton.cdiv(both // 2, _COLUMNS)](gate_up, out, both // 2, _COLUMNS)
    return out


def merge_attn_states(out: torch.Tensor, lse: torch.Tensor, other: torch.Tensor, other_lse: torch.Tensor) -> None:
    """See `attention.merge_attn_states`; the head dim must be a power of two."""
    tokens, heads, head_dim = out.shape
    grid = (heads, triton.cdiv(tokens, _TOKENS))
    _merge_attn_states_kernel[grid](out, lse, other, other_lse, tokens, lse.stride(0), other_lse.stride(0), heads, head_dim, _TOKENS)


triton_functions = LayerFunctions(qkv_norm_rope, gate_up_swiglu, merge_attn_states, angle_dtype=torch.float32, mlp_tokens=None)
"""PyTorch's matrix products, and the kernels of this module after them."""


def with_exact_residual(functions: LayerFunctions) -> LayerFunctions:
    """The same functions with the residual in float32, for models in bfloat16 or float16.

    Each layer adds two results to the residual, and in bfloat16 each sum loses a part of them. Source: measured with random weights in the
    shape of the 0.6B models against fp32, mean 1 - cosine: 7.4e-5 with the residual in bfloat16, 1.4e-5 with it in float32.
    """
    return functions._replace(norm=norm, add_product=add_product_float32, residual_dtype=torch.float32)


@triton.jit
def _norm_kernel(residual, weight, out, width, epsilon, COLUMNS: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * width + tl.arange(0, COLUMNS)
    valid = tl.arange(0, COLUMNS) < width
    states = tl.load(residual + at, mask=valid, other=0.0).to(tl.float32)
    inverse = tl.rsqrt(tl.sum(states * states, axis=0) / width + epsilon)
    scale = tl.load(weight + tl.arange(0, COLUMNS), mask=valid, other=0.0).to(tl.float32)
    tl.store(out + at, states * inverse * scale, mask=valid)


@triton.jit(do_not_specialize=["tokens"])
def _apply_rope_kernel(states, norms, cos, sin, tokens, stride, epsilon, HEADS: tl.constexpr, HALF: tl.constexpr, TOKENS: tl.constexpr):
    rows = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    valid = (rows < tokens)[:, None]
    columns = tl.arange(0, HALF)
    angle = rows[:, None] * HALF + columns[None, :]
    cosines = tl.load(cos + angle, mask=valid, other=0.0).to(tl.float32)
    sines = tl.load(sin + angle, mask=valid, other=0.0).to(tl.float32)
    for head in range(HEADS):
        at = rows[:, None] * stride + head * 2 * HALF + columns[None, :]
        first = tl.load(states + at, mask=valid, other=0.0).to(tl.float32)
        second = tl.load(states + at + HALF, mask=valid, other=0.0).to(tl.float32)
        square = tl.sum(first * first, axis=1) + tl.sum(second * second, axis=1)
        inverse = tl.rsqrt(square / (2 * HALF) + epsilon)[:, None]
        first = first * inverse * tl.load(norms + head * 2 * HALF + columns)[None, :].to(tl.float32)
        second = second * inverse * tl.load(norms + head * 2 * HALF + HALF + columns)[None, :].to(tl.float32)
        tl.store(states + at, first * cosines - second * sines, mask=valid)
        tl.store(states + at + HALF, second * cosines + first * sines, mask=valid)


@triton.jit
def _swiglu_kernel(gate_up, out, intermediate, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    valid = columns < intermediate
    gate = tl.load(gate_up + row * 2 * intermediate + columns, mask=valid, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * intermediate + intermediate + columns, mask=valid, other=0.0).to(tl.float32)
    tl.store(out + row * intermediate + columns, gate * tl.sigmoid(gate) * up, mask=valid)


@triton.jit(do_not_specialize=["tokens", "lse_stride", "other_stride"])
def _merge_attn_states_kernel(
    out, lse, other, other_lse, tokens, lse_stride, other_stride, HEADS: tl.constexpr, WIDTH: tl.constexpr, TOKENS: tl.constexpr
):
    head = tl.program_id(0)
    rows = tl.program_id(1).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    valid = rows < tokens
    own_lse = tl.load(lse + head * lse_stride + rows, mask=valid, other=0.0)
    added_lse = tl.load(other_lse + head * other_stride + rows, mask=valid, other=0.0)
    share = tl.sigmoid(added_lse - own_lse)[:, None]
    at = (rows * HEADS + head)[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
    own = tl.load(out + at, mask=valid[:, None], other=0.0).to(tl.float32)
    added = tl.load(other + at, mask=valid[:, None], other=0.0).to(tl.float32)
    tl.store(out + at, own + share * (added - own), mask=valid[:, None])
