"""Checks that another user of the machine gets nothing from a server without its key."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
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

# Run by another user: each line of the input is a request; prints one line of status, headers and body for each.
CLIENT = r"""
while read -r method path; do
  curl --silent --max-time 20 --path-as-is --include --request "$method" $([ "$method" = HEAD ] && echo --head) \
    "${socket[@]}" "${headers[@]}" "$url$path" | tr -d '\r' | tr '\n' '\a'
  echo
done
"""


def from_another_account(server: Server, requests: list[tuple[str, str]], headers: dict[str, str]) -> list[str]:
    """The answers to (method, path), each with its status line, headers and body; sent by `nobody` where this process may become it."""
    root, socket = server.url, []
    if server.url.startswith("unix://"):
        root, socket = "http://localhost", ["--unix-socket", server.url.removeprefix("unix://")]
    quoted = [word for name, value in headers.items() for word in ("--header", f"{name}: {value}")]
    script = f"url={root}\nsocket=({' '.join(socket)})\nheaders=({' '.join(map(json.dumps, quoted))})\n{CLIENT}"
    nobody = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    asked = "".join(f"{method} {path}\n" for method, path in requests)
    done = subprocess.run(["bash", "-c", script], input=asked, capture_output=True, text=True, check=True, cwd="/", env={}, **nobody)
    answers = [line.replace("\a", "\n") for line in done.stdout.splitlines()]
    assert len(answers) == len(requests)
    return answers


def check_guarded(server: Server) -> None:
    """Check every route, method and spelling; the two open routes; and what the other user can read of the processes."""
    for headers in ({}, PREFLIGHT, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {server.api_key}"}):
        methods = METHODS if headers in ({}, PREFLIGHT) else ("GET",)
        requests = list(itertools.product(methods, (*ROUTES, *SPELLINGS)))
        requests += [(method, path) for method in methods if method not in ("GET", "HEAD") for path in ("/health", "/ready")]
        for (method, path), answer in zip(requests, from_another_account(server, requests, headers), strict=True):
            assert answer.startswith("HTTP/1.1 401 "), (method, path, headers, answer)
            assert names_of(answer) <= {"date", "server", "content-type", "content-length", "www-authenticate", "connection"}, answer
            assert server.model not in answer
    for answer in from_another_account(server, list(itertools.product(("GET", "HEAD"), ("/health", "/ready", "/health?x=1"))), PREFLIGHT):
        assert answer.startswith("HTTP/1.1 200 "), answer
        assert names_of(answer) <= {"date", "server", "content-length", "connection"}
        assert not answer.partition("\n\n")[2].strip()
    with httpx.Client(transport=transport(server), base_url=server.url if "unix" not in server.url else "http://localhost") as client:
        for path in ("/metrics", "/v1/models", "/openapi.json"):
            assert client.get(path, headers={"Authorization": f"Bearer {server.api_key}"}).status_code == 200
        twice = [("Authorization", f"Bearer {server.api_key}"), ("Authorization", "Bearer wrong")]
        assert client.get("/metrics", headers=twice).status_code == 401
    if os.geteuid() == 0:
        read = ["cat", f"/proc/{server.pid}/environ", str(server.log_path), str(server.log_path.with_suffix(".json"))]
        done = subprocess.run(read, capture_output=True, user="nobody", group="nogroup", extra_groups=[], cwd="/", check=False)
        assert (done.returncode, done.stdout) == (1, b"")
    assert server.api_key not in Path(f"/proc/{server.pid}/cmdline").read_text()


def names_of(answer: str) -> set[str]:
    """The names of an answer's headers."""
    return {line.partition(":")[0].lower() for line in answer.partition("\n\n")[0].splitlines()[1:]}


def transport(server: Server) -> httpx.HTTPTransport:
    return httpx.HTTPTransport(uds=server.url.removeprefix("unix://") if server.url.startswith("unix://") else None)
