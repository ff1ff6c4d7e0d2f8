"""Attention of short sequences in one kernel, for Hopper: a suffix attends to its shared prefix and to itself in the same loop.

FlashAttention 3 is designed for long sequences. It needs a second call for a shared prefix, and a merge of both results. Measured on an
H200 with `examples/benchmarks/kernels.py`, with the 0.6B models' heads and passes of 65,536 tokens, this kernel against FlashAttention 3:
286 against 451 us for texts of 128 tokens; 489 against 547 us for 512 tokens; 402 against 1,013 us for suffixes of 137 tokens after
prefixes of 81 tokens, each shared by 100 suffixes (prefix tokens not counted).
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
from qwen3_integrations.engines.torch.packing import PackedBatch

ROWS = 64
"""Query rows of a tile. A token has one row for each query head of a KV head, so that the keys of the group are read once."""

MAX_KEYS = 640
"""Use this kernel up to this average number of keys per token, over the tiles; for suffixes up to twice as many. Source: as above, this
kernel against FlashAttention 3: 639 against 605 us for texts of 768 tokens; 1,350 against 1,516 us for suffixes of 512 tokens after
prefixes of 600; 3,401 against 2,667 us for suffixes of 137 tokens after prefixes of 2,000."""

_KEYS = 32
"""Keys of one step of a tile's loop."""

_LAUNCH = {"num_warps": 4, "num_stages": 3}


class ShortAttention:
    """`Attention` in tiles of query rows.

    Args:
        tiles: From `tiles_of`, on the device.
        scale: Factor for the attention scores.
        fallback: Attention for the last tokens.
    """

    def __init__(self, tiles: torch.Tensor, scale: float, fallback: Attention) -> None:
        self._tiles, self._scale, self._fallback = tiles, scale, fallback

    def all_tokens(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """See `Attention`. All tensors have one dtype, and each head's values are contiguous."""
        tokens, query_heads, head_dim = query.shape
        kv_heads = key.shape[1]
        group = query_heads // kv_heads
        out = torch.empty((tokens, query_heads, head_dim), dtype=query.dtype, device=query.device)
        _attention_kernel[(kv_heads * len(self._tiles),)](  # one dimension: the second is limited to 65,535
            _descriptor(query, ROWS // group, group * head_dim), _descriptor(key, _KEYS, head_dim), _descriptor(value, _KEYS, head_dim),
            out,
            self._tiles, self._scale * math.log2(math.e), group, query_heads, head_dim, ROWS // group, _KEYS, **_LAUNCH,
        )  # fmt: skip
        return out

    def last_tokens(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """See `Attention`."""
        return self._fallback.last_tokens(query, key, value)


def short_attention(batch: PackedBatch, device: torch.device, scale: float, group: int, fallback: Attention) -> Attention:
    """`ShortAttention` if the sequences of a batch are short, else `fallback`.

    Args:
        batch: The packed batch.
        device: Device of the tensors.
        scale: Factor for the attention scores.
        group: Query heads per KV head; must divide `ROWS`.
        fallback: Attention of the same batch.
    """
    tokens = ROWS // group
    lengths, prefix_lengths = _lengths(batch)
    suffix_share = lengths[len(lengths) - len(batch.prefix_of) :].sum() / lengths.sum()
    rounded = -(-lengths // tokens) * tokens  # a partly filled tile takes as long as a full one
    if rounded @ (lengths + prefix_lengths).astype(float) > MAX_KEYS * (1 + suffix_share) * lengths.sum():
        return fallback
    return ShortAttention(to_device(tiles_of(batch, tokens), device), scale, fallback)


def tiles_of(batch: PackedBatch, tokens: int) -> NDArray[np.int32]:
    """Split the sequences of a batch into tiles.

    Args:
        batch: The packed batch.
        tokens: Tokens of a tile.

    Returns:
        For each tile: its first token, begin and end of its sequence, begin and end of the shared prefix; shape (tiles, 5).
    """
    lengths, prefix_lengths = _lengths(batch)
    begins = batch.cu_seqlens[:-1]
    prefix_begins = np.zeros_like(begins)
    prefix_begins[len(prefix_begins) - len(batch.prefix_of) :] = begins[batch.prefix_of]
    counts = -(-lengths // tokens)
    sequence = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(sequence)) - np.repeat(np.cumsum(counts) - counts, counts)
    begins, prefix_begins = begins[sequence], prefix_begins[sequence]
    prefix_ends = prefix_begins + prefix_lengths[sequence]
    return np.stack([begins + number * tokens, begins, begins + lengths[sequence], prefix_begins, prefix_ends], axis=1).astype(np.int32)


def _lengths(batch: PackedBatch) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Length of each sequence, and of its shared prefix (0 without one)."""
    lengths = np.diff(batch.cu_seqlens)
    prefix_lengths = np.zeros_like(lengths)
    prefix_lengths[len(prefix_lengths) - len(batch.prefix_of) :] = lengths[batch.prefix_of]
    return lengths, prefix_lengths


def _descriptor(states: torch.Tensor, tokens: int, columns: int) -> TensorDescriptor:
    """Descriptor of (tokens, heads * head dim) for the Tensor Memory Accelerator, which reads zeros after the last token."""
    count, heads, head_dim = states.shape
    return TensorDescriptor(states, [count, heads * head_dim], [states.stride(0), 1], [tokens, columns])


@triton.jit
def _attention_kernel(
    query, key, value, out, tiles, scale,
    GROUP: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr, TOKENS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    kv_heads: tl.constexpr = HEADS // GROUP
    kv_head = tl.program_id(0) % kv_heads
    tile = tiles + tl.program_id(0) // kv_heads * 5
    first, begin, end = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
    prefix_begin, prefix_end = tl.load(tile + 3), tl.load(tile + 4)
    rows = tl.arange(0, TOKENS * GROUP)
    token = first + rows // GROUP
    queries = tl.reshape(query.load([first, kv_head * GROUP * WIDTH]), (TOKENS * GROUP, WIDTH))
    running_max = tl.full((TOKENS * GROUP,), float("-inf"), tl.float32)
    running_sum = tl.zeros((TOKENS * GROUP,), tl.float32)
    weighted = tl.zeros((TOKENS * GROUP, WIDTH), tl.float32)
    prefix_blocks = tl.cdiv(prefix_end - prefix_begin, KEYS)
    for block in range(prefix_blocks + tl.cdiv(tl.minimum(end, first + TOKENS) - begin, KEYS)):
        in_prefix = block < prefix_blocks
        at = tl.where(in_prefix, prefix_begin + block * KEYS, begin + (block - prefix_blocks) * KEYS)
        last = tl.where(in_prefix, prefix_end - 1, token)
        keys = at + tl.arange(0, KEYS)
        scores = tl.dot(queries, key.load([at, kv_head * WIDTH]).T) * scale
        scores = tl.where(keys[None, :] <= last[:, None], scores, float("-inf"))
        new_max = tl.maximum(running_max, tl.max(scores, axis=1))
        weights, correction = tl.exp2(scores - new_max[:, None]), tl.exp2(running_max - new_max)
        values = value.load([at, kv_head * WIDTH])
        weighted = tl.dot(weights.to(values.dtype), values, weighted * correction[:, None])
        running_sum = running_sum * correction + tl.sum(weights, axis=1)
        running_max = new_max
    head = kv_head * GROUP + rows % GROUP
    place = (token.to(tl.int64) * HEADS + head)[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
    tl.store(out + place, (weighted / running_sum[:, None]).to(out.dtype.element_ty), mask=(token < end)[:, None])
