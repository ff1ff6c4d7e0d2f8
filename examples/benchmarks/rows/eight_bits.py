"""FP8 against bfloat16, and against vLLM's own FP8: rates, and the distances to fp32 of the same weights."""

from __future__ import annotations

from compare import Bounds
from inputs import lengths
from peers import reference, vllm
from peers.prompts import INSTRUCTION, pair_ids
from targets import OURS_FP8, VLLM_FP8_IDS, VLLM_IDS
from workbench import Workbench

from rows import ours

TEXTS = {"0.6B": 4096, "4B": 2048, "8B": 1024}
QUERIES, DOCUMENTS = 32, 100
BOUNDS = Bounds(cosine=0.9, difference=0.5)
"""One FP8 product has a relative error of 0.04. Random weights of 36 layers turn it into 1 - cosine up to 0.07 and score differences up to
0.38."""


def fp8_embed(bench: Workbench) -> None:
    """Texts of ~128 tokens."""
    work = bench.prose.texts(bench.count(TEXTS[bench.options.size], 24), 128, seed=128)
    sides, missing = bench.sides(
        ("ours", lambda: ours.embed(bench)),
        (OURS_FP8, lambda: ours.embed_fp8(bench)),
        (VLLM_FP8_IDS, lambda: vllm.embed_ids_fp8(bench)),
        (VLLM_IDS, lambda: vllm.embed_ids(bench)),
    )
    bench.measure(
        f"fp8-embed-{bench.options.size}",
        sides,
        work,
        missing=missing,
        reference=reference.embeddings(bench, work.texts),
        bounds=BOUNDS,
        tokens=lengths(bench.tokenizer("embed"), work.texts),
    )


def fp8_rerank(bench: Workbench) -> None:
    """Prefixes of ~81 tokens, suffixes of ~137."""
    work = bench.prose.searches(bench.count(QUERIES, 2), bench.count(DOCUMENTS, 6), instruction=INSTRUCTION)
    sides, missing = bench.sides(
        ("ours", lambda: ours.rerank(bench)),
        (OURS_FP8, lambda: ours.rerank_fp8(bench)),
        (VLLM_FP8_IDS, lambda: vllm.classify_ids_fp8(bench)),
        (VLLM_IDS, lambda: vllm.classify_ids(bench)),
    )
    bench.measure(
        f"fp8-rerank-{bench.options.size}",
        sides,
        work,
        missing=missing,
        reference=reference.scores(bench, work.pairs, work.instruction),
        bounds=BOUNDS,
        tokens=[len(ids) for ids in pair_ids(bench.folder("rerank"), work.pairs, work.instruction)],
        task="rerank",
        unit="pairs/s",
    )
