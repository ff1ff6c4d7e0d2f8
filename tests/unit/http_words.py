"""A stand-in for servers of any kind: vectors and scores by words, so that each text has its own answer. Any answer can be spoilt."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from qwen3_integrations.engines.http.engine import HttpEngine
from tests.server.faults import Call, FaultsProxy

MODEL = "q"
WIDTH = 32


def vector(text: str) -> list[float]:
    """A bag of words, of unit length."""
    row = np.full(WIDTH, 1e-3)
    for word in re.findall(r"\w+", text.lower()):
        row[zlib.crc32(word.encode()) % WIDTH] += 1
    return (row / np.linalg.norm(row)).tolist()


def expected(texts: list[str]) -> np.ndarray:
    return np.asarray([vector(text) for text in texts], dtype=np.float32)


def embeddings(texts: list[str]) -> dict[str, Any]:
    return {"data": [{"index": at, "embedding": vector(text)} for at, text in enumerate(texts)]}


def ranking(body: dict[str, Any]) -> dict[str, Any]:
    return {"results": [{"index": at, "relevance_score": score(text)} for at, text in enumerate(body["documents"])]}


def texts_of(body: dict[str, Any]) -> list[str]:
    """The texts to embed or to score, in each form of a body."""
    texts = body.get("input") or body.get("documents") or body.get("texts")
    return texts["documents"] if isinstance(texts, dict) else texts


def score(text: str) -> float:
    return (zlib.crc32(text.encode()) % 1000) / 1000


def answer(call: Call) -> None:
    """The right answer."""
    path, body = call.seen.path, call.seen.body
    if path.endswith("/models"):
        send(call, 200, {"data": [{"id": MODEL}]})
    elif path.endswith("/embeddings"):
        send(call, 200, embeddings(body["input"]))
    elif path.endswith("/rerank"):
        send(call, *((200, ranking(body)) if "documents" in body else (422, {"detail": "documents: field required"})))
    else:
        send(call, 404, {"detail": "Not Found"})


def send(call: Call, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
    call.answer(status, body if isinstance(body, bytes) else json.dumps(body).encode(), headers)


def raw(call: Call, data: bytes) -> None:
    """Bytes without any form."""
    call.handler.close_connection = True
    call.handler.connection.sendall(data)


class WordServer(FaultsProxy):
    """Answers rightly, unless `spoil` answers a working request itself and returns True."""

    def __init__(self, spoil: Callable[[Call], bool | None] | None = None) -> None:
        super().__init__(everywhere=self._answer)
        self.spoil = spoil

    def _answer(self, call: Call) -> None:
        if call.seen.method == "GET" or not self.spoil or not self.spoil(call):
            answer(call)

    @property
    def asked(self) -> list[int]:
        """Texts in each working request so far."""
        return [len(texts_of(one.body)) for one in self.seen if one.method == "POST" and one.body]  # some clients leave before the body


@contextmanager
def opened(server: FaultsProxy, task: str = "embed", **options: Any) -> Iterator[HttpEngine]:
    dialect = "openai" if task == "embed" else "rerank"
    settings = {"handshake": "off", "max_retries": 0, "source": "local", "dialect": dialect}
    engine = HttpEngine(task, MODEL, base_url=server.url, **settings | options)
    try:
        yield engine
    finally:
        engine.close()


def refusing(status: int, words: str, when: Callable[[list[str]], bool], headers: dict[str, str] | None = None) -> Callable[[Call], bool]:
    """Answers with an error if the texts of a request are such."""

    def spoil(call: Call) -> bool:
        if bad := when(texts_of(call.seen.body)):
            send(call, status, {"error": {"message": words}}, headers)
        return bad

    return spoil
