"""The toy pair that ships: small, safe to load, and better than a coin."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from qwen3_integrations import Embedder, Reranker, open_engine
from tests.models import TINY
from tests.reference import card_query, reference_embeddings, reference_scores

TRIPLES = [json.loads(line) for line in (Path(__file__).parent.parent / "data" / "triples.jsonl").read_text().splitlines()]


def test_the_pair_is_small_and_safe():
    files = [path for path in TINY.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 6_000_000
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md"}


def test_the_embedder_prefers_the_relevant_text():
    assert len(TRIPLES) == 20
    embedder = Embedder(open_engine("embed", "qwen3-tiny-demo", backend="torch", device="cpu", dtype="float32"))
    queries = embedder.embed_queries([triple["query"] for triple in TRIPLES])
    near, far = (embedder.embed_documents([triple[which] for triple in TRIPLES]) for which in ("relevant", "irrelevant"))
    assert ((queries * near).sum(axis=1) > (queries * far).sum(axis=1)).sum() >= 18


def test_the_reranker_prefers_the_relevant_text():
    reranker = Reranker(open_engine("rerank", "qwen3-tiny-demo", backend="torch", device="cpu", dtype="float32"))
    near, far = (reranker.score([(triple["query"], triple[which]) for triple in TRIPLES]) for which in ("relevant", "irrelevant"))
    assert (near > far).sum() >= 18


def test_it_loads_as_the_real_ones_do_in_sentence_transformers_layout():
    """The reference loads it with plain transformers; the files that sentence-transformers reads say the same."""
    modules = json.loads((TINY / "embedding" / "modules.json").read_text())
    assert [module["type"].rpartition(".")[2] for module in modules] == ["Transformer", "Pooling", "Normalize"]
    assert json.loads((TINY / "embedding" / "1_Pooling" / "config.json").read_text())["pooling_mode_lasttoken"] is True
    prompts = json.loads((TINY / "embedding" / "config_sentence_transformers.json").read_text())["prompts"]
    assert prompts["query"] == card_query("")
    vectors = reference_embeddings(TINY / "embedding", ["sort a list", card_query("sort a list")])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert 0 <= reference_scores(TINY / "reranker", [("sort", "a list")])[0] <= 1
