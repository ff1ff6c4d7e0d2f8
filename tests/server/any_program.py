"""What holds for a server of every program. Modules import these tests, which use the module's `embedder`: a server and its progress."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import numpy as np
import psutil
import pytest

from qwen3_integrations import Embedder
from qwen3_integrations.errors import AuthenticationFailed, ConfigError
from qwen3_integrations.serving import Launched, Progress, Server, ServerOptions, attach, start
from tests.contract.cases import TOLERANCE
from tests.reference import reference_embeddings
from tests.server.processes import group_of
from tests.texts import HOSTILE


@contextmanager
def started(options: ServerOptions) -> Iterator[tuple[Server, list[Progress]]]:
    """A server and what its start said; it is stopped at the end."""
    seen: list[Progress] = []
    outcome = start(options, on_progress=seen.append)
    assert isinstance(outcome, Launched), outcome
    with outcome.server as server:
        yield server, seen
    assert server.state == "stopped"


def test_the_numbers_are_right(embedder, tiny_embedder):
    server, _ = embedder
    with server.engine() as engine:
        vectors = Embedder(engine).embed_documents(HOSTILE)
    assert np.abs(vectors - reference_embeddings(tiny_embedder, HOSTILE)).max() < TOLERANCE
    assert len(server.embeddings(dimensions=64).embed_query("a query")) == 64
    with pytest.raises(ConfigError, match=r"for embed. Use embeddings\(\)"):
        server.reranker()


def test_the_key_is_wanted_and_nowhere_to_be_read(embedder, folder):
    server, _ = embedder
    assert len(server.api_key) >= 32
    assert httpx.post(f"{server.url}/v1/embeddings", json={"model": server.model, "input": ["text"]}).status_code == 401
    for path in folder.iterdir():
        assert server.api_key not in path.read_text(), path
        assert path.stat().st_mode & 0o777 == 0o600
    for pid in [*group_of(server.pid), psutil.Process(server.pid).ppid()]:
        assert server.api_key not in " ".join(psutil.Process(pid).cmdline())
    assert server.api_key not in repr(server) + server._repr_html_() + json.dumps(server.status().to_dict())
    assert all(server.api_key not in code for code in server.snippets().values())


def test_another_process_attaches_with_the_key(embedder):
    server, _ = embedder
    code = (
        "from qwen3_integrations.serving import attach; from qwen3_integrations import Embedder; server = attach(task='embed');"
        "print(Embedder(server.engine()).embed_documents(['text']).shape[0], server.owned, server.keep_running)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False", "False"]
    with pytest.raises(AuthenticationFailed):
        Embedder(attach(server.name, api_key="another").engine()).embed_documents(["text"])


def test_status_tells_the_load(embedder):
    server, _ = embedder
    before = server.status().load
    Embedder(server.engine()).embed_documents(["one", "two", "three"])
    after = server.status()
    assert after.state == "ready"
    assert after.load.requests >= before.requests + 3
    assert after.load.prompt_tokens > before.prompt_tokens
    assert (after.owner_pid, after.pid) == (os.getpid(), server.pid)
