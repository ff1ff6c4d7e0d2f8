"""Attention over packed sequences: each sees itself and what came before it, a tail its head too."""

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

from qwen3_integrations.engines.torch.packing import Pack

log = logging.getLogger("qwen3_integrations")


class Attention(Protocol):
    """Attention laid out for one pack. Shapes: (tokens, heads, head width); keys and values have fewer heads."""

    def over_all(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """For every token of the pack."""

    def over_last(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """For each prompt's last token alone: as many queries as prompts, in the order of `Pack.last`."""


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """Which queries see which keys: query sequence i sees key sequence i.

    Attributes:
        query, key: Where sequences begin and end, int32 on the device, shape (sequences + 1,).
        longest_query, longest_key: Tokens, at least; the kernels size their work by them.
    """

    query: torch.Tensor
    key: torch.Tensor
    longest_query: int
    longest_key: int


Kernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Bounds, float, bool], tuple[torch.Tensor, torch.Tensor]]
"""From query, key, value, bounds, scale and whether it is causal to the result and its log-sum-exp, shape (heads, tokens)."""


def kernel_for(device: torch.device, dtype: torch.dtype, head_width: int) -> Kernel | None:
    """The fastest kernel for sequences of different lengths that is there; None: there is none, `PlainAttention` does it.

    FlashAttention 3 on Hopper for the published models' heads of 128, from its own package or from vLLM's; else FlashAttention 2 as it
    is in PyTorch.
    """
    if not is_modern(device) or dtype not in (torch.bfloat16, torch.float16):
        return None
    hopper = is_hopper(device) and head_width == 128
    makers: list[Callable[[], Kernel | None]] = [_flash_3, _flash_3_of_vllm, _flash_2] if hopper else [_flash_2]
    for make in makers:
        kernel = make()
        if kernel and _works(kernel, device, dtype, head_width):
            return kernel
    return None


def _works(kernel: Kernel, device: torch.device, dtype: torch.dtype, head_width: int) -> bool:
    """Whether a kernel computes here: it may be of another release, or not be in this build of PyTorch."""
    query, key = (torch.zeros((2, heads, head_width), dtype=dtype, device=device) for heads in (2, 1))
    ends = torch.tensor([0, 2], dtype=torch.int32, device=device)
    try:
        out, weight = kernel(query, key, key, Bounds(ends, ends, 2, 2), 1.0, True)
        torch.cuda.current_stream(device).synchronize()
    except Exception as error:  # noqa: BLE001  they fail in many ways, and none is the caller's matter
        log.warning("a FlashAttention kernel that is installed does not work here: %s: %s", type(error).__name__, str(error)[:300])
        return False
    return out.shape == query.shape and weight.shape == (2, 2)


def is_modern(device: torch.device) -> bool:
    """Whether it is a GPU that FlashAttention and Triton are made for: compute capability 8 (Ampere) or later."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8


def is_hopper(device: torch.device) -> bool:
    """Whether it is one of NVIDIA's of compute capability 9; AMD's count differently."""
    return device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device)[0] == 9


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """What tails see of their heads.

    Attributes:
        keys: Tokens of all heads; they come first.
        tails, wholes: From which token, and from which prompt, on there are tails.
        for_all, for_last: Bounds of each head's tails, as tokens and as prompts.
    """

    keys: int
    tails: int
    wholes: int
    for_all: Bounds
    for_last: Bounds


class KernelAttention:
    """By a kernel. A tail sees its own tokens and its head's in two calls, joined by their log-sum-exps: nothing is copied.

    Args:
        kernel: From `kernel_for`.
        everything: Bounds of all sequences.
        ends: Bounds of each prompt's last token, and of the keys behind the heads.
        scale: Factor on the scores.
        join: `join`, or the same compiled.
        heads: None where no prompts share one.
    """

    def __init__(
        self, kernel: Kernel, everything: Bounds, ends: Bounds, scale: float, join: Callable[..., None], heads: Heads | None = None
    ) -> None:
        self._kernel, self._scale, self._join = kernel, scale, join
        self._all, self._last, self._heads = everything, ends, heads

    @classmethod
    def of(cls, pack: Pack, kernel: Kernel, device: torch.device, scale: float, join: Callable[..., None]) -> KernelAttention:
        """Laid out for a pack."""
        bounds, sizes = pack.bounds, np.diff(pack.bounds)
        first_tail = pack.heads + pack.wholes
        sharers = np.searchsorted(pack.owners, np.arange(pack.heads + 1)).astype(np.int32)  # where each head's tails begin
        tails = bounds[first_tail + sharers] - bounds[first_tail]
        host = [
            bounds,
            np.arange(len(sizes) - pack.heads + 1, dtype=np.int32),
            bounds[pack.heads :] - bounds[pack.heads],
            tails,
            bounds[: pack.heads + 1],
            sharers,
        ]
        moved = to_device(np.concatenate(host), device)
        everything, ends, behind, of_tails, of_heads, of_sharers = torch.split(moved, [len(part) for part in host])
        longest = int(sizes.max())
        heads = None
        if pack.heads:
            longest_head = int(sizes[: pack.heads].max())
            heads = Heads(
                int(bounds[pack.heads]),
                int(bounds[first_tail]),
                pack.wholes,
                Bounds(of_tails, of_heads, int(np.diff(tails).max()), longest_head),
                Bounds(of_sharers, of_heads, int(np.diff(sharers).max()), longest_head),
            )
        return cls(kernel, Bounds(everything, everything, longest, longest), Bounds(ends, behind, 1, longest), scale, join, heads)

    def over_all(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """See `Attention`."""
        out, weight = self._kernel(query, key, value, self._all, self._scale, True)
        if self._heads:
            self._add(out, weight, query, key, value, self._heads.keys, self._heads.tails, self._heads.for_all)
        return out

    def over_last(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """See `Attention`."""
        own = slice(self._heads.keys if self._heads else 0, None)
        out, weight = self._kernel(query, key[own], value[own], self._last, self._scale, False)
        if self._heads:
            self._add(out, weight, query, key, value, self._heads.keys, self._heads.wholes, self._heads.for_last)
        return out

    def _add(
        self, out: torch.Tensor, weight: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, keys: int, first: int,
        bounds: Bounds,
    ) -> None:  # fmt: skip
        """Add what queries from `first` on see in the heads, the first `keys` keys."""
        other, other_weight = self._kernel(query[first:], key[:keys], value[:keys], bounds, self._scale, False)
        self._join(out[first:], weight[:, first:], other, other_weight)


class PlainAttention:
    """By PyTorch's general attention, a sequence at a time: any device, any number format.

    Args:
        pack: What is laid out.
        device: Where.
        scale: Factor on the scores.
    """

    def __init__(self, pack: Pack, device: torch.device, scale: float) -> None:
        self._spans, self._scale, self._heads = pack.spans, scale, pack.heads
        shapes = {(b - a, self._spans[owner][1] - self._spans[owner][0]) for a, b, owner in self._spans if owner >= 0}
        # True where a tail's token may look: all of the head, and its own up to itself.
        self._masks = {
            (own, head): torch.ones(own, head + own, dtype=torch.bool, device=device).tril(diagonal=head) for own, head in shapes
        }

    def over_all(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """See `Attention`."""
        out = torch.empty_like(query)
        for begin, end, owner in self._spans:
            keys, values = self._seen(key, begin, end, owner), self._seen(value, begin, end, owner)
            mask = None if owner < 0 else self._masks[end - begin, len(keys) - (end - begin)]
            out[begin:end] = self._attend(query[begin:end], keys, values, mask, causal=mask is None)
        return out

    def over_last(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """See `Attention`."""
        out = torch.empty_like(query)
        for row, (begin, end, owner) in enumerate(self._spans[self._heads :]):
            keys, values = self._seen(key, begin, end, owner), self._seen(value, begin, end, owner)
            out[row : row + 1] = self._attend(query[row : row + 1], keys, values, None, causal=False)
        return out

    def _seen(self, states: torch.Tensor, begin: int, end: int, owner: int) -> torch.Tensor:
        if owner < 0:
            return states[begin:end]
        first, behind, _ = self._spans[owner]
        return torch.cat([states[first:behind], states[begin:end]])

    def _attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, *, causal: bool
    ) -> torch.Tensor:
        if query.device.type == "cuda":  # up to PyTorch 2.13, the kernel that keeps no scores there takes no grouped heads
            key, value = (states.repeat_interleave(query.shape[1] // states.shape[1], dim=1) for states in (key, value))
        queries, keys, values = (states.transpose(0, 1)[None] for states in (query, key, value))
        grouped = query.shape[1] != key.shape[1]
        out = scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=causal, scale=self._scale, enable_gqa=grouped)
        return out[0].transpose(0, 1)


def join(one: torch.Tensor, one_weight: torch.Tensor, other: torch.Tensor, other_weight: torch.Tensor) -> None:
    """Make of attention over some keys that over these and others.

    Args:
        one, other: Results, shape (tokens, heads, head width); the first is changed.
        one_weight, other_weight: Their log-sum-exps, float32, shape (heads, tokens).
    """
    share = torch.sigmoid(other_weight - one_weight).transpose(0, 1)[..., None]
    for rows in (slice(begin, begin + 4096) for begin in range(0, len(one), 4096)):  # so that little is kept beside them in float32
        one[rows] = torch.lerp(one[rows].float(), other[rows].float(), share[rows])


def to_device(values: np.ndarray[Any, Any], device: torch.device) -> torch.Tensor:
    """A copy on the device, which a CUDA device need not be waited for."""
    host = torch.from_numpy(values)
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.to(device)


def _flash_2() -> Kernel | None:
    """FlashAttention 2 as it is in PyTorch."""
    try:  # here, since it takes seconds, which a CPU would spend for nothing
        from torch.nn.attention.varlen import AuxRequest, varlen_attn
    except ImportError:  # a PyTorch before 2.10
        return None
    known = inspect.signature(varlen_attn).parameters

    def words(causal: bool, scale: float) -> dict[str, Any]:
        """How this PyTorch's kernel is told what is wanted; its arguments changed between releases (2.10 has but the usual scale)."""
        window: dict[str, Any] = {"window_size": (-1, 0) if causal else (-1, -1)} if "window_size" in known else {"is_causal": causal}
        return window | {name: value for name, value in {"enable_gqa": True, "scale": scale}.items() if name in known}

    def attend(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bounds: Bounds, scale: float, causal: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        out, weight = varlen_attn(
            query, key, value, bounds.query, bounds.key, bounds.longest_query, bounds.longest_key,
            return_aux=AuxRequest(lse=True), **words(causal, scale),
        )  # fmt: skip
        return out, weight

    return attend


def _flash_3() -> Kernel | None:
    """FlashAttention 3 from its own package, `flash-attn-3`."""
    if importlib.util.find_spec("flash_attn_interface") is None:
        return None
    try:
        from flash_attn_interface import flash_attn_varlen_func
    except (ImportError, OSError, RuntimeError):  # built for another PyTorch
        return None
    # Before August 2025 it always gave the weights, and could not be asked to.
    asked = {"return_attn_probs": True} if "return_attn_probs" in inspect.signature(flash_attn_varlen_func).parameters else {}

    def attend(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bounds: Bounds, scale: float, causal: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        out, weight, *_ = flash_attn_varlen_func(
            query, key, value, bounds.query, bounds.key, bounds.longest_query, bounds.longest_key,
            softmax_scale=scale, causal=causal, **asked,
        )  # fmt: skip
        return out, weight

    return attend


_PLAIN_WORDS = {
    "window_size_left": -1, "window_size_right": -1, "softcap": 0.0, "is_rotary_interleaved": False,
    "num_splits": 1, "sm_margin": 0, "cp_world_size": 1, "cp_rank": 0,
}  # fmt: skip
"""What FlashAttention 3's operator is told when nothing special is wanted."""


def _flash_3_of_vllm() -> Kernel | None:
    """FlashAttention 3 as vLLM ships it: its operator alone, without importing vLLM, which changes PyTorch's settings."""
    found = importlib.util.find_spec("vllm")
    places = [Path(place) / "vllm_flash_attn" for place in (found.submodule_search_locations or ())] if found else []
    library = next((path for place in places for path in sorted(place.glob("_vllm_fa3_C*.so"))), None)
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
        elif argument.name in _PLAIN_WORDS:
            rest[argument.name] = _PLAIN_WORDS[argument.name]
        else:
            return None  # an operator of another release, with an argument that is not known here
    if ours:
        return None

    def attend(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bounds: Bounds, scale: float, causal: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        out, weight, *_ = operator(
            q=query, k=key, v=value, cu_seqlens_q=bounds.query, cu_seqlens_k=bounds.key, max_seqlen_q=bounds.longest_query,
            max_seqlen_k=bounds.longest_key, softmax_scale=scale, is_causal=causal, **rest,
        )  # fmt: skip
        return out, weight

    return attend
