"""Checks that another user of the machine gets nothing from a server without its key."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import httpx

from qwen3_integrations.serving import Server

ROUTES = (
    *("/v1/models", "/v1/embeddings", "/v1/rerank", "/v2/rerank", "/classify", "/score", "/v1/score", "/rerank", "/pooling"),
    *("/invocations", "/ping", "/tokenize", "/detokenize", "/metrics", "/load", "/version", "/docs", "/redoc", "/openapi.json"),
    *("/model_info", "/get_server_info", "/generate", "/encode", "/flush_cache", "/health_generate", "/v1/loads", "/"),
)
"""Routes of vLLM and SGLang."""

SPELLINGS = (
    *("/health/", "//health", "/HEALTH", "/health%2F", "/health;x", "/health/../metrics", "/ready/", "/x/../health", "/healthz"),
    *("//metrics", "/metrics/", "/%6detrics", "/METRICS", "/metrics?health", "/v1//models", "/v1/models/", "/.//v1/models"),
)
"""Other spellings of open and of guarded paths."""

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE")
PREFLIGHT = {"Origin": "http://elsewhere", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}

# Run by another user with the system's Python: reads the requests, prints the answers.
CLIENT = """
import http.client, json, socket, sys
class OnSocket(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(asked["url"][7:])
asked, answers = json.load(sys.stdin), []
kind = OnSocket if asked["url"].startswith("unix://") else http.client.HTTPConnection
for method, path in asked["requests"]:
    client = kind("localhost" if kind is OnSocket else asked["url"][7:], timeout=30)
    client.request(method, path, headers=asked["headers"])
    answer = client.getresponse()
    answers.append([answer.status, [name.lower() for name, _ in answer.getheaders()], answer.read().decode()])
    client.close()
json.dump(answers, sys.stdout)
"""


def from_another_account(server: Server, requests: list[tuple[str, str]], headers: dict[str, str]) -> list[tuple[int, set[str], str]]:
    """(status, names of headers, body) of (method, path), sent by `nobody` where this process may become another user."""
    nobody = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    asked = json.dumps({"url": server.url, "requests": requests, "headers": headers})
    command = ["/usr/bin/python3", "-I", "-c", CLIENT]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=True, cwd="/", env={}, **nobody)
    answers = [(status, set(names), body) for status, names, body in json.loads(done.stdout)]
    assert len(answers) == len(requests)
    return answers


def check_guarded(server: Server, with_key: Sequence[str] = ("/metrics", "/v1/models", "/openapi.json")) -> None:
    """Check every route, method and spelling; the two open routes; and what the other user can read of the processes."""
    for headers in ({}, PREFLIGHT, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {server.api_key}"}):
        methods = METHODS if headers in ({}, PREFLIGHT) else ("GET",)
        requests = list(itertools.product(methods, (*ROUTES, *SPELLINGS)))
        requests += [(method, path) for method in methods if method not in ("GET", "HEAD") for path in ("/health", "/ready")]
        for asked, (status, names, body) in zip(requests, from_another_account(server, requests, headers), strict=True):
            assert status == 401, (asked, headers, body)
            assert names <= {"date", "server", "content-type", "content-length", "www-authenticate", "connection"}
            assert server.model not in body
    asked = list(itertools.product(("GET", "HEAD"), ("/health", "/ready", "/health?x=1")))
    for status, names, body in from_another_account(server, asked, PREFLIGHT):
        assert (status, body) == (200, "")
        assert names <= {"date", "server", "content-length", "connection"}
    with httpx.Client(transport=transport(server), base_url=server.url if "unix" not in server.url else "http://localhost") as client:
        for path in with_key:
            assert client.get(path, headers={"Authorization": f"Bearer {server.api_key}"}).status_code == 200
        twice = [("Authorization", f"Bearer {server.api_key}"), ("Authorization", "Bearer wrong")]
        assert client.get("/metrics", headers=twice).status_code == 401
    if os.geteuid() == 0:
        read = ["cat", f"/proc/{server.pid}/environ", str(server.log_path), str(server.log_path.with_suffix(".json"))]
        done = subprocess.run(read, capture_output=True, user="nobody", group="nogroup", extra_groups=[], cwd="/", check=False)
        assert (done.returncode, done.stdout) == (1, b"")
    assert server.api_key not in Path(f"/proc/{server.pid}/cmdline").read_text()


def transport(server: Server) -> httpx.HTTPTransport:
    return httpx.HTTPTransport(uds=server.url.removeprefix("unix://") if server.url.startswith("unix://") else None)
