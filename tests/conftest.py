"""Models, engines and the reference for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.models import SHAPES, TINY, write_random_model
from tests.server.fixtures import faulty, infinity, tiny_servers  # noqa: F401  fixtures of all tests

SERVERS = {"tiny_servers", "faulty", "infinity"}
"""Fixtures of servers that start once for all tests of a process."""


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `pytest -n 2 --dist loadgroup`, a process gets whole groups: a server or a browser starts once, files stay together."""
    for item in items:
        folder, path = item.path.parent.name, str(item.path)
        group = (
            "servers" if folder == "server" or SERVERS & set(getattr(item, "fixturenames", ())) else folder if folder == "widgets" else path
        )
        item.add_marker(pytest.mark.xdist_group(group))


os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in ("QWEN3_EMBEDDING_URL", "QWEN3_RERANKER_URL", "QWEN3_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def tiny_embedder() -> Path:
    return TINY / "embedding"


@pytest.fixture(scope="session")
def tiny_reranker() -> Path:
    return TINY / "reranker"


@pytest.fixture(scope="session")
def random_models(tmp_path_factory) -> dict[tuple[str, str], Path]:
    """(task, size) -> a random model of that size's shape in miniature."""
    root = tmp_path_factory.mktemp("models")
    return {
        (task, size): write_random_model(root / f"{task}-{size}", task, shape, seed)
        for seed, (size, shape) in enumerate(SHAPES.items())
        for task in ("embed", "rerank")
    }


@pytest.fixture(scope="session")
def random_embedder(random_models) -> Path:
    return random_models["embed", "0.6B"]


@pytest.fixture(scope="session")
def random_reranker(random_models) -> Path:
    return random_models["rerank", "0.6B"]
