"""Stand-ins for gateways and servers: a function from path and body to status and JSON."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from qwen3_integrations import Embedder, Reranker
from qwen3_integrations.engines.http.engine import HttpEngine
from tests.server.faults import FaultsProxy

Reply = Callable[[str, Any], tuple[int, Any]]

MODEL = "q"
TEXTS = ["a text about files", "a text about the moon"]
QUERY = "How do I read a file?"
DOCUMENTS = ["To read a file, open it.", "The moon."]
ABSENT = (404, {"detail": "Not Found"})


def models(*names: str, **more: Any) -> tuple[int, Any]:
    """A list of models."""
    return 200, {"data": [{"id": name, "owned_by": "x", **more} for name in names]}


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.rsplit("Query:", maxsplit=1)[-1].lower()))


def vector(text: str, width: int = 64) -> list[float]:
    """A bag of words: texts that share words are near each other."""
    row = [1e-3] * width
    for word in _words(text):
        row[zlib.crc32(word.encode()) % width] += 1
    return row


def vectors(body: Any, **more: Any) -> tuple[int, Any]:
    """Right embeddings as lists of floats."""
    return 200, {"data": [{"index": index, "embedding": vector(text)} for index, text in enumerate(body["input"])], **more}


def likeness(query: str, text: str) -> float:
    """The score of a document."""
    return len(_words(query) & _words(text)) / 9


def ranks(body: Any, *, name: str = "relevance_score", documents: str = "documents") -> list[dict[str, Any]]:
    """Right scores, best first."""
    scored = [{"index": index, name: likeness(body["query"], text)} for index, text in enumerate(body[documents])]
    return sorted(scored, key=lambda item: -item[name])


class Gateway(FaultsProxy):
    """A server that answers with a function; `paths` has the paths of all requests in their order."""

    def __init__(self, reply: Reply) -> None:
        def answer(call: Any) -> None:
            status, content = reply(call.seen.path, call.seen.body)
            call.answer(status, content if isinstance(content, bytes) else json.dumps(content).encode())

        super().__init__(everywhere=answer)

    @property
    def paths(self) -> list[str]:
        """The paths of all requests."""
        return [seen.path for seen in self.seen]

    @property
    def bodies(self) -> list[Any]:
        """The bodies of all requests that have one."""
        return [seen.body for seen in self.seen if seen.body]


@contextmanager
def embedder(reply: Reply, base: str = "", model: str = MODEL, **options: Any) -> Iterator[tuple[Embedder, Gateway]]:
    """An embedder on a stand-in."""
    with Gateway(reply) as gateway:
        engine = HttpEngine("embed", model, base_url=gateway.url + base, **{"max_retries": 0} | options)
        try:
            yield Embedder(engine), gateway
        finally:
            engine.close()


@contextmanager
def reranker(reply: Reply, base: str = "", model: str = MODEL, **options: Any) -> Iterator[tuple[Reranker, Gateway]]:
    """A reranker on a stand-in."""
    with Gateway(reply) as gateway:
        engine = HttpEngine("rerank", model, base_url=gateway.url + base, **{"max_retries": 0} | options)
        try:
            yield Reranker(engine), gateway
        finally:
            engine.close()


def routes(**answers: Any) -> Reply:
    """A reply by path: `v1_models=models("q")`; a value, or a function of the body. All other paths are absent."""

    def reply(path: str, body: Any) -> tuple[int, Any]:
        found = answers.get(path.strip("/").replace("/", "_").replace("-", "_"))
        return ABSENT if found is None else found(body) if callable(found) else found

    return reply


def answers(path: str, body: Any) -> tuple[int, Any]:
    """A gateway that serves the model `q` for embeddings and rankings."""
    if path.endswith("models"):
        return models("q")
    if path == "/v1/embeddings":
        return vectors(body)
    return (200, {"results": ranks(body)}) if path.endswith("/rerank") else ABSENT
