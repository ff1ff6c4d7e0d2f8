"""Addresses: versions, complete endpoints, routes at the root, and routes that no rule finds."""

from __future__ import annotations

import pytest

from qwen3_integrations.errors import ConfigError, RouteNotServed
from tests.unit.gateways import ABSENT, DOCUMENTS, QUERY, TEXTS, embedder, models, ranks, reranker, vectors


def _only(path, make, listed=None):
    def reply(asked, body):
        if asked == path:
            return make(body)
        return models("q") if listed is not None and asked == listed else ABSENT

    return reply


def _ranks(body):
    return 200, {"results": ranks(body)}


EMBEDDINGS = [
    ("", "/v1/embeddings"),
    ("", "/embeddings"),
    ("/v1", "/v1/embeddings"),
    ("/v1", "/embeddings"),
    ("/api/v3", "/api/v3/embeddings"),
    ("/v3/", "/v3/embeddings"),
    ("/compatible-mode/v1", "/compatible-mode/v1/embeddings"),
    ("/api/v1", "/api/v1/embeddings"),
    ("/team/v2", "/team/v2/v1/embeddings"),
    ("/v1/embeddings", "/v1/embeddings"),
    ("/api/v3/embeddings", "/api/v3/embeddings"),
    ("/embeddings", "/embeddings"),
    ("/embeddings", "/embeddings/v1/embeddings"),
    ("/openai", "/openai/v1/embeddings"),
]
RANKINGS = [
    ("", "/v1/rerank"),
    ("", "/rerank"),
    ("", "/reranks"),
    ("/v2", "/v2/rerank"),
    ("/v2/rerank", "/v2/rerank"),
    ("/v1/rerank", "/v1/rerank"),
    ("/v1", "/rerank"),
    ("/compatible-api/v1", "/compatible-api/v1/reranks"),
    ("/compatible-api/v1/reranks", "/compatible-api/v1/reranks"),
    ("/rerank", "/rerank/v1/rerank"),
]


@pytest.mark.parametrize("dialect", ["auto", "openai"])
@pytest.mark.parametrize("handshake", ["full", "off"])
@pytest.mark.parametrize(("base", "path"), EMBEDDINGS)
def test_routes_of_embeddings(base, path, dialect, handshake):
    with embedder(_only(path, vectors), base, dialect=dialect, handshake=handshake) as (ours, gateway):
        assert ours.embed_documents(TEXTS).shape == (2, 64)
        before = len(gateway.seen)
        ours.embed_documents(TEXTS)
        assert len(gateway.seen) == before + 1
        assert ours.engine.server.url == gateway.url + path


@pytest.mark.parametrize("dialect", ["auto", "rerank"])
@pytest.mark.parametrize(("base", "path"), RANKINGS)
def test_routes_of_rankings(base, path, dialect):
    with reranker(_only(path, _ranks), base, dialect=dialect) as (ours, gateway):
        assert [hit.index for hit in ours.rank(QUERY, DOCUMENTS)] == [0, 1]
        assert ours.engine.server.url == gateway.url + path


@pytest.mark.parametrize(("listed", "path"), [("/v1/models", "/embeddings"), ("/models", "/v1/embeddings")])
def test_a_list_of_models_in_another_place_than_the_route(listed, path):
    with embedder(_only(path, vectors, listed)) as (ours, _):
        assert len(ours.embed_documents(TEXTS)) == 2


def test_web_pages_for_routes_that_do_not_exist():
    def reply(path, body):
        return vectors(body) if path == "/v3/embeddings" else (200, b"<!doctype html><title>Console</title>")

    with embedder(reply, "/v3") as (ours, _):
        assert len(ours.embed_documents(TEXTS)) == 2


@pytest.mark.parametrize("base", ["", "/prefix"])
@pytest.mark.parametrize("path", ["/inference/embed", "inference/embed"])
def test_a_route_by_name(base, path):
    with embedder(_only(f"{base}/inference/embed", vectors), base, path=path) as (ours, gateway):
        assert len(ours.embed_documents(TEXTS)) == 2
        assert gateway.paths.count(f"{base}/inference/embed") == len(gateway.bodies)


def test_a_route_by_name_chooses_its_dialect():
    def classify(body):
        return 200, {"data": [{"index": n, "probs": [0.9 if "open it" in text else 0.1]} for n, text in enumerate(body["input"])]}

    with reranker(_only("/pool/classify", classify), path="/pool/classify", handshake="off") as (ours, _):
        assert ours.rank(QUERY, DOCUMENTS)[0].index == 0
        assert "dialect='vllm'" in repr(ours.engine)


@pytest.mark.parametrize("path", ["", "/", 3, "/embeddings?key=1", "/a#b"])
def test_paths_that_can_not_be_used(path):
    with pytest.raises(ConfigError, match="path must be the path of a route"), embedder(_only("", vectors), path=path):
        pass


@pytest.mark.parametrize(
    "words",
    ["Unexpected endpoint or method. (POST /v1/rerank)", "Cannot POST /v1/rerank", "Route not found", "unknown endpoint /v1/rerank"],
)
def test_a_missing_route_that_is_answered_with_200(words):
    """LM Studio does so. It is a missing route, and not a failure that is asked for again."""

    def reply(path, body):
        if path.endswith("models"):
            return models("q")
        return (200, {"results": ranks(body)}) if path == "/rerank" else (200, {"error": words})

    with reranker(reply, max_retries=4) as (ours, gateway):
        assert ours.rank(QUERY, DOCUMENTS)[0].index == 0
    with reranker(lambda path, body: models("q") if path.endswith("models") else (200, {"error": words}), max_retries=4) as (ours, gateway):
        with pytest.raises(RouteNotServed, match="rerank"):
            ours.rank(QUERY, DOCUMENTS)
        assert len(gateway.paths) == len(set(gateway.paths))
