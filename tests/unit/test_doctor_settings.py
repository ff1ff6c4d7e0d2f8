"""`doctor` on servers and environment variables: who is asked, what is said, and that no secret is shown."""

from __future__ import annotations

import json
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from qwen3_integrations import serving
from qwen3_integrations.diagnosis import Finding, settings
from qwen3_integrations.diagnosis.settings import environment_findings


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_running_servers(monkeypatch, tmp_path):
    monkeypatch.setenv("QWEN3_SERVERS_DIR", str(tmp_path))
    assert only(settings.running()).text == "none is running"
    shared = {"task": "embed", "model": "Qwen/Qwen3-Embedding-0.6B", "url": "http://127.0.0.1:8000", "pid": 42}
    servers = [SimpleNamespace(name="one", state="ready", **shared), SimpleNamespace(name="two", state="starting", **shared)]
    monkeypatch.setattr(serving, "servers", lambda: servers, raising=False)
    one, two = settings.running()
    assert (one.state, one.text) == ("ok", "ready: embed Qwen/Qwen3-Embedding-0.6B at http://127.0.0.1:8000, process 42")
    assert (two.state, two.fix) == ("note", "qwen3-integrations logs two")


@contextmanager
def listing(status: int = 200, body: object = None, *, at: str = "/v1/models", key: str = "") -> Iterator[str]:
    """A server that lists models at one path, to who has the key."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            right = not key or self.headers.get("Authorization") == f"Bearer {key}"
            self.send_response(404 if self.path != at else status if right else 401)
            self.end_headers()
            self.wfile.write(json.dumps(body or {"data": [{"id": "qwen"}]}).encode())

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(url: str, **variables: str) -> Finding:
    return environment_findings({"QWEN3_EMBEDDING_URL": url, **variables}, cores=4)[0]


def test_a_server_that_the_environment_names_is_asked():
    with listing() as url:
        assert (ask(url).state, ask(url).text) == ("ok", f"{url} answers, serves qwen")
        assert ask(f"{url}/v1/", http_proxy="http://127.0.0.1:9").state == "ok"  # no proxy for this machine
    with listing(at="/models", body=[{"id": "root"}]) as url:
        assert ask(url).text == f"{url} answers, serves root"
    with listing(key="right") as url:
        assert ask(url, QWEN3_API_KEY="right").state == "ok"
        wrong = ask(url, QWEN3_API_KEY="wrong")
        assert (wrong.state, wrong.fix) == ("warning", "export QWEN3_API_KEY=...")
    with listing(503) as url:
        assert "status 503" in ask(url).text
        assert ask(url).fix == f"qwen3-integrations verify {url}"


def test_a_server_behind_a_unix_socket_is_asked(socket_folder):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    path = socket_folder / "s"
    with socketserver.UnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            assert ask(f"unix://{path}") == Finding("environment", "QWEN3_EMBEDDING_URL", "ok", f"unix://{path} answers")
        finally:
            server.shutdown()
            thread.join()


def test_a_server_that_is_not_there_is_a_problem():
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        gone = ask(f"http://me:hush@127.0.0.1:{unheard.getsockname()[1]}")
    assert gone.state == "problem"
    assert "refused" in gone.text
    assert "unset QWEN3_EMBEDDING_URL" in gone.fix
    assert ask("127.0.0.1:8000").fix == "export QWEN3_EMBEDDING_URL=http://127.0.0.1:8000/v1"
    assert ask("unix:///nowhere.sock").state == "problem"


def test_no_secret_is_ever_shown():
    variables = dict.fromkeys(("QWEN3_API_KEY", "HF_TOKEN", "MODELSCOPE_API_TOKEN", "VLLM_API_KEY"), "hush")
    variables |= {"HF_ENDPOINT": "https://me:hush@mirror/x?token=hush", "MODELSCOPE_ENDPOINT": "https://hush@mirror"}
    variables |= {"HTTP_PROXY": "http://me:hush@proxy:3128", "all_proxy": "me:hush@proxy:1080"}
    variables |= {"QWEN3_EMBEDDING_URL": "http://me:hush@127.0.0.1:1/v1", "QWEN3_RERANKER_URL": "ftp://me:hush@host"}
    found = environment_findings(variables, cores=4)
    assert {finding.subject for finding in found} == {*variables, "proxies"} - {"HTTP_PROXY", "all_proxy"}
    assert "hush" not in str(found)
    assert "https://mirror/x" in str(found)
    assert "http://proxy:3128" in str(found)


@pytest.mark.parametrize(
    ("variables", "state"),
    [
        ({"http_proxy": "http://proxy"}, "warning"),
        ({"ALL_PROXY": "http://proxy", "NO_PROXY": "localhost"}, "warning"),
        ({"HTTP_PROXY": "http://proxy", "NO_PROXY": "internal, 127.0.0.1,LOCALHOST"}, "ok"),
        ({"http_proxy": "http://proxy", "no_proxy": "*"}, "ok"),
        ({"https_proxy": "http://proxy"}, "ok"),  # servers on this machine speak http
        ({"OMP_NUM_THREADS": "1"}, "note"),
        ({"OMP_NUM_THREADS": "4"}, "ok"),
        ({"HF_HUB_OFFLINE": "1"}, "note"),
        ({"TRANSFORMERS_OFFLINE": "True"}, "note"),
        ({"CUDA_VISIBLE_DEVICES": "1"}, "ok"),
        ({"VLLM_LOGGING_LEVEL": "DEBUG"}, "ok"),
        ({"HF_HUB_OFFLINE": "0", "PATH": "/bin"}, "ok"),
    ],
)
def test_variables_with_an_effect(variables, state):
    finding = only(environment_findings(variables, cores=4))
    assert finding.state == state
    assert bool(finding.fix) == (state != "ok")


def test_the_fix_for_proxies_works():
    finding = only(environment_findings({"http_proxy": "http://proxy", "no_proxy": "internal"}, cores=4))
    command = ["bash", "-c", f"{finding.fix}; env"]
    after = subprocess.run(command, env={"no_proxy": "internal"}, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "no_proxy=localhost,127.0.0.1,internal" in after
    variables = {"http_proxy": "http://proxy"} | dict(line.split("=", 1) for line in after if line.lower().startswith("no_proxy"))
    assert only(environment_findings(variables, cores=4)).state == "ok"


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "nonsense://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_is_a_finding(proxy, monkeypatch):
    """Only for servers elsewhere: no proxy is used for this machine."""
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    finding = ask("http://192.0.2.1:8000/v1")
    assert (finding.state, "does not answer" in finding.text) == ("problem", True)
    with listing() as url:
        assert ask(url).state == "ok"
