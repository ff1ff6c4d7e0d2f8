"""What stands between a layer's matrix products, as single CUDA kernels: each reads and writes memory once.

Written in Triton, which comes with PyTorch for CUDA on Linux; it compiles them in a second or two, once for all lengths.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch.nn.functional import linear

from qwen3_integrations.engines.torch.qwen3 import Parts

_TOKENS = 16
"""Tokens a program takes; a head's cosines are then read once for all its heads."""

_COLUMNS = 1024
"""Values a program of `_gated` takes."""


def heads(
    states: torch.Tensor, weight: torch.Tensor, norms: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, epsilon: float
) -> torch.Tensor:
    """See `qwen3.heads`; the head width must be a power of two."""
    joined = linear(states, weight).view(len(states), -1, norms.shape[1])
    turn(joined[:, : len(norms)], norms, cos, sin, epsilon)
    return joined


def turn(states: torch.Tensor, norms: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, epsilon: float) -> None:
    """See `qwen3.turn`; the head width must be a power of two."""
    tokens, heads, width = states.shape
    grid = (triton.cdiv(tokens, _TOKENS),)
    _turn[grid](states, norms, cos, sin, tokens, states.stride(0), epsilon, heads, width // 2, _TOKENS)


def inner(states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """See `qwen3.inner`."""
    return gated(linear(states, weight))


def gated(joined: torch.Tensor) -> torch.Tensor:
    """See `qwen3.gated`."""
    tokens, both = joined.shape
    out = torch.empty((tokens, both // 2), dtype=joined.dtype, device=joined.device)
    _gated[tokens, triton.cdiv(both // 2, _COLUMNS)](joined, out, both // 2, _COLUMNS)
    return out


def join(one: torch.Tensor, one_weight: torch.Tensor, other: torch.Tensor, other_weight: torch.Tensor) -> None:
    """See `attention.join`; the head width must be a power of two."""
    tokens, heads, width = one.shape
    grid = (heads, triton.cdiv(tokens, _TOKENS))
    _join[grid](one, one_weight, other, other_weight, tokens, one_weight.stride(0), other_weight.stride(0), heads, width, _TOKENS)


kernel_parts = Parts(heads, inner, join, angles=torch.float32, rows=None)


@triton.jit(do_not_specialize=["tokens"])
def _turn(states, norms, cos, sin, tokens, stride, epsilon, HEADS: tl.constexpr, HALF: tl.constexpr, TOKENS: tl.constexpr):
    rows = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    there = (rows < tokens)[:, None]
    columns = tl.arange(0, HALF)
    angle = rows[:, None] * HALF + columns[None, :]
    cosines = tl.load(cos + angle, mask=there, other=0.0).to(tl.float32)
    sines = tl.load(sin + angle, mask=there, other=0.0).to(tl.float32)
    for head in range(HEADS):
        at = rows[:, None] * stride + head * 2 * HALF + columns[None, :]
        one = tl.load(states + at, mask=there, other=0.0).to(tl.float32)
        other = tl.load(states + at + HALF, mask=there, other=0.0).to(tl.float32)
        square = tl.sum(one * one, axis=1) + tl.sum(other * other, axis=1)
        inverse = tl.rsqrt(square / (2 * HALF) + epsilon)[:, None]
        one = one * inverse * tl.load(norms + head * 2 * HALF + columns)[None, :].to(tl.float32)
        other = other * inverse * tl.load(norms + head * 2 * HALF + HALF + columns)[None, :].to(tl.float32)
        tl.store(states + at, one * cosines - other * sines, mask=there)
        tl.store(states + at + HALF, other * cosines + one * sines, mask=there)


@triton.jit
def _gated(joined, out, inner, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    there = columns < inner
    gate = tl.load(joined + row * 2 * inner + columns, mask=there, other=0.0).to(tl.float32)
    up = tl.load(joined + row * 2 * inner + inner + columns, mask=there, other=0.0).to(tl.float32)
    tl.store(out + row * inner + columns, gate * tl.sigmoid(gate) * up, mask=there)


@triton.jit(do_not_specialize=["tokens", "one_stride", "other_stride"])
def _join(
    one, one_weight, other, other_weight, tokens, one_stride, other_stride, HEADS: tl.constexpr, WIDTH: tl.constexpr, TOKENS: tl.constexpr
):
    head = tl.program_id(0)
    rows = tl.program_id(1).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    there = rows < tokens
    first = tl.load(one_weight + head * one_stride + rows, mask=there, other=0.0)
    second = tl.load(other_weight + head * other_stride + rows, mask=there, other=0.0)
    share = tl.sigmoid(second - first)[:, None]
    at = (rows * HEADS + head)[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
    mine = tl.load(one + at, mask=there[:, None], other=0.0).to(tl.float32)
    theirs = tl.load(other + at, mask=there[:, None], other=0.0).to(tl.float32)
    tl.store(one + at, mine + share * (theirs - mine), mask=there[:, None])
