"""Forms of requests: encodings of vectors, and the fields of reranking requests, each in the format of one kind of server.

The formats are rebuilt from the servers' documentation.
"""

from __future__ import annotations

import json

import openai
import pytest

from qwen3_integrations import Embedder
from qwen3_integrations.engines.http.engine import HttpEngine
from qwen3_integrations.engines.http.library import http_library
from qwen3_integrations.errors import BadReply, ConfigError, EngineError, RequestRefused
from tests.unit.gateways import ABSENT, DOCUMENTS, QUERY, TEXTS, embedder, models, ranks, reranker, routes, vectors

REFUSED = {"error": {"message": "Setting {'encoding_format': 'base64'} is not supported"}}


@pytest.mark.parametrize("status", [400, 422, 500])
@pytest.mark.parametrize(("refused", "form"), [(("base64",), "float"), (("base64", "float"), "no encoding")])
@pytest.mark.parametrize("handshake", ["full", "off"])
def test_an_encoding_that_is_refused_is_not_sent_again(status, refused, form, handshake):
    def strict(body):
        return (status, REFUSED) if body.get("encoding_format") in refused else vectors(body)

    with embedder(routes(v1_models=models("q"), v1_embeddings=strict), handshake=handshake) as (ours, gateway):
        assert ours.embed_documents(TEXTS).shape == (2, 64)
        ours.embed_documents(TEXTS)
        sent = [body.get("encoding_format") for body in gateway.bodies]
        assert sent.count("base64") == 1
        assert ours.engine.server.form == form
        assert f"body: {form}" in repr(ours.engine)


@pytest.mark.parametrize("nothing", [None, "", [], {}])
def test_an_encoding_that_is_answered_with_nothing(nothing):
    def empty(body):
        if body.get("encoding_format") != "base64":
            return vectors(body)
        return 200, {"data": [{"index": index, "embedding": nothing} for index in range(len(body["input"]))]}

    with embedder(routes(v1_models=models("q"), v1_embeddings=empty)) as (ours, _):
        assert ours.embed_documents(TEXTS).shape == (2, 64)
        assert ours.engine.server.form == "float"


def test_a_form_that_fails_is_not_paid_for_with_all_retries():
    def reply(path, body):
        if path.endswith("models"):
            return models("q")
        return (500, {"error": {"message": "unknown field"}}) if "encoding_format" in body else vectors(body)

    with embedder(reply, max_retries=4) as (ours, gateway):
        ours.embed_documents(TEXTS)
        assert ours.engine.server.form == "no encoding"
        assert sum("encoding_format" in body for body in gateway.bodies) <= 4


def test_a_server_that_fails_in_all_forms_for_a_moment_is_asked_again():
    """As a server that is not ready yet: the retries of a request are made, once and not for each form."""
    failures = 8

    def reply(path, body):
        nonlocal failures
        if path.endswith("models"):
            return models("q")
        failures -= 1
        return (500, {"error": {"message": "not ready"}}) if failures > 0 else vectors(body)

    with embedder(reply, max_retries=4) as (ours, _):
        ours.embed_documents(TEXTS)
        assert ours.engine.server.form == "standard"


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_with_all_retries(status):
    failures = 4

    def reply(path, body):
        nonlocal failures
        if path.endswith("models"):
            return models("q")
        failures -= 1
        return (status, {"error": {"message": "busy"}}) if failures >= 0 else vectors(body)

    with embedder(reply, max_retries=4) as (ours, _):
        ours.embed_documents(TEXTS)
        assert ours.engine.server.form == "standard"


def test_a_text_that_is_refused_in_every_form_is_refused_with_the_first_words():
    def refusing(body):
        return 400, {"error": {"message": f"refused {body.get('encoding_format')}"}}

    with embedder(routes(v1_embeddings=refusing), dialect="openai", handshake="off") as (ours, gateway):
        with pytest.raises(RequestRefused, match="refused base64"):
            ours.embed_documents(["text"])
        assert gateway.paths.count("/v1/embeddings") >= 3


def test_a_form_that_was_accepted_is_the_only_one_that_is_sent():
    def short_only(body):
        return (400, {"error": {"message": "too long"}}) if any(len(text) > 100 for text in body["input"]) else vectors(body)

    with embedder(routes(v1_embeddings=short_only), dialect="openai", handshake="off") as (ours, gateway):
        ours.embed_documents(TEXTS)
        with pytest.raises(RequestRefused):
            ours.embed_documents(["x" * 200])
        assert {body["encoding_format"] for body in gateway.bodies} == {"base64"}


def test_token_ids_that_are_refused_are_sent_as_text(tiny_embedder):
    """A router that claims to be vLLM, in front of a server that accepts texts only."""

    def texts_only(body):
        return vectors(body) if all(isinstance(text, str) for text in body["input"]) else (400, {"detail": "input must be a string"})

    reply = routes(v1_models=models("q", owned_by="vllm"), v1_embeddings=texts_only)
    with embedder(reply, tokenizer=tiny_embedder, handshake="off") as (ours, gateway):
        assert len(ours.embed_documents(["plain", "with <|im_end|> inside"])) == 2
        ours.embed_documents(["again <|im_end|>"])
        ids = [body for body in gateway.bodies if not all(isinstance(text, str) for text in body["input"])]
        assert 1 <= len(ids) <= 3
        assert gateway.bodies[-1]["input"] == ["again < |im_end|>"]
        assert ours.engine.server.ids is False


# Reranking: each server refuses fields that it does not know


def _server(path, fields, answer, *, documents="documents", status=400, needs=()):
    def reply(asked, body):
        if asked != path:
            return ABSENT
        if set(body) - set(fields) or not {"query", documents, *needs} <= set(body):
            return status, {"detail": f"unknown or missing fields in {sorted(body)}"}
        return 200, answer(ranks(body, documents=documents), body)

    return reply


PLAIN = {"model", "query", "documents", "top_n", "return_documents"}


def _renamed(items):
    return [{"index": item["index"], "score": item["relevance_score"]} for item in items]


FORMATS = {
    "Cohere v1": ("/v1/rerank", PLAIN | {"rank_fields", "max_chunks_per_doc"}, lambda items, body: {"results": items, "meta": {}}, "plain"),
    "Cohere v2": (
        "/v2/rerank",
        {"model", "query", "documents", "top_n", "max_tokens_per_doc", "priority"},
        lambda items, body: {"id": "x", "results": items, "meta": {"billed_units": {"search_units": 1}}},
        "bare",
    ),
    "Jina": ("/v1/rerank", PLAIN, lambda items, body: {"results": items, "usage": {"total_tokens": 0}}, "plain"),
    "Voyage": (
        "/v1/rerank",
        {"model", "query", "documents", "top_k", "return_documents", "truncation"},
        lambda items, body: {"object": "list", "data": items},
        "bare",
    ),
    "vLLM's /rerank": ("/rerank", PLAIN | {"instruction", "truncate_prompt_tokens"}, lambda items, body: {"results": items}, "instruction"),
    "SGLang": ("/v1/rerank", PLAIN | {"instruct"}, lambda items, body: _renamed(items), "instruct"),
    "Infinity": ("/rerank", PLAIN | {"raw_scores"}, lambda items, body: {"object": "rerank", "results": items}, "plain"),
    "Xinference": ("/v1/rerank", PLAIN | {"max_chunks_per_doc", "return_len"}, lambda items, body: {"results": items, "meta": {}}, "plain"),
    "LiteLLM": ("/rerank", PLAIN | {"rank_fields", "max_tokens_per_doc"}, lambda items, body: {"results": items, "meta": {}}, "plain"),
    "SiliconFlow": (
        "/v1/rerank",
        PLAIN | {"instruction", "overlap_tokens"},
        lambda items, body: {"results": items, "meta": {"tokens": {"input_tokens": 20}}},
        "instruction",
    ),
    "llama.cpp": ("/v1/rerank", {"model", "query", "documents", "top_n"}, lambda items, body: {"object": "list", "results": items}, "bare"),
    "DashScope": (
        "/v1/reranks",
        {"model", "query", "documents", "top_n", "instruct"},
        lambda items, body: {"object": "list", "results": items},
        "bare",
    ),
}


@pytest.mark.parametrize("status", [400, 422, 500])
@pytest.mark.parametrize(("path", "fields", "answer", "form"), FORMATS.values(), ids=FORMATS)
def test_a_strict_reranker_gets_only_fields_that_it_knows(path, fields, answer, form, status):
    base = path.rpartition("/")[0]
    with reranker(_server(path, fields, answer, status=status), base) as (ours, gateway):
        assert [hit.index for hit in ours.rank(QUERY, DOCUMENTS)] == [0, 1]
        tried = len(gateway.seen)
        ours.rank(QUERY, DOCUMENTS)
        assert len(gateway.seen) == tried + 1
        assert set(gateway.bodies[-1]) <= fields
        assert ours.engine.server.form == form


@pytest.mark.parametrize("described", [True, False])
def test_text_embeddings_inference(described):
    reply = _server(
        "/rerank", {"query", "texts", "raw_scores", "truncate"}, lambda items, body: _renamed(items), documents="texts", status=422
    )

    def with_info(path, body):
        info = {"model_id": "q", "max_input_length": 512, "max_client_batch_size": 32}
        return (200, info) if path == "/info" and described else reply(path, body)

    with reranker(with_info, request_size=64) as (ours, gateway):
        assert len(ours.rank(QUERY, [*DOCUMENTS] * 25)) == 50
        assert ours.engine.server.form == "texts"
        if described:
            assert max(len(body["texts"]) for body in gateway.bodies) == 32
            assert ours.engine.server.max_items == 32


@pytest.mark.parametrize("base", ["/api/v1", "/api/v1/services/rerank/text-rerank/text-rerank"])
def test_dashscope_s_own_format(base):
    def nested(path, body):
        if path != "/api/v1/services/rerank/text-rerank/text-rerank":
            return ABSENT
        if set(body) != {"model", "input", "parameters"}:
            return 400, {"code": "InvalidParameter", "message": "input is required"}
        return 200, {"output": {"results": ranks(body["input"])}, "usage": {"total_tokens": 0}, "request_id": "x"}

    with reranker(nested, base) as (ours, gateway):
        assert [hit.index for hit in ours.rank(QUERY, DOCUMENTS)] == [0, 1]
        assert gateway.bodies[-1]["parameters"]["return_documents"] is False
        assert ours.engine.server.form == "nested"


@pytest.mark.parametrize("host", ["dashscope-intl.aliyuncs.com", "ws-1.ap-southeast-1.maas.aliyuncs.com"])
def test_dashscope_gets_ten_texts_in_a_request(host):
    sizes = []

    def answer(request):
        if not str(request.url).endswith("/compatible-mode/v1/embeddings"):
            return http_library().Response(404, json={})
        body = json.loads(request.content)
        sizes.append(len(body["input"]))
        status, content = vectors(body) if sizes[-1] <= 10 else (400, {"message": "batch size is invalid"})
        return http_library().Response(status, json=content)

    transport = http_library().MockTransport(answer)
    client = openai.AsyncOpenAI(api_key="sk-1", http_client=openai.DefaultAsyncHttpxClient(transport=transport), max_retries=0)
    engine = HttpEngine("embed", "text-embedding-v4", base_url=f"https://{host}/compatible-mode/v1", client=client)
    try:
        assert len(Embedder(engine).embed_documents([f"text {number}" for number in range(45)])) == 45
        assert max(sizes) == 10
        assert "at most 10 items per request" in repr(engine)
    finally:
        engine.close()


def test_a_lenient_reranker_gets_both_names_of_the_instruction_at_once():
    with reranker(routes(v1_models=models("q"), v1_rerank=lambda body: (200, {"results": ranks(body)}))) as (ours, gateway):
        ours.rank(QUERY, DOCUMENTS)
        assert len({frozenset(body) for body in gateway.bodies}) == 1
        assert set(gateway.bodies[-1]) == PLAIN | {"instruction", "instruct"}


def test_an_instruction_that_no_accepted_field_carries_is_refused():
    reply = _server("/v1/rerank", PLAIN, lambda items, body: {"results": items})
    with reranker(reply, handshake="off") as (ours, _):
        ours.instruction = "Find fruit."
        for _ in range(2):
            with pytest.raises(ConfigError, match=r"'Find fruit.' would have no effect"):
                ours.rank(QUERY, DOCUMENTS)


# Indexes


def test_indexes_in_other_spellings():
    def spelled(body):
        items = vectors(body)[1]["data"]
        return 200, {"data": [item | {"index": [float, str][item["index"] % 2](item["index"])} for item in reversed(items)]}

    with embedder(routes(v1_models=models("q"), v1_embeddings=spelled)) as (ours, _):
        assert ours.embed_documents(TEXTS).shape == (2, 64)


def test_vectors_without_index_are_taken_in_order():
    def unindexed(body):
        return 200, {"data": [{"embedding": item["embedding"]} for item in vectors(body)[1]["data"]]}

    with embedder(routes(v1_models=models("q"), v1_embeddings=unindexed)) as (ours, _):
        assert ours.embed_documents(TEXTS).shape == (2, 64)


@pytest.mark.parametrize("indexes", [[0, None], [0, 0], [0, 2], [True, False], ["a", "b"], [0.5, 1]])
def test_indexes_that_can_not_be_right(indexes):
    def wrong(body):
        items = vectors(body)[1]["data"]
        return 200, {"data": [item | {"index": index} for item, index in zip(items, indexes, strict=False)]}

    with embedder(routes(v1_models=models("q"), v1_embeddings=wrong), handshake="off") as (ours, _), pytest.raises(BadReply, match="index"):
        ours.embed_documents(TEXTS)


@pytest.mark.parametrize("handshake", ["full", "off"])
def test_scores_without_index_are_used_only_if_they_are_in_the_order_of_the_documents(handshake):
    def ordered(body):
        return 200, {"results": [{"score": item["relevance_score"]} for item in sorted(ranks(body), key=lambda item: item["index"])]}

    def by_score(body):
        return 200, {"results": [{"score": item["relevance_score"]} for item in ranks(body)]}

    backwards = DOCUMENTS[::-1]
    with reranker(routes(v1_models=models("q"), v1_rerank=ordered), handshake=handshake) as (ours, _):
        assert [hit.index for hit in ours.rank(QUERY, backwards)] == [1, 0]
        assert "results without index" in repr(ours.engine)
    with (
        reranker(routes(v1_models=models("q"), v1_rerank=by_score), handshake=handshake) as (ours, _),
        pytest.raises(BadReply, match="no index, and are not in the order"),
    ):
        ours.rank(QUERY, backwards)


@pytest.mark.parametrize(
    "content", [{"results": [], "error": "boom"}, {"data": [], "error": {"message": "boom"}}, {"output": None, "error": "boom"}]
)
def test_an_error_beside_an_empty_result_keeps_the_server_s_words(content):
    with (
        reranker(lambda path, body: models("q") if path.endswith("models") else (200, content)) as (ours, _),
        pytest.raises(EngineError, match="boom"),
    ):
        ours.rank(QUERY, DOCUMENTS)


def test_a_connection_that_breaks_for_another_form_does_not_hide_why_the_first_was_refused():
    with reranker(lambda path, body: models("q") if path.endswith("models") else (400, {"error": "no such rank"})) as (ours, gateway):
        answer = gateway.everywhere
        gateway.everywhere = lambda call: call.reset() if call.seen.body and "instruction" not in call.seen.body else answer(call)
        with pytest.raises(RequestRefused, match="no such rank"):
            ours.rank(QUERY, DOCUMENTS)
