"""FlashAttention kernels for packed sequences, from PyTorch, `flash-attn-3` or vLLM: which of them works on a device."""

from __future__ import annotations

import importlib.util
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger("qwen3_integrations")


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
