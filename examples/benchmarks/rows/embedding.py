"""Embedding in process: many texts, one query, embedded vLLM."""

from __future__ import annotations

from inputs import lengths
from peers import reference, sentence_transformers, vllm
from peers.prompts import query_text
from targets import SENTENCE_TRANSFORMERS, VLLM_IDS, VLLM_TEXTS
from workbench import Workbench

from rows import ours

TEXTS = {128: 4096, 512: 1024}
CALLS = 50
QUERY_TOKENS = 16


def embed(bench: Workbench) -> None:
    """Our torch engine compared with vLLM and sentence-transformers, at two lengths."""
    for tokens in bench.options.tokens or TEXTS:
        work = bench.prose.texts(bench.count(TEXTS.get(tokens, 1024), 24), tokens, seed=tokens)
        sides, missing = bench.sides(
            ("ours", lambda: ours.embed(bench)),
            (VLLM_IDS, lambda: vllm.embed_ids(bench)),
            (VLLM_TEXTS, lambda: vllm.embed_texts(bench)),
            (SENTENCE_TRANSFORMERS, lambda: sentence_transformers.embed(bench)),
        )
        bench.measure(
            f"embed-{tokens}",
            sides,
            work,
            missing=missing,
            reference=reference.embeddings(bench, work.texts),
            tokens=lengths(bench.tokenizer("embed"), work.texts),
        )


def latency(bench: Workbench) -> None:
    """One short query per call; both sides get text."""
    work = bench.prose.texts(bench.count(CALLS, 8), QUERY_TOKENS, seed=7)
    sides, missing = bench.sides(("ours", lambda: ours.embed_query(bench)), (VLLM_TEXTS, lambda: vllm.embed_query(bench)))
    prompts = [query_text(text) for text in work.texts]
    bench.measure("latency", sides, work, missing=missing, reference=reference.embeddings(bench, prompts), unit="calls/s", calls=len(work))


def embedded(bench: Workbench) -> None:
    """VLLM through our classes with text input, compared with vLLM alone."""
    work = bench.prose.texts(bench.count(TEXTS[128], 24), 128, seed=128)
    sides, missing = bench.sides(
        ("ours", lambda: ours.embed_vllm(bench)),
        (VLLM_IDS, lambda: vllm.embed_ids(bench)),
        (VLLM_TEXTS, lambda: vllm.embed_texts(bench)),
    )
    bench.measure(
        "embedded",
        sides,
        work,
        missing=missing,
        reference=reference.embeddings(bench, work.texts),
        tokens=lengths(bench.tokenizer("embed"), work.texts),
    )
