"""Attention over packed sequences, as an attention function of transformers."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from qwen3_integrations.engines.packing import Pack

try:  # CUDA kernel for sequences of different lengths; not in every PyTorch
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # pragma: no cover
    varlen_attn = None  # type: ignore[assignment]

NAME = "qwen3_packed"


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where the sequences of a pack lie, made once a pack and read by every layer.

    Attributes:
        spans: Each sequence as (begin, end, owner); see `Pack`.
        masks: For each sequence with an owner: True where a query may look, shape (own tokens, head + own tokens).
        kernel: What the CUDA kernel needs; None where it can't be used.
    """

    spans: list[tuple[int, int, int]]
    masks: dict[tuple[int, int], torch.Tensor]
    kernel: Kernel | None


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """Bounds of queries and keys for the CUDA kernel; keys are gathered, so that a head stands before each tail."""

    gather: torch.Tensor | None
    query_bounds: torch.Tensor
    key_bounds: torch.Tensor
    longest_query: int
    longest_key: int


def layout(pack: Pack, device: torch.device, dtype: torch.dtype) -> Layout:
    """The layout of a pack for a device."""
    spans = pack.spans
    if device.type == "cuda" and varlen_attn is not None and dtype in (torch.bfloat16, torch.float16):
        return Layout(spans, {}, _kernel(pack, spans, device))
    shapes = {(b - a, spans[owner][1] - spans[owner][0]) for a, b, owner in spans if owner >= 0}
    masks = {(own, head): torch.ones(own, head + own, dtype=torch.bool, device=device).tril(diagonal=head) for own, head in shapes}
    return Layout(spans, masks, None)


def _kernel(pack: Pack, spans: list[tuple[int, int, int]], device: torch.device) -> Kernel:
    keys = [np.r_[_range(spans, owner), np.arange(a, b)] for a, b, owner in spans]
    lengths = np.asarray([len(own) for own in keys])
    shared = bool((pack.owners >= 0).any())
    return Kernel(
        gather=torch.from_numpy(np.concatenate(keys)).to(device) if shared else None,
        query_bounds=torch.from_numpy(pack.bounds.astype(np.int32)).to(device),
        key_bounds=torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)).to(device),
        longest_query=int(np.diff(pack.bounds).max()),
        longest_key=int(lengths.max()),
    )


def _range(spans: list[tuple[int, int, int]], owner: int) -> np.ndarray[Any, Any]:
    return np.arange(*spans[owner][:2]) if owner >= 0 else np.empty(0, dtype=np.int64)


def packed_attention(
    module: torch.nn.Module,  # noqa: ARG001
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001
    *,
    scaling: float,
    packed: Layout,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each sequence, and of a tail to its head.

    Args:
        module: The layer; not needed.
        query: Shape (1, heads, tokens, head_dim), rotary positions applied.
        key, value: Shape (1, key heads, tokens, head_dim).
        attention_mask: Not used: `packed` says who sees whom.
        scaling: Factor on the scores.
        packed: The layout of the pack.

    Returns:
        Shape (1, tokens, heads, head_dim), and None for the weights.
    """
    if packed.kernel is not None:
        return _by_kernel(query, key, value, scaling, packed.kernel), None
    out = torch.empty_like(query)
    for begin, end, owner in packed.spans:
        own_key, own_value, mask = key[:, :, begin:end], value[:, :, begin:end], None
        if owner >= 0:
            first, behind = packed.spans[owner][:2]
            own_key = torch.cat([key[:, :, first:behind], own_key], dim=2)
            own_value = torch.cat([value[:, :, first:behind], own_value], dim=2)
            mask = packed.masks[end - begin, behind - first]
        out[:, :, begin:end] = scaled_dot_product_attention(
            query[:, :, begin:end], own_key, own_value, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=True
        )
    return out.transpose(1, 2), None


def _by_kernel(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, kernel: Kernel) -> torch.Tensor:
    assert varlen_attn is not None
    queries, keys, values = (states[0].transpose(0, 1) for states in (query, key, value))
    if kernel.gather is not None:
        keys, values = keys[kernel.gather], values[kernel.gather]
    if "enable_gqa" not in _WORDS:
        groups = queries.shape[1] // keys.shape[1]
        keys, values = keys.repeat_interleave(groups, 1), values.repeat_interleave(groups, 1)
    out = varlen_attn(
        queries.contiguous(), keys.contiguous(), values.contiguous(), kernel.query_bounds, kernel.key_bounds,
        kernel.longest_query, kernel.longest_key, scale=scaling, **_WORDS,
    )  # fmt: skip
    assert isinstance(out, torch.Tensor)
    return out[None]


def _kernel_words() -> dict[str, Any]:
    """How this PyTorch's kernel is told to be causal and to group heads: its arguments changed between releases."""
    known = inspect.signature(varlen_attn).parameters if varlen_attn is not None else {}
    causal: dict[str, Any] = {"window_size": (-1, 0)} if "window_size" in known else {"is_causal": True}
    return causal | ({"enable_gqa": True} if "enable_gqa" in known else {})


_WORDS = _kernel_words()
AttentionInterface.register(NAME, packed_attention)
