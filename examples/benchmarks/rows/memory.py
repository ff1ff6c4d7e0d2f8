"""Peak memory: of the host while `embed` streams a file, of the GPU at every length."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from peaks import MIB, held_of_gpu, peak_of
from workbench import TINY, Workbench

TEXTS = (10_000, 100_000)
TEXT_TOKENS = {"cuda": 128, "cpu": 24}
"""On a CPU the tiny pair embeds short texts: only the memory of the pipeline is of interest."""
LENGTHS = (128, 512, 2_048, 8_192, 16_384, 32_768)
AT_LEAST = 65_536
"""Tokens embedded at each length."""


def memory(bench: Workbench) -> None:
    """Host memory of the command that embeds files."""
    counts = [bench.count(count, count // 200) for count in TEXTS]
    on_gpu = bench.device.startswith("cuda")
    model = str(bench.folder("embed")) if on_gpu else TINY
    tokens = TEXT_TOKENS["cuda" if on_gpu else "cpu"]
    sides: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            lines = Path(folder) / f"{count}.txt"
            with lines.open("w", encoding="utf-8") as file:
                file.writelines(f"{number} {text}\n" for number, text in enumerate(bench.prose.texts(count, tokens).items))
            words = ["embed", str(lines), "--output", str(lines.with_suffix(".npy")), "--model", model, "--backend", "torch", "--quiet"]
            command = [sys.executable, "-m", "qwen3_integrations.cli", *words, "--option", f"device={bench.device}"]
            peak = peak_of(command)
            size = lines.with_suffix(".npy").stat().st_size
            sides.append({"name": f"peak of {count:,} texts", "value": peak / MIB, "unit": "MiB", "output_mib": round(size / MIB)})
    sides.append({"name": "peak of 100,000 texts / peak of 10,000", "value": sides[1]["value"] / sides[0]["value"], "unit": "x"})
    bench.write("memory-host", sides, model=model, text_tokens=tokens)


def memory_gpu(bench: Workbench) -> None:
    """Embed texts of each length on one engine, and measure the GPU memory of this process.

    No memory is freed between the lengths, so that memory that earlier lengths keep counts too.
    """
    from qwen3_integrations import Embedder

    engine = bench.torch_engine("embed")
    plan = engine.memory
    if plan is None:
        raise RuntimeError("this row needs --device cuda")
    embedder = Embedder(engine, max_tokens=engine.max_tokens)
    sides: list[dict[str, Any]] = []
    for tokens in LENGTHS:
        if tokens > engine.max_tokens:
            continue
        count = max(2, AT_LEAST // tokens)
        embedder.embed_documents(bench.prose.texts(count, tokens, seed=tokens, spread=0.2).texts)
        held = held_of_gpu()
        sides.append(
            {"name": f"{tokens:,} tokens", "value": held / MIB, "unit": "MiB", "tokens": tokens, "plan_mib": round(plan.total_bytes / MIB)}
        )
    worst = max(side["value"] for side in sides) * MIB / plan.total_bytes
    sides.append({"name": "peak / plan, worst length", "value": worst, "unit": "x"})
    bench.write("memory-gpu", sides, plan=str(plan))
