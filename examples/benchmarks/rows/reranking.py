"""Reranking in this process: prompts with short and with long prefixes."""

from __future__ import annotations

import random

from peers import model_card, reference, sentence_transformers, vllm
from peers.prompts import INSTRUCTION, pair_ids
from targets import CROSS_ENCODER, MODEL_CARD, MODEL_CARD_LAST, UNSHARED, VLLM_IDS, VLLM_TEXTS
from workbench import Workbench

from rows import ours

QUERIES = 32
DOCUMENTS = 100
LONG_INSTRUCTION = 540
LONG_QUERY = 60
"""Lengths in tokens; 600 in total."""


def rerank(bench: Workbench) -> None:
    """Our torch engine compared with vLLM, the model card and sentence-transformers: prefixes of ~81 tokens, suffixes of ~137."""
    work = bench.prose.searches(bench.count(QUERIES, 2), bench.count(DOCUMENTS, 6), instruction=INSTRUCTION)
    sides, missing = bench.sides(
        ("ours", lambda: ours.rerank(bench)),
        (VLLM_IDS, lambda: vllm.classify_ids(bench)),
        (VLLM_TEXTS, lambda: vllm.classify_texts(bench)),
        (MODEL_CARD, lambda: model_card.rerank(bench)),
        (MODEL_CARD_LAST, lambda: model_card.rerank_last(bench)),
        (CROSS_ENCODER, lambda: sentence_transformers.rerank(bench)),
    )
    bench.measure(
        "rerank",
        sides,
        work,
        missing=missing,
        reference=reference.scores(bench, work.pairs, work.instruction),
        tokens=[len(ids) for ids in pair_ids(bench.folder("rerank"), work.pairs, work.instruction)],
        task="rerank",
        unit="pairs/s",
    )


def rerank_long_head(bench: Workbench) -> None:
    """600 tokens of instruction and query before each document: computed once per query, compared with once per pair."""
    tokens = LONG_INSTRUCTION if not bench.small else LONG_INSTRUCTION // 4
    instruction = bench.prose.text(random.Random(11), tokens)
    work = bench.prose.searches(
        bench.count(QUERIES, 2), bench.count(DOCUMENTS, 6), instruction=instruction, query_tokens=bench.count(LONG_QUERY, 16), seed=12
    )
    sides, missing = bench.sides(
        ("ours", lambda: ours.rerank(bench)),
        (UNSHARED, lambda: ours.rerank_unshared(bench)),
        (VLLM_IDS, lambda: vllm.classify_ids(bench)),
    )
    bench.measure(
        "rerank-long-head",
        sides,
        work,
        missing=missing,
        reference=reference.scores(bench, work.pairs, work.instruction),
        tokens=[len(ids) for ids in pair_ids(bench.folder("rerank"), work.pairs, work.instruction)],
        task="rerank",
        unit="pairs/s",
    )
