"""SGLang and what only claims to be SGLang: stand-ins for what the real server can't be made to show."""

from __future__ import annotations

import pytest

from qwen3_integrations.errors import RequestRefused, RouteNotServed
from tests.unit.gateways import ABSENT, DOCUMENTS, QUERY, TEXTS, embedder, likeness, models, ranks, reranker, routes, vectors

LISTED = models("q", max_model_len=1024, root="q")
LISTED[1]["data"][0]["owned_by"] = "sglang"


def info(**more):
    return 200, {"model_path": "/models/q", "is_generation": True} | more


def tokens(body):
    return 200, {"tokens": [{"yes": 7, "no": 8}.get(body["prompt"], 9)]}


def score(body):
    scores = [likeness(QUERY, item) for item in body["items"]]
    return 200, {"scores": [[yes, 1 - yes] for yes in scores], "usage": None}


def rerank(body):
    return 200, ranks(body, name="score")


OPEN = {"handshake": "off"}


def test_it_is_found_by_its_answers():
    with reranker(routes(v1_models=LISTED, model_info=info(), tokenize=tokens, v1_score=score, v1_rerank=rerank), **OPEN) as (
        ours,
        gateway,
    ):
        assert [hit.index for hit in ours.rank(QUERY, DOCUMENTS)] == [0, 1]
        assert (ours.engine.server.dialect.name, ours.engine.max_tokens, ours.engine.server.labels) == ("sglang", 1017, (7, 8))
        body = gateway.bodies[-1]
        assert (body["label_token_ids"], body["apply_softmax"], body["item_first"], len(body["items"])) == ([7, 8], True, False, 2)
        assert QUERY in body["query"]
        assert gateway.paths.count("/v1/rerank") == 0


@pytest.mark.parametrize("missing", [404, 405])
def test_where_the_route_is_missing_the_server_s_template_is_used_and_remembered(missing):
    reply = routes(v1_models=LISTED, get_model_info=info(), tokenize=tokens, v1_rerank=rerank, v1_score=lambda _: (missing, {}))
    with reranker(reply, **OPEN) as (ours, gateway):
        assert [hit.index for hit in ours.rank(QUERY, DOCUMENTS)] == [0, 1]
        assert ours.engine.server.options()["server"]["dialect"] == "rerank"
        gateway.seen.clear()
        ours.rank(QUERY, DOCUMENTS)
        assert gateway.paths == ["/v1/rerank"]


def test_a_route_that_refuses_is_not_replaced():
    reply = routes(v1_models=LISTED, model_info=info(), tokenize=tokens, v1_rerank=rerank, v1_score=lambda _: (400, {"message": "no"}))
    with reranker(reply, **OPEN) as (ours, _), pytest.raises(RequestRefused):
        ours.rank(QUERY, DOCUMENTS)


def test_a_claim_proves_nothing():
    """A router passes `owned_by` on, and has none of SGLang's routes."""
    with reranker(routes(v1_models=LISTED, v1_score=score, v1_rerank=rerank), **OPEN) as (ours, gateway):
        ours.rank(QUERY, DOCUMENTS)
        assert "dialect='rerank'" in repr(ours.engine)
        assert "/v1/score" not in gateway.paths
    with embedder(routes(v1_models=LISTED, v1_embeddings=vectors), **OPEN) as (ours, _):
        ours.embed_documents(TEXTS)
        assert "dialect='openai'" in repr(ours.engine)


def test_an_embedding_server_gets_no_request_that_would_end_it():
    reply = routes(v1_models=LISTED, model_info=info(is_generation=False), v1_score=score, v1_rerank=rerank)
    with reranker(reply, **OPEN) as (ours, gateway):
        with pytest.raises(RouteNotServed, match=r"as an embedding model, not for scoring\. Start SGLang without --is-embedding"):
            ours.rank(QUERY, DOCUMENTS)
        assert not {"/v1/score", "/v1/rerank"} & set(gateway.paths)
    with embedder(routes(v1_models=LISTED, model_info=info()), **OPEN) as (ours, _), pytest.raises(RouteNotServed, match="--is-embedding"):
        ours.embed_documents(TEXTS)


def test_a_server_without_a_list_gets_no_request_that_would_end_it():
    with reranker(lambda path, body: (200, ranks(body, name="score")) if path == "/v1/rerank" else ABSENT, **OPEN) as (ours, gateway):
        ours.rank(QUERY, DOCUMENTS)
        assert not [path for path in gateway.paths if path.endswith("/score")]
