"""Whose fault a failed request is: one text's, whatever the status, or the key's, the quota's, the route's, the time's, the rate's."""

from __future__ import annotations

import time

import numpy as np
import pytest

from qwen3_integrations import Embedder, Reranker
from qwen3_integrations.errors import (
    AuthenticationFailed,
    BadReply,
    ModelNotServed,
    QuotaExceeded,
    RateLimited,
    RedirectRefused,
    RequestRefused,
    RouteNotServed,
    ServerFailed,
    ServerTimeout,
)
from tests.unit.http_words import WordServer, embeddings, expected, opened, refusing, score, send

TEXTS = [f"text number {number}" for number in range(40)]


def bad(texts):
    return any("BAD" in text for text in texts)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "no"),
        (413, "Payload Too Large"),
        (422, "inputs must have less than 512 tokens"),
        (418, "no"),
        (500, "input is too large to process. increase the physical batch size"),
        (500, "Out of range float values are not JSON compliant"),
        (500, "Internal Server Error"),
        (502, "Bad Gateway"),
        (503, "worker died"),
    ],
)
@pytest.mark.parametrize(("count", "position"), [(1, 0), (3, 2), (40, 17)])
def test_one_bad_text_is_found_whatever_the_status(status, words, count, position):
    texts = TEXTS[:count]
    texts[position] = "BAD"
    with WordServer(refusing(status, words, bad)) as server, opened(server) as engine:
        with pytest.raises((RequestRefused, ServerFailed), match=words[:20]) as caught:
            Embedder(engine).embed_documents(texts)
        assert np.allclose(Embedder(engine).embed_documents(TEXTS[:3]), expected(TEXTS[:3]))
    error = caught.value
    assert (error.index, error.status, error.url, error.model) == (position, status, f"{server.url}/v1/embeddings", "q")
    assert f"item {position} of this call" in str(error)
    assert len(server.asked) < 25


def test_a_vector_of_nulls_is_found_and_a_bad_document_too():
    def nulls(call):
        texts = call.seen.body["input"]
        content = embeddings(texts)
        for at, text in enumerate(texts):
            if "BAD" in text:
                content["data"][at]["embedding"] = [None] * 32
        send(call, 200, content)
        return True

    with WordServer(nulls) as server, opened(server, request_size=16) as engine, pytest.raises(BadReply) as caught:
        Embedder(engine).embed_documents([*TEXTS, "BAD"])
    assert (caught.value.index, caught.value.url, caught.value.model) == (40, f"{server.url}/v1/embeddings", "q")
    with WordServer(refusing(500, "no", bad)) as server, opened(server, "rerank") as engine, pytest.raises(ServerFailed) as caught:
        Reranker(engine).rank("query", [*TEXTS[:7], "BAD"])
    assert caught.value.index == 7


@pytest.mark.parametrize(("known", "most"), [(True, 9), (False, 24)])  # three forms of the body are tried until one is known
def test_a_server_that_fails_for_all_texts_is_no_text_s_fault_and_is_not_asked_over_and_over(known, most):
    for status in (400, 422, 500, 503):
        with WordServer() as server, opened(server) as engine:
            if known:
                Embedder(engine).embed_documents(["one"])
            server.spoil = refusing(status, "all wrong", bool)
            with pytest.raises((RequestRefused, ServerFailed), match="all wrong") as caught:
                Embedder(engine).embed_documents(TEXTS)
            with pytest.raises((RequestRefused, ServerFailed)) as alone:
                Embedder(engine).embed_documents(["one"])
        assert caught.value.index is alone.value.index is None
        assert len(server.asked) <= most


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (401, {"error": {"message": "bad key"}}, AuthenticationFailed, "api_key"),
        (402, {"error": {"message": "quota exceeded"}}, QuotaExceeded, "quota"),
        (403, {"error": {"message": "no"}}, AuthenticationFailed, "api_key"),
        (403, {"message": "Sorry, your account balance is insufficient"}, QuotaExceeded, "balance is insufficient"),
        (404, {"detail": "Not Found"}, RouteNotServed, "route"),
        (404, {"error": {"code": "model_not_found", "message": "no q"}}, ModelNotServed, "served name"),
        (408, {"error": "late"}, ServerTimeout, "in time"),
        (409, {"error": "conflict"}, ServerFailed, "can't take the request now"),
        (425, {"error": "early"}, ServerFailed, "can't take the request now"),
        (429, {"error": {"message": "rate limit exceeded, tokens per minute"}}, RateLimited, "lower concurrency"),
        (429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}, QuotaExceeded, "no quota"),
        (431, {"error": "headers"}, RequestRefused, "headers are too large"),
        (451, {"error": "law"}, RequestRefused, "legal"),
        (300, {}, RedirectRefused, "base_url"),
        (304, {}, RedirectRefused, "base_url"),
        (400, {"error": {"message": "no", "code": "invalid_api_key"}}, AuthenticationFailed, "api_key"),
    ],
)
def test_what_no_text_causes_is_said_as_such(status, body, kind, says):
    def spoil(call):
        send(call, status, b"" if status == 304 else body)
        return True

    with WordServer(spoil) as server, opened(server) as engine, pytest.raises(kind, match=says) as caught:
        Embedder(engine).embed_documents(TEXTS)
    assert (type(caught.value), caught.value.index, caught.value.status, caught.value.model) == (kind, None, status, "q")
    assert "max_tokens" not in str(caught.value)
    assert sum(server.asked) <= 40 * (2 if status == 404 else 1)  # no request is made again, but to the other route


def test_retry_after_and_the_server_s_words_are_fields():
    spoil = refusing(429, "slow down, please", bool, {"Retry-After": "777"})
    with WordServer(spoil) as server, opened(server, max_retries=3) as engine, pytest.raises(RateLimited) as caught:
        Embedder(engine).embed_documents(["text"])
    assert (caught.value.retry_after_s, caught.value.words) == (777.0, "slow down, please")
    assert "Retry-After: 777 s" in str(caught.value)
    assert server.asked == [1]  # nobody waits for 777 seconds


@pytest.mark.parametrize("words", ["quota exceeded", "request rate exceeds the limit of 60 requests per minute", "credits exceeded"])
def test_exceeded_is_not_too_long(words):
    with WordServer(refusing(400, words, bool)) as server, opened(server) as engine, pytest.raises(RequestRefused) as caught:
        Embedder(engine).embed_documents(["text"])
    assert "max_tokens" not in str(caught.value)


# Caps: number of texts, tokens, bytes.


def over(count):
    return lambda texts: len(texts) > count


def heavy(size):
    return lambda texts: sum(map(len, texts)) > size


@pytest.mark.parametrize(
    ("status", "words", "when"),
    [
        (413, "batch size 40 > maximum allowed batch size 8", over(8)),
        (422, "input batch size 40 > maximum allowed batch size 8", over(8)),
        (400, "batch size is invalid, it should not be larger than 8", over(8)),
        (429, "too many inputs: at most 8 texts", over(8)),
        (500, "array too long. Expected an array with maximum length 8", over(8)),
        (400, "no", over(8)),
        (413, "Failed to buffer the request body: length limit exceeded", heavy(200)),
        (413, "request body is larger than 300 bytes", heavy(300)),
        (400, "requested 900 tokens, max 60 tokens per request", heavy(180)),
    ],
)
def test_caps_are_learned_and_not_paid_for_again(status, words, when):
    with WordServer(refusing(status, words, when)) as server, opened(server, concurrency=2) as engine:
        for _ in range(3):
            before = len(server.asked)
            refused = len(server.seen)
            assert np.allclose(Embedder(engine).embed_documents(TEXTS), expected(TEXTS))
        assert not any(when(one.body["input"]) for one in server.seen[refused:])
        assert len(server.asked) - before <= 20


def test_a_cap_that_the_server_describes_costs_nothing():
    def spoil(call):
        return refusing(413, "batch size 40 > maximum allowed batch size 8", over(8))(call)

    class Tei(WordServer):
        def _answer(self, call):
            if call.seen.path == "/info":
                send(call, 200, {"model_id": "q", "max_client_batch_size": 8})
            elif call.seen.path.endswith("/models"):
                send(call, 404, {})
            else:
                super()._answer(call)

    with Tei(spoil) as server, opened(server, dialect="auto") as engine:
        Embedder(engine).embed_documents(TEXTS)
    assert server.asked == [8] * 5


def test_caps_hold_for_documents_and_for_callers_together():
    with WordServer(refusing(422, "documents: at most 5", over(5))) as server, opened(server, "rerank") as engine:
        scores = Reranker(engine).score([("query", text) for text in TEXTS])
        again = len(server.asked)
        Reranker(engine).score([("query", text) for text in TEXTS])
    assert np.allclose(scores, [score(text) for text in TEXTS])
    assert max(server.asked[again:]) == 5


def test_temporary_failures_blame_no_text():
    failures = iter([True, False, True, False] + [False] * 100)

    def spoil(call):
        if next(failures):
            send(call, 500, {"error": "hiccup"})
            return True
        return False

    with WordServer(spoil) as server, opened(server) as engine:
        assert np.allclose(Embedder(engine).embed_documents(TEXTS), expected(TEXTS))


def test_a_text_at_fault_is_found_soon_with_retries_too():
    began = time.monotonic()
    with (
        WordServer(refusing(500, "input is too large to process", bad)) as server,
        opened(server, max_retries=4) as engine,
        pytest.raises(ServerFailed) as caught,
    ):
        Embedder(engine).embed_documents([*TEXTS, "BAD"])
    assert caught.value.index == 40
    assert len(server.asked) < 20
    assert time.monotonic() - began < 60
