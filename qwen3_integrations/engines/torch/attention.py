"""Causal attention over packed sequences. The tokens of a suffix also attend to its shared prefix."""

from __future__ import annotations

import importlib.util
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from qwen3_integrations.engines.torch.packing import PackedBatch

log = logging.getLogger("qwen3_integrations")


class Attention(Protocol):
    """Attention prepared for one packed batch.

    Shapes: queries (tokens, query heads, head dim), keys and values (tokens, KV heads, head dim).
    """

    def all_tokens(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attention of every token of the batch."""

    def last_tokens(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attention of each prompt's last token: one query for each prompt, in the order of `PackedBatch.last`."""


@dataclass(frozen=True, slots=True, eq=False)
class SequenceLengths:
    """Sequence boundaries of one attention call: query sequence i attends to key sequence i.

    Attributes:
        cu_seqlens_q, cu_seqlens_k: Cumulative sequence lengths, int32 on the device, shape (sequences + 1,).
        max_seqlen_q, max_seqlen_k: Upper bounds of the lengths, in tokens. The kernels choose their launch size by them.
    """

    cu_seqlens_q: torch.Tensor
    cu_seqlens_k: torch.Tensor
    max_seqlen_q: int
    max_seqlen_k: int


Kernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, SequenceLengths, float, bool], tuple[torch.Tensor, torch.Tensor]]
"""Takes query, key, value, sequence lengths, scale and whether to apply the causal mask. Returns the output and its log-sum-exp, shape
(query heads, tokens)."""


def kernel_for(device: torch.device, dtype: torch.dtype, head_dim: int) -> Kernel | None:
    """The fastest available kernel for packed sequences; None if there is none, then `PlainAttention` is used.

    FlashAttention 3 on Hopper for a head dim of 128 (all published models), from its own package or from vLLM; else the
    FlashAttention 2 of PyTorch.
    """
    if not is_modern(device) or dtype not in (torch.bfloat16, torch.float16):
        return None
    hopper = is_hopper(device) and head_dim == 128
    makers: list[Callable[[], Kernel | None]] = [_flash_3, _flash_3_of_vllm, _flash_2] if hopper else [_flash_2]
    for make in makers:
        kernel = make()
        if kernel and _works(kernel, device, dtype, head_dim):
            return kernel
    return None


def _works(kernel: Kernel, device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Whether a kernel runs on this device. It may come from another release, or be missing in this build of PyTorch."""
    query, key = (torch.zeros((2, heads, head_dim), dtype=dtype, device=device) for heads in (2, 1))
    cu_seqlens = torch.tensor([0, 2], dtype=torch.int32, device=device)
    try:
        out, lse = kernel(query, key, key, SequenceLengths(cu_seqlens, cu_seqlens, 2, 2), 1.0, True)
        torch.cuda.current_stream(device).synchronize()
    except Exception as error:  # noqa: BLE001  kernels fail in many ways, and the engine has a fallback for all of them
        log.warning("an installed FlashAttention kernel does not work here: %s: %s", type(error).__name__, str(error)[:300])
        return False
    return out.shape == query.shape and lse.shape == (2, 2)


def is_modern(device: torch.device) -> bool:
    """Whether the device is a GPU that FlashAttention and Triton support: compute capability 8 (Ampere) or later."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8


def is_hopper(device: torch.device) -> bool:
    """Whether the device is an NVIDIA GPU of compute capability 9. AMD numbers its capabilities differently."""
    return device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device)[0] == 9


@dataclass(frozen=True, slots=True, eq=False)
class SharedPrefixes:
    """Where the shared prefixes lie, and which suffixes attend to them.

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


def _flash_2() -> Kernel | None:
    """The FlashAttention 2 of PyTorch."""
    try:  # imported here: the import takes seconds, and a CPU engine does not need it
        from torch.nn.attention.varlen import AuxRequest, varlen_attn
    except ImportError:  # a PyTorch before 2.10
        return None
    known = inspect.signature(varlen_attn).parameters

    def keywords(causal: bool, scale: float) -> dict[str, Any]:
        """Keyword arguments of this PyTorch's `varlen_attn`. They differ between releases; 2.10 supports the default scale only."""
        window: dict[str, Any] = {"window_size": (-1, 0) if causal else (-1, -1)} if "window_size" in known else {"is_causal": causal}
        return window | {name: value for name, value in {"enable_gqa": True, "scale": scale}.items() if name in known}

    def attend(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: SequenceLengths, scale: float, causal: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        out, lse = varlen_attn(
            query, key, value, lengths.cu_seqlens_q, lengths.cu_seqlens_k, lengths.max_seqlen_q, lengths.max_seqlen_k,
            return_aux=AuxRequest(lse=True), **keywords(causal, scale),
        )  # fmt: skip
        return out, lse

    return attend


def _flash_3() -> Kernel | None:
    """FlashAttention 3 from its own package, `flash-attn-3`."""
    if importlib.util.find_spec("flash_attn_interface") is None:
        return None
    try:
        from flash_attn_interface import flash_attn_varlen_func
    except (ImportError, OSError, RuntimeError):  # built for another PyTorch
        return None
    # Releases before August 2025 always return the log-sum-exp, and have no option for it.
    return_lse = {"return_attn_probs": True} if "return_attn_probs" in inspect.signature(flash_attn_varlen_func).parameters else {}

    def attend(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: SequenceLengths, scale: float, causal: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        out, lse, *_ = flash_attn_varlen_func(
            query, key, value, lengths.cu_seqlens_q, lengths.cu_seqlens_k, lengths.max_seqlen_q, lengths.max_seqlen_k,
            softmax_scale=scale, causal=causal, **return_lse,
        )  # fmt: skip
        return out, lse

    return attend


_NEUTRAL_ARGUMENTS = {
    "window_size_left": -1, "window_size_right": -1, "softcap": 0.0, "is_rotary_interleaved": False,
    "num_splits": 1, "sm_margin": 0, "cp_world_size": 1, "cp_rank": 0,
}  # fmt: skip
"""Neutral values for the arguments of FlashAttention 3's operator that are not used here."""


def _flash_3_of_vllm() -> Kernel | None:
    """FlashAttention 3 from vLLM's library. Only the operator is loaded; importing vLLM would change PyTorch's settings."""
    found = importlib.util.find_spec("vllm")
    folders = [Path(place) / "vllm_flash_attn" for place in (found.submodule_search_locations or ())] if found else []
    library = next((path for folder in folders for path in sorted(folder.glob("_vllm_fa3_C*.so"))), None)
    if library is None:
        return None
    try:
        torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
        operator = torch.ops._vllm_fa3_C.fwd.default
    except (OSError, AttributeError, RuntimeError):  # built for another PyTorch
        return None
    ours = {"q", "k", "v", "cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "max_seqlen_k", "softmax_scale", "is_causal"}
    rest: dict[str, Any] = {}
    for argument in operator._schema.arguments:
        if argument.name in ours:
            ours.discard(argument.name)
        elif isinstance(argument.type, torch.OptionalType):
            rest[argument.name] = None
        elif argument.name in _NEUTRAL_ARGUMENTS:
            rest[argument.name] = _NEUTRAL_ARGUMENTS[argument.name]
        else:
            return None  # an operator of another release, with an unknown argument
    if ours:
        return None

    def attend(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: SequenceLengths, scale: float, causal: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        out, lse, *_ = operator(
            q=query, k=key, v=value, cu_seqlens_q=lengths.cu_seqlens_q, cu_seqlens_k=lengths.cu_seqlens_k,
            max_seqlen_q=lengths.max_seqlen_q, max_seqlen_k=lengths.max_seqlen_k, softmax_scale=scale, is_causal=causal, **rest,
        )  # fmt: skip
        return out, lse

    return attend
