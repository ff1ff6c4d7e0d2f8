"""Matrix products of large passes with a fused epilogue, for Hopper: the step after a product runs before its result is written.

Persistent Triton kernels that load their tiles with the Tensor Memory Accelerator (TMA). The product alone is as fast as PyTorch's; the
saving is one write and one read of its result. Measured on an H100 with `examples/benchmarks/kernels.py`, with the shapes of the 0.6B
models, fused against separate: `gate_up_swiglu` 307 against 389 us and `qkv_norm_rope` 240 against 278 us for 16,384 tokens; 1,483
against 1,620 us and 902 against 1,072 us for 65,536 tokens.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from qwen3_integrations.engines.torch import kernels
from qwen3_integrations.engines.torch.qwen3 import LayerFunctions
from qwen3_integrations.engines.torch.short_attention import short_attention

MIN_TOKENS = 4096
"""Below this number PyTorch's products are faster, because they split small matrices into smaller tiles. Source: as above, fused against
separate, `gate_up_swiglu` and `qkv_norm_rope`: 65 and 70 us against 58 and 51 us for 2,048 tokens; 95 and 80 us against 107 and 83 us for
4,096 tokens."""

HEAD_DIM = 128
"""Head dim of the published models. A tile of `qkv_norm_rope` has two heads."""

_TOKENS, _DEPTH, _GROUP = 128, 64, 8
"""Tokens of a tile, values of each that are multiplied in one step, and row tiles that are computed together for all columns."""

_LAUNCH = {"num_warps": 8, "num_stages": 3}


def qkv_norm_rope(
    states: torch.Tensor, weight: torch.Tensor, norms: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, epsilon: float
) -> torch.Tensor:
    """See `qwen3.qkv_norm_rope`. States and weight are contiguous, in bfloat16 or float16; the angles have any dtype."""
    tokens, hidden = states.shape
    heads = len(weight) // HEAD_DIM
    if tokens < MIN_TOKENS or norms.shape[1] != HEAD_DIM or heads % 2 or len(norms) % 2 or hidden % _DEPTH:
        return kernels.qkv_norm_rope(states, weight, norms, cos, sin, epsilon)
    out = torch.empty((tokens, heads, HEAD_DIM), dtype=states.dtype, device=states.device)
    programs = _programs(states.device)
    _qkv_norm_rope_kernel[(min(programs, triton.cdiv(tokens, _TOKENS) * heads // 2),)](
        _tiles(states, _TOKENS, _DEPTH), _tiles(weight, 2 * HEAD_DIM, _DEPTH), _tiles(out.flatten(1), _TOKENS, 2 * HEAD_DIM),
        norms, cos, sin, epsilon, tokens, heads, len(norms), hidden, HEAD_DIM, _TOKENS, _DEPTH, _GROUP, programs, **_LAUNCH,
    )  # fmt: skip
    return out


def gate_up_swiglu(states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """See `qwen3.gate_up_swiglu`. Both are contiguous, in bfloat16 or float16."""
    tokens, hidden = states.shape
    columns = len(weight) // 2
    if tokens < MIN_TOKENS or columns % HEAD_DIM or hidden % _DEPTH:
        return kernels.gate_up_swiglu(states, weight)
    out = torch.empty((tokens, columns), dtype=states.dtype, device=states.device)
    programs = _programs(states.device)
    _gate_up_swiglu_kernel[(min(programs, triton.cdiv(tokens, _TOKENS) * columns // HEAD_DIM),)](
        _tiles(states, _TOKENS, _DEPTH), _tiles(weight.view(2, columns, hidden), 2, HEAD_DIM, _DEPTH), _tiles(out, _TOKENS, HEAD_DIM),
        tokens, columns, hidden, HEAD_DIM, _TOKENS, _DEPTH, _GROUP, programs, **_LAUNCH,
    )  # fmt: skip
    return out


fused_functions = kernels.with_exact_residual(
    LayerFunctions(
        qkv_norm_rope,
        gate_up_swiglu,
        kernels.merge_attn_states,
        angle_dtype=torch.float16,
        mlp_tokens=None,
        short_attention=short_attention,
    )
)
"""The angles are float16 because float32 needs too many registers. A cosine in float16 is as exact as a float16 result, and eight times
as exact as a bfloat16 result. Measured with 70 texts and miniatures of the three model sizes: the error against fp32 is the same as with
float32 angles, up to bfloat16's own noise (mean score differences 0.0021 and 0.0017, 0.0074 and 0.0071, 0.0015 and 0.0014)."""


def _tiles(matrix: torch.Tensor, *shape: int) -> TensorDescriptor:
    """TMA descriptor of a matrix. Beyond the end of the matrix, TMA reads zeros and writes nothing."""
    return TensorDescriptor.from_tensor(matrix, list(shape))


def _programs(device: torch.device) -> int:
    """One program per streaming multiprocessor. Each program computes several tiles."""
    return torch.cuda.get_device_properties(device).multi_processor_count


@triton.jit
def _tile_indices(tile, down, across, GROUP: tl.constexpr):
    """Row tile and column tile of a program. A group of row tiles is computed for all columns, so that both operands stay in the cache."""
    group = tile // (GROUP * across)
    size = min(down - group * GROUP, GROUP)
    within = tile % (GROUP * across)
    return group * GROUP + within % size, within // size


@triton.jit(do_not_specialize=["tokens"])
def _gate_up_swiglu_kernel(
    states, weight, out, tokens,
    INTERMEDIATE: tl.constexpr, HIDDEN: tl.constexpr, COLUMNS: tl.constexpr, TOKENS: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr,
    PROGRAMS: tl.constexpr,
):  # fmt: skip
    down, across = tl.cdiv(tokens, TOKENS), INTERMEDIATE // COLUMNS
    for tile in tl.range(tl.program_id(0), down * across, PROGRAMS, flatten=True):
        row, column = _tile_indices(tile, down, across, GROUP)
        both = tl.zeros((TOKENS, 2 * COLUMNS), tl.float32)
        for step in range(HIDDEN // DEPTH):
            matrix = tl.reshape(weight.load([0, column * COLUMNS, step * DEPTH]), (2 * COLUMNS, DEPTH))
            both = tl.dot(states.load([row * TOKENS, step * DEPTH]), matrix.T, both)
        gate, up = tl.split(tl.permute(tl.reshape(both, (TOKENS, 2, COLUMNS)), (0, 2, 1)))
        out.store([row * TOKENS, column * COLUMNS], (gate * tl.sigmoid(gate) * up).to(out.dtype))


@triton.jit(do_not_specialize=["tokens"])
def _qkv_norm_rope_kernel(
    states, weight, out, norms, cos, sin, epsilon, tokens,
    HEADS: tl.constexpr, ROTATED: tl.constexpr, HIDDEN: tl.constexpr, HEAD: tl.constexpr, TOKENS: tl.constexpr, DEPTH: tl.constexpr,
    GROUP: tl.constexpr, PROGRAMS: tl.constexpr,
):  # fmt: skip
    down, across = tl.cdiv(tokens, TOKENS), HEADS // 2
    for tile in tl.range(tl.program_id(0), down * across, PROGRAMS, flatten=True):
        row, pair = _tile_indices(tile, down, across, GROUP)
        both = tl.zeros((TOKENS, 2 * HEAD), tl.float32)
        for step in range(HIDDEN // DEPTH):
            matrix = weight.load([pair * 2 * HEAD, step * DEPTH])
            both = tl.dot(states.load([row * TOKENS, step * DEPTH]), matrix.T, both)
        # Value heads take the same path with norm 1 and angle 0: a branch would be slower.
        rotated = 2 * pair < ROTATED
        rows = row * TOKENS + tl.arange(0, TOKENS)
        valid = (rows < tokens)[:, None] & rotated
        angle = rows[:, None] * (HEAD // 2) + tl.arange(0, HEAD // 2)[None, :]
        cosines = tl.load(cos + angle, mask=valid, other=1.0).to(tl.float32)[:, None, :]
        sines = tl.load(sin + angle, mask=valid, other=0.0).to(tl.float32)[:, None, :]
        columns = pair * 2 * HEAD + tl.arange(0, 2 * HEAD)
        scale = tl.reshape(tl.load(norms + columns, mask=columns < ROTATED * HEAD, other=1.0).to(tl.float32), (2, HEAD))
        split = tl.reshape(both, (TOKENS, 2, HEAD))
        inverse = tl.where(rotated, tl.rsqrt(tl.sum(split * split, axis=2) / HEAD + epsilon), 1.0)
        split = split * inverse[:, :, None] * scale[None, :, :]
        first, second = tl.split(tl.permute(tl.reshape(split, (TOKENS, 2, 2, HEAD // 2)), (0, 1, 3, 2)))
        done = tl.permute(tl.join(first * cosines - second * sines, second * cosines + first * sines), (0, 1, 3, 2))
        out.store([row * TOKENS, pair * 2 * HEAD], tl.reshape(done, (TOKENS, 2 * HEAD)).to(out.dtype))
