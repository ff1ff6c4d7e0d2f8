"""The guard in front of a server's application: what reaches the application, and what the guard answers itself."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qwen3_integrations.serving.guard import GUARD, server_environment
from qwen3_integrations.serving.in_server.qwen3_key_guard import KEY, KeyGuard

SECRET = "a-very-secret-key"


@pytest.fixture
def ask(monkeypatch):
    """(path, headers, ...) -> (what the application saw, what was sent)."""
    monkeypatch.setenv(KEY, SECRET)

    def request(path, *headers, method="GET", kind="http", **more):
        seen, sent = [], []

        async def app(scope, _receive, send):
            seen.append(scope)
            await send({"type": "http.response.start", "status": 503, "headers": [(b"x-model", b"secret")]})
            await send({"type": "http.response.body", "body": b"part", "more_body": True})
            await send({"type": "http.response.body", "body": b"end"})

        async def send(message):
            sent.append(message)

        scope = {"type": kind, "method": method, "path": path, "raw_path": path.encode(), "headers": list(headers), "query_string": b"a=b"}
        asyncio.run(KeyGuard(app)(scope | more, None, send))
        return seen, sent

    return request


def bearer(key=SECRET, scheme="Bearer", name=b"authorization"):
    return name, f"{scheme} {key}".encode()


@pytest.mark.parametrize("path", ["/", "/metrics", "/v1/models", "/health/", "//health", "/Health", "/health/x", "/healthz", "", "/ready "])
@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    "headers",
    [
        (),
        (bearer("wrong"),),
        (bearer(SECRET[:-1]),),
        (bearer(SECRET + "x"),),
        (bearer(scheme="Basic"),),
        (bearer(""),),
        ((b"authorization", SECRET.encode()),),
        ((b"x-api-key", SECRET.encode()),),
        (bearer(), bearer()),
        ((b"authorization", b"\xff\xfe"),),
    ],
)
def test_no_request_without_the_key_reaches_the_application(ask, path, kind, headers):
    seen, sent = ask(path, *headers, kind=kind)
    assert seen == []
    if kind == "http":
        assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
        assert sent[0]["status"] == 401
        assert (b"www-authenticate", b"Bearer") in sent[0]["headers"]
        assert dict(sent[0]["headers"])[b"content-length"] == str(len(sent[1]["body"])).encode()
        assert SECRET.encode() not in sent[1]["body"]
    else:
        assert [message["type"] for message in sent] == ["websocket.close"]


@pytest.mark.parametrize("path", ["/health", "/ready"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_open_paths_say_a_status_and_nothing_else(ask, path, method):
    seen, sent = ask(path, (b"origin", b"http://x"), method=method, root_path="/proxy")
    (scope,) = seen
    assert (scope["path"], scope["method"], scope["headers"], scope["query_string"], scope["root_path"]) == ("/health", "GET", [], b"", "")
    assert sent == [
        {"type": "http.response.start", "status": 503, "headers": [(b"content-length", b"0")]},
        {"type": "http.response.body", "body": b""},
    ]


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS", "DELETE", "CONNECT", "get"])
def test_the_open_paths_are_open_for_reading_only(ask, method):
    seen, sent = ask("/health", method=method)
    assert (seen, sent[0]["status"]) == ([], 401)


@pytest.mark.parametrize("headers", [(bearer(),), (bearer(scheme="bearer"),), (bearer(name=b"Authorization"),), (bearer(f" {SECRET} "),)])
def test_a_request_with_the_key_reaches_the_application_as_it_is(ask, headers):
    seen, sent = ask("/v1/models", *headers, method="OPTIONS", root_path="/proxy")
    assert (seen[0]["path"], seen[0]["root_path"], seen[0]["headers"]) == ("/v1/models", "/proxy", list(headers))
    assert sent[0]["headers"] == [(b"x-model", b"secret")]
    assert ask("/v1/realtime", *headers, kind="websocket")[0]


def test_only_the_start_and_the_end_of_the_program_pass_without_a_request(ask):
    assert ask("", kind="lifespan")[0]
    assert ask("/metrics", kind="webtransport") == ([], [])


@pytest.mark.parametrize("key", [None, ""])
def test_a_server_does_not_start_without_its_guards_key(monkeypatch, key):
    monkeypatch.delenv(KEY, raising=False) if key is None else monkeypatch.setenv(KEY, key)
    with pytest.raises(RuntimeError, match="can't be guarded"):
        KeyGuard(lambda *_: None)


def test_a_python_without_this_package_finds_the_guard(tmp_path):
    """In the environment that servers get, from any folder."""
    module, _, name = GUARD.rpartition(".")
    code = f"import sys, {module}; print({module}.{name}, any('qwen3_integrations' in each for each in sys.modules))"
    environment = server_environment({"PYTHONPATH": str(tmp_path)}, {KEY: SECRET})
    done = subprocess.run([sys.executable, "-S", "-c", code], env=environment, cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout == f"<class '{GUARD}'> False\n"


def test_the_environment_of_a_server():
    around = {
        "PATH": "/bin",
        "FORCE_COLOR": "1",
        "CLICOLOR_FORCE": "1",
        "PYTHON_COLORS": "1",
        "VLLM_LOGGING_COLOR": "1",
        "PYTHONPATH": "/a",
    }
    found = server_environment(around, {KEY: SECRET, "PYTHONPATH": "/b"})
    first, second = found.pop("PYTHONPATH").split(os.pathsep)
    assert (Path(first).name, second) == ("in_server", "/b")
    assert found == {"PATH": "/bin", "NO_COLOR": "1", KEY: SECRET}
    assert server_environment({}, {})["PYTHONPATH"] == first
    assert around["FORCE_COLOR"] == "1"
