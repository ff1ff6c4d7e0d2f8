"""What a client can do wrong, and what a server does under load: every request gets a clear answer in its API's form."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import zlib

import httpx
import pytest

from qwen3_integrations import Embedder, FakeEngine, Reranker
from qwen3_integrations.engines.wrapper import EngineWrapper
from qwen3_integrations.errors import ConfigError, EngineError
from qwen3_integrations.server import KeyFile, ServerSettings, create_app
from tests.http_server.conftest import EMBEDDER, KEY, RERANKER, running
from tests.waiting import until

OPENAI, RERANK, TEI_RERANK = "/v1/embeddings", "/v1/rerank", "/rerank"
SECRET = "a text that nobody may log"


class Slow(EngineWrapper):
    """Answers when it is let; counts the jobs that were cancelled."""

    def __init__(self, engine) -> None:
        super().__init__(engine)
        self.waiting, self.cancelled, self.free = 0, 0, threading.Event()

    async def arun(self, job):
        self.waiting += 1
        try:
            await asyncio.to_thread(self.free.wait, 60)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1
        return await self.engine.arun(job)


@pytest.fixture(scope="module")
def fake():
    """A server with fake models, small limits and no key."""
    settings = ServerSettings(reranker_names=(RERANKER,), max_items=8, max_body_mib=1, body_timeout_s=1)
    app = create_app(
        embedder=Embedder(FakeEngine("embed", EMBEDDER), max_tokens=64),
        reranker=Reranker(FakeEngine("rerank", EMBEDDER), max_tokens=160),
        settings=settings,
    )
    with running(app) as address, httpx.Client(base_url=address) as client:
        yield client


def said(response):
    """The message of an answer in any of the forms."""
    content = response.json()
    error = content.get("error")
    return error["message"] if isinstance(error, dict) else error or content["message"]


WRONG = [
    (OPENAI, {"input": "a", "modell": "x"}, 422, "the body has a wrong field: Object contains unknown field `modell`"),
    (OPENAI, {"model": EMBEDDER}, 422, "Object missing required field `input`"),
    (OPENAI, {"input": "a", "encoding_format": "int8"}, 422, "Invalid enum value 'int8'"),
    (OPENAI, {"input": []}, 400, "input is empty"),
    (OPENAI, {"input": ["a", 5]}, 422, "input[1] must be a string, not int"),
    (OPENAI, {"input": ["a", None]}, 422, "input[1] must be a string, not NoneType"),
    (OPENAI, {"input": ["a"] * 9}, 413, "input has 9 items; this server takes 8 in a request"),
    (OPENAI, {"input": "a", "dimensions": 8}, 400, "dimensions must be a whole number from 32 to"),
    (OPENAI, {"input": "a", "dimensions": 100_000}, 400, "dimensions must be a whole number from 32 to"),
    (OPENAI, {"input": "a", "model": "gpt"}, 404, "the model 'gpt' is not served here"),
    (OPENAI, {"input": "a", "model": RERANKER}, 404, "is served, but is no model that embeds texts; that is"),
    (OPENAI, {"input": ["a", "word " * 99], "input_type": "query"}, 400, "input[1]: template, instruction and query take"),
    (
        OPENAI,
        {"input": "a", "input_type": "document", "instruction": "Find."},
        422,
        "input_type is 'document', but there is an instruction",
    ),
    (OPENAI, {"input": "a", "model": f"{EMBEDDER}:query", "input_type": "document"}, 422, "but the model's name says query"),
    (OPENAI, {"input": "a", "truncate_prompt_tokens": 0}, 422, "truncate_prompt_tokens must be at least 1, or -1, not 0"),
    ("/embed", {"inputs": "a", "normalize": False}, 422, "normalize must be true"),
    ("/embed", {"inputs": "a", "prompt_name": "other"}, 422, "prompt_name 'other' is not known"),
    ("/embed", {"inputs": "word " * 99, "truncate": False}, 413, "inputs[0] has more than the 64 tokens"),
    ("/embed", {"inputs": "a", "truncation_direction": "Left"}, 422, "truncation_direction must be right"),
    (RERANK, {"query": "a"}, 422, "documents is missing"),
    (RERANK, {"query": "a", "documents": []}, 400, "documents is empty"),
    (RERANK, {"query": "a", "documents": ["b"], "texts": ["b"]}, 422, "documents and texts can't both be given"),
    (
        RERANK,
        {"query": "a", "documents": ["b", {"title": "c"}]},
        422,
        "documents[1] must be a string, or an object with a string under 'text'",
    ),
    (RERANK, {"query": "a", "documents": ["b"], "top_n": 0}, 400, "top_n must be a whole number of at least 1"),
    (RERANK, {"query": "a", "documents": ["b"], "model": EMBEDDER}, 404, "is no model that ranks documents"),
    (RERANK, {"query": "a", "documents": ["b"], "instruction": "c", "instruct": "d"}, 422, "instruction and instruct differ"),
    (RERANK, {"query": "a", "documents": ["b"], "rank_fields": ["title"]}, 422, "rank_fields can only be"),
    (RERANK, {"query": "a", "documents": ["b"], "max_chunks_per_doc": 3}, 422, "max_chunks_per_doc can only be 1"),
    (RERANK, {"query": "a", "documents": ["b"], "max_tokens_per_doc": 0}, 422, "max_tokens_per_doc must be at least 1"),
    (RERANK, {"query": "word " * 200, "documents": ["b"]}, 400, "template, instruction and query take"),
    (TEI_RERANK, {"query": "a", "texts": ["b", "word " * 200], "truncate": False}, 413, "texts[1] has more than the 160 tokens"),
    ("/score", {"text_1": "a"}, 422, "one of text_2, documents, data_2 is needed, not none"),
    ("/score", {"text_1": "a", "queries": "b", "text_2": "c"}, 422, "is needed, not text_1 and queries"),
    ("/score", {"text_1": ["a", "b"], "text_2": ["c", "d", "e"]}, 422, "2 first and 3 second texts"),
    ("/classify", {"input": ["a"]}, 400, "input[0] is no finished prompt in the template of the model card"),
    ("/tokenize", {"prompt": "a", "model": "other"}, 404, "is not served here"),
]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"), WRONG, ids=[f"{path[1:]}-{number}" for number, (path, *_) in enumerate(WRONG)]
)
def test_wrong_fields_are_named(fake, path, body, status, words):
    response = fake.post(path, json=body)
    assert (response.status_code, words in said(response)) == (status, True), response.text


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        (OPENAI, {"input": ["a", "word " * 99], "model": f"{EMBEDDER}:query"}, {"error": {"param": "input[1]", "index": 1}}),
        (RERANK, {"query": "a", "documents": ["b", 5]}, {"message": "the body has a wrong field"}),
        (TEI_RERANK, {"query": "a", "texts": ["b", "word " * 200], "truncate": False}, {"error_type": "validation", "index": 1}),
    ],
)
def test_errors_have_the_form_of_their_api_and_the_index(fake, path, body, fields):
    content = fake.post(path, json=body).json()
    for name, value in fields.items():
        if isinstance(value, dict):
            assert content[name].items() >= value.items()
        else:
            assert str(content[name]).startswith(str(value))


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"input": "\xff"}', b'"text"', b'{"input": "\\ud800"}'])
def test_what_is_no_json_is_400_or_422(fake, content):
    response = fake.post(OPENAI, content=content)
    assert response.status_code in (400, 422)
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_other_routes_and_methods(fake):
    assert (fake.post("/v1/chat/completions", json={}).status_code, fake.get(OPENAI).status_code) == (404, 405)
    assert "there is no route" in said(fake.get("/nothing"))


def test_compressed_bodies(fake):
    body = json.dumps({"input": ["a"]}).encode()
    for encoding, packed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body)), ("identity", body)):
        assert fake.post(OPENAI, content=packed, headers={"content-encoding": encoding}).status_code == 200
    bomb = gzip.compress(b" " * (64 << 20))
    assert len(bomb) < 1 << 20
    response = fake.post(OPENAI, content=bomb, headers={"content-encoding": "gzip"})
    assert (response.status_code, "larger than 1 MiB" in said(response)) == (413, True)
    for encoding, packed, status in (("br", body, 415), ("gzip", body, 400), ("gzip", gzip.compress(body)[:-4], 400)):
        assert fake.post(OPENAI, content=packed, headers={"content-encoding": encoding}).status_code == status


def test_a_large_body_is_refused_before_it_is_read(fake):
    with socket.create_connection((fake.base_url.host, fake.base_url.port)) as connection:
        connection.sendall(b"POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ncontent-length: 1073741824\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_a_large_body_without_its_length(fake):
    response = fake.post(OPENAI, content=(b" " * 65536 for _ in range(64)))
    assert response.status_code == 413


def test_a_slow_client_is_refused(fake):
    with socket.create_connection((fake.base_url.host, fake.base_url.port)) as connection:
        connection.sendall(b'POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{"input"')
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_truncated_documents_are_counted(fake):
    fake.post(OPENAI, json={"input": ["word " * 99]})
    fake.post(RERANK, json={"query": "a", "documents": ["word " * 200, "b"]})
    lines = fake.get("/metrics").text.splitlines()
    assert f'qwen3_truncated_documents_total{{model="{EMBEDDER}"}} 1.0' in lines
    assert f'qwen3_truncated_documents_total{{model="{RERANKER}"}} 1.0' in lines
    assert any(line.startswith('qwen3_requests_total{route="/v1/embeddings",status="200"}') for line in lines)


def test_max_tokens_per_doc_cuts_each_document():
    engine = FakeEngine("rerank", EMBEDDER)
    with running(create_app(reranker=Reranker(engine))) as url:
        httpx.post(f"{url}{RERANK}", json={"query": "a", "documents": ["one two three four", "five"], "max_tokens_per_doc": 2})
    assert [prompt.body.text for prompt in engine.jobs[-1].prompts] == [" one two", " five"]


def test_token_ids_where_they_are_allowed():
    engine = FakeEngine("embed", EMBEDDER)
    with running(create_app(embedder=Embedder(engine, max_tokens=16), settings=ServerSettings(token_ids=True))) as url:
        ids = engine.tokenizer.encode(["red planet"])[0].tolist() + engine.tokenizer.end_ids.tolist()
        by_ids = httpx.post(f"{url}{OPENAI}", json={"input": [ids]}).json()
        by_text = httpx.post(f"{url}{OPENAI}", json={"input": "red planet"}).json()
        assert by_ids["data"] == by_text["data"]
        assert by_ids["usage"] == by_text["usage"]
        for wrong in ([1, -2], [[1] * 17], [[1], ["a"]], [[1], "a"], [10_000_000]):
            assert httpx.post(f"{url}{OPENAI}", json={"input": wrong}).status_code == 400


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}, {"X-API-Key": "wrong"}])
def test_every_route_wants_the_key(headers):
    app = create_app(embedder=Embedder(FakeEngine("embed")), keys=KEY)
    paths = [OPENAI, "/embed", "/", RERANK, "/score", "/classify", "/tokenize", "/v1/models", "/version", "/metrics", "/info", "/docs"]
    paths += ["/health/", "//health", "/Health", "/health/../v1/models", "/%68ealth/", "/ready?x", "/health;x"]
    with running(app) as url:
        for path in paths:
            for method in ("GET", "POST", "HEAD", "OPTIONS"):
                status = httpx.request(method, f"{url}{path}", headers=headers).status_code
                assert status == (200 if path == "/ready?x" and method in ("GET", "HEAD") else 401), path
        for path in ("/health", "/ready"):
            assert (httpx.get(f"{url}{path}").status_code, httpx.get(f"{url}{path}").content) == (200, b"")
        for right in ({"Authorization": f"Bearer {KEY}"}, {"Authorization": f"bearer {KEY}"}, {"X-API-Key": KEY}, {"api-key": KEY}):
            assert httpx.get(f"{url}/v1/models", headers=right).status_code == 200


def test_several_keys_from_a_file_that_changes(tmp_path, caplog):
    path = tmp_path / "keys.json"

    def write(keys):
        path.write_text(json.dumps(keys))
        path.chmod(0o600)

    def status(key):
        return httpx.get(f"{url}/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code

    write({"search": "sk-1", "batch": "sk-2"})
    with running(create_app(embedder=Embedder(FakeEngine("embed")), keys=KeyFile(path))) as url:
        assert [status(key) for key in ("sk-1", "sk-2", "sk-3")] == [200, 200, 401]
        for key, count in (("sk-1", 1), ("sk-2", 3)):
            httpx.post(f"{url}{OPENAI}", json={"input": ["a"] * count}, headers={"Authorization": f"Bearer {key}"})
        metrics = httpx.get(f"{url}/metrics", headers={"Authorization": "Bearer sk-1"}).text
        assert 'qwen3_key_requests_total{key="batch"} 1.0' in metrics
        assert 'qwen3_key_tokens_total{key="batch"} 6.0' in metrics
        assert "sk-1" not in metrics
        write({"search": "sk-3"})
        assert until(lambda: status("sk-3") == 200)
        assert status("sk-1") == 401
        path.write_text("{")
        assert until(lambda: status("sk-3") == 200 and "the keys before it stay" in caplog.text)
    for content, mode in (("{}", 0o600), ('{"a": 5}', 0o600), ('{"a": "sk"}', 0o644)):
        path.write_text(content)
        path.chmod(mode)
        with pytest.raises(ConfigError):
            KeyFile(path)
    with pytest.raises(ConfigError, match="can't be read"):
        KeyFile(tmp_path / "nothing")


def test_a_full_queue_is_429_and_a_client_that_leaves_is_cancelled():
    engine = Slow(FakeEngine("embed"))
    settings = ServerSettings(max_queued_tokens=40)
    with running(create_app(embedder=Embedder(engine), settings=settings)) as url, httpx.Client(base_url=url, timeout=None) as client:
        body = {"input": ["word " * 20]}

        def leave():
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{url}{OPENAI}", json=body, timeout=1)

        leaving = threading.Thread(target=leave)
        leaving.start()
        assert until(lambda: engine.waiting == 1)
        response = client.post(OPENAI, json=body)
        assert (response.status_code, response.headers["retry-after"], "the queue is full" in said(response)) == (429, "1", True)
        leaving.join()
        assert until(lambda: engine.cancelled == 1 and engine.waiting == 0)
        engine.free.set()
        assert client.post(OPENAI, json=body).status_code == 200
        lines = client.get("/metrics").text.splitlines()
        assert [line for line in lines if line.startswith("qwen3_queued_tokens ")] == ["qwen3_queued_tokens 0.0"]
        assert 'qwen3_requests_total{route="/v1/embeddings",status="499"} 1.0' in lines


def test_errors_of_the_engine_and_of_the_server(caplog):
    embedder = Embedder(FakeEngine("embed", error=EngineError("no memory")))
    with running(create_app(embedder=embedder)) as url:
        response = httpx.post(f"{url}{OPENAI}", json={"input": [SECRET]})
        assert (response.status_code, said(response), response.json()["error"]["type"]) == (500, "no memory", "server_error")
        embedder.engine.close()
        assert httpx.post(f"{url}{OPENAI}", json={"input": [SECRET]}).status_code == 503
    assert SECRET not in caplog.text


def test_a_fault_of_the_program_is_logged_and_not_shown(caplog):
    reranker = Reranker(FakeEngine("rerank", score=lambda query, document: 1 / 0))
    with running(create_app(reranker=reranker)) as url:
        response = httpx.post(f"{url}{RERANK}", json={"query": "a", "documents": [SECRET]})
        assert (response.status_code, said(response)) == (500, "ZeroDivisionError in the server; its log has the details")
    assert "ZeroDivisionError" in caplog.text


def test_the_access_log_has_no_texts_and_no_keys(caplog):
    caplog.set_level(logging.INFO)
    app = create_app(embedder=Embedder(FakeEngine("embed")), keys={"search": KEY}, settings=ServerSettings(access_log=True))
    with running(app) as url:
        headers = {"Authorization": f"Bearer {KEY}", "X-Request-Id": "r-1"}
        assert httpx.post(f"{url}{OPENAI}", json={"input": [SECRET]}, headers=headers).headers["x-request-id"] == "r-1"
        long = httpx.post(f"{url}{OPENAI}", json={"input": "a"}, headers=headers | {"X-Request-Id": "x" * 500}).headers["x-request-id"]
        assert len(long) == 32
    (facts, _) = [json.loads(record.message) for record in caplog.records if record.name == "qwen3_integrations.server.access"]
    assert facts.items() >= {"id": "r-1", "route": OPENAI, "status": 200, "key": "search", "texts": 1}.items()
    assert SECRET not in caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "there is nothing to serve"),
        ({"embedder": FakeEngine("embed")}, "embedder must be Embedder"),
        ({"embedder": Embedder(FakeEngine("embed")), "reranker": Reranker(FakeEngine("rerank"))}, "would be the name of both"),
        ({"embedder": Embedder(FakeEngine("embed")), "keys": ""}, "keys must be"),
        ({"embedder": Embedder(FakeEngine("embed")), "keys": {"a": " b"}}, "keys must be"),
    ],
)
def test_wrong_arguments(arguments, words):
    with pytest.raises(ConfigError, match=words):
        create_app(**arguments)


def test_wrong_settings():
    for wrong in ({"max_items": 0}, {"body_timeout_s": 0}, {"embedder_names": ("a:query",)}, {"reranker_names": ("",)}):
        with pytest.raises(ConfigError):
            ServerSettings(**wrong)


def test_a_server_of_its_own_process(tmp_path):
    """The command: loads, says when it is ready, answers with the key of the environment, and ends on SIGTERM with what it began."""
    path = tmp_path / "socket"
    environment = os.environ | {"QWEN3_API_KEY": KEY}
    command = [sys.executable, "-m", "qwen3_integrations.server", "--embed", "qwen3-tiny-demo", "--uds", str(path), "--drain-s", "0.5"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert until(path.exists)
        headers = {"Authorization": f"Bearer {KEY}"}
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://server", headers=headers) as client:
            assert client.get("/ready").status_code in (200, 503)
            assert until(lambda: client.get("/ready").status_code == 200, 60)
            assert client.post(OPENAI, json={"input": "a"}).status_code == 200
            assert client.get("/v1/models", headers={"Authorization": "Bearer x"}).status_code == 401
            process.send_signal(signal.SIGTERM)
            assert until(lambda: client.get("/ready").status_code == 503, 5)
        _, log = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode in (0, -signal.SIGTERM)
    assert "INFO ready" in log
    assert KEY not in log


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "there is nothing to serve"),
        (["--embed", "qwen3-tiny-demo"], "there is no key"),
        (["--embed", "/nothing", "--no-key", "--port", "0"], "/nothing"),
    ],
)
def test_a_command_that_can_not_work_says_why(arguments, words):
    environment = {name: value for name, value in os.environ.items() if name != "QWEN3_API_KEY"}
    done = subprocess.run(
        [sys.executable, "-m", "qwen3_integrations.server", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
