"""Which kernels are there and compute what PyTorch's own functions do, found by trying them when an engine opens."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch

from qwen3_integrations.core.types import Prefix, Prompt, PromptPart
from qwen3_integrations.engines.torch import attention
from qwen3_integrations.engines.torch.packing import pack
from qwen3_integrations.engines.torch.qwen3 import Parts, Qwen3, Short, plain_parts

log = logging.getLogger("qwen3_integrations")

Finder = Callable[[], Parts]
"""Imports parts."""

_FEW = 33
"""Tokens of a trial: two blocks of a kernel and a part of one."""

_MANY = 4097
"""Tokens of a trial where kernels differ for large passes, likewise."""

_COMPARED = 256
"""The last tokens, which are compared: each is computed by itself, and PyTorch's functions need more memory."""

_ERROR = 0.02
"""How far a kernel's results may lie from PyTorch's in any column, as a part of them. Both round to 2 ** -8."""


def parts_for(model: Qwen3, device: torch.device, dtype: torch.dtype) -> Parts:
    """The fastest parts of this model's layers that are there."""
    if not attention.is_modern(device) or model.head_width & (model.head_width - 1) or importlib.util.find_spec("triton") is None:
        return plain_parts
    finders: dict[Finder, tuple[int, ...]] = {_kernels: (_FEW,)}
    if attention.is_hopper(device) and dtype in (torch.bfloat16, torch.float16):
        finders = {partial(_products, model, dtype): (_FEW, _MANY)} | finders
    return first_right(finders, model, device, dtype)


def first_right(finders: Mapping[Finder, tuple[int, ...]], model: Qwen3, device: torch.device, dtype: torch.dtype) -> Parts:
    """The first parts that can be had and compute what `plain_parts` compute; those, where none do.

    Where `short` alone fails, the parts without it.

    Args:
        finders: Of parts, the fastest first, each with the numbers of tokens that it is tried with.
        model: Whose first layer they are tried with.
        device, dtype: Its own.
    """
    for find, sizes in finders.items():
        try:
            parts = find()
            for tokens in sizes:
                _try(parts, tokens, model, device, dtype)
        except Exception as error:  # noqa: BLE001  compilers fail in many ways, and none is the caller's matter
            _warn(error)
            continue
        try:
            if parts.short:
                _try_short(parts.short, model, device, dtype)
        except Exception as error:  # noqa: BLE001  as above
            _warn(error)
            return parts._replace(short=None)
        return parts
    return plain_parts


def _warn(error: Exception) -> None:
    log.warning(
        "some of Triton's kernels don't work here, so passes are slower: %s. They need a C compiler, and the Triton that this PyTorch "
        "came with",
        first_line(error),
    )


def first_line(error: Exception) -> str:
    """An error's kind and the first line of its message."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"


def _products(model: Qwen3, dtype: torch.dtype) -> Parts:
    from qwen3_integrations.engines.torch.fused_gemm import HEAD_WIDTH, product_parts
    from qwen3_integrations.engines.torch.short_attention import ROWS

    # Its tiles hold tokens of the next sequence, which weigh nothing; but where float16 has overflown, nothing times that is no number.
    fits = dtype == torch.bfloat16 and model.head_width == HEAD_WIDTH and ROWS % model.group == 0
    return product_parts if fits else product_parts._replace(short=None)


def _kernels() -> Parts:
    from qwen3_integrations.engines.torch.kernels import kernel_parts

    return kernel_parts


def _try(parts: Parts, tokens: int, model: Qwen3, device: torch.device, dtype: torch.dtype) -> None:
    """Compute each of a layer's parts both ways, as the first layers and as the last one use them.

    Raises:
        ArithmeticError: If the results differ.
        Exception: Whatever a compiler raises.
    """
    layer = model.weights.layers[0]
    chance = torch.Generator(device).manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=chance, device=device)

    states, angles = random(tokens, len(layer.norm)).to(dtype), random(tokens, model.head_width // 2)
    queries = layer.output.shape[1] // model.head_width
    some, other = (random(tokens, queries, model.head_width).to(dtype) for _ in range(2))
    weight, other_weight = random(queries, tokens), random(queries, tokens)
    last = slice(max(0, tokens - _COMPARED), tokens)

    def heads(of: Parts, rows: slice, which: slice) -> torch.Tensor:
        """Of which heads; the norms are of queries and keys alone."""
        matrix = layer.qkv.view(-1, model.head_width, len(layer.norm))[which].flatten(0, 1)
        turns = angles[rows].cos().to(of.angles), angles[rows].sin().to(of.angles)
        return of.heads(states[rows], matrix, layer.head_norms[which], *turns, 1e-6)

    def joined(of: Parts, rows: slice) -> torch.Tensor:
        one = some[rows].clone()
        of.join(one, weight[:, rows], other[rows], other_weight[:, rows])
        return one

    ways: list[Callable[[Parts, slice], torch.Tensor]] = [
        lambda of, rows: heads(of, rows, slice(None)),
        lambda of, rows: heads(of, rows, slice(queries)),
        lambda of, rows: heads(of, rows, slice(queries, None)),
        lambda of, rows: of.inner(states[rows], layer.gate_up),
        joined,
    ]
    for way in ways:
        _compare(way(parts, slice(None))[last], way(plain_parts, last), f"of {tokens} tokens")


def _try_short(short: Short, model: Qwen3, device: torch.device, dtype: torch.dtype) -> None:
    """As `_try`, attention: sequences shorter and longer than a kernel's tiles, alone and behind heads that they share."""
    heads = [Prefix("", np.zeros(tokens, np.int32)) for tokens in (0, 64, 100)]
    bodies = [PromptPart("", np.zeros(tokens, np.int32)) for tokens in (1, 31, 32, 33, 150)]
    packed = pack([Prompt(head, body, PromptPart("", np.empty(0, np.int32))) for head in heads for body in bodies])
    queries = model.weights.layers[0].output.shape[1] // model.head_width
    sizes = [queries, queries // model.group, queries // model.group]
    chance = torch.Generator(device).manual_seed(0)
    joined = torch.randn((len(packed.ids), sum(sizes), model.head_width), generator=chance, device=device).to(dtype)
    plain = attention.PlainAttention(packed, device, model.scale)
    found, expected = (
        by.over_all(*torch.split(joined, sizes, dim=1)) for by in (short(packed, device, model.scale, model.group, plain), plain)
    )
    _compare(found, expected, "of short sequences' attention")


def _compare(found: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    apart, whole = (torch.linalg.vector_norm(each, dim=0, dtype=torch.float32) for each in (found - expected, expected))
    if not bool((apart <= _ERROR * whole).all()):
        worst = (apart / whole).max().item()
        raise ArithmeticError(f"a kernel's result is not PyTorch's: {what}, a column differs by {worst:.2g} of it")
