"""One server with the tiny pair, for the tests of this folder."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn

from qwen3_integrations import Embedder, Reranker, open_engine
from qwen3_integrations.server import ServerSettings, create_app
from tests.waiting import until

KEY = "sk-a-key-of-the-tests"
EMBEDDER, RERANKER = "qwen3-tiny-demo", "qwen3-tiny-reranker"


@contextmanager
def running(app) -> Iterator[str]:
    """The address of an application, served by uvicorn in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=5))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def embedder():
    with open_engine("embed", "qwen3-tiny-demo", backend="torch") as engine:
        yield Embedder(engine)


@pytest.fixture(scope="session")
def reranker():
    with open_engine("rerank", "qwen3-tiny-demo", backend="torch") as engine:
        yield Reranker(engine)


@pytest.fixture(scope="session")
def url(embedder, reranker):
    """The address of a server with both models and a key."""
    settings = ServerSettings(reranker_names=(RERANKER,))
    with running(create_app(embedder=embedder, reranker=reranker, keys=KEY, settings=settings)) as address:
        yield address
