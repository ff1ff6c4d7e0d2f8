"""Checks for every engine: inputs, and the reference's results for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qwen3_integrations import Embedder, Engine, Reranker
from tests.reference import card_query, reference_embeddings, reference_scores
from tests.texts import HOSTILE

QUERIES = [text for text in HOSTILE if len(text) < 80]
LONG = ["一段很长的文字。" * 80, "many plain words " * 80, "e\u0301👍🏽" * 60]
QUERY = "How do I sort a list?"
INSTRUCTION = "Given a question about Python, retrieve the passage\nthat answers it"
BUDGET = 160
TOLERANCE = 1e-5


def check_embeddings(engine: Engine, folder: Path) -> None:
    """Vectors equal the reference's in fp32: documents, queries, custom instructions, cut texts, fewer dimensions."""
    embedder = Embedder(engine, max_tokens=BUDGET)
    assert (
        _difference(embedder.embed_documents(HOSTILE + LONG), reference_embeddings(folder, HOSTILE + LONG, max_tokens=BUDGET)) < TOLERANCE
    )
    assert embedder.usage.truncated >= len(LONG)
    asked = [card_query(query) for query in QUERIES]
    assert _difference(embedder.embed_queries(QUERIES), reference_embeddings(folder, asked)) < TOLERANCE
    asked = [card_query(query, INSTRUCTION) for query in QUERIES]
    assert _difference(embedder.embed_queries(QUERIES, INSTRUCTION), reference_embeddings(folder, asked)) < TOLERANCE
    assert _difference(embedder.embed_queries(QUERIES, ""), reference_embeddings(folder, QUERIES)) < TOLERANCE
    narrow = Embedder(engine, dimensions=32, max_tokens=BUDGET).embed_documents(HOSTILE)
    assert _difference(narrow, reference_embeddings(folder, HOSTILE, dimensions=32, max_tokens=BUDGET)) < TOLERANCE


def check_scores(engine: Engine, folder: Path) -> None:
    """Scores equal the reference's in fp32: one query, many queries, custom instructions, cut documents, the other separator."""
    reranker = Reranker(engine, max_tokens=BUDGET + 40)
    documents = HOSTILE + LONG
    expected = reference_scores(folder, [(QUERY, document) for document in documents], max_tokens=BUDGET + 40)
    ranking = reranker.rank(QUERY, documents)
    scores = np.empty(len(documents), dtype=np.float32)
    for hit in ranking:
        scores[hit.index] = hit.score
    assert _difference(scores, expected) < TOLERANCE
    cut = {hit.index for hit in ranking if hit.truncated}
    assert cut >= set(range(len(HOSTILE), len(documents)))
    pairs = [(query, HOSTILE[-1 - number]) for number, query in enumerate(QUERIES)]
    whole = Reranker(engine)
    assert _difference(whole.score(pairs), reference_scores(folder, pairs)) < TOLERANCE
    assert _difference(whole.score(pairs, INSTRUCTION), reference_scores(folder, pairs, INSTRUCTION)) < TOLERANCE
    wide = Reranker(engine, separator="\n\n")
    assert _difference(wide.score(pairs), reference_scores(folder, pairs, joint="\n\n")) < TOLERANCE


def _difference(ours: np.ndarray, reference: np.ndarray) -> float:
    assert ours.shape == reference.shape
    assert ours.dtype == np.float32
    return float(np.abs(ours - reference).max())
