"""What do the kernels of large passes save? On a Hopper GPU, at the shapes of the 0.6B models, bfloat16.

    python examples/benchmarks/kernels.py                                       # each function alone, random matrices
    python examples/benchmarks/kernels.py --model Qwen/Qwen3-Embedding-0.6B     # and 4,096 texts of ~128 tokens on one engine

Prints seconds of embedding with and without them, which take turns; microseconds of PyTorch's product and a kernel behind it, and of
both in one; of FlashAttention and of attention for short sequences; medians.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from inputs import SPREAD, Prose

WIDTH, HEADS, TURNED, PAIRS, HEAD_WIDTH, INNER = 1024, 32, 24, 8, 128, 3072
TOKENS = (512, 1024, 2048, 4096, 16_384, 65_536)
SEQUENCES = ((0, 32), (0, 128), (0, 512), (0, 768), (81, 137), (81, 512), (600, 137), (600, 512), (1000, 20), (2000, 137))
"""Tokens of a head and of a tail."""


def microseconds(run: Callable[[], Any], repeats: int) -> float:
    """Of one call, by the GPU's clock; each repeat has three."""
    import torch

    times = []
    for repeat in range(3 + repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(3):
            run()
        end.record()
        end.synchronize()
        if repeat >= 3:
            times.append(begin.elapsed_time(end) / 3 * 1000)
    return statistics.median(times)


def functions(repeats: int) -> None:
    """`heads` and `inner` by themselves, at each number of tokens, whatever number they are used from."""
    import torch

    from qwen3_integrations.engines.torch import fused_gemm, kernels

    def random(*shape: int) -> Any:
        return torch.randn(shape, device="cuda", dtype=torch.bfloat16) * 0.02

    fused_gemm.LEAST_TOKENS = 1
    qkv, gate_up, norms = random(HEADS * HEAD_WIDTH, WIDTH), random(2 * INNER, WIDTH), random(TURNED, HEAD_WIDTH)
    for tokens in TOKENS:
        states, angles = random(tokens, WIDTH), torch.rand(tokens, HEAD_WIDTH // 2, device="cuda")
        half = angles.half()
        ways: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
            "heads": (
                lambda states=states, angles=angles: kernels.heads(states, qkv, norms, angles, angles, 1e-6),
                lambda states=states, half=half: fused_gemm.heads(states, qkv, norms, half, half, 1e-6),
            ),
            "inner": (lambda states=states: kernels.inner(states, gate_up), lambda states=states: fused_gemm.inner(states, gate_up)),
        }
        for name, (apart, fused) in ways.items():
            print(f"{tokens:6} tokens, {name}: {microseconds(apart, repeats):8.1f} us -> {microseconds(fused, repeats):8.1f} us")


def attentions(repeats: int) -> None:
    """Attention of 65,536 tokens: texts of so many, and tails behind heads that 100 of them share, which come on top."""
    import torch

    from qwen3_integrations.core.types import Prefix, Prompt, PromptPart
    from qwen3_integrations.engines.torch import kernels, short_attention
    from qwen3_integrations.engines.torch.attention import KernelAttention, kernel_for
    from qwen3_integrations.engines.torch.packing import pack

    device, scale = torch.device("cuda"), HEAD_WIDTH**-0.5
    kernel, chance = kernel_for(device, torch.bfloat16, HEAD_WIDTH), np.random.default_rng(0)
    assert kernel is not None
    short_attention.MOST_KEYS = 1 << 30
    for head, own in SEQUENCES:
        prompts: list[Prompt] = []
        for size in chance.normal(own, SPREAD * own, TOKENS[-1] // own):
            shared = prompts[-1].prefix if len(prompts) % 100 else Prefix("", np.zeros(head, np.int32))
            prompts.append(Prompt(shared, PromptPart("", np.zeros(max(1, int(size)), np.int32)), PromptPart("", np.zeros(0, np.int32))))
        packed = pack(prompts)
        joined = torch.randn(len(packed.ids), HEADS, HEAD_WIDTH, device=device, dtype=torch.bfloat16)
        states = torch.split(joined, [2 * PAIRS, PAIRS, PAIRS], dim=1)
        general = KernelAttention.of(packed, kernel, device, scale, kernels.join)
        short = short_attention.short_attention(packed, device, scale, 2, general)
        ways = [microseconds(lambda by=by, states=states: by.over_all(*states), repeats) for by in (general, short)]
        print(f"tails of {own} behind heads of {head}: {ways[0]:8.1f} us -> {ways[1]:8.1f} us")


def embedding(model: str, repeats: int) -> None:
    """The same texts behind other numbers each time, with the engine's own kernels and without some of them."""
    from qwen3_integrations import Embedder
    from qwen3_integrations.engines.torch import fused_gemm, kernels
    from qwen3_integrations.engines.torch.engine import TorchEngine
    from qwen3_integrations.models.hub import resolve_model

    work = Prose(Path(resolve_model(model, "embed")) / "tokenizer.json").texts(4096, 128, seed=128)
    engine = TorchEngine("embed", model, device="cuda")
    embedder, forward = Embedder(engine), engine._queue._forward
    ways: dict[str, Any] = {
        "all kernels": fused_gemm.product_parts,
        "without attention of short sequences": fused_gemm.product_parts._replace(short=None),
        "kernels behind PyTorch's fused_gemm": kernels.kernel_parts,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    salts = itertools.count()
    for repeat in range(1 + repeats):
        for name, parts in ways.items():
            forward._parts = parts  # type: ignore[attr-defined]
            texts = work.salted(next(salts)).texts
            begun = time.perf_counter()
            embedder.embed_documents(texts)
            if repeat:
                times[name].append(time.perf_counter() - begun)
    for name, seconds in times.items():
        print(f"{name}: {statistics.median(seconds):.3f} s ({min(seconds):.3f} to {max(seconds):.3f})")
    engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None, help="an embedder, to embed with too; a folder or a hub's name")
    parser.add_argument("--repeats", type=int, default=10)
    chosen = parser.parse_args()
    import torch

    from qwen3_integrations.engines.torch.attention import is_hopper

    if not torch.cuda.is_available() or not is_hopper(torch.device("cuda", torch.cuda.current_device())):
        parser.error("the fused fused_gemm are for NVIDIA's Hopper (compute capability 9): PyTorch sees none here")
    if chosen.model:  # first: the others use kernels where the engine would not
        embedding(chosen.model, chosen.repeats)
    with torch.inference_mode():
        functions(chosen.repeats)
        attentions(chosen.repeats)


if __name__ == "__main__":
    main()
