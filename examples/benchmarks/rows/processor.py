"""The 0.6B models on the CPU, in bfloat16."""

from __future__ import annotations

from inputs import corpus, lengths
from peers import model_card, reference, sentence_transformers
from peers.prompts import INSTRUCTION, pair_ids
from targets import CROSS_ENCODER, MODEL_CARD, MODEL_CARD_LAST, SENTENCE_TRANSFORMERS_32
from workbench import Workbench

from rows import ours

DOCUMENTS = 100
ABSTRACTS = 256
ABSTRACT_TOKENS = 230
CHECKED = 8
"""Number of items to compare before the measurement: a CPU takes minutes for all."""
BATCH = 32


def cpu_rerank(bench: Workbench) -> None:
    """One query and its documents."""
    work = bench.prose.searches(1, bench.count(DOCUMENTS, 8), instruction=INSTRUCTION)
    sides, missing = bench.sides(
        ("ours", lambda: ours.rerank(bench, "cpu")),
        (MODEL_CARD, lambda: model_card.rerank(bench, "cpu")),
        (MODEL_CARD_LAST, lambda: model_card.rerank_last(bench, "cpu", BATCH)),
        (CROSS_ENCODER, lambda: sentence_transformers.rerank(bench, "cpu")),
    )
    bench.measure(
        "cpu-rerank",
        sides,
        work,
        missing=missing,
        check=work.part(CHECKED),
        reference=reference.scores(bench, work.pairs, work.instruction, CHECKED),
        tokens=[len(ids) for ids in pair_ids(bench.folder("rerank"), work.pairs, work.instruction)],
        task="rerank",
        unit="pairs/s",
        device="cpu",
    )


def cpu_embed(bench: Workbench) -> None:
    """Abstracts from a corpus (`--texts`), otherwise texts of the same length."""
    count = bench.count(ABSTRACTS, 16)
    named = bench.options.texts
    work = corpus(named, count) if named else bench.prose.texts(count, ABSTRACT_TOKENS, seed=230)
    sides, missing = bench.sides(
        ("ours", lambda: ours.embed(bench, "cpu")),
        (SENTENCE_TRANSFORMERS_32, lambda: sentence_transformers.embed(bench, "cpu", BATCH)),
    )
    bench.measure(
        "cpu-embed",
        sides,
        work,
        missing=missing,
        check=work.part(CHECKED),
        reference=reference.embeddings(bench, work.texts, CHECKED),
        tokens=lengths(bench.tokenizer("embed"), work.texts),
        device="cpu",
        corpus=named.name if named else "prose of Python's documentation",
    )
