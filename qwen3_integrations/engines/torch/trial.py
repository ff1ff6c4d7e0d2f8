"""Which kernels are there and compute what PyTorch's own functions do, found by trying them when an engine opens."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Sequence

import torch

from qwen3_integrations.engines.torch import attention
from qwen3_integrations.engines.torch.qwen3 import Parts, Qwen3, plain_parts

log = logging.getLogger("qwen3_integrations")

_TOKENS = 4096
"""From which on every kernel is used; memory for so many is planned beside the passes."""

_ERROR = 0.02
"""How far a kernel's result may lie from PyTorch's, as a part of it: both round to 2 ** -8."""


def parts_for(model: Qwen3, device: torch.device, dtype: torch.dtype) -> Parts:
    """The fastest parts of this model's layers that are there."""
    if not attention.is_modern(device) or model.head_width & (model.head_width - 1) or importlib.util.find_spec("triton") is None:
        return plain_parts
    hopper = torch.cuda.get_device_capability(device)[0] == 9 and dtype in (torch.bfloat16, torch.float16)
    return first_right([_products, _kernels] if hopper else [_kernels], model, device, dtype)


def first_right(finders: Sequence[Callable[[], Parts]], model: Qwen3, device: torch.device, dtype: torch.dtype) -> Parts:
    """The first parts that can be had and compute what `plain_parts` compute; those, where none do.

    Args:
        finders: Import parts, the fastest first.
        model: Whose first layer they are tried with.
        device, dtype: Its own.
    """
    for find in finders:
        try:
            parts = find()
            _try(parts, model, device, dtype)
        except Exception as error:  # noqa: BLE001  compilers fail in many ways, and none is the caller's matter
            said = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"
            log.warning("some of Triton's kernels don't work here, so passes are slower; is there a C compiler? %s", said)
        else:
            return parts
    return plain_parts


def _products() -> Parts:
    from qwen3_integrations.engines.torch.products import product_parts

    return product_parts


def _kernels() -> Parts:
    from qwen3_integrations.engines.torch.kernels import kernel_parts

    return kernel_parts


def _try(parts: Parts, model: Qwen3, device: torch.device, dtype: torch.dtype) -> None:
    """Compute a layer's parts both ways.

    Raises:
        ArithmeticError: If the results differ.
        Exception: Whatever a compiler raises.
    """
    layer, tokens = model.weights.layers[0], _TOKENS
    numbers = torch.arange(tokens * len(layer.norm), device=device)
    states = numbers.sin().view(tokens, -1).to(dtype)
    angles = numbers[: tokens * model.head_width // 2].view(tokens, -1)
    weights = numbers[: tokens * len(layer.qkv) // model.head_width].sin().view(-1, tokens)
    first = layer.output.shape[1]  # where keys and values begin, which the last layer computes alone

    def heads(of: Parts, row: int) -> torch.Tensor:
        cos, sin = angles.cos().to(of.angles), angles.sin().to(of.angles)
        return of.heads(states, layer.qkv[row:], layer.head_norms[row // model.head_width :], cos, sin, 1e-6)

    some = heads(plain_parts, 0)

    def joined(of: Parts) -> torch.Tensor:
        one = some.clone()
        of.join(one, weights, some.flip(0), weights.flip(1))
        return one

    ways: list[Callable[[Parts], torch.Tensor]] = [
        lambda of: heads(of, 0), lambda of: heads(of, first), lambda of: of.inner(states, layer.gate_up), joined,
    ]  # fmt: skip
    for way in ways:
        one, other = way(parts), way(plain_parts)
        apart, whole = (torch.linalg.vector_norm(each, dtype=torch.float32).item() for each in (one - other, other))
        if not apart <= _ERROR * whole:
            raise ArithmeticError(f"a kernel's result is not PyTorch's: they differ by {apart:.3g}, of {whole:.3g}")
