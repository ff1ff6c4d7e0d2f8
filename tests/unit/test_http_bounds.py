"""Every request has a bounded time and its answer a bounded size, whatever the server sends and however slowly."""

from __future__ import annotations

import asyncio
import gzip
import time
import tracemalloc
import zlib

import numpy as np
import openai
import pytest

from qwen3_integrations import Embedder
from qwen3_integrations.errors import BadReply, ConfigError, ServerTimeout
from tests.unit.http_words import WordServer, expected, opened, raw

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def dripping(start: bytes, drop: bytes):
    """A server that sends a start, and then a few bytes every tenth of a second."""

    def spoil(call):
        try:
            raw(call, start)
            for _ in range(600):
                if call.handler.owner.released.wait(0.1):
                    break
                raw(call, drop)
        except OSError:
            pass
        return True

    return spoil


@pytest.mark.parametrize(
    ("start", "drop"),
    [(HEAD + b"Content-Length: 100000\r\n\r\n{", b" "), (HEAD, b"X-Drop: 1\r\n"), (b"HTTP/1.1 200 O", b"K"), (HEAD + b"X: ", b"y")],
    ids=["body", "headers", "status line", "one header"],
)
@pytest.mark.parametrize("kind", ["own", "async", "sync"])
def test_a_drip_ends_with_the_time_of_a_request(start, drop, kind):
    make = {"own": lambda: None, "async": openai.AsyncOpenAI, "sync": openai.OpenAI}[kind]
    own = {"api_key": "k", "base_url": "http://127.0.0.1:9/v1", "timeout": 0.5, "max_retries": 0} if kind != "own" else {}
    client = make(**own)
    began = time.monotonic()
    with WordServer(dripping(start, drop)) as server, opened(server, timeout_s=0.5, client=client) as engine:
        with pytest.raises(ServerTimeout, match=r"did not answer in time \(timeout_s=0.5\)"):
            Embedder(engine).embed_documents(["text"])
        assert time.monotonic() - began < 20  # the server drips for a minute
        server.released.set()
    if kind == "sync":
        client.close()


def test_a_time_out_is_retried_once_at_most():
    with WordServer(dripping(HEAD, b"X: 1\r\n")) as server, opened(server, timeout_s=0.3, max_retries=4) as engine:
        with pytest.raises(ServerTimeout):
            Embedder(engine).embed_documents(["text"])
        server.released.set()
    assert server.asked == [1, 1]


async def test_a_call_ends_with_its_deadline_and_keeps_what_was_computed():
    seen = []

    def slow(call):
        seen.append(call)
        if len(seen) > 2:
            call.handler.owner.released.wait(30)
        return False

    texts = [f"text {number}" for number in range(400)]
    with WordServer(slow) as server, opened(server, deadline_s=2, concurrency=1) as engine:
        with pytest.raises(ServerTimeout, match=r"deadline_s=2. Raise deadline_s") as caught:
            await Embedder(engine).aembed_documents(texts)
        server.released.set()
        partial = caught.value.partial
        assert 0 < len(partial.which) < 400
        assert np.allclose(partial.rows, expected([texts[at] for at in partial.which]))
        await asyncio.to_thread(Embedder(engine).embed_documents, texts[:2])


def test_retries_end_with_the_deadline():
    with (
        WordServer(lambda call: call.answer(503, b"{}", {"Retry-After": "60"}) or True) as server,
        opened(server, deadline_s=0.5, max_retries=4) as engine,
        pytest.raises(ServerTimeout, match="deadline_s"),
    ):
        Embedder(engine).embed_documents(["text"])


@pytest.mark.parametrize("value", [0, -1, "soon", True])
def test_a_deadline_is_a_number_of_seconds(value):
    with WordServer() as server, pytest.raises(ConfigError, match="deadline_s"), opened(server, deadline_s=value):
        pass


def endless(start: bytes, part: bytes):
    def spoil(call):
        try:
            raw(call, start)
            for _ in range(20_000):
                raw(call, part)
        except OSError:
            pass
        return True

    return spoil


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """A gzip of 512 MiB of blanks."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(b" " * (1 << 20)) for _ in range(512)), packer.flush()])


@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad Request", b"500 Oh"])
@pytest.mark.parametrize(
    ("coding", "says"), [("", "bytes, which no right answer"), ("gzip", "bytes, which no right answer"), ("gzip, gzip", "content coding")]
)
def test_an_endless_body_is_refused_in_bounded_memory(status, coding, says, bomb):
    head = b"HTTP/1.1 " + status + b"\r\nContent-Type: application/json\r\n"
    head += b"Content-Encoding: " + coding.encode() + b"\r\n" if coding else b""
    spoil = endless(head + b"\r\n", bomb if coding else b" " * (1 << 16))
    tracemalloc.start()
    try:
        with WordServer(spoil) as server, opened(server) as engine, pytest.raises(BadReply, match=says) as caught:
            Embedder(engine).embed_documents(["text"])
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.url == f"{server.url}/v1/embeddings"


def test_a_compressed_answer_is_read():
    def packed(call):
        answer = call.answer
        object.__setattr__(call, "answer", lambda code, body, *more: answer(code, gzip.compress(body), {"Content-Encoding": "gzip"}))
        return False

    with WordServer(packed) as server, opened(server) as engine:
        assert np.allclose(Embedder(engine).embed_documents(["a", "b"]), expected(["a", "b"]))
