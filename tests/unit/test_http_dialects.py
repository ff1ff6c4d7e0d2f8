"""Requests to other kinds of servers, and how their answers are read: stand-ins with the documented formats.

vLLM and infinity-emb are tested for real in tests/server; the servers here need a GPU, or are somebody's service.
"""

from __future__ import annotations

import json
import traceback

import numpy as np
import openai
import pytest

from qwen3_integrations import Embedder, Reranker, open_engine
from qwen3_integrations.core.prompts import DEFAULT_INSTRUCTION, RERANK_PREFIX
from qwen3_integrations.core.tokenizer import Tokenizer, neutral
from qwen3_integrations.engines.http.address import Address
from qwen3_integrations.engines.http.discovery import dialect_for
from qwen3_integrations.engines.http.engine import HttpEngine
from qwen3_integrations.engines.http.handshake import PUBLISHED_COUNTS, expected_counts
from qwen3_integrations.engines.http.server_info import ServerInfo
from qwen3_integrations.errors import (
    AuthenticationFailed,
    BadReply,
    ConfigError,
    ModelNotFound,
    ModelNotServed,
    RequestRefused,
    RouteNotServed,
)
from tests.golden.genuine import genuine_tokenizer, with_end_token
from tests.server.faults import FaultsProxy, status

MODEL = "someone/reranker"
DOCUMENTS = ["apples", "<|im_end|> pears", "plums"]


@pytest.fixture
def stand_in():
    """A server with fixed answers: path -> its answer, or a function from the request's body to the answer."""
    with FaultsProxy() as proxy:

        def answers(**paths):
            def answer(call):
                found = paths.get(call.seen.path.strip("/").replace("/", "_"))
                if found is None:
                    status(404, {"detail": "Not Found"})(call)
                else:
                    call.answer(200, json.dumps(found(call.seen.body) if callable(found) else found).encode())

            proxy.everywhere = answer
            return proxy

        yield answers


@pytest.fixture
def opened():
    engines = []

    def open_http(task, url, **options):
        engines.append(HttpEngine(task, MODEL, base_url=url, **{"handshake": "off", "max_retries": 0} | options))
        return engines[-1]

    yield open_http
    for engine in engines:
        engine.close()


def _models(owner, **more):
    return {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": owner, **more}]}


def _sorted(name, key=None, *, texts=False):
    """Scores by length of the document, best first, as in the answers of rerankers."""

    def answer(body):
        scored = [{"index": index, name: len(text) / 100} for index, text in enumerate(body["texts" if texts else "documents"])]
        ranked = sorted(scored, key=lambda item: -item[name])
        return {key: ranked} if key else ranked

    return answer


EXPECTED = [0.06, 0.17, 0.05]  # the second document has a blank in its control token


@pytest.mark.parametrize(
    ("make", "path"),
    [
        ({"v1_models": _models("sglang", max_model_len=8192), "v1_rerank": _sorted("score")}, "/v1/rerank"),
        ({"models": _models("infinity"), "rerank": _sorted("relevance_score", "results")}, "/rerank"),
        ({"v1_models": _models("jina"), "v1_rerank": _sorted("relevance_score", "results")}, "/v1/rerank"),
        ({"v1_models": _models("voyage"), "v1_rerank": _sorted("relevance_score", "data")}, "/v1/rerank"),
        ({"info": {"model_id": MODEL, "max_input_length": 512}, "rerank": _sorted("score", texts=True)}, "/rerank"),
    ],
    ids=["SGLang", "Infinity", "Jina, Cohere", "Voyage", "Text Embeddings Inference"],
)
def test_rerank_servers_are_recognised_and_their_scores_read(stand_in, opened, make, path):
    server = stand_in(**make)
    engine = opened("rerank", server.url)
    instruction = DEFAULT_INSTRUCTION if "info" in make else "Find fruit."
    scores = Reranker(engine, instruction=instruction).score([("fruit", document) for document in DOCUMENTS])
    assert np.allclose(scores, EXPECTED)
    request = server.seen[-1]
    assert request.path == path
    assert "dialect='rerank'" in repr(engine)
    body = request.body
    documents = ["apples", "< |im_end|> pears", "plums"]
    if "info" in make:
        assert body == {"query": "fruit", "texts": documents, "raw_scores": False}
        return
    assert body == {
        "model": MODEL,
        "query": "fruit",
        "documents": documents,
        "instruct": instruction,
        "instruction": instruction,
        "top_n": 3,
        "return_documents": False,
    }


def test_a_request_to_a_rerank_server_has_one_query(stand_in, opened):
    server = stand_in(v1_models=_models("sglang"), v1_rerank=_sorted("score"))
    pairs = [(query, document) for document in DOCUMENTS for query in ("one", "two")]
    Reranker(opened("rerank", server.url)).score(pairs)
    asked = {request.body["query"]: request.body["documents"] for request in server.work}
    assert set(asked) == {"one", "two"}
    assert all(len(documents) == 3 for documents in asked.values())


def test_a_server_that_ignores_instructions_is_recognised(stand_in, opened):
    ignoring = stand_in(v1_models=_models("sglang"), v1_rerank=_sorted("score"))
    engine = opened("rerank", ignoring.url, handshake="counts")
    with pytest.raises(
        ConfigError, match=r"instruction 'Find fruit.' would have no effect, because http.*/v1/rerank ignores the instruction"
    ):
        Reranker(engine, instruction="Find fruit.").rank("fruit", DOCUMENTS)
    assert len(Reranker(engine).rank("fruit", DOCUMENTS)) == 3

    def by_instruction(body):
        return {"results": [{"index": 0, "relevance_score": 0.5}], "usage": {"total_tokens": len(body["instruct"])}}

    reading = stand_in(v1_models=_models("sglang"), v1_rerank=by_instruction)
    assert len(Reranker(opened("rerank", reading.url, handshake="counts"), instruction="Find fruit.").rank("fruit", ["apple"])) == 1


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"results": [{"index": 0}]}, "no score"),
        ([{"index": 0, "score": None}], "no score"),
        ([{"index": "one", "score": 0.5}], "index 'one'"),
        ({"ranking": []}, "has no list results or data; its fields are: ranking"),
        ([{"index": 0, "score": 7.5}], r"item 0 of this call: the score 7\.5 is not in \[0, 1\]"),
    ],
)
def test_rankings_that_can_not_be_right_are_refused(stand_in, opened, answer, says):
    server = stand_in(v1_models=_models("sglang"), v1_rerank=answer)
    with pytest.raises(BadReply, match=says):
        Reranker(opened("rerank", server.url)).rank("query", ["one"])


def _vectors(body):
    return {"data": [{"index": index, "embedding": [1.0, float(len(text))]} for index, text in enumerate(body["input"])]}


@pytest.mark.parametrize(
    ("make", "path", "options"),
    [
        ({"v1_models": _models("sglang"), "v1_embeddings": _vectors}, "/v1/embeddings", {}),
        ({"models": _models("infinity"), "embeddings": _vectors}, "/embeddings", {}),
        ({"info": {"model_id": MODEL}, "v1_embeddings": _vectors}, "/v1/embeddings", {}),
        ({"v1_embeddings": _vectors}, "/v1/embeddings", {"dialect": "openai"}),
    ],
    ids=["SGLang", "Infinity", "Text Embeddings Inference", "no list of models"],
)
def test_embedding_servers_are_recognised_and_their_vectors_read(stand_in, opened, make, path, options):
    server = stand_in(**make)
    engine = opened("embed", server.url, **options)
    vectors = Embedder(engine).embed_documents(["ab", "<think>", ""])
    assert np.allclose(vectors[:, 1] / vectors[:, 0], [2, 8, 0])
    assert "dialect='openai'" in repr(engine)
    assert server.seen[-1].path == path
    assert server.seen[-1].body == {"model": MODEL, "input": ["ab", "< think>", ""], "encoding_format": "base64"}


def test_a_server_without_a_list_of_models_needs_a_dialect(stand_in, opened):
    server = stand_in()
    with pytest.raises(RouteNotServed, match=r"lists no models under /v1/models.*'dialect': 'openai'"):
        Embedder(opened("embed", server.url)).embed_documents(["text"])


def test_text_embeddings_inference_with_another_model(stand_in, opened):
    server = stand_in(info={"model_id": "BAAI/bge"}, v1_embeddings=_vectors)
    with pytest.raises(ModelNotServed, match=f"does not serve '{MODEL}'; it serves 'BAAI/bge'"):
        Embedder(opened("embed", server.url)).embed_documents(["text"])


def test_published_counts_are_those_of_the_genuine_tokenizer():
    tokenizer = Tokenizer(with_end_token(genuine_tokenizer()))
    for task in ("embed", "rerank"):
        counted = expected_counts(task, ServerInfo("", "", dialect_for("vllm", task), "", None, counts=True), tokenizer)
        assert (counted.whole, counted.bare) == (PUBLISHED_COUNTS[task], PUBLISHED_COUNTS["bare"])


@pytest.mark.parametrize(
    ("url", "root", "versioned"),
    [
        ("http://host:8000", "http://host:8000", False),
        ("http://host:8000/", "http://host:8000", False),
        ("https://host/v1", "https://host", True),
        (" https://host/v1/ ", "https://host", True),
        ("https://host/team/model/v1", "https://host/team/model", True),
        ("https://host/v1/team", "https://host/v1/team", False),
        ("http://me:secret@[::1]:8000/v1", "http://[::1]:8000", True),
        ("http://user:secret@host/v1", "http://host", True),
    ],
)
def test_addresses(url, root, versioned):
    address = Address.parse(url)
    assert (address.root, address.versioned) == (root, versioned)
    assert "secret" not in f"{address} {address!r}"


def test_credentials_of_an_address_become_a_header():
    assert Address.parse("http://user:p%40ss@host").authorization == "Basic dXNlcjpwQHNz"
    assert Address.parse("http://host").authorization is None


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://host/v1", "http://", "//host", "http://host:port", "http://[::1", "x:secret@host"]
)
def test_invalid_addresses_are_refused(url):
    with pytest.raises(ConfigError, match="base_url must be an http or https address") as caught:
        Address.parse(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("start", ["", RERANK_PREFIX, "<|im_start|>system\n"])
def test_a_text_to_embed_is_never_a_template(start, stand_in, opened):
    """Only the reranker's template contains control tokens; a text to embed never does, even if it begins like the template."""
    server = stand_in(v1_embeddings=_vectors)
    embedder = Embedder(opened("embed", server.url, dialect="openai"))
    text = start + "a question"
    embedder.embed_queries([text], instruction="")
    embedder.embed_documents([text])
    sent = [text for request in server.work for text in request.body["input"]]
    assert sent == [neutral(text)] * 2


KEY = "sk-very-secret"


@pytest.mark.parametrize("options", [{"api_key": KEY + "\nx"}, {"api_key": KEY + "é"}, {"headers": {"X-Key": KEY + "\r\n"}}])
def test_values_that_no_header_may_contain_are_refused_and_not_shown(opened, options):
    with pytest.raises(ConfigError, match=r"(api_key|headers) must not contain U\+00\w\w \(character 14") as caught:
        opened("embed", "http://127.0.0.1:9", **options)
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("given", ["argument", "environment"])
def test_the_line_break_after_a_key_is_removed(given, stand_in, monkeypatch):
    """A key that is read from a file ends with a line break."""
    server = stand_in(v1_models=_models("vllm"), v1_embeddings=_vectors)
    if given == "environment":
        monkeypatch.setenv("QWEN3_API_KEY", KEY + "\n")
    key = KEY + "\n" if given == "argument" else None
    with open_engine("embed", MODEL, base_url=server.url, api_key=key, handshake="off") as engine:
        Embedder(engine).embed_documents(["text"])
    assert {request.headers["authorization"] for request in server.seen} == {f"Bearer {KEY}"}


@pytest.mark.parametrize(
    "options", [{"api_key": KEY}, {"headers": {"Authorization": f"Bearer {KEY}"}}, {"client": openai.OpenAI(api_key=KEY, max_retries=0)}]
)
def test_a_key_that_a_server_repeats_is_not_shown(stand_in, opened, options):
    server = stand_in()
    server.everywhere = status(401, {"error": {"message": f"Incorrect API key provided: {KEY}"}})
    with pytest.raises(AuthenticationFailed, match=r"Incorrect API key provided: \*\*\*") as caught:
        Embedder(opened("embed", server.url, dialect="openai", **options)).embed_documents(["text"])
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_user_and_password_of_an_address_override_the_key_of_the_environment(stand_in, monkeypatch):
    server = stand_in(v1_models=_models("vllm"), v1_embeddings=_vectors)
    monkeypatch.setenv("QWEN3_API_KEY", KEY)
    with open_engine("embed", MODEL, base_url=server.url.replace("//", "//user:pass@"), handshake="off") as engine:
        Embedder(engine).embed_documents(["text"])
    assert {request.headers["authorization"] for request in server.seen} == {"Basic dXNlcjpwYXNz"}


@pytest.mark.parametrize("url", ["http://host/v1?key=secret", "http://host/v1#secret"])
def test_addresses_with_a_query_or_a_fragment_are_refused(url):
    with pytest.raises(ConfigError, match=r"base_url http://host/v1 has a query or a fragment.*headers") as caught:
        Address.parse(url)
    assert "secret" not in str(caught.value)


def test_vectors_of_another_width_than_before_are_refused(stand_in, opened):
    """The server was restarted with another model."""
    widths = iter([4, 4] + [8] * 20)
    server = stand_in(
        v1_embeddings=lambda body: {
            "data": [{"index": n, "embedding": [1.0] * width} for width in [next(widths)] for n in range(len(body["input"]))]
        }
    )
    embedder = Embedder(opened("embed", server.url, dialect="openai"))
    assert embedder.embed_documents(["one"]).shape == embedder.embed_documents(["two"]).shape == (1, 4)
    with pytest.raises(BadReply, match=r"sent vectors of 8 dimensions, but someone/reranker has 4: it serves another model"):
        embedder.embed_documents(["three"])


def test_vectors_of_another_width_than_the_named_model_s_are_refused(stand_in):
    server = stand_in(v1_embeddings=_vectors)
    engine = open_engine("embed", "Qwen/Qwen3-Embedding-0.6B", base_url=server.url, dialect="openai", handshake="off")
    with engine, pytest.raises(BadReply, match="has 1024: it serves another model"):
        Embedder(engine).embed_documents(["text"])


@pytest.mark.parametrize(
    ("code", "message"), [(413, "too large"), (422, "inputs must have less than 512 tokens. Given: 600"), (400, "maximum context length")]
)
def test_the_error_for_a_text_that_is_too_long_for_the_server(code, message, stand_in, opened):
    server = stand_in()
    refuse, absent = status(code, {"message": message}), status(404, {"detail": "Not Found"})
    server.everywhere = lambda call: (refuse if call.seen.path.endswith("/embeddings") else absent)(call)
    with pytest.raises(RequestRefused, match=rf"^item 0 of this call: http.*answered {code}.*{message}.*[Ll]ower max_tokens") as caught:
        Embedder(opened("embed", server.url, dialect="openai")).embed_documents(["text"])
    assert (caught.value.status, caught.value.index) == (code, 0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"timeout_s": "3"}, "timeout_s must be a number of seconds greater than 0, not '3'"),
        ({"connect_timeout_s": True}, "connect_timeout_s must be a number of seconds greater than 0"),
        ({"headers": "x"}, "headers must be a mapping from names to values, not str"),
        ({"headers": {"X-Number": 3}}, r"headers must have a string as the value of 'X-Number', not int"),
        ({"api_key": 3}, "api_key must have a string as the value, not int"),
    ],
)
def test_options_of_the_wrong_type_are_refused(options, says, opened):
    with pytest.raises(ConfigError, match=says):
        opened("embed", "http://127.0.0.1:9", **options)


def test_a_folder_with_the_name_of_the_served_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "embedder").mkdir()
    with open_engine("embed", "embedder", base_url="http://127.0.0.1:9") as engine:
        assert engine.tokenizer is None
    with pytest.raises(ModelNotFound, match=r"has no tokenizer\.json"):
        open_engine("embed", "other", base_url="http://127.0.0.1:9", tokenizer="embedder")
