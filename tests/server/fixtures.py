"""The tiny pair on real servers, each started when the first test needs it; `tests/conftest.py` imports these fixtures for all tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.models import TINY
from tests.server.faults import FaultsProxy
from tests.server.launch import Running, running, vllm_command

NAME = "qwen3-tiny-demo"
"""A served name that this machine knows: it has the model's files, with the tokenizer."""

ALIAS = "elsewhere/qwen3-tiny-demo"
"""A served name of the same model that this machine does not know: only the server can count its tokens."""

PUBLISHED = {"embed": "Qwen/Qwen3-Embedding-0.6B", "rerank": "Qwen/Qwen3-Reranker-0.6B"}
"""Names of published models, under which the tiny pair is served wrongly."""

INFINITY = "QWEN3_TEST_INFINITY_PYTHON"
SGLANG = "QWEN3_TEST_SGLANG_PYTHON"


def sglang_python() -> str:
    """The Python with SGLang. Its environment: see noxfile.py."""
    python = os.environ.get(SGLANG)
    if python:
        return python
    if os.environ.get("CI"):
        pytest.fail(f"{SGLANG} must name a Python with SGLang: see noxfile.py")
    pytest.skip(f"{SGLANG} names no Python with SGLang: see noxfile.py")


class TinyServers(Mapping[str, Running]):
    """task -> its vLLM server; the reranker's server has no template, as in the tutorials."""

    def __init__(self, stack: ExitStack, logs: Path) -> None:
        self._stack = stack
        self._logs = logs
        self._started: dict[str, Running] = {}

    def __getitem__(self, task: str) -> Running:
        if task not in self._started:
            folder = TINY / {"embed": "embedding", "rerank": "reranker"}[task]
            command = vllm_command(folder, (NAME, ALIAS, PUBLISHED[task]), task)
            self._started[task] = self._stack.enter_context(running(command, self._logs / f"{task}.log"))
        return self._started[task]

    def __iter__(self) -> Iterator[str]:
        return iter(("embed", "rerank"))

    def __len__(self) -> int:
        return 2


@pytest.fixture(scope="session")
def tiny_servers(tmp_path_factory) -> Iterator[TinyServers]:
    with ExitStack() as stack:
        yield TinyServers(stack, tmp_path_factory.mktemp("servers"))


@pytest.fixture
def faulty(tiny_servers) -> Iterator[Callable[[str], FaultsProxy]]:
    """task -> a proxy in front of its server, which injects faults."""
    with ExitStack() as stack:
        yield lambda task: stack.enter_context(FaultsProxy(tiny_servers[task].port))


@pytest.fixture(scope="session")
def infinity(tmp_path_factory) -> Iterator[Running]:
    """The tiny embedder on infinity-emb. Its environment: see infinity-requirements.txt."""
    python = os.environ.get(INFINITY)
    if not python:
        if os.environ.get("CI"):
            pytest.fail(f"{INFINITY} must name a Python with infinity-emb: see tests/server/infinity-requirements.txt")
        pytest.skip(f"{INFINITY} names no Python with infinity-emb: see tests/server/infinity-requirements.txt")
    command = [str(Path(python).parent / "infinity_emb"), "v2", "--model-id", str(TINY / "embedding"), "--served-model-name", NAME]
    command += ["--engine", "torch", "--device", "cpu", "--dtype", "float32", "--no-bettertransformer", "--no-model-warmup"]
    with running(command, tmp_path_factory.mktemp("infinity") / "log") as server:
        yield server
