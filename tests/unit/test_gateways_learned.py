"""What was learned about a server is one value: shown, kept as JSON, and loaded again."""

from __future__ import annotations

import json

import pytest

from qwen3_integrations import open_engine
from qwen3_integrations.core.embedder import Embedder
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.langchain import Qwen3Embeddings, Qwen3Rerank
from qwen3_integrations.verification import verify
from tests.unit.gateways import ABSENT, DOCUMENTS, QUERY, TEXTS, Gateway, embedder, models, ranks, reranker, vectors

MANY = [f"text number {number}" for number in range(9)]


def _float_only(path, body):
    if path != "/api/v3/embeddings":
        return ABSENT
    return vectors(body) if body.get("encoding_format") == "float" else (400, {"error": {"message": "base64"}})


def _plain_only(path, body):
    if path != "/v1/reranks":
        return ABSENT
    return (400, {}) if set(body) - {"model", "query", "documents"} else (200, {"results": ranks(body)})


def test_before_the_first_call_nothing_is_known():
    with embedder(_float_only, "/api/v3") as (ours, _):
        assert ours.engine.server is None
        assert "server=" not in repr(ours.engine)


def test_an_engine_with_what_another_learned_makes_no_first_contact():
    with embedder(_float_only, "/api/v3") as (ours, gateway):
        expected = ours.embed_documents(TEXTS)
        options = json.loads(json.dumps(ours.engine.server.options()))
        gateway.seen.clear()
        with open_engine("embed", "q", base_url=gateway.url + "/api/v3", **options) as engine:
            assert engine.server == ours.engine.server
            assert (Embedder(engine).embed_documents(TEXTS) == expected).all()
            assert engine.dimensions == 64
        assert gateway.paths == ["/api/v3/embeddings"]


def test_a_component_takes_it_as_engine_options():
    with embedder(_float_only, "/api/v3") as (ours, gateway):
        ours.embed_documents(TEXTS)
        gateway.seen.clear()
        url = gateway.url + "/api/v3"
        component = Qwen3Embeddings(base_url=url, model="q", engine_options=ours.engine.server.options())
        assert len(component.embed_documents(TEXTS)) == 2
        assert len(gateway.seen) == 1
    with reranker(_plain_only) as (ranker, gateway):
        ranker.rank(QUERY, DOCUMENTS)
        gateway.seen.clear()
        component = Qwen3Rerank(base_url=gateway.url, model="q", engine_options=ranker.engine.server.options())
        assert len(component.rerank(DOCUMENTS, QUERY)) == 2
        assert gateway.paths == ["/v1/reranks"]


def test_that_a_server_ignores_instructions_is_kept():
    with reranker(_plain_only) as (ours, gateway):
        ours.rank(QUERY, DOCUMENTS)
        component = Qwen3Rerank(base_url=gateway.url, model="q", instruction="Find fruit.", engine_options=ours.engine.server.options())
        with pytest.raises(ConfigError, match="would have no effect"):
            component.rerank(DOCUMENTS, QUERY)


def test_what_was_learned_is_shown():
    with reranker(_plain_only) as (ours, gateway):
        ours.rank(QUERY, DOCUMENTS)
        assert "server='/v1/reranks; handshake full, token counts not reported; body: bare; no instruction')" in repr(ours.engine)
        assert str(ours.engine.server).startswith(f"q on {gateway.url}/v1/reranks, dialect rerank; handshake full")


def test_a_report_has_what_was_learned():
    with Gateway(_float_only) as gateway:
        report = verify(gateway.url + "/api/v3", "embed", "q")
        assert "learned: /api/v3/embeddings; handshake full, token counts not reported; body: float" in str(report)
        assert "body: float" in report._repr_html_()
        options = report.server.options()
        gateway.seen.clear()
        with open_engine("embed", "q", base_url=gateway.url + "/api/v3", **options) as engine:
            assert len(Embedder(engine).embed_documents(TEXTS)) == 2
        assert len(gateway.seen) == 1


def test_a_route_by_name_is_verified():
    with Gateway(lambda path, body: vectors(body) if path == "/pool/embed" else ABSENT) as gateway:
        report = verify(gateway.url, "embed", "q", path="/pool/embed")
        assert report.server.url == f"{gateway.url}/pool/embed"
        assert report["handshake"].state == "passed"


def _known():
    with embedder(_float_only, "/api/v3") as (ours, gateway):
        ours.embed_documents(TEXTS)
        return gateway.url + "/api/v3", ours.engine.server.options()["server"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"url": "http://other.example/v1/embeddings"}, "describes http://other.example"),
        ({"root": "http://other.example"}, "describes http://other.example"),
        ({"asked": "another"}, "describes a server of 'another'"),
        ({"task": "rerank"}, "describes a server for 'rerank'"),
        ({"dialect": "grpc"}, "unknown dialect 'grpc'"),
        ({"form": "xml"}, "unknown form 'xml'"),
        ({"mdoel": "q"}, "unknown field 'mdoel'.*model"),
        ({"max_items": 0}, "field of another type"),
        ({"context": "long"}, "field of another type"),
        ({"proof": {"wdith": 3}}, "can't be read"),
        ({"proof": {"width": -1}}, "field of another type"),
        ({"url": None}, "field of another type"),
    ],
)
def test_values_that_can_not_be_used(change, says):
    url, values = _known()
    with pytest.raises(ConfigError, match=f"server.*{says}"):
        open_engine("embed", "q", base_url=url, server=values | change)


@pytest.mark.parametrize("value", ["text", 3, ["url"]])
def test_values_of_another_type(value):
    with pytest.raises(ConfigError, match=r"server must be the value that engine.server.options"):
        open_engine("embed", "q", base_url="http://127.0.0.1:9", server=value)


def test_limits_that_the_server_states_are_kept():
    def few(path, body):
        if path != "/v1/embeddings":
            return ABSENT
        return vectors(body) if len(body["input"]) < 4 else (413, {"error": {"message": "batch size 9 > maximum allowed batch size 3"}})

    with embedder(few, "/v1", handshake="off") as (ours, gateway):
        expected = ours.embed_documents(MANY)
        assert ours.engine.server.max_items == 3
        assert "at most 3 items per request" in repr(ours.engine)
        gateway.seen.clear()
        with open_engine("embed", "q", base_url=gateway.url + "/v1", **ours.engine.server.options()) as engine:
            assert (Embedder(engine).embed_documents(MANY) == expected).all()
        assert [len(body["input"]) for body in gateway.bodies] == [3, 3, 3]


@pytest.mark.parametrize("most", [1, 2, 8])
def test_a_server_that_accepts_few_texts_in_a_request_is_checked_too(most):
    def reply(path, body):
        if path.endswith("models"):
            return models("q")
        if len(body["input"]) > most:
            return 422, {"error": f"batch size {len(body['input'])} > maximum allowed batch size {most}", "error_type": "Validation"}
        return vectors(body)

    with embedder(reply) as (ours, _):
        assert len(ours.embed_documents(MANY)) == len(MANY)
        assert ours.engine.server.max_items == most
