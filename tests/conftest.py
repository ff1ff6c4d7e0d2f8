"""Models, engines and the reference for all tests."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models import SHAPES, TINY, write_random_model
from tests.server.fixtures import faulty, infinity, tiny_servers  # noqa: F401  fixtures of all tests

SHARING = {
    "servers": ("tests/server/test_http_", "tests/server/test_verify", "tests/server/test_snippets.py", "tests/contract/test_engines.py"),
    "browser": ("tests/widgets/", "tests/labextension/"),
    "own server": ("tests/http_server/",),
}
"""What starts once for many tests -> where these tests are."""


LONG = (
    "tests/server/test_serving.py",
    "servers",
    "browser",
    "tests/server/test_serve_folders.py",
    "tests/contract/test_vllm_engine.py",
    "tests/server/test_sglang.py",
    "tests/contract/test_vllm_folders.py",
    "tests/server/test_supervise.py",
    "tests/contract/test_torch_kernels.py",
    "tests/unit/test_documents.py",
    "tests/unit/test_http_campaign.py",
)
"""What takes minutes, the longest first: with it, no process is busy at the end while the other one waits."""


def scope_of(nodeid: str) -> str:
    """The group or the file of a test."""
    group = next((name for name, places in SHARING.items() if nodeid.startswith(places)), None)
    return group or nodeid.partition("::")[0]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In the processes of `pytest -n`: long scopes first, then those with most tests."""
    if hasattr(config, "workerinput"):
        scopes = [scope_of(item.nodeid) for item in items]
        count = Counter(scopes)
        place = {scope: LONG.index(scope) if scope in LONG else len(LONG) for scope in count}
        items.sort(key=lambda item: (place[scope_of(item.nodeid)], -count[scope_of(item.nodeid)], scope_of(item.nodeid)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `pytest -n 2 --dist loadscope`: tests that share a server or a browser stay in one process, and so do the tests of a file."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid)

    config.option.loadscopereorder = False  # the order of the collection, which is by time
    return Groups(config, log)


os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in ("QWEN3_EMBEDDING_URL", "QWEN3_RERANKER_URL", "QWEN3_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def socket_folder() -> Iterator[Path]:
    """A folder for Unix sockets: their paths have at most 107 bytes on Linux, and pytest's own folders may be longer."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


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
