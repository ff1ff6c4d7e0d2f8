"""The handshake's proof: token counts under any name of the model, and scores that are probabilities."""

from __future__ import annotations

import math

import pytest

from qwen3_integrations.engines.http.family import is_known, may_be_same
from qwen3_integrations.errors import HandshakeFailed
from tests.unit.gateways import DOCUMENTS, QUERY, TEXTS, embedder, models, ranks, reranker, routes, vectors

EMBEDDERS = [
    "Qwen/Qwen3-Embedding-0.6B",
    "qwen3-embedding:0.6b",
    "qwen3-embedding",
    "text-embedding-qwen3-embedding-0.6b",
    "Qwen/Qwen3-Embedding-0.6B-GGUF",
    "/models/Qwen3-Embedding-8B-Q8_0.gguf",
    "qwen/qwen3-embedding-8b",
    "hf.co/Qwen/Qwen3-Embedding-4B-GGUF:Q4_K_M",
    "Qwen3_Embedding_0.6B",
]
RERANKERS = [
    "Qwen/Qwen3-Reranker-0.6B",
    "dengcao/Qwen3-Reranker-0.6B:F16",
    "qwen3-reranker",
    "tomaarsen/Qwen3-Reranker-0.6B-seq-cls",
    "ggml-org/Qwen3-Reranker-0.6B-Q8_0-GGUF",
]
OTHERS = ["q", "text-embedding-v4", "qwen3-rerank", "gte-Qwen2-7B-instruct", "bge-m3", "qwen3", "Qwen/Qwen3-VL-Embedding-2B"]


def _counted(tokens):
    return lambda body: vectors(body, usage={"prompt_tokens": tokens, "total_tokens": tokens})


def _scored(tokens=None, change=lambda score: score):
    def reply(body):
        items = [item | {"relevance_score": change(item["relevance_score"])} for item in ranks(body)]
        return 200, {"results": items, **({} if tokens is None else {"usage": {"total_tokens": tokens}})}

    return reply


@pytest.mark.parametrize("name", EMBEDDERS)
def test_names_of_the_embedders(name):
    assert is_known("embed", [name])
    assert not is_known("rerank", [name])


@pytest.mark.parametrize("name", RERANKERS)
def test_names_of_the_rerankers(name):
    assert is_known("rerank", [None, name])
    assert not is_known("embed", [name])


@pytest.mark.parametrize("name", OTHERS)
def test_names_of_other_models(name):
    assert not is_known("embed", [name])
    assert not is_known("rerank", [name])


def test_names_that_may_be_names_of_one_model():
    assert may_be_same("Qwen/Qwen3-Embedding-0.6B", "qwen3-embedding:0.6b")
    assert may_be_same("qwen3-embedding", "/models/Qwen3-Embedding-8B-Q8_0.gguf")
    assert may_be_same("Qwen/Qwen3-Embedding-0.6B", "/data/qwen3-embedding-0.6b")
    assert not may_be_same("Qwen/Qwen3-Embedding-0.6B", "Qwen/Qwen3-Embedding-8B")
    assert not may_be_same("Qwen/Qwen3-Embedding-0.6B", "Qwen/Qwen3-Reranker-0.6B")
    assert not may_be_same("q", "bge-m3")


@pytest.mark.parametrize("name", EMBEDDERS[1:4])
def test_a_missing_end_token_behind_an_alias(name):
    with (
        embedder(routes(v1_models=models(name), v1_embeddings=_counted(13)), model=name) as (ours, _),
        pytest.raises(HandshakeFailed, match="does not append the end token"),
    ):
        ours.embed_documents(TEXTS)


@pytest.mark.parametrize("name", RERANKERS[1:4])
@pytest.mark.parametrize("tokens", [20, 23])
def test_a_plain_join_behind_an_alias(name, tokens):
    with (
        reranker(routes(v1_models=models(name), v1_rerank=_scored(tokens)), model=name) as (ours, _),
        pytest.raises(HandshakeFailed, match="applies no chat template"),
    ):
        ours.rank(QUERY, DOCUMENTS)


def test_the_family_is_known_from_where_the_model_was_loaded():
    listed = models("default", root="/models/Qwen3-Embedding-0.6B")
    with (
        embedder(routes(v1_models=listed, v1_embeddings=_counted(13)), model="default") as (ours, _),
        pytest.raises(HandshakeFailed, match="end token"),
    ):
        ours.embed_documents(TEXTS)


def test_where_the_family_is_guessed_it_is_a_warning(caplog):
    with embedder(routes(v1_models=models("q"), v1_embeddings=_counted(13))) as (ours, _):
        assert len(ours.embed_documents(TEXTS)) == 2
        assert "may not answer as a Qwen3 model must: if q is one, it does not append the end token" in caplog.text
        assert ours.engine.server.proof.counts == "guessed"
    caplog.clear()
    with reranker(routes(v1_models=models("q"), v1_rerank=_scored(20))) as (ours, _):
        assert len(ours.rank(QUERY, DOCUMENTS)) == 2
        assert "applies no chat template" in caplog.text


def test_other_counts_of_other_models_say_nothing(caplog):
    with embedder(routes(v1_models=models("q"), v1_embeddings=_counted(17))) as (ours, _):
        assert len(ours.embed_documents(TEXTS)) == 2
    with reranker(routes(v1_models=models("q"), v1_rerank=_scored(120))) as (ours, _):
        assert len(ours.rank(QUERY, DOCUMENTS)) == 2
    assert "may not answer" not in caplog.text


USAGES = [None, {}, {"total_tokens": 0}, {"prompt_tokens": 0, "total_tokens": 0}, {"prompt_tokens": None}, {"total_tokens": True}, []]


@pytest.mark.parametrize("usage", USAGES)
def test_a_usage_that_does_not_say_anything(usage):
    def embed(body):
        return vectors(body, usage=usage)

    def rank(body):
        return 200, {"results": ranks(body), "usage": usage}

    with embedder(routes(v1_models=models("qwen3-embedding"), v1_embeddings=embed), model="qwen3-embedding") as (ours, _):
        assert len(ours.embed_documents(TEXTS)) == 2
        assert ours.engine.server.proof.counts == "not reported"
    with reranker(routes(v1_models=models("qwen3-reranker"), v1_rerank=rank), model="qwen3-reranker") as (ours, _):
        assert len(ours.rank(QUERY, DOCUMENTS)) == 2


def test_right_counts_are_a_proof():
    with embedder(routes(v1_models=models("qwen3-embedding"), v1_embeddings=_counted(14)), model="qwen3-embedding") as (ours, _):
        ours.embed_documents(TEXTS)
        assert ours.engine.server.proof.counts == "right"
        assert "token counts right" in repr(ours.engine)


def _sigmoid(score):
    return 1 / (1 + math.exp(-score))


@pytest.mark.parametrize("spread", [1.5, 5.0, 9.0])
def test_scores_that_went_through_a_sigmoid_twice(spread):
    def squeezed(score):
        return _sigmoid(min(score * spread, 1.0))

    with (
        reranker(routes(v1_models=models("q"), v1_rerank=_scored(change=squeezed))) as (ours, _),
        pytest.raises(HandshakeFailed, match=r"between 0\.5 and 0\.731.*sigmoid"),
    ):
        ours.rank(QUERY, DOCUMENTS)


@pytest.mark.parametrize("change", [lambda score: 20 * score - 6, lambda score: 10 * score, lambda score: score - 11])
def test_scores_that_are_raw_logits(change):
    with (
        reranker(routes(v1_models=models("q"), v1_rerank=_scored(change=change))) as (ours, _),
        pytest.raises(HandshakeFailed, match="raw logits"),
    ):
        ours.rank(QUERY, DOCUMENTS)


def test_doubtful_scores_around_one_half_are_not_squeezed():
    with reranker(routes(v1_models=models("q"), v1_rerank=_scored(change=lambda score: 0.45 + score))) as (ours, _):
        assert len(ours.rank(QUERY, DOCUMENTS)) == 2


def test_squeezed_scores_of_classify_are_noticed_too():
    def classify(body):
        return 200, {
            "data": [
                {"index": n, "probs": [_sigmoid(float("open it" in text or "Sort a list with" in text or "loads" in text))]}
                for n, text in enumerate(body["input"])
            ]
        }

    with reranker(routes(v1_models=models("q", owned_by="vllm"), version=(200, {"version": "0.24.0"}), classify=classify)) as (ours, _):
        with pytest.raises(HandshakeFailed, match="sigmoid"):
            ours.rank(QUERY, DOCUMENTS)
        assert ours.engine.server is None
