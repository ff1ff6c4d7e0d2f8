"""A list of models is advice: the request decides whether a server is used."""

from __future__ import annotations

import pytest

from qwen3_integrations import open_engine
from qwen3_integrations.errors import AuthenticationFailed, HandshakeFailed, ModelNotServed, RedirectRefused, RouteNotServed
from tests.unit.gateways import ABSENT, DOCUMENTS, QUERY, TEXTS, embedder, models, ranks, reranker, routes, vectors

FORBIDDEN = (403, {"error": {"message": "route not allowed for this key"}})


def _ranks(body):
    return 200, {"results": ranks(body)}


LISTS = {
    "missing": ABSENT,
    "no key": (401, {"error": "no key"}),
    "forbidden": FORBIDDEN,
    "broken": (500, {"error": "database is locked"}),
    "bad gateway": (502, b"<html>bad gateway</html>"),
    "HTML": (200, b"<html>sign in</html>"),
    "no list": (200, {"data": None}),
    "entries without names": (200, {"data": [{"name": "q"}, "q"]}),
    "empty": models(),
    "wildcard": models("openai/*", "*"),
    "tag": models("q:latest"),
    "case": models("Q"),
    "several others": models("openai/gpt-4o", "bge-m3"),
}


@pytest.mark.parametrize("listed", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("dialect", ["openai", "auto"])
@pytest.mark.parametrize("handshake", ["full", "off"])
def test_an_embedder_is_used_whatever_the_list_says(listed, dialect, handshake):
    with embedder(routes(v1_models=listed, v1_embeddings=vectors), dialect=dialect, handshake=handshake) as (ours, gateway):
        assert ours.embed_documents(TEXTS).shape == (2, 64)
        assert {body["model"] for body in gateway.bodies} == {"q"}


@pytest.mark.parametrize("listed", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("dialect", ["rerank", "auto"])
def test_a_reranker_is_used_whatever_the_list_says(listed, dialect):
    with reranker(routes(v1_models=listed, v1_rerank=_ranks), dialect=dialect) as (ours, _):
        assert [hit.index for hit in ours.rank(QUERY, DOCUMENTS)] == [0, 1]


def test_what_is_unexpected_in_a_list_is_said_once(caplog):
    with embedder(routes(v1_models=models("other"), v1_embeddings=vectors), dialect="openai") as (ours, _):
        ours.embed_documents(TEXTS)
        ours.embed_documents(TEXTS)
        assert caplog.text.count("lists 'other', not 'q': requests are sent with that name") == 1
        assert "lists 'other'" in ours.engine.server.notes[0]


@pytest.mark.parametrize("listed", ["Q", "q:latest", "/models/Qwen3-Embedding-0.6B-Q8_0.gguf"])
def test_the_listed_spelling_is_used_where_the_server_refuses_the_given_one(listed):
    model = "qwen3-embedding" if "gguf" in listed else "q"

    def strict(body):
        return vectors(body) if body["model"] == listed else (404, {"error": {"message": "not found", "code": "model_not_found"}})

    with embedder(routes(v1_models=models(listed), v1_embeddings=strict), model=model, handshake="off") as (ours, gateway):
        ours.embed_documents(TEXTS)
        ours.embed_documents(TEXTS)
        assert gateway.bodies[-1]["model"] == listed
        assert ours.engine.server.model == listed


def test_a_server_that_refuses_a_name_that_it_does_not_list():
    def strict(body):
        return vectors(body) if body["model"] == "bge" else (400, {"error": {"message": "unknown"}})

    for dialect in ("auto", "openai"):
        reply = routes(v1_models=models("bge", "e5"), v1_embeddings=strict)
        with (
            embedder(reply, dialect=dialect) as (ours, _),
            pytest.raises(ModelNotServed, match="does not serve 'q'; it serves 'bge', 'e5'"),
        ):
            ours.embed_documents(TEXTS)


def test_a_server_of_one_other_model_that_ignores_names_is_refused_unless_its_dialect_is_named():
    """Its answer does not show which model it serves. A router's answer does, because it refuses names that it does not know."""
    reply = routes(v1_models=models("bge-m3"), v1_embeddings=vectors)
    with embedder(reply) as (ours, _), pytest.raises(ModelNotServed, match="it serves 'bge-m3'"):
        ours.embed_documents(TEXTS)
    with embedder(reply, dialect="openai") as (ours, _):
        assert len(ours.embed_documents(TEXTS)) == 2

    def router(body):
        return vectors(body) if body["model"] == "q" else (400, {"error": {"message": "no such model"}})

    with embedder(routes(v1_models=models("bge-m3"), v1_embeddings=router)) as (ours, _):
        assert len(ours.embed_documents(TEXTS)) == 2


def test_a_wrong_key_is_still_an_error():
    with embedder(lambda path, body: (401, {"error": "no"})) as (ours, _), pytest.raises(AuthenticationFailed):
        ours.embed_documents(TEXTS)


def test_a_server_with_none_of_the_routes_is_still_an_error():
    with reranker(lambda path, body: ABSENT) as (ours, _), pytest.raises(RouteNotServed, match="none of the usual routes answers"):
        ours.rank(QUERY, DOCUMENTS)


# Claims to be vLLM


def test_a_router_that_claims_to_be_vllm_and_has_no_classify():
    with reranker(routes(v1_models=models("q", owned_by="vllm"), v1_rerank=_ranks)) as (ours, gateway):
        assert [hit.index for hit in ours.rank(QUERY, DOCUMENTS)] == [0, 1]
        assert "dialect='rerank'" in repr(ours.engine)
        ours.rank(QUERY, DOCUMENTS)
        assert gateway.paths.count("/classify") == 1


@pytest.mark.parametrize("answer", [FORBIDDEN, (405, {}), (200, {"data": []})])
def test_a_router_with_a_classify_that_can_not_be_used(answer):
    with reranker(routes(v1_models=models("q", owned_by="vllm"), classify=answer, v1_rerank=_ranks)) as (ours, _):
        assert len(ours.rank(QUERY, DOCUMENTS)) == 2


def test_a_server_with_vllm_s_version_has_classify():
    """An embedder's vLLM has `/v1/rerank` too: it would send cosines instead of scores."""
    reply = routes(v1_models=models("q", owned_by="vllm"), version=(200, {"version": "0.24.0"}), v1_rerank=_ranks)
    with reranker(reply, handshake="off") as (ours, _), pytest.raises(RouteNotServed, match="/classify"):
        ours.rank(QUERY, DOCUMENTS)


def test_a_router_that_claims_to_be_vllm_and_counts_no_tokens(caplog):
    with embedder(routes(v1_models=models("q", owned_by="vllm", max_model_len=512), v1_embeddings=vectors)) as (ours, gateway):
        assert len(ours.embed_documents(["word " * 500, *TEXTS, "word " * 600])) == 4
        assert "does not count tokens" in caplog.text
        ours.embed_documents(["word " * 500])
        assert 1 <= gateway.paths.count("/tokenize") <= 2
        assert ours.engine.server.counts is False


# An adapter in the list of vLLM


def _with_adapter(model, tokens=14):
    """Two models, of which one is an adapter of the other: it has no context of its own, and its name says no family."""
    own = {"id": model, "owned_by": "vllm", "root": "/models/base", "max_model_len": 512}
    listed = {"data": [own, {"id": "ours", "owned_by": "vllm", "root": "/adapters/ours", "parent": model}]}
    return routes(v1_models=(200, listed), v1_embeddings=lambda body: vectors(body, usage={"prompt_tokens": tokens * len(body["input"])}))


def test_an_adapter_has_the_context_and_the_family_of_its_model():
    model = "Qwen/Qwen3-Embedding-0.6B"
    with embedder(_with_adapter(model), model="ours", handshake="counts") as (ours, gateway):
        ours.embed_documents(TEXTS)
        server = ours.engine.server
        assert (server.base, server.others, server.context) == (model, (model,), 511)
        assert server.proof.counts == "right"
        with open_engine("embed", "ours", base_url=gateway.url, **server.options()) as again:
            assert again.server.base == server.base


def test_an_adapter_without_end_token_is_an_error_where_the_family_of_its_model_is_known():
    with (
        embedder(_with_adapter("Qwen/Qwen3-Embedding-0.6B", 13), model="ours", handshake="counts") as (ours, _),
        pytest.raises(HandshakeFailed, match="end token"),
    ):
        ours.embed_documents(TEXTS)
    with embedder(_with_adapter("base", 13), model="ours", handshake="counts") as (ours, _):
        ours.embed_documents(TEXTS)
        assert ours.engine.server.proof.counts == "guessed"


def _elsewhere(call):
    call.answer(302, b"", {"Location": "https://login.example/"})


def _broken(call):
    call.reset()


@pytest.mark.parametrize(
    ("fault", "route"),
    [(_elsewhere, "/info"), (_elsewhere, "/version"), (_broken, "/info"), (_broken, "/version")],
)
@pytest.mark.parametrize("dialect", ["auto", "openai"])
def test_a_route_that_only_describes_the_server_may_fail_in_any_way(fault, route, dialect):
    listed = models("q", owned_by="vllm") if route == "/version" else ABSENT
    with embedder(routes(v1_models=listed, v1_embeddings=vectors), dialect=dialect) as (ours, gateway):
        answer = gateway.everywhere
        gateway.everywhere = lambda call: fault(call) if call.seen.path == route else answer(call)
        assert len(ours.embed_documents(TEXTS)) == 2


def test_a_server_that_redirects_every_route_is_still_an_error():
    with embedder(routes()) as (ours, gateway):
        gateway.everywhere = _elsewhere
        with pytest.raises(RedirectRefused, match=r"login\.example"):
            ours.embed_documents(TEXTS)
