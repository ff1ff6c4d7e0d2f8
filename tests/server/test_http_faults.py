"""The engine with servers that fail, answer wrongly or refuse: a real server behind a proxy that injects faults."""

from __future__ import annotations

import base64
import time

import numpy as np
import openai
import pytest

from qwen3_integrations import Embedder, Reranker
from qwen3_integrations.engines.http.engine import HttpEngine
from qwen3_integrations.errors import (
    AuthenticationFailed,
    BadReply,
    ConfigError,
    ModelNotServed,
    RateLimited,
    RequestRefused,
    RouteNotServed,
    ServerFailed,
    ServerTimeout,
    ServerUnreachable,
)
from tests.reference import reference_embeddings, reference_scores
from tests.server.faults import cut_json, edited, half, reset, status
from tests.server.fixtures import NAME
from tests.server.launch import free_port

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(1200)]

TEXTS = [f"text number {number} on its own" for number in range(40)]
KEY = "sk-very-secret"
TOLERANCE = 1e-5


@pytest.fixture
def proxy(faulty):
    return faulty("embed")


@pytest.fixture
def opened():
    """Opens engines that are closed after the test; without a handshake, so that the first request is the test's."""
    engines = []

    def open_http(task, base_url, **options):
        engines.append(HttpEngine(task, NAME, base_url=base_url, **{"handshake": "off", "max_retries": 1} | options))
        return engines[-1]

    yield open_http
    for engine in engines:
        engine.close()


@pytest.fixture(scope="module")
def expected(tiny_embedder):
    return reference_embeddings(tiny_embedder, TEXTS)


def _near(vectors, expected):
    return vectors.shape == expected.shape and np.abs(vectors - expected).max() < TOLERANCE


def test_a_busy_server_is_retried_after_its_retry_after(proxy, opened, expected):
    proxy.faults = [status(429, Retry_After="1")]
    began = time.monotonic()
    assert _near(Embedder(opened("embed", proxy.url)).embed_documents(TEXTS[:3]), expected[:3])
    assert time.monotonic() - began >= 1  # the SDK's own pause is at most 0.5 s
    assert len(proxy.work) == 2


def test_temporary_failures_are_retried(proxy, opened, expected):
    proxy.faults = [status(500), reset, half, status(503)]
    engine = opened("embed", proxy.url, max_retries=4)
    assert _near(Embedder(engine).embed_documents(TEXTS[:3]), expected[:3])
    assert len(proxy.work) == 5


@pytest.mark.parametrize(
    ("fault", "error", "says", "texts"),
    [
        (status(500), ServerFailed, "answered 500 for qwen3-tiny-demo: injected status 500", 2),
        (status(503, {"detail": "warming up"}), ServerFailed, "warming up", 2),
        (status(429), RateLimited, "lower concurrency", 1),
        (reset, ServerUnreachable, "closed the connection", 1),
        (half, ServerUnreachable, "closed the connection before its answer was complete", 1),
    ],
)
def test_permanent_failures_have_errors_of_their_own(proxy, opened, fault, error, says, texts):
    proxy.always = fault
    with pytest.raises(error, match=says) as caught:
        Embedder(opened("embed", proxy.url)).embed_documents(["text"])
    assert caught.value.url == f"{proxy.url}/v1/embeddings"
    assert proxy.url in str(caught.value)
    assert len(proxy.work) == 2 * texts  # max_retries=1; after a 5xx, a harmless text shows whether the caller's text is at fault


def test_no_server(opened):
    port = free_port()
    with pytest.raises(ServerUnreachable, match=rf"http://127.0.0.1:{port}/v1/models can't be reached.*base_url") as caught:
        Embedder(opened("embed", f"http://127.0.0.1:{port}")).embed_documents(["text"])
    assert caught.value.status is None


def test_a_server_that_does_not_answer_in_time(proxy, opened):
    proxy.always = proxy.hold
    with pytest.raises(ServerTimeout, match="Raise timeout_s") as caught:
        Embedder(opened("embed", proxy.url, timeout_s=0.3, max_retries=0)).embed_documents(["text"])
    assert isinstance(caught.value, TimeoutError)


def test_incomplete_answers_and_closed_connections(proxy, opened):
    embedder = Embedder(opened("embed", proxy.url))
    proxy.always = cut_json
    with pytest.raises(BadReply, match="incomplete reply"):
        embedder.embed_documents(["text"])
    proxy.always = lambda call: call.answer(200, b"<html>Welcome</html>", {"Content-Type": "text/html"})
    with pytest.raises(BadReply, match="Check that base_url is the server's address"):
        embedder.embed_documents(["text"])
    proxy.always, proxy.faults = None, [cut_json, cut_json]
    assert embedder.embed_documents(["text"]).shape[0] == 1


def _shuffled(answer):
    answer["data"] = answer["data"][1:] + answer["data"][:1]


def test_answers_in_another_order_are_sorted(proxy, faulty, opened, expected, tiny_reranker):
    proxy.always = edited(_shuffled)
    assert _near(Embedder(opened("embed", proxy.url)).embed_documents(TEXTS), expected)
    ranks = faulty("rerank")
    ranks.always = edited(_shuffled)
    pairs = [("query", text) for text in TEXTS]
    scores = Reranker(opened("rerank", ranks.url)).score(pairs)
    assert np.abs(scores - reference_scores(tiny_reranker, pairs)).max() < TOLERANCE


def test_servers_without_base64_send_floats(proxy, opened, expected):
    def as_floats(answer):
        for item in answer["data"]:
            item["embedding"] = np.frombuffer(base64.b64decode(item["embedding"]), "<f4").tolist()

    proxy.always = edited(as_floats)
    assert _near(Embedder(opened("embed", proxy.url)).embed_documents(TEXTS), expected)


def _encoded(*values):
    return base64.b64encode(np.asarray(values, dtype="<f4").tobytes()).decode()


def _item(position, **fields):
    return lambda answer: answer["data"][position].update(fields)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_item(1, index=0), "two results with index 0"),
        (_item(1, index=3), "index 3 for 3 prompts"),
        (_item(1, index=-1), "index -1"),
        (_item(1, index=None), "index None"),
        (lambda answer: answer["data"].pop() and None, "the server sent 2 results for 3 prompts"),
        (lambda answer: answer["data"].append(answer["data"][0]) or answer, "the server sent 4"),
        (lambda answer: answer.update(data=[]), "the server sent 0"),
        (lambda answer: {"object": "list"}, "has no list data"),
        (lambda answer: ["nonsense"], "has no list data"),
        (_item(2, embedding=_encoded(1.0, float("nan"))), "item 2 of this call: the server's vector is not finite"),
        (_item(2, embedding=[1.0, float("inf")]), "item 2 of this call: the server's vector is not finite"),
        (_item(2, embedding=_encoded(1.0, 2.0)), "different widths"),
        (_item(2, embedding="not base64!"), "item 2 of this call: the server's vector can't be decoded"),
        (_item(2, embedding="AAAA"), "item 2 of this call: the server's vector can't be decoded"),
        (_item(2, embedding=["one"]), "item 2 of this call: the server's vector can't be decoded"),
        (_item(2, embedding=[]), "item 2 of this call: the server's vector has the shape"),
        (_item(2, embedding=None), "item 2 of this call"),
        (_item(2, embedding=[[1.0]]), "item 2 of this call: the server's vector has the shape"),
    ],
)
def test_vectors_that_can_not_be_right_are_refused(proxy, opened, spoil, says):
    proxy.always = edited(spoil)
    with pytest.raises(BadReply, match=says):
        Embedder(opened("embed", proxy.url)).embed_documents(TEXTS[:3])


def _narrow(answer):
    for item in answer["data"]:
        item["embedding"] = [1.0, 2.0]


def test_requests_that_differ_in_width_are_refused(proxy, opened):
    def narrow_for_the_first_text(call):
        if TEXTS[0] in call.seen.body["input"]:
            edited(_narrow)(call)
        else:
            status, body = call.upstream()
            call.answer(status, body)

    embedder = Embedder(opened("embed", proxy.url))
    embedder.embed_documents(TEXTS[1:2])
    proxy.always = narrow_for_the_first_text
    with pytest.raises(BadReply, match="it serves another model"):
        embedder.embed_documents(TEXTS)


def test_one_answer_of_another_width_is_asked_for_again(proxy, opened, expected):
    embedder = Embedder(opened("embed", proxy.url))
    embedder.embed_documents(TEXTS[:1])
    proxy.faults = [edited(_narrow)]
    assert _near(embedder.embed_documents(TEXTS), expected)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_item(1, probs=[]), "no probability"),
        (_item(1, probs=None), "no probability"),
        (_item(1, probs=["high"]), "no probability"),
        (_item(1, probs=[float("nan")]), r"item 1 of this call: the score .* is not in \[0, 1\]"),
        (_item(1, probs=[1.5]), r"item 1 of this call: the score .* is not in \[0, 1\]"),
        (_item(1, index=0), "two results with index 0"),
    ],
)
def test_scores_that_can_not_be_right_are_refused(faulty, opened, spoil, says):
    proxy = faulty("rerank")
    proxy.always = edited(spoil)
    with pytest.raises(BadReply, match=says):
        Reranker(opened("rerank", proxy.url)).rank("query", TEXTS[:3])


@pytest.mark.parametrize("position", [0, 7, 39])
def test_a_refused_batch_is_split_until_the_item_is_found(proxy, opened, position, expected):
    texts = list(TEXTS)
    texts[position] = "poison"
    proxy.refuses = lambda body: "poison" in body["input"]
    embedder = Embedder(opened("embed", proxy.url))
    with pytest.raises(RequestRefused, match=rf"item {position} of this call.*maximum context length") as caught:
        embedder.embed_documents(texts)
    assert caught.value.index == position
    assert caught.value.status == 400
    proxy.refuses = lambda body: len(body["input"]) > 3  # a server that accepts only few prompts gets few
    assert _near(embedder.embed_documents(TEXTS), expected)


@pytest.mark.parametrize(
    ("code", "body", "error", "says"),
    [
        (401, {"error": "Unauthorized"}, AuthenticationFailed, "Unauthorized. Pass api_key, or set QWEN3_API_KEY"),
        (403, {"detail": "Forbidden"}, AuthenticationFailed, "Forbidden"),
        (404, {"error": {"message": "no", "type": "NotFoundError", "param": None, "code": 404}}, ModelNotServed, "served name"),
        (404, {"error": {"message": "no", "type": "invalid_request_error", "param": "model"}}, ModelNotServed, "served name"),
        (404, {"error": {"message": "no", "code": "model_not_found"}}, ModelNotServed, "served name"),
        (404, {"message": f"model '{NAME}' not found, try pulling it first"}, ModelNotServed, "served name"),
        (404, {"detail": "Not Found"}, RouteNotServed, "other task"),
        (404, {"error": {"message": "Not Found", "type": "Not Found", "param": None, "code": 404}}, RouteNotServed, "other task"),
        (404, {"message": "no model is served under this route"}, RouteNotServed, "other task"),
        (404, {"message": f"no route /models/{NAME}/embeddings"}, RouteNotServed, "other task"),
    ],
)
def test_refusals_of_every_request_are_not_split(proxy, opened, code, body, error, says):
    proxy.always = status(code, body)
    with pytest.raises(error, match=says) as caught:
        Embedder(opened("embed", proxy.url, concurrency=1)).embed_documents(TEXTS)
    assert caught.value.status == code
    assert len(proxy.work) == 1


def test_the_error_for_a_wrong_key_does_not_show_it(proxy, opened, caplog):
    caplog.set_level("DEBUG")
    proxy.everywhere = status(401, {"error": {"message": "Unauthorized"}})
    engine = opened("embed", proxy.url, api_key=KEY)
    with pytest.raises(AuthenticationFailed, match="The key is wrong") as caught:
        Embedder(engine).embed_documents(["text"])
    assert proxy.seen[0].headers["authorization"] == f"Bearer {KEY}"
    for shown in (str(caught.value), repr(caught.value), repr(engine), str(vars(caught.value)), caplog.text):
        assert KEY not in shown


def test_headers_for_openai_s_server_are_not_sent(proxy, opened, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")
    Embedder(opened("embed", proxy.url, headers={"X-Team": "search"})).embed_documents(["text"])
    assert all(KEY not in str(request.headers) for request in proxy.seen)
    assert all("authorization" not in request.headers for request in proxy.seen)
    assert all(request.headers["x-team"] == "search" for request in proxy.seen)
    Embedder(opened("embed", proxy.url, headers={"authorization": "Basic abc"})).embed_documents(["text"])
    assert proxy.seen[-1].headers["authorization"] == "Basic abc"


def test_credentials_in_the_address_are_used_and_not_shown(proxy, opened, caplog):
    caplog.set_level("DEBUG")
    url = proxy.url.replace("http://", f"http://user:{KEY}@")
    engine = opened("embed", url)
    assert Embedder(engine).embed_documents(["text"]).shape[0] == 1
    sent = proxy.work[-1].headers["authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")).decode() == f"user:{KEY}"
    assert KEY not in repr(engine)
    for fault in (status(500), status(400), reset, cut_json, edited(lambda answer: [1])):
        proxy.always = fault
        with pytest.raises((ServerFailed, RequestRefused, ServerUnreachable, BadReply)) as caught:
            Embedder(engine).embed_documents(["text"])
        assert KEY not in str(caught.value)
        assert KEY not in str(getattr(caught.value, "url", ""))
    assert KEY not in caplog.text  # HTTP clients log the addresses of requests
    with pytest.raises(ConfigError, match="Leave one of them out"):
        opened("embed", url, api_key="another")


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
@pytest.mark.parametrize("prefix", ["", "/models/embedding"])
def test_addresses_with_and_without_v1_and_behind_a_path(proxy, opened, ending, prefix, expected):
    proxy.prefix = prefix
    assert _near(Embedder(opened("embed", f"{proxy.url}{prefix}{ending}")).embed_documents(TEXTS[:2]), expected[:2])
    assert proxy.work == [] if prefix else len(proxy.work) == 1
    assert proxy.seen[-1].path == f"{prefix}/v1/embeddings"


def test_a_long_list_is_divided_into_limited_requests(proxy, opened, expected):
    engine = opened("embed", proxy.url, concurrency=2, request_size=5)
    assert _near(Embedder(engine).embed_documents(TEXTS), expected)
    assert sorted(len(request.body["input"]) for request in proxy.work) == [5] * 8
    assert proxy.most_in_flight <= 2
    assert len(set(map(str, (request.body["input"] for request in proxy.work)))) == 8


@pytest.mark.parametrize("kind", [openai.OpenAI, openai.AsyncOpenAI])
def test_a_user_s_client(proxy, opened, kind, expected):
    client = kind(base_url="http://127.0.0.1:9/v1", api_key=KEY, max_retries=1, default_headers={"X-Mine": "yes"})
    proxy.faults = [status(500)]
    engine = opened("embed", proxy.url, client=client)
    assert _near(Embedder(engine).embed_documents(TEXTS), expected)
    headers = proxy.work[-1].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["x-mine"] == "yes"
    engine.close()
    assert client.is_closed() == isinstance(client, openai.AsyncOpenAI)  # the engine closes an async client
    if isinstance(client, openai.OpenAI):
        client.close()


def test_an_object_that_is_no_client_is_refused(proxy):
    with pytest.raises(ConfigError, match=r"openai.OpenAI or openai.AsyncOpenAI, not str"):
        HttpEngine("embed", NAME, base_url=proxy.url, client="client")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dialect": "grpc"}, "dialect must be one of auto, openai, qwen3, rerank, sglang, vllm"),
        ({"dialect": "rerank"}, "can't embed. These can: openai, qwen3, sglang, vllm"),
        ({"handshake": "maybe"}, "handshake must be one of full, counts, off"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"connect_timeout_s": -1}, "connect_timeout_s"),
        ({"concurrency": 0}, "concurrency"),
        ({"request_size": 1.5}, "request_size"),
        ({"max_retries": -1}, "max_retries"),
    ],
)
def test_settings_that_can_not_work_are_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        HttpEngine("embed", NAME, base_url="http://127.0.0.1:9", **options)


def test_openai_alone_can_not_rerank():
    with pytest.raises(ConfigError, match=r"dialect 'openai' can't rerank. These can: qwen3, rerank, sglang, vllm"):
        HttpEngine("rerank", NAME, base_url="http://127.0.0.1:9", dialect="openai")


def test_tokens_are_counted_here_if_the_server_does_not_report_them(proxy, opened):
    proxy.always = edited(lambda answer: answer.pop("usage") and None)
    embedder = Embedder(opened("embed", proxy.url))
    embedder.embed_documents(TEXTS)
    assert embedder.usage.tokens == sum(len(ids) + 1 for ids in embedder.engine.tokenizer.encode(TEXTS))
