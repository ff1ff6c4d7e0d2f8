"""The family of a model, from the names that servers give to it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from qwen3_integrations.core.types import Task

_FAMILY = re.compile(r"qwen[-_.]?3[-_.]?(embedding|reranker)(?![a-z])")
"""The published models, and their copies under other names: `qwen3-embedding:0.6b` (Ollama), `text-embedding-qwen3-embedding-0.6b` (LM
Studio), `Qwen3-Embedding-0.6B-Q8_0.gguf` (llama.cpp), `dengcao/Qwen3-Reranker-0.6B:F16`, `qwen/qwen3-embedding-8b` (routers)."""

_SIZE = re.compile(r"(?<![\d.])(0\.6|4|8)b(?![a-z])")

_TASKS: dict[str, Task] = {"embedding": "embed", "reranker": "rerank"}


def is_known(task: Task, names: Iterable[str | None]) -> bool:
    """Whether one of a model's names says that it is a Qwen3 model for this task: then its token counts are known."""
    return any(task in _tasks(name) for name in names)


def may_be_same(one: str, other: str) -> bool:
    """Whether two names may be names of one model: they differ only in case, tag or path, or are of one family and size."""
    if _plain(one) == _plain(other):
        return True
    sizes = _sizes(one), _sizes(other)
    return bool(_tasks(one) & _tasks(other)) and (not all(sizes) or not sizes[0].isdisjoint(sizes[1]))


def same_spelling(one: str, other: str) -> bool:
    """Whether two names differ only in case, or in Ollama's tag `latest`."""
    return _untagged(one) == _untagged(other)


def _tasks(name: str | None) -> set[Task]:
    return {_TASKS[found] for found in _FAMILY.findall((name or "").lower())}


def _sizes(name: str) -> set[str]:
    return set(_SIZE.findall(name.lower()))


def _untagged(name: str) -> str:
    return name.lower().removesuffix(":latest")


def _plain(name: str) -> str:
    """The last part of a name or a path, in lower case."""
    return _untagged(name).rstrip("/").rpartition("/")[2].removesuffix(".gguf").removesuffix("-gguf")
