"""Choice of the kernels for a layer: the fastest ones that work on this device and agree with PyTorch's own functions.

The kernels run once on random inputs when an engine opens.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch

from qwen3_integrations.core.types import Prefix, Prompt, PromptPart
from qwen3_integrations.engines.torch import fp8
from qwen3_integrations.engines.torch.attention import PlainAttention
from qwen3_integrations.engines.torch.flash_attention import is_hopper, is_modern
from qwen3_integrations.engines.torch.packing import pack
from qwen3_integrations.engines.torch.qwen3 import LayerFunctions, Qwen3, ShortAttentionMaker, plain_functions
from qwen3_integrations.engines.torch.scaled import Scaled
from qwen3_integrations.engines.torch.weights import Matrix
from qwen3_integrations.models.shapes import ModelShape

log = logging.getLogger("qwen3_integrations")

Loader = Callable[[], LayerFunctions]
"""Imports layer functions."""

_FEW_TOKENS = 33
"""Tokens of a check: two full tiles of a kernel and a partial one."""

_MANY_TOKENS = 4097
"""Tokens of a check where kernels for large passes differ: full tiles and a partial one."""

_COMPARED_TOKENS = 256
"""The last tokens, which are compared. Tokens are independent of each other here, and PyTorch's functions need more memory."""

_FUSED_HEAD_DIM = 128
"""See `fused_gemm.HEAD_DIM`, which can't be imported without Triton."""

_TOLERANCE = 0.02
"""Largest relative difference from PyTorch's result in any column. Both round to 2 ** -8."""

_TOLERANCE_FP8 = 0.15
"""The same in FP8, where one value that is rounded the other way differs by 2 ** -3."""

_TOLERANCE_FP8_ROW = 0.05
"""The same in any row in FP8. Source: 0.022 on an H200, for a residual that PyTorch's functions round to bfloat16 before the norm."""


def functions_for(model: Qwen3, device: torch.device, dtype: torch.dtype) -> LayerFunctions:
    """The fastest layer functions that are available for this model."""
    if not is_modern(device) or model.head_dim & (model.head_dim - 1) or importlib.util.find_spec("triton") is None:
        return _plain(model)
    candidates: dict[Loader, tuple[int, ...]] = {_triton: (_FEW_TOKENS,)}
    if model.fp8:
        candidates = {partial(_fp8, model, device): (_FEW_TOKENS, _MANY_TOKENS)}
    elif dtype in (torch.bfloat16, torch.float16):
        candidates = {_exact_residual: (_FEW_TOKENS,)} | candidates
        if is_hopper(device):
            candidates = {partial(_fused, model, dtype): (_FEW_TOKENS, _MANY_TOKENS)} | candidates
    return first_correct(candidates, model, device, dtype)


def has_fused_products(device: torch.device, shape: ModelShape) -> bool:
    """Whether large passes of a model in bfloat16 or float16 have fused products (`fused_gemm`), if these work on the device."""
    sizes = shape.head_dim == _FUSED_HEAD_DIM and not shape.intermediate_size % _FUSED_HEAD_DIM and not shape.hidden_size % 64
    return sizes and is_hopper(device) and importlib.util.find_spec("triton") is not None


def first_correct(
    candidates: Mapping[Loader, tuple[int, ...]], model: Qwen3, device: torch.device, dtype: torch.dtype
) -> LayerFunctions:  # fmt: skip
    """The first layer functions that can be loaded and agree with PyTorch's. The fallback are PyTorch's.

    If only `short_attention` fails, the functions without it are returned.

    Args:
        candidates: Loaders, the fastest first, each with the numbers of tokens to check it with.
        model: The model; its first layer is used for the check.
        device, dtype: Device and dtype of the model.
    """
    for load, sizes in candidates.items():
        try:
            functions = load()
            for tokens in sizes:
                _check(functions, tokens, model, device, dtype)
        except Exception as error:  # noqa: BLE001  compilers fail in many ways, and there is a fallback for all of them
            _warn(error)
            continue
        try:
            if functions.short_attention:
                _check_short_attention(functions.short_attention, model, device, dtype)
        except Exception as error:  # noqa: BLE001  as above
            _warn(error)
            return functions._replace(short_attention=None)
        return functions
    return _plain(model)


def _plain(model: Qwen3) -> LayerFunctions:
    """PyTorch's functions for the model's number format."""
    return fp8.plain_functions if model.fp8 else plain_functions


def _warn(error: Exception) -> None:
    log.warning(
        "some Triton kernels do not work here, so forward passes are slower: %s. The kernels need a C compiler, and the Triton release "
        "that belongs to the installed PyTorch",
        first_line(error),
    )


def first_line(error: Exception) -> str:
    """The type of an error and the first line of its message."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"


def _fused(model: Qwen3, dtype: torch.dtype) -> LayerFunctions:
    from qwen3_integrations.engines.torch.fused_gemm import fused_functions

    return fused_functions if _fits_short_attention(model, dtype) else fused_functions._replace(short_attention=None)


def _fits_short_attention(model: Qwen3, dtype: torch.dtype) -> bool:
    from qwen3_integrations.engines.torch.fused_gemm import HEAD_DIM
    from qwen3_integrations.engines.torch.short_attention import ROWS

    # A tile of short attention also holds tokens of the next sequence, with weight 0. In float16 these can overflow to infinity, and
    # 0 * infinity is NaN. So it is for bfloat16 only.
    return dtype == torch.bfloat16 and model.head_dim == HEAD_DIM and ROWS % model.group == 0


def _fp8(model: Qwen3, device: torch.device) -> LayerFunctions:
    from qwen3_integrations.engines.torch.fp8_kernels import triton_functions

    if not (is_hopper(device) and _fits_short_attention(model, torch.bfloat16)):
        return triton_functions
    from qwen3_integrations.engines.torch.short_attention import short_attention

    return triton_functions._replace(short_attention=short_attention)


def _exact_residual() -> LayerFunctions:
    from qwen3_integrations.engines.torch.kernels import with_exact_residual

    return with_exact_residual(_triton())


def _triton() -> LayerFunctions:
    from qwen3_integrations.engines.torch.kernels import triton_functions

    return triton_functions


def _check(functions: LayerFunctions, tokens: int, model: Qwen3, device: torch.device, dtype: torch.dtype) -> None:
    """Compare each layer function with PyTorch's, with the inputs of a middle layer and of the last layer.

    Raises:
        ArithmeticError: If the results differ.
        Exception: Any error of a compiler.
    """
    layer, plain = model.weights.layers[0], _plain(model)
    hidden_size, head_dim = len(layer.input_norm), model.head_dim
    generator = torch.Generator(device).manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device)

    states, angles = random(tokens, hidden_size).to(dtype), random(tokens, head_dim // 2)
    operand = plain.as_operand(states)
    query_heads = layer.output.shape[1] // head_dim
    out, other = (random(tokens, query_heads, head_dim).to(dtype) for _ in range(2))
    lse, other_lse = random(query_heads, tokens), random(query_heads, tokens)
    last = slice(max(0, tokens - _COMPARED_TOKENS), tokens)

    def qkv(of: LayerFunctions, rows: slice, first: int, behind: int | None) -> torch.Tensor:
        """Heads from the first on. Only query and key heads have norms."""
        matrix = layer.qkv[first * head_dim : None if behind is None else behind * head_dim]
        cos_sin = angles[rows].cos().to(of.angle_dtype), angles[rows].sin().to(of.angle_dtype)
        return of.qkv_norm_rope(operand[rows], matrix, layer.qk_norms[first:behind], *cos_sin, 1e-6)

    def merged(of: LayerFunctions, rows: slice) -> torch.Tensor:
        own = out[rows].clone()
        of.merge_attn_states(own, lse[:, rows], other[rows], other_lse[:, rows])
        return own

    def normed(of: LayerFunctions, rows: slice) -> Matrix:
        """The norm after a product, which may be pending."""
        residual = states[rows].to(of.residual_dtype, copy=True)
        pending = of.add_product(residual, of.as_operand(out[rows].flatten(1)), layer.output)
        return of.norm(residual, pending, layer.input_norm, 1e-6)

    computations: list[Callable[[LayerFunctions, slice], Matrix]] = [
        lambda of, rows: qkv(of, rows, 0, None),
        lambda of, rows: qkv(of, rows, 0, query_heads),
        lambda of, rows: qkv(of, rows, query_heads, None),
        lambda of, rows: of.gate_up_swiglu(operand[rows], layer.gate_up),
        lambda of, rows: of.as_operand(out[rows].flatten(1)),
        merged,
        normed,
    ]
    for compute in computations:
        _compare(compute(functions, slice(None))[last], compute(plain, last), f"{tokens} tokens")


def _check_short_attention(short: ShortAttentionMaker, model: Qwen3, device: torch.device, dtype: torch.dtype) -> None:
    """As `_check`, for attention: sequences shorter and longer than a tile, with and without shared prefixes."""
    prefixes = [Prefix("", np.zeros(tokens, np.int32)) for tokens in (0, 64, 100)]
    bodies = [PromptPart("", np.zeros(tokens, np.int32)) for tokens in (1, 31, 32, 33, 150)]
    batch = pack([Prompt(prefix, body, PromptPart("", np.empty(0, np.int32))) for prefix in prefixes for body in bodies])
    query_heads = model.weights.layers[0].output.shape[1] // model.head_dim
    head_counts = [query_heads, query_heads // model.group, query_heads // model.group]
    generator = torch.Generator(device).manual_seed(0)
    qkv = torch.randn((len(batch.ids), sum(head_counts), model.head_dim), generator=generator, device=device).to(dtype)
    plain = PlainAttention(batch, device, model.scale)
    found, expected = (
        by.all_tokens(*torch.split(qkv, head_counts, dim=1)) for by in (short(batch, device, model.scale, model.group, plain), plain)
    )
    _compare(found, expected, "attention of short sequences")


def _compare(found: Matrix, expected: Matrix, what: str) -> None:
    if isinstance(found, Scaled):
        found, expected = found.float(), expected.float()
        _compare_norms(found, expected, 1, _TOLERANCE_FP8_ROW, f"{what}, one row")
        _compare_norms(found, expected, 0, _TOLERANCE_FP8, f"{what}, one column")
    else:
        _compare_norms(found, expected, 0, _TOLERANCE, f"{what}, one column")


def _compare_norms(found: torch.Tensor, expected: torch.Tensor, dim: int, tolerance: float, what: str) -> None:
    difference, norm = (torch.linalg.vector_norm(each, dim=dim, dtype=torch.float32) for each in (found - expected, expected))
    if not bool((difference <= tolerance * norm).all()):
        worst = (difference / norm).max().item()
        raise ArithmeticError(f"a kernel's result differs from PyTorch's ({what}): relative difference {worst:.2g}")
