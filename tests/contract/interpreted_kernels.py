"""Run by `test_torch_kernels` with TRITON_INTERPRET=1: the Triton kernels against PyTorch's functions, and in the engine."""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from qwen3_integrations import Embedder, Reranker
from qwen3_integrations.core.types import Prefix, Prompt, PromptPart
from qwen3_integrations.engines.torch import (
    attention,
    flash_attention,
    forward,
    fp8,
    fp8_kernels,
    fused_gemm,
    kernel_selection,
    kernels,
    qwen3,
    short_attention,
)
from qwen3_integrations.engines.torch.engine import TorchEngine
from qwen3_integrations.engines.torch.packing import pack
from qwen3_integrations.engines.torch.qwen3 import LayerFunctions
from qwen3_integrations.engines.torch.scaled import LARGEST, Scaled, quantise
from tests.contract.test_torch_kernels import packed_attention
from tests.models import Shape, write_random_model
from tests.reference import reference_embeddings, reference_scores
from tests.texts import PLAIN

TOKENS = (1, 15, 16, 17, 50)
"""Around the number of tokens of one program."""

FEW = (1, 5)
"""For kernels whose programs compute one token each."""

SMALL = Shape(hidden=64, heads=4, kv_heads=2, layers=2, tied=True, head_dim=32, inner=96)


def equal(one: torch.Tensor, other: torch.Tensor) -> None:
    """Equal up to the number format: the last bit of bfloat16 is 1/128, and PyTorch rounds twice where a kernel rounds once."""
    torch.testing.assert_close(one, other, rtol=2**-6 if one.dtype == torch.bfloat16 else 1e-5, atol=1e-5)


def check_apply_rope(dtype: torch.dtype, tokens: int) -> None:
    """Heads that are a part of a larger tensor, as in the combined matrix product."""
    heads, width = 3, 32
    whole = torch.randn(tokens, 2 * heads, width, dtype=dtype)
    theirs = whole.clone()
    norms, angles = torch.randn(heads, width, dtype=dtype), torch.randn(tokens, width // 2)
    kernels.apply_rope(whole[:, :heads], norms, angles.cos(), angles.sin(), 1e-6)
    qwen3.apply_rope(theirs[:, :heads], norms, angles.cos(), angles.sin(), 1e-6)
    equal(whole, theirs)


def check_norm(dtype: torch.dtype, tokens: int) -> None:
    """Of a residual in float32; a width that is no power of two."""
    residual, weight = torch.randn(tokens, 160), torch.randn(160, dtype=dtype)
    found = kernels.norm(residual, None, weight, 1e-6)
    assert found.dtype == dtype
    equal(found, qwen3.norm(residual, None, weight.float(), 1e-6).to(dtype))


def check_swiglu(dtype: torch.dtype, tokens: int) -> None:
    """More values than one program has, and not a multiple of that."""
    joined = torch.randn(tokens, 2 * 1500, dtype=dtype)
    equal(kernels.swiglu(joined), qwen3.swiglu(joined.clone()))


def check_merge_attn_states(dtype: torch.dtype, tokens: int) -> None:
    """A part of the tokens, with log-sum-exps in a larger tensor; one token has no keys on the other side."""
    heads, width = 4, 32
    one, other = (torch.randn(tokens, heads, width, dtype=dtype) for _ in range(2))
    lse = torch.randn(heads, tokens + 3)
    other_lse = torch.randn(heads, tokens)
    other_lse[:, 0] = -torch.inf
    theirs = one.clone()
    kernels.merge_attn_states(one, lse[:, 3:], other, other_lse)
    attention.merge_attn_states(theirs, lse[:, 3:], other, other_lse)
    equal(one, theirs)


def check_qkv_norm_rope(dtype: torch.dtype, tokens: int) -> None:
    """More tiles than programs, the last tile partly filled; with value heads after the heads with RoPE, and without."""
    for rotated in (2, 4):
        states, weight = torch.randn(tokens, 128, dtype=dtype), torch.randn(4 * 128, 128, dtype=dtype) / 8
        norms, angles = torch.randn(rotated, 128, dtype=dtype), torch.randn(tokens, 64)
        cos_sin = angles.cos().to(dtype), angles.sin().to(dtype), 1e-6
        near(
            fused_gemm.qkv_norm_rope(states, weight, norms, *cos_sin), qwen3.qkv_norm_rope(states.float(), weight.float(), norms, *cos_sin)
        )


def check_gate_up_swiglu(dtype: torch.dtype, tokens: int) -> None:
    """More tiles than programs, the last tile partly filled."""
    states, weight = torch.randn(tokens, 128, dtype=dtype), torch.randn(2 * 384, 128, dtype=dtype) / 8
    near(fused_gemm.gate_up_swiglu(states, weight), qwen3.gate_up_swiglu(states.float(), weight.float()))


def check_short_attention(dtype: torch.dtype, tokens: int) -> None:
    """Sequences around the size of a tile, with and without shared prefixes; queries, keys and values are parts of one tensor."""
    for group in (1, 2, 4):
        sizes = (2 * group, 2, 2)
        prefixes = [Prefix("", np.zeros(size, np.int32)) for size in (0, tokens, 45)]
        bodies = [PromptPart("", np.zeros(size, np.int32)) for size in (1, 15, 16, 17, 33, tokens)]
        packed = pack([Prompt(prefix, body, PromptPart("", np.empty(0, np.int32))) for prefix in prefixes for body in bodies])
        joined = torch.randn(len(packed.ids), sum(sizes), 128, dtype=dtype)
        plain = attention.PlainAttention(packed, torch.device("cpu"), 0.1)
        short = short_attention.short_attention(packed, torch.device("cpu"), 0.1, group, plain)
        assert short is not plain
        near(short.all_tokens(*joined.split(sizes, dim=1)), plain.all_tokens(*joined.float().split(sizes, dim=1)))


def quantised(found: Scaled, exact: torch.Tensor) -> None:
    """Each value is the nearest of FP8, or the next where the exact one is in the middle; each row has the scale of its largest value."""
    rows = exact.abs().amax(dim=1, keepdim=True)
    torch.testing.assert_close(found.scales, rows[:, 0] / LARGEST, rtol=1e-5, atol=1e-14)
    assert bool(((found.float() - exact).abs() <= 2**-4 * 1.001 * exact.abs() + rows * 2**-10 / LARGEST * 1.001).all())
    # As PyTorch rounds: an intermediate result that differs in its last bit may be rounded the other way, so nearly all are equal.
    assert (found.values.float() != quantise(exact).values.float()).float().mean() <= 0.01


def check_fp8_quantise(dtype: torch.dtype, tokens: int) -> None:
    """A width that is no power of two; a row of zeros, one of tiny values, and one with a far outlier."""
    states = torch.randn(tokens, 1500, dtype=dtype)
    states[-1, 7] = 1000
    states[tokens // 2] *= 1e-20
    states[0] = 0
    found = fp8_kernels.quantise(states)
    assert not found.float()[0].any()
    quantised(found, states.float().where(states.abs() > 1e-12, 0))


def check_fp8_norm(dtype: torch.dtype, tokens: int) -> None:
    """With and without a product to add; the residual keeps the sum."""
    weight = torch.randn(160, dtype=dtype)
    for pending in (None, torch.randn(tokens, 160, dtype=dtype)):
        residual = torch.randn(tokens, 160, dtype=dtype)
        total = residual.float() if pending is None else residual.float() + pending.float()
        quantised(
            fp8_kernels.norm(residual, pending, weight, 1e-6), torch.nn.functional.rms_norm(total, weight.shape, weight.float(), 1e-6)
        )
        equal(residual, total.to(dtype))


def check_fp8_swiglu(dtype: torch.dtype, tokens: int) -> None:
    """Widths that are no powers of two; the second is computed in parts."""
    for width in (1500, 4800):
        joined = torch.randn(tokens, 2 * width, dtype=dtype)
        quantised(fp8_kernels.swiglu(joined), qwen3.swiglu(joined.float()))


def check_fp8_functions(_: torch.dtype, tokens: int) -> None:
    """The functions of a layer against PyTorch's."""
    states, weight = quantise(torch.randn(tokens, 64)), quantise(torch.randn(4 * 32, 64))
    norms, angles = torch.randn(3, 32, dtype=torch.bfloat16), torch.randn(tokens, 16)
    given = states, weight, norms, angles.cos(), angles.sin(), 1e-6
    equal(fp8_kernels.qkv_norm_rope(*given), fp8.qkv_norm_rope(*given))
    one, other = fp8_kernels.gate_up_swiglu(states, weight), fp8.gate_up_swiglu(states, weight)
    torch.testing.assert_close(one.float(), other.float(), rtol=2**-3, atol=1e-3)  # one step of FP8
    residual = torch.randn(tokens, 128, dtype=torch.bfloat16)
    theirs = residual.clone()
    pending = fp8_kernels.triton_functions.add_product(residual, states, weight)
    fp8.add_product(theirs, states, weight)
    equal(residual + pending, theirs)


def check_choice() -> None:
    """Sequences are short if their tiles have few keys on average; suffixes may have twice as many. A partly filled tile counts as full."""
    none, most = np.empty(0, np.int32), short_attention.MAX_KEYS
    texts = ((0, most, True), (0, most + 1, False))
    suffixes = ((most - 32, most, True), (most + 32, most, False), (5, 2 * most, False), (most, 32, True), (most, 16, False))
    for shared, own, is_short in texts + suffixes:
        prefix = Prefix("", np.zeros(shared, np.int32))
        packed = pack([Prompt(prefix, PromptPart("", np.zeros(own, np.int32)), PromptPart("", none)) for _ in range(50)])
        plain = attention.PlainAttention(packed, torch.device("cpu"), 0.1)
        chosen = short_attention.short_attention(packed, torch.device("cpu"), 0.1, 2, plain)
        assert isinstance(chosen, short_attention.ShortAttention) == is_short, (shared, own)


def check_choice_of_short_attention() -> None:
    """The kernel for short sequences is used only for bfloat16, a head dim of 128 and groups that divide a tile."""
    for dtype, width, group, fits in (
        (torch.bfloat16, 128, 2, True),
        (torch.float16, 128, 2, False),
        (torch.bfloat16, 64, 2, False),
        (torch.bfloat16, 128, 3, False),
    ):
        functions = kernel_selection._fused(SimpleNamespace(head_dim=width, group=group), dtype)
        assert bool(functions.short_attention) == fits, (dtype, width, group)


def near(one: torch.Tensor, other: torch.Tensor) -> None:
    """Equal up to the number format of the first."""
    error = 2**-9 if one.dtype == torch.float16 else 1e-5
    torch.testing.assert_close(one.float(), other, rtol=error, atol=error)


def round_to_fp8() -> None:
    """Let the interpreter round to FP8 as a GPU does: Triton 3.7 loses the carry where rounding reaches the next exponent."""
    from triton.runtime import interpreter

    def exact(_, source, target, mode):
        if target.scalar.name != "fp8e4nv":
            raise NotImplementedError(target)
        values = torch.from_numpy(np.ascontiguousarray(source.data, dtype=np.float32)).to(torch.float8_e4m3fn)
        return interpreter.TensorHandle(values.view(torch.uint8).numpy(), target.scalar)

    interpreter.InterpreterBuilder.create_fp_to_fp = exact


def main() -> None:
    torch.manual_seed(0)
    round_to_fp8()
    fused_gemm.MIN_TOKENS = 1
    fused_gemm._programs = lambda _: 3
    check_choice()
    check_choice_of_short_attention()
    for check in (check_qkv_norm_rope, check_gate_up_swiglu, check_short_attention):
        for dtype in (torch.float32, torch.float16):  # the interpreter can't multiply matrices of bfloat16
            for tokens in (1, 127, 300):
                check(dtype, tokens)
        print(check.__name__.removeprefix("check_"))  # noqa: T201
    for check in (check_norm, check_apply_rope, check_swiglu, check_merge_attn_states):
        for dtype in (torch.float32, torch.bfloat16):
            for tokens in TOKENS:
                check(dtype, tokens)
        print(check.__name__.removeprefix("check_"))  # noqa: T201
    for check in (check_fp8_quantise, check_fp8_norm, check_fp8_swiglu, check_fp8_functions):
        for dtype in (torch.float32, torch.bfloat16):
            for tokens in FEW:
                check(dtype, tokens)
        print(check.__name__.removeprefix("check_"))  # noqa: T201
    used: Counter[str] = Counter()

    def noted(function):
        def called(*args):
            used[function.__name__] += 1
            return function(*args)

        return called

    functions = LayerFunctions(
        noted(kernels.qkv_norm_rope),
        noted(kernels.gate_up_swiglu),
        noted(kernels.merge_attn_states),
        angle_dtype=torch.float32,
        mlp_tokens=None,
    )
    with_short = functions._replace(short_attention=noted(short_attention.short_attention))
    forward.functions_for = lambda *_: functions
    flash_attention.kernel_for = lambda *_: packed_attention([])
    with tempfile.TemporaryDirectory() as folder:
        model = write_random_model(Path(folder) / "embed", "embed", SMALL)
        with closing(TorchEngine("embed", str(model), device="cpu", dtype="float32")) as engine:
            equal(torch.from_numpy(Embedder(engine).embed_documents(PLAIN)), torch.from_numpy(reference_embeddings(model, PLAIN)))
        print("embed")  # noqa: T201
        model = write_random_model(Path(folder) / "rerank", "rerank", SMALL)
        pairs = [(query, document) for query in ("one", "another query") for document in PLAIN]
        for each in (functions, with_short):
            forward.functions_for = lambda *_, each=each: each
            with closing(TorchEngine("rerank", str(model), device="cpu", dtype="float32")) as engine:
                equal(torch.from_numpy(Reranker(engine).score(pairs)), torch.from_numpy(reference_scores(model, pairs)))
        print("rerank")  # noqa: T201
    assert set(used) == {"qkv_norm_rope", "gate_up_swiglu", "merge_attn_states", "short_attention"}, used


if __name__ == "__main__":
    main()
