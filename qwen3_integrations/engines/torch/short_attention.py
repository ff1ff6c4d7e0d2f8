"""Attention of short sequences as one kernel, for Hopper: a shared head's tokens and a tail's own are seen in one go.

FlashAttention 3 is made for long ones, and sees a tail's head in a second call, whose result is then joined to the first one's. Measured
on an H200 as `examples/benchmarks/kernels.py` does, with the 0.6B models' heads and passes of 65,536 tokens, us: 286 instead of 451 for
texts of 128 tokens, 489 instead of 547 for 512; 402 instead of 1,013 for tails of 137, the heads of 81 that 100 of them share not counted.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from triton.tools.tensor_descriptor import TensorDescriptor

from qwen3_integrations.engines.torch.attention import Attention, to_device
from qwen3_integrations.engines.torch.packing import Pack

ROWS = 64
"""Queries of a tile: a token has one in each query head of a key head, so that their keys are read once."""

MOST_KEYS = 640
"""Keys that a tile's queries look through for each token, on average, up to which the kernel is used; twice as many for tails. Source: as
above, 639 us instead of 605 for texts of 768 tokens; 1,350 instead of 1,516 for tails of 512 behind heads of 600, but 3,401 instead of
2,667 for tails of 137 behind heads of 2,000."""

_KEYS = 32
"""Keys that a tile is multiplied with at a time."""

_LAUNCH = {"num_warps": 4, "num_stages": 3}


class ShortAttention:
    """`Attention` by tiles.

    Args:
        tiles: From `tiles_of`, on the device.
        scale: Factor on the scores.
        otherwise: Attends for last tokens.
    """

    def __init__(self, tiles: torch.Tensor, scale: float, otherwise: Attention) -> None:
        self._tiles, self._scale, self._otherwise = tiles, scale, otherwise

    def over_all(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """See `Attention`; of one format, a head's values one behind the other."""
        tokens, heads, width = query.shape
        pairs = key.shape[1]
        group = heads // pairs
        out = torch.empty((tokens, heads, width), dtype=query.dtype, device=query.device)
        _attend[(pairs * len(self._tiles),)](  # in one dimension: the second one of a grid ends at 65,535
            _rows(query, ROWS // group, group * width), _rows(key, _KEYS, width), _rows(value, _KEYS, width), out,
            self._tiles, self._scale * math.log2(math.e), group, heads, width, ROWS // group, _KEYS, **_LAUNCH,
        )  # fmt: skip
        return out

    def over_last(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """See `Attention`."""
        return self._otherwise.over_last(query, key, value)


def short_attention(pack: Pack, device: torch.device, scale: float, group: int, otherwise: Attention) -> Attention:
    """`ShortAttention` where a pack's sequences are short, else `otherwise`.

    Args:
        pack: What is laid out.
        device: Where.
        scale: Factor on the scores.
        group: Query heads of a key head; divides `ROWS`.
        otherwise: Attention of the same pack.
    """
    tokens = ROWS // group
    sizes, heads = _sizes(pack)
    tails = sizes[len(sizes) - len(pack.owners) :].sum() / sizes.sum()
    rows = -(-sizes // tokens) * tokens  # a tile that is not full takes as long
    if rows @ (sizes + heads).astype(float) > MOST_KEYS * (1 + tails) * sizes.sum():
        return otherwise
    return ShortAttention(to_device(tiles_of(pack, tokens), device), scale, otherwise)


def tiles_of(pack: Pack, tokens: int) -> NDArray[np.int32]:
    """Sequences in tiles of so many tokens.

    Returns:
        A tile's first token, where its sequence begins and ends, and where the head that it sees does; shape (tiles, 5).
    """
    sizes, heads = _sizes(pack)
    begins = pack.bounds[:-1]
    seen = np.zeros_like(begins)
    seen[len(seen) - len(pack.owners) :] = begins[pack.owners]
    counts = -(-sizes // tokens)
    which = np.repeat(np.arange(len(sizes)), counts)
    number = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    begins, seen = begins[which], seen[which]
    return np.stack([begins + number * tokens, begins, begins + sizes[which], seen, seen + heads[which]], axis=1).astype(np.int32)


def _sizes(pack: Pack) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Tokens of each sequence, and of the head that it sees."""
    sizes = np.diff(pack.bounds)
    heads = np.zeros_like(sizes)
    heads[len(heads) - len(pack.owners) :] = sizes[pack.owners]
    return sizes, heads


def _rows(states: torch.Tensor, tokens: int, columns: int) -> TensorDescriptor:
    """Heads side by side, for the Tensor Memory Accelerator: behind the last token it reads zeros."""
    count, heads, width = states.shape
    return TensorDescriptor(states, [count, heads * width], [states.stride(0), 1], [tokens, columns])


@triton.jit
def _attend(
    query, key, value, out, tiles, scale,
    GROUP: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr, TOKENS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    pairs: tl.constexpr = HEADS // GROUP
    pair = tl.program_id(0) % pairs
    tile = tiles + tl.program_id(0) // pairs * 5
    first, begin, end = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
    head_begin, head_end = tl.load(tile + 3), tl.load(tile + 4)
    rows = tl.arange(0, TOKENS * GROUP)
    token = first + rows // GROUP
    asked = tl.reshape(query.load([first, pair * GROUP * WIDTH]), (TOKENS * GROUP, WIDTH))
    greatest = tl.full((TOKENS * GROUP,), float("-inf"), tl.float32)
    total = tl.zeros((TOKENS * GROUP,), tl.float32)
    seen = tl.zeros((TOKENS * GROUP, WIDTH), tl.float32)
    of_head = tl.cdiv(head_end - head_begin, KEYS)
    for block in range(of_head + tl.cdiv(tl.minimum(end, first + TOKENS) - begin, KEYS)):
        in_head = block < of_head
        at = tl.where(in_head, head_begin + block * KEYS, begin + (block - of_head) * KEYS)
        last = tl.where(in_head, head_end - 1, token)
        keys = at + tl.arange(0, KEYS)
        scores = tl.dot(asked, key.load([at, pair * WIDTH]).T) * scale
        scores = tl.where(keys[None, :] <= last[:, None], scores, float("-inf"))
        most = tl.maximum(greatest, tl.max(scores, axis=1))
        weights, less = tl.exp2(scores - most[:, None]), tl.exp2(greatest - most)
        values = value.load([at, pair * WIDTH])
        seen = tl.dot(weights.to(values.dtype), values, seen * less[:, None])
        total = total * less + tl.sum(weights, axis=1)
        greatest = most
    head = pair * GROUP + rows % GROUP
    place = (token.to(tl.int64) * HEADS + head)[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
    tl.store(out + place, (seen / total[:, None]).to(out.dtype.element_ty), mask=(token < end)[:, None])
