"""Components that were made before a fork work in the child, by themselves."""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import openai
import pytest

from qwen3_integrations import Embedder, Reranker, open_engine
from qwen3_integrations.engines import registry
from qwen3_integrations.engines.http.engine import HttpEngine
from qwen3_integrations.engines.wrapper import EngineWrapper
from qwen3_integrations.errors import ConfigError, EngineClosed, Qwen3Error
from qwen3_integrations.langchain import Qwen3Embeddings, Qwen3Rerank, RerankingRetriever
from qwen3_integrations.llama_index import Qwen3Embedding
from tests.unit.gateways import DOCUMENTS, QUERY, TEXTS, Gateway, answers

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def in_fork(work: Callable[[], Any], seconds: float = 30) -> Any:
    """The result of a function in a forked process; it must be JSON. An error of this package is the result `error: ...`."""
    faulthandler.cancel_dump_traceback_later()  # its thread would not exist in a forked process of a forked process
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        faulthandler.dump_traceback_later(seconds / 2, file=sys.__stderr__)
        try:
            result = json.dumps(work())
        except Qwen3Error as error:
            result = json.dumps(f"error: {type(error).__name__}: {error}")
        except BaseException as error:
            result = json.dumps(f"not of this package: {type(error).__name__}: {error}")
        os.write(writing, result.encode())
        os._exit(0)
    os.close(writing)
    clock = threading.Timer(seconds, os.kill, (pid, signal.SIGKILL))
    clock.start()
    try:
        with os.fdopen(reading, "rb") as pipe:
            answer = pipe.read()
    finally:
        clock.cancel()
        os.waitpid(pid, 0)
    assert answer, "the forked process hangs"
    return json.loads(answer)


@contextmanager
def gateway() -> Iterator[Gateway]:
    with Gateway(answers) as server:
        yield server


def rows(vectors: Any) -> Any:
    """Two numbers for each vector, which differ for different vectors."""
    both = np.asarray(vectors, dtype=float)
    return [[round(float(row.sum()), 4), round(float(row @ np.arange(len(row))), 3)] for row in both]


@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_an_engine_on_a_server(used, asynchronous):
    with gateway() as server:
        engine = HttpEngine("embed", "q", base_url=server.url)
        embedder = Embedder(engine)
        other = HttpEngine("embed", "q", base_url=server.url)
        expected = rows(Embedder(other).embed_documents(TEXTS))
        other.close()
        if used:
            assert rows(embedder.embed_documents(TEXTS)) == expected
        work = (lambda: asyncio.run(embedder.aembed_documents(TEXTS))) if asynchronous else (lambda: embedder.embed_documents(TEXTS))
        assert in_fork(lambda: rows(work())) == expected
        assert in_fork(lambda: in_fork(lambda: rows(work()))) == expected
        assert rows(embedder.embed_documents(TEXTS)) == expected
        engine.close()


def test_what_was_learned_is_not_learned_again():
    def reply(path: str, body: Any) -> tuple[int, Any]:
        if path == "/v1/embeddings" and body.get("encoding_format") == "base64":
            return 400, {"error": {"message": "base64 is not supported"}}
        if path == "/v1/embeddings" and len(body["input"]) > 6:
            return 413, {"error": {"message": "batch size 7 > maximum allowed batch size 6"}}
        return answers(path, body)

    with Gateway(reply) as server:
        engine = HttpEngine("embed", "q", base_url=server.url, max_retries=0)
        Embedder(engine).embed_documents(["a"] * 10)
        known = str(engine.server)
        assert "at most 6 items" in known
        before = len(server.seen)
        assert in_fork(lambda: (len(Embedder(engine).embed_documents(["a"] * 18)), str(engine.server))) == [18, known]
        assert [(seen.path, len(seen.body["input"]), seen.body.get("encoding_format")) for seen in server.seen[before:]] == [
            ("/v1/embeddings", 6, "float")
        ] * 3
        engine.close()


def test_a_fork_during_calls_of_other_threads():
    """The child has none of the parent's threads, whatever they hold at that moment."""
    with gateway() as server:
        engine = HttpEngine("embed", "q", base_url=server.url)
        embedder = Embedder(engine)
        expected = rows(embedder.embed_documents(TEXTS))
        done = threading.Event()

        def busy() -> None:
            while not done.is_set():
                embedder.embed_documents([*TEXTS, str(time.monotonic())])

        threads = [threading.Thread(target=busy) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            assert [in_fork(lambda: rows(embedder.embed_documents(TEXTS))) for _ in range(8)] == [expected] * 8
        finally:
            done.set()
            for thread in threads:
                thread.join()
        engine.close()


def test_threads_of_the_child_share_one_reopened_engine():
    with gateway() as server:
        engine = HttpEngine("embed", "q", base_url=server.url)
        embedder = Embedder(engine)
        expected = rows(embedder.embed_documents(TEXTS))

        def many() -> Any:
            found: list[Any] = []
            threads = [threading.Thread(target=lambda: found.append(rows(embedder.embed_documents(TEXTS)))) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            loops = [thread.name for thread in threading.enumerate() if thread.name.startswith("qwen3 ")]
            return found, len(loops)

        assert in_fork(many) == [[expected] * 8, 1]
        engine.close()


@pytest.mark.parametrize("kind", [openai.OpenAI, openai.AsyncOpenAI])
@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
def test_an_own_client_shares_no_connection_with_the_parent(kind, used):
    """Two processes on one connection would read each other's answers."""
    ports: list[int] = []

    def answer(call: Any) -> None:
        ports.append(call.handler.client_address[1])
        code, body = answers(call.seen.path, call.seen.body)
        call.answer(code, json.dumps(body).encode())

    with gateway() as server:
        server.everywhere = answer
        client = kind(api_key="sk-own", base_url=server.url)
        engine = HttpEngine("embed", "q", base_url=server.url, client=client)
        embedder = Embedder(engine)
        if used:
            embedder.embed_documents(TEXTS)
        theirs = set(ports)
        length = in_fork(lambda: len(embedder.embed_documents(TEXTS)))
        assert length == 2
        assert not theirs & set(ports[len(ports) - 1 :])
        assert server.seen[-1].headers["authorization"] == "Bearer sk-own"
        assert len(embedder.embed_documents(TEXTS)) == 2
        engine.close()
        if isinstance(client, openai.OpenAI):  # a sync client stays open
            client.close()


def test_an_own_client_that_can_not_be_opened_again_is_named():
    import httpx2

    class Own(httpx2.BaseTransport):
        def __init__(self) -> None:
            self.through = httpx2.HTTPTransport()

        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            return self.through.handle_request(request)

        def close(self) -> None:
            self.through.close()

    with gateway() as server:
        client = openai.OpenAI(api_key="sk-own", base_url=server.url, http_client=httpx2.Client(transport=Own()))
        engine = HttpEngine("embed", "q", base_url=server.url, client=client)
        embedder = Embedder(engine)
        embedder.embed_documents(TEXTS)
        message = in_fork(lambda: rows(embedder.embed_documents(TEXTS)))
        assert message.startswith("error: EngineClosed:")
        assert "Own" in message
        assert "client" in message
        engine.close()
        client.close()


def test_a_closed_engine_stays_closed():
    with gateway() as server:
        engine = HttpEngine("embed", "q", base_url=server.url)
        engine.close()
        assert in_fork(lambda: rows(Embedder(engine).embed_documents(TEXTS))).startswith("error: EngineClosed")

        other = HttpEngine("embed", "q", base_url=server.url)

        def closed_here() -> Any:
            Embedder(other).embed_documents(TEXTS)
            other.close()
            try:
                Embedder(other).embed_documents(TEXTS)
            except EngineClosed:
                return "closed"
            return "open"

        assert in_fork(closed_here) == "closed"
        assert len(Embedder(other).embed_documents(TEXTS)) == 2
        other.close()


def test_fingerprints_and_deadlines():
    with gateway() as server:
        engine = HttpEngine("embed", "q", base_url=server.url, deadline_s=60)
        expected = engine.fingerprint().identity
        assert in_fork(lambda: dict(engine.fingerprint().identity)) == expected
        engine.close()


@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
def test_components(used):
    """LangChain's and LlamaIndex's, and the retriever."""
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever

    class Found(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
            return [Document(page_content=text) for text in DOCUMENTS[::-1]]

    with (
        gateway() as server,
        Qwen3Embeddings(model="q", base_url=server.url) as embeddings,
        Qwen3Rerank(model="q", base_url=server.url) as reranker,
        Qwen3Embedding(model="q", base_url=server.url) as index,
        open_engine("rerank", "q", base_url=server.url) as engine,
    ):
        retriever = RerankingRetriever(retriever=Found(), reranker=reranker)
        core = Reranker(engine)

        def work() -> Any:
            return [
                rows(embeddings.embed_documents(TEXTS)),
                rows(asyncio.run(embeddings.aembed_documents(TEXTS))),
                [item.page_content for item in reranker.compress_documents([Document(page_content=t) for t in DOCUMENTS], QUERY)],
                rows(index.get_text_embedding_batch(TEXTS)),
                rows(asyncio.run(index.aget_text_embedding_batch(TEXTS))),
                [item.page_content for item in retriever.invoke(QUERY)],
                [item.page_content for item in asyncio.run(retriever.ainvoke(QUERY))],
                [hit.index for hit in core.rank(QUERY, DOCUMENTS)],
            ]

        with Qwen3Embeddings(model="q", base_url=server.url, engine_options={"timeout_s": 61}) as fresh:
            expected = rows(fresh.embed_documents(TEXTS))
        if used:
            work()
        result = in_fork(work)
        assert result[0] == result[1] == result[3] == result[4] == expected
        assert result[2] == result[5] == result[6] == DOCUMENTS
        assert json.loads(json.dumps(work())) == result


class Threaded:
    """An engine of another package that can't be used after a fork."""

    def __init__(self, task: str, model: str) -> None:
        self.inner = open_engine(task, model, backend="fake")
        self.pid = os.getpid()

    def __getattr__(self, name: str) -> Any:
        if name == "reopens_itself":
            raise AttributeError(name)
        if name in ("run", "arun") and self.pid != os.getpid():
            raise RuntimeError("my threads are gone")
        return getattr(self.inner, name)


def test_an_engine_of_another_package_is_opened_again(monkeypatch):
    monkeypatch.setitem(registry.ROWS, "own", SimpleNamespace(load=lambda: Threaded, has_url=False))
    engine = open_engine("embed", "own", backend="own")
    embedder, wrapped = Embedder(engine), Embedder(EngineWrapper(engine))
    expected = rows(embedder.embed_documents(TEXTS))
    assert in_fork(lambda: rows(embedder.embed_documents(TEXTS))) == expected
    assert in_fork(lambda: rows(asyncio.run(wrapped.aembed_documents(TEXTS)))) == expected
    assert rows(embedder.embed_documents(TEXTS)) == expected
    engine.close()


@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
def test_pytorch_on_the_cpu(used):
    with (
        open_engine("embed", "qwen3-tiny-demo", backend="torch", device="cpu") as engine,
        open_engine("rerank", "qwen3-tiny-demo", backend="torch", device="cpu") as ranking,
    ):
        embedder, reranker = Embedder(engine), Reranker(ranking)

        def work() -> Any:
            vectors = embedder.embed_documents(["one text", "other text " * 200])
            return rows(vectors), reranker.score([(QUERY, text) for text in DOCUMENTS]).tolist()

        before = work() if used else None
        first, second = in_fork(work), in_fork(lambda: in_fork(lambda: asyncio.run(asyncio.to_thread(work))))
        after = work()
        for found in (first, second, before or after):
            assert np.allclose(found[0], after[0], atol=1e-3)
            assert np.allclose(found[1], after[1], atol=1e-5)
        assert in_fork(lambda: (engine.close(), "closed")[1]) == "closed"
        assert len(embedder.embed_documents(["text"])) == 1


def test_pytorch_that_computes_at_the_moment_of_the_fork():
    """The pass of another thread stands still in the child for ever, so the model may be in any state there."""
    engine = open_engine("embed", "qwen3-tiny-demo", backend="torch", device="cpu")
    embedder = Embedder(engine)
    forward = engine.engine._queue._devices[0].runner
    started, go_on = threading.Event(), threading.Event()
    begin = forward.start

    def slowly(prompts: Any) -> Any:
        started.set()
        go_on.wait(30)
        return begin(prompts)

    forward.start = slowly
    thread = threading.Thread(target=lambda: embedder.embed_documents(["text"]))
    thread.start()
    started.wait(30)
    try:
        message = in_fork(lambda: rows(embedder.embed_documents(["text"])))
    finally:
        go_on.set()
        thread.join()
    assert message.startswith("error: EngineClosed")
    assert "computed" in message
    engine.close()


def test_open_engine_shares_no_engine_with_the_parent():
    with open_engine("embed", "qwen3-tiny-demo", backend="torch", device="cpu") as engine:

        def fresh() -> bool:
            with open_engine("embed", "qwen3-tiny-demo", backend="torch", device="cpu") as own:
                return own.engine is not engine.engine and len(Embedder(own).embed_documents(["text"])) == 1

        assert in_fork(fresh) is True


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
def test_cuda_after_a_fork_is_refused_with_advice(monkeypatch, device):
    import torch

    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    with pytest.raises(ConfigError, match=r"forked from one that used CUDA.*spawn"):
        open_engine("embed", "qwen3-tiny-demo", backend="torch", device=device)
