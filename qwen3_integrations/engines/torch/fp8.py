"""The functions of a layer in FP8, of PyTorch alone: the reference of the kernels (`fp8_kernels`), and the fallback without Triton."""

from __future__ import annotations

import torch
from torch.nn.functional import rms_norm, silu

from qwen3_integrations.engines.torch import qwen3
from qwen3_integrations.engines.torch.scaled import Scaled, product, quantise

Tensor = torch.Tensor


def norm(residual: Tensor, pending: Tensor | None, weight: Tensor, epsilon: float) -> Scaled:
    """See `qwen3.norm`; the result is quantised."""
    if pending is not None:
        residual.add_(pending)
    return quantise(rms_norm(residual.float(), weight.shape, weight.float(), epsilon))


def qkv_norm_rope(states: Scaled, weight: Scaled, norms: Tensor, cos: Tensor, sin: Tensor, epsilon: float) -> Tensor:
    """See `qwen3.qkv_norm_rope`."""
    qkv = product(states, weight).view(len(states), -1, norms.shape[1])
    qwen3.rope_of_first_heads(qkv, norms, cos, sin, epsilon)
    return qkv


def gate_up_swiglu(states: Scaled, weight: Scaled) -> Scaled:
    """See `qwen3.gate_up_swiglu`; the result is quantised."""
    gate, up = product(states, weight).float().chunk(2, dim=-1)
    return quantise(silu(gate).mul_(up))


def add_product(residual: Tensor, states: Scaled, weight: Scaled) -> None:
    """See `qwen3.add_product`."""
    residual.add_(product(states, weight))


plain_functions = qwen3.plain_functions._replace(
    qkv_norm_rope=qkv_norm_rope, gate_up_swiglu=gate_up_swiglu, norm=norm, as_operand=quantise, add_product=add_product
)
"""The functions of PyTorch, for any device."""
