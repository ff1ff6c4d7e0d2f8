"""Matrix products of large passes with a fused epilogue, for Hopper: what follows a product is computed before its result is written.

Persistent Triton kernels whose tiles come by the Tensor Memory Accelerator (TMA). PyTorch's own product is as fast by itself; what is
saved is writing its result and reading it again. Measured on an H100 as `examples/benchmarks/kernels.py` does, with the 0.6B models'
shapes, us: `inner` 307 instead of 389 and `heads` 240 instead of 278 for 16,384 tokens, 1,483 instead of 1,620 and 902 instead of 1,072
for 65,536.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from qwen3_integrations.engines.torch import kernels
from qwen3_integrations.engines.torch.qwen3 import Parts
from qwen3_integrations.engines.torch.short_attention import short_attention

LEAST_TOKENS = 4096
"""Below this PyTorch's products win, which cut small matrices into smaller blocks. Source: as above, `inner` and `heads` take 65 and 70 us
instead of 58 and 51 for 2,048 tokens, 95 and 80 us instead of 107 and 83 for 4,096."""

HEAD_WIDTH = 128
"""Of the published models; a tile has two heads."""

_TOKENS, _DEPTH, _GROUP = 128, 64, 8
"""Tokens of a tile, values of each that are multiplied at a time, and tiles of tokens that go through all columns together."""

_LAUNCH = {"num_warps": 8, "num_stages": 3}


def heads(
    states: torch.Tensor, weight: torch.Tensor, norms: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, epsilon: float
) -> torch.Tensor:
    """See `qwen3.heads`; states and weight contiguous, in bfloat16 or float16, the angles in any format."""
    tokens, width = states.shape
    count = len(weight) // HEAD_WIDTH
    if tokens < LEAST_TOKENS or norms.shape[1] != HEAD_WIDTH or count % 2 or len(norms) % 2 or width % _DEPTH:
        return kernels.heads(states, weight, norms, cos, sin, epsilon)
    out = torch.empty((tokens, count, HEAD_WIDTH), dtype=states.dtype, device=states.device)
    programs = _programs(states.device)
    _heads[(min(programs, triton.cdiv(tokens, _TOKENS) * count // 2),)](
        _tiles(states, _TOKENS, _DEPTH), _tiles(weight, 2 * HEAD_WIDTH, _DEPTH), _tiles(out.flatten(1), _TOKENS, 2 * HEAD_WIDTH),
        norms, cos, sin, epsilon, tokens, count, len(norms), width, HEAD_WIDTH, _TOKENS, _DEPTH, _GROUP, programs, **_LAUNCH,
    )  # fmt: skip
    return out


def inner(states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """See `qwen3.inner`; contiguous, in bfloat16 or float16."""
    tokens, width = states.shape
    columns = len(weight) // 2
    if tokens < LEAST_TOKENS or columns % HEAD_WIDTH or width % _DEPTH:
        return kernels.inner(states, weight)
    out = torch.empty((tokens, columns), dtype=states.dtype, device=states.device)
    programs = _programs(states.device)
    _inner[(min(programs, triton.cdiv(tokens, _TOKENS) * columns // HEAD_WIDTH),)](
        _tiles(states, _TOKENS, _DEPTH), _tiles(weight.view(2, columns, width), 2, HEAD_WIDTH, _DEPTH), _tiles(out, _TOKENS, HEAD_WIDTH),
        tokens, columns, width, HEAD_WIDTH, _TOKENS, _DEPTH, _GROUP, programs, **_LAUNCH,
    )  # fmt: skip
    return out


product_parts = Parts(heads, inner, kernels.join, angles=torch.float16, rows=None, short=short_attention)
"""float16 is what there are registers for. It holds an angle's cosine as exactly as a result in float16, and eight times as exactly as
one in bfloat16: with 70 texts and miniatures of the three sizes, distances from fp32 were no greater than with float32 angles but for
bfloat16's own scatter (mean score difference 0.0021 and 0.0017, 0.0074 and 0.0071, 0.0015 and 0.0014)."""


def _tiles(matrix: torch.Tensor, *shape: int) -> TensorDescriptor:
    """What TMA is told of a matrix; behind its end it reads zeros and writes nothing."""
    return TensorDescriptor.from_tensor(matrix, list(shape))


def _programs(device: torch.device) -> int:
    """One for each streaming multiprocessor; they take tiles in turn."""
    return torch.cuda.get_device_properties(device).multi_processor_count


@triton.jit
def _place(tile, down, across, GROUP: tl.constexpr):
    """Which tile of tokens and which of columns: groups of tokens go through all columns, so that both stay in the cache."""
    group = tile // (GROUP * across)
    size = min(down - group * GROUP, GROUP)
    within = tile % (GROUP * across)
    return group * GROUP + within % size, within // size


@triton.jit(do_not_specialize=["tokens"])
def _inner(
    states, weight, out, tokens,
    INNER: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr, TOKENS: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr,
    PROGRAMS: tl.constexpr,
):  # fmt: skip
    down, across = tl.cdiv(tokens, TOKENS), INNER // COLUMNS
    for tile in tl.range(tl.program_id(0), down * across, PROGRAMS, flatten=True):
        row, column = _place(tile, down, across, GROUP)
        both = tl.zeros((TOKENS, 2 * COLUMNS), tl.float32)
        for step in range(WIDTH // DEPTH):
            matrix = tl.reshape(weight.load([0, column * COLUMNS, step * DEPTH]), (2 * COLUMNS, DEPTH))
            both = tl.dot(states.load([row * TOKENS, step * DEPTH]), matrix.T, both)
        gate, up = tl.split(tl.permute(tl.reshape(both, (TOKENS, 2, COLUMNS)), (0, 2, 1)))
        out.store([row * TOKENS, column * COLUMNS], (gate * tl.sigmoid(gate) * up).to(out.dtype))


@triton.jit(do_not_specialize=["tokens"])
def _heads(
    states, weight, out, norms, cos, sin, epsilon, tokens,
    HEADS: tl.constexpr, TURNED: tl.constexpr, WIDTH: tl.constexpr, HEAD: tl.constexpr, TOKENS: tl.constexpr, DEPTH: tl.constexpr,
    GROUP: tl.constexpr, PROGRAMS: tl.constexpr,
):  # fmt: skip
    down, across = tl.cdiv(tokens, TOKENS), HEADS // 2
    for tile in tl.range(tl.program_id(0), down * across, PROGRAMS, flatten=True):
        row, pair = _place(tile, down, across, GROUP)
        both = tl.zeros((TOKENS, 2 * HEAD), tl.float32)
        for step in range(WIDTH // DEPTH):
            matrix = weight.load([pair * 2 * HEAD, step * DEPTH])
            both = tl.dot(states.load([row * TOKENS, step * DEPTH]), matrix.T, both)
        # Values go the same way, by a norm of one and an angle of zero: a branch would cost more.
        turned = 2 * pair < TURNED
        rows = row * TOKENS + tl.arange(0, TOKENS)
        there = (rows < tokens)[:, None] & turned
        angle = rows[:, None] * (HEAD // 2) + tl.arange(0, HEAD // 2)[None, :]
        cosines = tl.load(cos + angle, mask=there, other=1.0).to(tl.float32)[:, None, :]
        sines = tl.load(sin + angle, mask=there, other=0.0).to(tl.float32)[:, None, :]
        columns = pair * 2 * HEAD + tl.arange(0, 2 * HEAD)
        scale = tl.reshape(tl.load(norms + columns, mask=columns < TURNED * HEAD, other=1.0).to(tl.float32), (2, HEAD))
        split = tl.reshape(both, (TOKENS, 2, HEAD))
        inverse = tl.where(turned, tl.rsqrt(tl.sum(split * split, axis=2) / HEAD + epsilon), 1.0)
        split = split * inverse[:, :, None] * scale[None, :, :]
        one, other = tl.split(tl.permute(tl.reshape(split, (TOKENS, 2, 2, HEAD // 2)), (0, 1, 3, 2)))
        done = tl.permute(tl.join(one * cosines - other * sines, other * cosines + one * sines), (0, 1, 3, 2))
        out.store([row * TOKENS, pair * 2 * HEAD], tl.reshape(done, (TOKENS, 2 * HEAD)).to(out.dtype))
