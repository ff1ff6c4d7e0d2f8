"""Hostile answers are refused inside the error tree, in short printable messages; what was computed and whose item it was are fields."""

from __future__ import annotations

import json

import numpy as np
import pytest

from qwen3_integrations import Embedder, Reranker
from qwen3_integrations.core.html import facts_table
from qwen3_integrations.errors import BadReply, EngineError, Qwen3Error, RequestRefused, ServerFailed
from tests.unit.http_faults import FAULTS, HOSTILE, WRONG
from tests.unit.http_words import WordServer, answer, embeddings, expected, opened, refusing, score, send, texts_of

TEXTS = ["a text", "b text", "c text"]
HARMLESS = {"late", "usage of texts", "usage of 10^400", "429 with Retry-After"}


def always(fault):
    return lambda call: fault(call) or True


def checked(error: Qwen3Error) -> None:
    """An error is short and printable, and names server and model."""
    assert isinstance(error, EngineError)
    assert len(str(error)) < 1500
    assert str(error).isprintable()
    assert (error.model, error.url.startswith("http://127.0.0.1:")) == ("q", True)


@pytest.mark.parametrize("name", [*HOSTILE, *FAULTS])
def test_an_answer_that_can_not_be_right_is_an_error_of_the_tree(name):
    fault = (HOSTILE | FAULTS)[name]
    with WordServer() as server, opened(server, timeout_s=2) as engine:
        Embedder(engine).embed_documents(["a first text, so that the width is known"])
        server.spoil = always(fault)
        try:
            rows = Embedder(engine).embed_documents(TEXTS)
        except Qwen3Error as error:
            checked(error)
            assert name not in HARMLESS - {"429 with Retry-After"}
        else:
            assert name in HARMLESS
            assert np.allclose(rows, expected(TEXTS))
        server.released.set()


@pytest.mark.parametrize(
    "value",
    [True, "0.5", None, [0.5], {}, 10**400, 1e300, float("nan"), float("inf"), -1.0, WRONG * 100, [[[]]]],
    ids=lambda v: str(v)[:10],
)
def test_scores_that_can_not_be_right_are_refused(value):
    def spoil(call):
        content = [{"index": at, "relevance_score": score(text)} for at, text in enumerate(texts_of(call.seen.body))]
        content[-1]["relevance_score"] = value
        send(call, 200, {"results": content})
        return True

    with WordServer(spoil) as server, opened(server, "rerank") as engine, pytest.raises(BadReply) as caught:
        Reranker(engine).rank("query", TEXTS)
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


def listing(content, code=200):
    class Lister(WordServer):
        def _answer(self, call):
            if call.seen.path.endswith("/models"):
                send(call, code, content)
            else:
                answer(call)

    return Lister()


@pytest.mark.parametrize(
    "content",
    [
        {"data": [{"id": f"model {number}"} for number in range(100_000)]},
        {"data": [{"id": WRONG}, {"id": "x" * 100_000}, {"id": 5}, {"id": None}, 7, {"id": True}]},
        {"data": [{"id": "q", "max_model_len": True, "root": WRONG, "owned_by": 10**400}]},
        {"data": [{"id": "q", "max_model_len": -(10**400)}]},
        {"data": {"id": "q"}},
        b'{"data":' + b"[" * 100_000,
        b"\xff\xfe",
    ],
    ids=["many", "odd names", "odd fields", "negative", "an object", "deep", "not UTF-8"],
)
def test_a_hostile_list_of_models_is_short_in_messages(content):
    with listing(content) as server, opened(server, dialect="auto") as engine:
        message = ""
        try:
            Embedder(engine).embed_documents(TEXTS)
        except Qwen3Error as error:
            message = str(error)
        assert len(message) < 2000
        assert (message + repr(engine)).isprintable()


def test_control_characters_are_escaped_in_messages_and_html():
    with WordServer(refusing(400, f"no {WRONG}", bool)) as server, opened(server) as engine, pytest.raises(RequestRefused) as caught:
        Embedder(engine).embed_documents(TEXTS)
    assert r"no \x1b[31m\x07\u202ered\x00\x9b" in str(caught.value)
    assert str(EngineError(WRONG)).isprintable()
    shown = facts_table("title", {"name": WRONG})
    assert "\x1b" not in shown
    assert "\u202e" not in shown


# Words, and answers that are asked for again.


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "text/html", ""])
def test_json_of_any_content_type_is_read(kind):
    spoil = always(lambda call: send(call, 200, embeddings(call.seen.body["input"]), {"Content-Type": kind}))
    with WordServer(spoil) as server, opened(server) as engine:
        assert np.allclose(Embedder(engine).embed_documents(TEXTS), expected(TEXTS))


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"error": {"message": "Provider overloaded", "code": 503}}, 503, "Provider overloaded"),
        ({"error": "busy"}, 200, "busy"),
        ({"object": "error", "message": "no room", "code": 500}, 500, "no room"),
        ({"detail": "broken"}, 200, "broken"),
        ({"code": "InternalError", "message": "odd", "request_id": "1"}, 200, "odd"),
        ({"errors": [{"message": "bad thing"}]}, 200, "bad thing"),
    ],
)
def test_a_200_with_an_error_is_that_error_and_is_retried_by_its_code(body, status, words):
    with WordServer() as server, opened(server, max_retries=1) as engine:
        Embedder(engine).embed_documents(["a first text, so that the form of the body is known"])
        server.spoil = always(lambda call: send(call, 200, body))
        with pytest.raises(ServerFailed, match=words) as caught:
            Embedder(engine).embed_documents(["one"])
    assert (caught.value.status, caught.value.words) == (status, words)
    assert server.asked[1:] == [1, 1, 1, 1]  # a retry; and a harmless text, with its retry


@pytest.mark.parametrize("name", ["HTML with 200", "cut JSON", "vector: NaN", "empty with 200", "items: one too few", "vector: nulls"])
def test_an_unusable_answer_is_asked_for_again_twice(name):
    faults = [(HOSTILE | FAULTS)[name]] * 2

    def spoil(call):
        return bool(faults and (faults.pop()(call) or True))

    with WordServer(spoil) as server, opened(server) as engine:
        assert np.allclose(Embedder(engine).embed_documents(TEXTS), expected(TEXTS))
    assert server.asked == [3, 3, 3]


@pytest.mark.parametrize("count", [40, 700])
def test_what_was_computed_is_not_lost(count):
    texts = [f"text {number}" for number in range(count)]
    texts[count - 3] = "BAD"
    with (
        WordServer(refusing(422, "no", lambda sent: "BAD" in sent)) as server,
        opened(server, request_size=8) as engine,
        pytest.raises(RequestRefused) as caught,
    ):
        Embedder(engine).embed_documents(texts)
    partial = caught.value.partial
    assert caught.value.index == count - 3
    assert count - 3 not in partial.which
    assert len(partial.which) >= count // 2
    assert list(partial.which) == sorted(set(partial.which))
    assert np.allclose(partial.rows, expected([texts[at] for at in partial.which]))


def test_the_first_of_several_bad_texts_is_named():
    texts = [f"text {number}" for number in range(64)]
    texts[9] = texts[50] = "BAD"
    with (
        WordServer(refusing(422, "no", lambda sent: "BAD" in sent)) as server,
        opened(server, request_size=8) as engine,
        pytest.raises(RequestRefused) as caught,
    ):
        Embedder(engine).embed_documents(texts)
    assert caught.value.index in (9, 50)
    assert json.dumps(caught.value.words) == '"no"'
