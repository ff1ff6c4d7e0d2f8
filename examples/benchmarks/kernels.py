"""Savings of the fused kernels for large passes, on a Hopper GPU with the shapes of the 0.6B models, bfloat16.

    python examples/benchmarks/kernels.py                                       # each function with random matrices
    python examples/benchmarks/kernels.py --model Qwen/Qwen3-Embedding-0.6B     # also 4,096 texts of ~128 tokens on one engine

Prints medians: seconds of embedding with and without the kernels (alternating); microseconds of PyTorch's product with a separate kernel,
and of the fused kernel; microseconds of FlashAttention and of the attention for short sequences.
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

HIDDEN, HEADS, ROTATED, KV_HEADS, HEAD_DIM, INTERMEDIATE = 1024, 32, 24, 8, 128, 3072
TOKENS = (512, 1024, 2048, 4096, 16_384, 65_536)
SEQUENCES = ((0, 32), (0, 128), (0, 512), (0, 768), (81, 137), (81, 512), (600, 137), (600, 512), (1000, 20), (2000, 137))
"""Tokens of a shared prefix and of a suffix."""


def microseconds(run: Callable[[], Any], repeats: int) -> float:
    """Median time of one call, on the GPU's clock. Each repeat has three calls."""
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
    """`qkv_norm_rope` and `gate_up_swiglu` for each number of tokens, also below the minimum for their use."""
    import torch

    from qwen3_integrations.engines.torch import fused_gemm, kernels

    def random(*shape: int) -> Any:
        return torch.randn(shape, device="cuda", dtype=torch.bfloat16) * 0.02

    fused_gemm.MIN_TOKENS = 1
    qkv, gate_up, norms = random(HEADS * HEAD_DIM, HIDDEN), random(2 * INTERMEDIATE, HIDDEN), random(ROTATED, HEAD_DIM)
    for tokens in TOKENS:
        states, angles = random(tokens, HIDDEN), torch.rand(tokens, HEAD_DIM // 2, device="cuda")
        half = angles.half()
        ways: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
            "qkv_norm_rope": (
                lambda states=states, angles=angles: kernels.qkv_norm_rope(states, qkv, norms, angles, angles, 1e-6),
                lambda states=states, half=half: fused_gemm.qkv_norm_rope(states, qkv, norms, half, half, 1e-6),
            ),
            "gate_up_swiglu": (
                lambda states=states: kernels.gate_up_swiglu(states, gate_up),
                lambda states=states: fused_gemm.gate_up_swiglu(states, gate_up),
            ),
        }
        for name, (separate, fused) in ways.items():
            print(f"{tokens:6} tokens, {name}: {microseconds(separate, repeats):8.1f} us -> {microseconds(fused, repeats):8.1f} us")


def attentions(repeats: int) -> None:
    """Attention of 65,536 tokens: whole texts, and suffixes of which 100 share a prefix. The tokens of the prefixes are additional."""
    import torch

    from qwen3_integrations.core.types import Prefix, Prompt, PromptPart
    from qwen3_integrations.engines.torch import kernels, short_attention
    from qwen3_integrations.engines.torch.attention import KernelAttention
    from qwen3_integrations.engines.torch.flash_attention import kernel_for
    from qwen3_integrations.engines.torch.packing import pack

    device, scale = torch.device("cuda"), HEAD_DIM**-0.5
    kernel, generator = kernel_for(device, torch.bfloat16, HEAD_DIM), np.random.default_rng(0)
    assert kernel is not None
    short_attention.MAX_KEYS = 1 << 30
    for prefix, own in SEQUENCES:
        prompts: list[Prompt] = []
        for size in generator.normal(own, SPREAD * own, TOKENS[-1] // own):
            shared = prompts[-1].prefix if len(prompts) % 100 else Prefix("", np.zeros(prefix, np.int32))
            prompts.append(Prompt(shared, PromptPart("", np.zeros(max(1, int(size)), np.int32)), PromptPart("", np.zeros(0, np.int32))))
        batch = pack(prompts)
        qkv = torch.randn(len(batch.ids), HEADS, HEAD_DIM, device=device, dtype=torch.bfloat16)
        states = torch.split(qkv, [2 * KV_HEADS, KV_HEADS, KV_HEADS], dim=1)
        general = KernelAttention.of(batch, kernel, device, scale, kernels.merge_attn_states)
        short = short_attention.short_attention(batch, device, scale, 2, general)
        ways = [microseconds(lambda by=by, states=states: by.all_tokens(*states), repeats) for by in (general, short)]
        print(f"suffixes of {own} tokens after prefixes of {prefix}: {ways[0]:8.1f} us -> {ways[1]:8.1f} us")


def embedding(model: str, repeats: int) -> None:
    """The same texts with a new number before each one, with all kernels and without some of them."""
    from qwen3_integrations import Embedder
    from qwen3_integrations.engines.torch import fused_gemm, kernels
    from qwen3_integrations.engines.torch.engine import TorchEngine
    from qwen3_integrations.models.hub import resolve_model

    work = Prose(Path(resolve_model(model, "embed")) / "tokenizer.json").texts(4096, 128, seed=128)
    engine = TorchEngine("embed", model, device="cuda")
    embedder, forward = Embedder(engine), engine._queue._devices[0].runner
    ways: dict[str, Any] = {
        "all kernels": fused_gemm.fused_functions,
        "without attention for short sequences": fused_gemm.fused_functions._replace(short_attention=None),
        "PyTorch's products with separate kernels": kernels.triton_functions,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    salts = itertools.count()
    for repeat in range(1 + repeats):
        for name, functions in ways.items():
            forward._functions = functions  # type: ignore[attr-defined]
            texts = work.salted(next(salts)).texts
            started = time.perf_counter()
            embedder.embed_documents(texts)
            if repeat:
                times[name].append(time.perf_counter() - started)
    for name, seconds in times.items():
        print(f"{name}: {statistics.median(seconds):.3f} s ({min(seconds):.3f} to {max(seconds):.3f})")
    engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None, help="also embed with this embedding model: a folder or a name on the hub")
    parser.add_argument("--repeats", type=int, default=10)
    chosen = parser.parse_args()
    import torch

    from qwen3_integrations.engines.torch.flash_attention import is_hopper

    if not torch.cuda.is_available() or not is_hopper(torch.device("cuda", torch.cuda.current_device())):
        parser.error("the fused kernels need an NVIDIA Hopper GPU (compute capability 9), and PyTorch sees none here")
    if chosen.model:  # first: the other functions change when the kernels are used
        embedding(chosen.model, chosen.repeats)
    with torch.inference_mode():
        functions(chosen.repeats)
        attentions(chosen.repeats)


if __name__ == "__main__":
    main()
