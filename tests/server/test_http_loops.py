"""One engine and many callers: event loops that come and go, threads, tasks, cancelling and closing."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from qwen3_integrations import Embedder
from qwen3_integrations.engines.http.engine import HttpEngine
from qwen3_integrations.errors import EngineClosed, RequestRefused, ServerFailed
from tests.reference import reference_embeddings
from tests.server.faults import status
from tests.server.fixtures import NAME

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(1200)]

TEXTS = [f"caller {number} has a text of its own" for number in range(64)]
TOLERANCE = 1e-5


@pytest.fixture
def proxy(faulty):
    return faulty("embed")


@pytest.fixture
def engine(proxy):
    engine = HttpEngine("embed", NAME, base_url=proxy.url, concurrency=4, max_retries=0)
    yield engine
    engine.close()


@pytest.fixture
def embedder(engine):
    return Embedder(engine)


@pytest.fixture(scope="module")
def expected(tiny_embedder):
    return reference_embeddings(tiny_embedder, TEXTS)


def _near(vectors, expected):
    return np.abs(np.asarray(vectors) - expected).max() < TOLERANCE


def test_one_loop_after_another(embedder, expected, caplog):
    for _ in range(3):
        assert _near(asyncio.run(embedder.aembed_documents(TEXTS[:5])), expected[:5])
    assert _near(embedder.embed_documents(TEXTS[:5]), expected[:5])
    assert "loop is closed" not in caplog.text


def test_two_loops_at_once_in_two_threads(embedder, expected):
    async def call(number):
        return await asyncio.gather(*(embedder.aembed_documents([text]) for text in TEXTS[number::2]))

    with ThreadPoolExecutor(2) as pool:
        even, odd = pool.map(lambda number: asyncio.run(call(number)), (0, 1))
    assert _near(np.concatenate(even), expected[0::2])
    assert _near(np.concatenate(odd), expected[1::2])


async def test_sync_calls_inside_a_running_loop(embedder, expected):
    assert _near(embedder.embed_documents(TEXTS[:5]), expected[:5])
    assert _near(await embedder.aembed_documents(TEXTS[:5]), expected[:5])


async def test_async_calls_leave_the_loop_free(proxy, embedder, expected):
    await embedder.aembed_documents(["greets"])
    proxy.faults = [_wait_then_pass]
    task = asyncio.create_task(embedder.aembed_documents(TEXTS[:1]))
    for _ in range(20):  # the loop runs while the server does not answer
        await asyncio.sleep(0)
    assert not task.done()
    proxy.released.set()
    assert _near(await task, expected[:1])


def test_64_first_callers_share_one_handshake_and_requests(proxy, embedder, expected):
    with ThreadPoolExecutor(64) as pool:
        vectors = np.concatenate(list(pool.map(lambda text: embedder.embed_documents([text]), TEXTS)))
    assert _near(vectors, expected)
    assert sum(request.path == "/v1/models" for request in proxy.seen) == 1
    sent = [len(request.body["input"]) for request in proxy.work]
    assert sum(sent) == 64 + 10  # prompts of the handshake
    assert len(sent) < 32
    assert proxy.most_in_flight <= 4


async def test_threads_and_tasks_together_respect_the_limit_of_requests_in_flight(proxy, embedder, expected):
    threads = [asyncio.to_thread(embedder.embed_documents, [text]) for text in TEXTS[:16]]
    tasks = [embedder.aembed_documents([text]) for text in TEXTS[16:]]
    assert _near(np.concatenate(await asyncio.gather(*threads, *tasks)), expected)
    assert proxy.most_in_flight <= 4


def test_a_refused_request_fails_only_one_caller(proxy, embedder, expected):
    """Callers that shared a request with a refused one get their answers."""
    embedder.embed_documents(["greets"])
    proxy.refuses = lambda body: "poison" in body["input"]

    def call(number):
        if number % 8:
            return embedder.embed_documents([TEXTS[number]])[0]
        with pytest.raises(RequestRefused, match="item 1 of this call"):
            embedder.embed_documents([TEXTS[number], "poison"])
        return expected[number]

    with ThreadPoolExecutor(32) as pool:
        assert _near(list(pool.map(call, range(32))), expected[:32])
    assert max(len(request.body["input"]) for request in proxy.work) > 2


async def test_callers_that_share_a_request_get_their_own_counts(proxy, engine):
    embedders = [Embedder(engine) for _ in range(24)]
    texts = ["word " * (number + 1) for number in range(24)]
    await asyncio.gather(*(embedder.aembed_documents([text]) for embedder, text in zip(embedders, texts, strict=True)))
    counts = [len(ids) + 1 for ids in engine.tokenizer.encode(texts)]
    assert [embedder.usage.tokens for embedder in embedders] == counts
    assert len(proxy.work) < 24


async def test_a_cancelled_caller_does_not_cancel_others_in_its_request(proxy, embedder, expected):
    await embedder.aembed_documents(["greets"])
    proxy.always = _wait_then_pass
    tasks = [asyncio.create_task(embedder.aembed_documents([text])) for text in TEXTS]
    await asyncio.to_thread(_until, lambda: proxy.in_flight >= 2)
    for task in tasks[::2]:
        task.cancel()
    proxy.released.set()
    assert _near(np.concatenate(await asyncio.gather(*tasks[1::2])), expected[1::2])
    assert all(isinstance(left, asyncio.CancelledError) for left in await asyncio.gather(*tasks[::2], return_exceptions=True))


def test_a_failed_first_contact_fails_all_waiting_callers_and_is_tried_again(proxy, embedder, expected):
    proxy.everywhere = status(503)

    def call(text):
        with pytest.raises(ServerFailed, match="503"):
            embedder.embed_documents([text])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, TEXTS[:8]))
    proxy.everywhere = None
    assert _near(embedder.embed_documents(TEXTS[:2]), expected[:2])


def test_a_failed_first_contact_without_callers_is_tried_again(proxy, embedder, expected):
    proxy.everywhere = _wait_then_fail

    async def give_up():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(embedder.aembed_documents(["text"]), 0.05)

    asyncio.run(give_up())
    proxy.everywhere = None
    proxy.released.set()
    for _ in range(2):  # the first may still wait for the first contact that fails
        try:
            vectors = embedder.embed_documents(TEXTS[:2])
        except ServerFailed:
            continue
    assert _near(vectors, expected[:2])


def test_a_cancelled_call_frees_its_request_in_flight(proxy, expected):
    engine = HttpEngine("embed", NAME, base_url=proxy.url, concurrency=1)
    embedder = Embedder(engine)
    embedder.embed_documents(["greets"])
    proxy.faults = [proxy.hold]

    async def give_up():
        task = asyncio.create_task(embedder.aembed_documents(["held"]))
        await asyncio.to_thread(proxy.held.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await embedder.aembed_documents(TEXTS[:1])

    assert _near(asyncio.run(give_up()), expected[:1])
    engine.close()


def test_closing_ends_requests_in_flight(proxy, engine):
    embedder = Embedder(engine)
    embedder.embed_documents(["greets"])
    proxy.always = proxy.hold
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(embedder.embed_documents, ["held"])
        assert proxy.held.wait(30)
        engine.close()
        with pytest.raises(EngineClosed, match="closed"):
            waiting.result(30)
    engine.close()
    with pytest.raises(EngineClosed):
        embedder.embed_documents(["text"])
    with pytest.raises(EngineClosed):
        asyncio.run(embedder.aembed_documents(["text"]))


async def test_closing_ends_waiting_tasks_too(proxy, engine):
    embedder = Embedder(engine)
    await embedder.aembed_documents(["greets"])
    proxy.always = proxy.hold
    task = asyncio.create_task(embedder.aembed_documents(["held"]))
    await asyncio.to_thread(proxy.held.wait, 30)
    await asyncio.to_thread(engine.close)
    with pytest.raises(EngineClosed):
        await task


def test_an_engine_without_references_ends_its_thread(proxy):
    before = set(threading.enumerate())
    engine = HttpEngine("embed", NAME, base_url=proxy.url)
    Embedder(engine).embed_documents(["text"])
    own = [thread for thread in threading.enumerate() if thread.name.startswith("qwen3 ") and thread not in before]
    assert len(own) == 1
    del engine
    gc.collect()
    own[0].join(30)
    assert not own[0].is_alive()


def test_closing_on_the_engine_s_own_thread(engine, embedder):
    """The garbage collector may run on that thread."""
    embedder.embed_documents(["text"])

    async def close_here():
        engine.close()

    asyncio.run_coroutine_threadsafe(close_here(), engine._loop._loop).result(30)
    engine._loop._thread.join(30)
    assert not engine._loop._thread.is_alive()
    with pytest.raises(EngineClosed):
        embedder.embed_documents(["text"])


def _until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def _wait_then_pass(call):
    call.handler.owner.released.wait(60)
    call.answer(*call.upstream())


def _wait_then_fail(call):
    call.handler.owner.released.wait(60)
    call.answer(503, b"{}")
