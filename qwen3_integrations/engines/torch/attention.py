"""Causal attention over packed sequences. The tokens of a suffix also attend to its shared prefix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from qwen3_integrations.engines.torch.flash_attention import Kernel, SequenceLengths
from qwen3_integrations.engines.torch.packing import PackedBatch


class Attention(Protocol):
    """Attention prepared for one packed batch.

    Shapes: queries (tokens, query heads, head dim), keys and values (tokens, KV heads, head dim).
    """

    def all_tokens(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attention of every token of the batch."""

    def last_tokens(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attention of each prompt's last token: one query for each prompt, in the order of `PackedBatch.last`."""


@dataclass(frozen=True, slots=True, eq=False)
class SharedPrefixes:
    """Positions of the shared prefixes, and the suffixes that attend to them.

    Attributes:
        tokens: Tokens of all shared prefixes, which are the first tokens of the batch.
        first_suffix_token: Index of the first token that belongs to a suffix.
        first_suffix_prompt: Index of the first prompt that is a suffix.
        all_lengths: The suffixes of each prefix (all tokens) as queries, the prefix as keys.
        last_lengths: The suffixes of each prefix (one last token each) as queries, the prefix as keys.
    """

    tokens: int
    first_suffix_token: int
    first_suffix_prompt: int
    all_lengths: SequenceLengths
    last_lengths: SequenceLengths


class KernelAttention:
    """Attention by a kernel for packed sequences.

    Cascade attention: suffix and shared prefix in two kernel calls, merged by log-sum-exp. No keys or values are copied.

    Args:
        kernel: From `kernel_for`.
        all_lengths: Lengths of all sequences, as queries and as keys.
        last_lengths: Each prompt's last token as the query; its sequence as keys, the shared prefixes left out.
        scale: Factor for the attention scores.
        merge: `merge_attn_states`, or a kernel that does the same.
        prefixes: The shared prefixes; None if there are none.
    """

    def __init__(
        self,
        kernel: Kernel,
        all_lengths: SequenceLengths,
        last_lengths: SequenceLengths,
        scale: float,
        merge: Callable[..., None],
        prefixes: SharedPrefixes | None = None,
    ) -> None:
        self._kernel, self._scale, self._merge = kernel, scale, merge
        self._all, self._last, self._prefixes = all_lengths, last_lengths, prefixes

    @classmethod
    def of(cls, batch: PackedBatch, kernel: Kernel, device: torch.device, scale: float, merge: Callable[..., None]) -> KernelAttention:
        """Prepare attention for a batch."""
        cu_seqlens, lengths = batch.cu_seqlens, np.diff(batch.cu_seqlens)
        first_suffix = batch.prefixes + batch.whole_prompts
        # Index of each prefix's first suffix, among the suffixes, as cumulative counts.
        cu_suffixes = np.searchsorted(batch.prefix_of, np.arange(batch.prefixes + 1)).astype(np.int32)
        cu_suffix_tokens = cu_seqlens[first_suffix + cu_suffixes] - cu_seqlens[first_suffix]
        host = [
            cu_seqlens,
            np.arange(len(lengths) - batch.prefixes + 1, dtype=np.int32),
            cu_seqlens[batch.prefixes :] - cu_seqlens[batch.prefixes],
            cu_suffix_tokens,
            cu_seqlens[: batch.prefixes + 1],
            cu_suffixes,
        ]
        moved = to_device(np.concatenate(host), device)
        every, one_each, own_keys, suffix_queries, prefix_keys, suffix_ends = torch.split(moved, [len(part) for part in host])
        longest = int(lengths.max())
        prefixes = None
        if batch.prefixes:
            longest_prefix = int(lengths[: batch.prefixes].max())
            prefixes = SharedPrefixes(
                int(cu_seqlens[batch.prefixes]),
                int(cu_seqlens[first_suffix]),
                batch.whole_prompts,
                SequenceLengths(suffix_queries, prefix_keys, int(np.diff(cu_suffix_tokens).max()), longest_prefix),
                SequenceLengths(suffix_ends, prefix_keys, int(np.diff(cu_suffixes).max()), longest_prefix),
            )
        all_lengths = SequenceLengths(every, every, longest, longest)
        return cls(kernel, all_lengths, SequenceLengths(one_each, own_keys, 1, longest), scale, merge, prefixes)

    def all_tokens(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """See `Attention`."""
        out, lse = self._kernel(query, key, value, self._all, self._scale, True)
        if prefixes := self._prefixes:
            self._add_prefixes(out, lse, query, key, value, prefixes.first_suffix_token, prefixes.all_lengths)
        return out

    def last_tokens(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """See `Attention`."""
        prefixes = self._prefixes
        own = slice(prefixes.tokens if prefixes else 0, None)
        out, lse = self._kernel(query, key[own], value[own], self._last, self._scale, False)
        if prefixes:
            self._add_prefixes(out, lse, query, key, value, prefixes.first_suffix_prompt, prefixes.last_lengths)
        return out

    def _add_prefixes(
        self, out: torch.Tensor, lse: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, first: int,
        lengths: SequenceLengths,
    ) -> None:  # fmt: skip
        """Merge the attention to the shared prefixes into `out`, for the queries from index `first` on."""
        assert self._prefixes is not None
        keys = self._prefixes.tokens
        prefix_out, prefix_lse = self._kernel(query[first:], key[:keys], value[:keys], lengths, self._scale, False)
        self._merge(out[first:], lse[:, first:], prefix_out, prefix_lse)


class PlainAttention:
    """Attention by PyTorch's `scaled_dot_product_attention`, one sequence at a time. Works on any device and with any dtype.

    Args:
        batch: The packed batch.
        device: Device of the tensors.
        scale: Factor for the attention scores.
    """

    def __init__(self, batch: PackedBatch, device: torch.device, scale: float) -> None:
        self._spans, self._scale, self._prefixes = batch.spans, scale, batch.prefixes
        shapes = {(b - a, self._spans[prefix][1] - self._spans[prefix][0]) for a, b, prefix in self._spans if prefix >= 0}
        # Causal masks of suffixes: True for the whole prefix, and for the suffix's own tokens up to the query.
        self._masks = {
            (own, prefix): torch.ones(own, prefix + own, dtype=torch.bool, device=device).tril(diagonal=prefix) for own, prefix in shapes
        }

    def all_tokens(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """See `Attention`."""
        out = torch.empty_like(query)
        for begin, end, prefix in self._spans:
            keys, values = self._with_prefix(key, begin, end, prefix), self._with_prefix(value, begin, end, prefix)
            mask = None if prefix < 0 else self._masks[end - begin, len(keys) - (end - begin)]
            out[begin:end] = self._attend(query[begin:end], keys, values, mask, causal=mask is None)
        return out

    def last_tokens(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """See `Attention`."""
        out = torch.empty_like(query)
        for row, (begin, end, prefix) in enumerate(self._spans[self._prefixes :]):
            keys, values = self._with_prefix(key, begin, end, prefix), self._with_prefix(value, begin, end, prefix)
            out[row : row + 1] = self._attend(query[row : row + 1], keys, values, None, causal=False)
        return out

    def _with_prefix(self, states: torch.Tensor, begin: int, end: int, prefix: int) -> torch.Tensor:
        if prefix < 0:
            return states[begin:end]
        prefix_begin, prefix_end, _ = self._spans[prefix]
        return torch.cat([states[prefix_begin:prefix_end], states[begin:end]])

    def _attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, *, causal: bool
    ) -> torch.Tensor:
        if query.device.type == "cuda":  # up to PyTorch 2.13, the memory-efficient kernel on CUDA does not support GQA
            key, value = (states.repeat_interleave(query.shape[1] // states.shape[1], dim=1) for states in (key, value))
        queries, keys, values = (states.transpose(0, 1)[None] for states in (query, key, value))
        grouped = query.shape[1] != key.shape[1]
        out = scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=causal, scale=self._scale, enable_gqa=grouped)
        return out[0].transpose(0, 1)


def merge_attn_states(out: torch.Tensor, lse: torch.Tensor, other: torch.Tensor, other_lse: torch.Tensor) -> None:
    """Merge two attention results of the same queries over different keys, by log-sum-exp.

    Args:
        out, other: Attention outputs, shape (tokens, query heads, head dim). `out` becomes the output over both sets of keys.
        lse, other_lse: Their log-sum-exps, float32, shape (query heads, tokens).
    """
    share = torch.sigmoid(other_lse - lse).transpose(0, 1)[..., None]
    for rows in (slice(begin, begin + 4096) for begin in range(0, len(out), 4096)):  # keeps the float32 copies small
        out[rows] = torch.lerp(out[rows].float(), other[rows].float(), share[rows])


def to_device(values: np.ndarray[Any, Any], device: torch.device) -> torch.Tensor:
    """A copy on the device. The copy to a CUDA device is asynchronous."""
    host = torch.from_numpy(values)
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.to(device)
