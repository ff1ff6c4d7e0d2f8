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
from qwen3_integrations.engines.torch import attention, forward, fused_gemm, kernel_selection, kernels, qwen3, short_attention
from qwen3_integrations.engines.torch.engine import TorchEngine
from qwen3_integrations.engines.torch.packing import pack
from qwen3_integrations.engines.torch.qwen3 import Parts
from tests.contract.test_torch_kernels import packed_attention
from tests.models import Shape, write_random_model
from tests.reference import reference_embeddings, reference_scores
from tests.texts import PLAIN

TOKENS = (1, 15, 16, 17, 50)
"""Around the number that a program takes."""

SMALL = Shape(hidden=64, heads=4, kv_heads=2, layers=2, tied=True, head_dim=32, inner=96)


def equal(one: torch.Tensor, other: torch.Tensor) -> None:
    """As far as the number format allows: the last bit of bfloat16 is 1/128, and PyTorch rounds twice where a kernel rounds once."""
    torch.testing.assert_close(one, other, rtol=2**-6 if one.dtype == torch.bfloat16 else 1e-5, atol=1e-5)


def check_turn(dtype: torch.dtype, tokens: int) -> None:
    """Of heads that lie among others, as in the joined matrix product."""
    heads, width = 3, 32
    whole = torch.randn(tokens, 2 * heads, width, dtype=dtype)
    theirs = whole.clone()
    norms, angles = torch.randn(heads, width, dtype=dtype), torch.randn(tokens, width // 2)
    kernels.turn(whole[:, :heads], norms, angles.cos(), angles.sin(), 1e-6)
    qwen3.turn(theirs[:, :heads], norms, angles.cos(), angles.sin(), 1e-6)
    equal(whole, theirs)


def check_gated(dtype: torch.dtype, tokens: int) -> None:
    """Of more values than a program takes, and no whole multiple."""
    joined = torch.randn(tokens, 2 * 1500, dtype=dtype)
    equal(kernels.gated(joined), qwen3.gated(joined.clone()))


def check_join(dtype: torch.dtype, tokens: int) -> None:
    """Of a part of the tokens, whose weights lie among others; some see nothing on the other side."""
    heads, width = 4, 32
    one, other = (torch.randn(tokens, heads, width, dtype=dtype) for _ in range(2))
    weights = torch.randn(heads, tokens + 3)
    other_weight = torch.randn(heads, tokens)
    other_weight[:, 0] = -torch.inf
    theirs = one.clone()
    kernels.join(one, weights[:, 3:], other, other_weight)
    attention.join(theirs, weights[:, 3:], other, other_weight)
    equal(one, theirs)


def check_heads(dtype: torch.dtype, tokens: int) -> None:
    """More blocks than programs, of which the last is not full; values behind the heads that are turned, and none."""
    for turned in (2, 4):
        states, weight = torch.randn(tokens, 128, dtype=dtype), torch.randn(4 * 128, 128, dtype=dtype) / 8
        norms, angles = torch.randn(turned, 128, dtype=dtype), torch.randn(tokens, 64)
        turns = angles.cos().to(dtype), angles.sin().to(dtype), 1e-6
        near(fused_gemm.heads(states, weight, norms, *turns), qwen3.heads(states.float(), weight.float(), norms, *turns))


def check_inner(dtype: torch.dtype, tokens: int) -> None:
    """More blocks than programs, of which the last is not full."""
    states, weight = torch.randn(tokens, 128, dtype=dtype), torch.randn(2 * 384, 128, dtype=dtype) / 8
    near(fused_gemm.inner(states, weight), qwen3.inner(states.float(), weight.float()))


def check_short(dtype: torch.dtype, tokens: int) -> None:
    """Sequences around a tile's size, alone and behind heads that they share; queries, keys and values as they lie beside each other."""
    for group in (1, 2, 4):
        sizes = (2 * group, 2, 2)
        heads = [Prefix("", np.zeros(size, np.int32)) for size in (0, tokens, 45)]
        bodies = [PromptPart("", np.zeros(size, np.int32)) for size in (1, 15, 16, 17, 33, tokens)]
        packed = pack([Prompt(head, body, PromptPart("", np.empty(0, np.int32))) for head in heads for body in bodies])
        joined = torch.randn(len(packed.ids), sum(sizes), 128, dtype=dtype)
        plain = attention.PlainAttention(packed, torch.device("cpu"), 0.1)
        short = short_attention.short_attention(packed, torch.device("cpu"), 0.1, group, plain)
        assert short is not plain
        near(short.over_all(*joined.split(sizes, dim=1)), plain.over_all(*joined.float().split(sizes, dim=1)))


def check_choice() -> None:
    """Short are sequences whose tiles have few keys on average, tails twice as many; a tile that is not full counts as if it were."""
    none, most = np.empty(0, np.int32), short_attention.MOST_KEYS
    texts = ((0, most, True), (0, most + 1, False))
    tails = ((most - 32, most, True), (most + 32, most, False), (5, 2 * most, False), (most, 32, True), (most, 16, False))
    for shared, own, is_short in texts + tails:
        head = Prefix("", np.zeros(shared, np.int32))
        packed = pack([Prompt(head, PromptPart("", np.zeros(own, np.int32)), PromptPart("", none)) for _ in range(50)])
        plain = attention.PlainAttention(packed, torch.device("cpu"), 0.1)
        chosen = short_attention.short_attention(packed, torch.device("cpu"), 0.1, 2, plain)
        assert isinstance(chosen, short_attention.ShortAttention) == is_short, (shared, own)


def check_parts() -> None:
    """The kernel of short sequences is for what it was made for: bfloat16, heads of 128, groups that fill a tile."""
    for dtype, width, group, fits in (
        (torch.bfloat16, 128, 2, True),
        (torch.float16, 128, 2, False),
        (torch.bfloat16, 64, 2, False),
        (torch.bfloat16, 128, 3, False),
    ):
        parts = kernel_selection._products(SimpleNamespace(head_width=width, group=group), dtype)
        assert bool(parts.short) == fits, (dtype, width, group)


def near(one: torch.Tensor, other: torch.Tensor) -> None:
    """As far as the number format of the first allows."""
    error = 2**-9 if one.dtype == torch.float16 else 1e-5
    torch.testing.assert_close(one.float(), other, rtol=error, atol=error)


def main() -> None:
    torch.manual_seed(0)
    fused_gemm.LEAST_TOKENS = 1
    fused_gemm._programs = lambda _: 3
    check_choice()
    check_parts()
    for name, check in {"heads": check_heads, "inner": check_inner, "short": check_short}.items():
        for dtype in (torch.float32, torch.float16):  # the interpreter can't multiply matrices of bfloat16
            for tokens in (1, 127, 300):
                check(dtype, tokens)
        print(name)  # noqa: T201
    for name, check in {"turn": check_turn, "gated": check_gated, "join": check_join}.items():
        for dtype in (torch.float32, torch.bfloat16):
            for tokens in TOKENS:
                check(dtype, tokens)
        print(name)  # noqa: T201
    used: Counter[str] = Counter()

    def noted(function):
        def called(*args):
            used[function.__name__] += 1
            return function(*args)

        return called

    parts = Parts(noted(kernels.heads), noted(kernels.inner), noted(kernels.join), angles=torch.float32, rows=None)
    short = parts._replace(short=noted(short_attention.short_attention))
    forward.parts_for = lambda *_: parts
    attention.kernel_for = lambda *_: packed_attention([])
    with tempfile.TemporaryDirectory() as folder:
        model = write_random_model(Path(folder) / "embed", "embed", SMALL)
        with closing(TorchEngine("embed", str(model), device="cpu", dtype="float32")) as engine:
            equal(torch.from_numpy(Embedder(engine).embed_documents(PLAIN)), torch.from_numpy(reference_embeddings(model, PLAIN)))
        print("embed")  # noqa: T201
        model = write_random_model(Path(folder) / "rerank", "rerank", SMALL)
        pairs = [(query, document) for query in ("one", "another query") for document in PLAIN]
        for each in (parts, short):
            forward.parts_for = lambda *_, each=each: each
            with closing(TorchEngine("rerank", str(model), device="cpu", dtype="float32")) as engine:
                equal(torch.from_numpy(Reranker(engine).score(pairs)), torch.from_numpy(reference_scores(model, pairs)))
        print("rerank")  # noqa: T201
    assert set(used) == {"heads", "inner", "join", "short_attention"}, used


if __name__ == "__main__":
    main()
