"""One contract, all engines: a new engine is one more line in `BACKENDS`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from qwen3_integrations import Embedder, Engine, Reranker, open_engine
from qwen3_integrations.core.planning import document_prompts, rerank_prompts
from qwen3_integrations.core.types import Job
from qwen3_integrations.engines import EngineWrapper, Fingerprint
from qwen3_integrations.errors import ConfigError, EngineClosed, EngineError, InvalidText, PromptTooLong
from tests.texts import HOSTILE

BACKENDS = [
    "fake",
    "torch",
    pytest.param("vllm", marks=[pytest.mark.vllm, pytest.mark.slow]),
    pytest.param("http", marks=[pytest.mark.server, pytest.mark.slow]),
]
VLLM = {"dtype": "float32", "enforce_eager": True, "max_model_len": 1024, "kv_cache_memory_bytes": 64 << 20}
DOCUMENTS = ["Sort a list with sorted().", "Open a file for reading.", "", "Sort a list with sorted().", "Parse JSON text."]
TOLERANCE = 1e-5  # fp32; sums in another order, since batches differ

Opener = Callable[..., Engine]


@pytest.fixture(scope="module", params=BACKENDS)
def opener(request) -> Opener:
    """Opens the backend's engine for a task."""
    if request.param == "http":
        servers = request.getfixturevalue("tiny_servers")
        return lambda task, **options: open_engine(task, "qwen3-tiny-demo", base_url=servers[task].url, **options)
    given = {"fake": {}, "torch": {"device": "cpu", "dtype": "float32"}, "vllm": VLLM}[request.param]
    return lambda task, **options: open_engine(task, "qwen3-tiny-demo", backend=request.param, **given, **options)


@pytest.fixture(scope="module")
def embed_engine(opener) -> Iterator[Engine]:
    engine = opener("embed")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def rerank_engine(opener) -> Iterator[Engine]:
    engine = opener("rerank")
    yield engine
    engine.close()


@pytest.fixture
def embedder(embed_engine) -> Embedder:
    return Embedder(embed_engine)


@pytest.fixture
def reranker(rerank_engine) -> Reranker:
    return Reranker(rerank_engine)


def test_an_engine_has_the_properties_of_the_protocol(embed_engine, rerank_engine):
    for engine, task in ((embed_engine, "embed"), (rerank_engine, "rerank")):
        assert isinstance(engine, Engine)
        assert engine.task == task
        assert engine.model == "qwen3-tiny-demo"
        assert engine.backend in {"fake", "torch", "vllm", "http"}
        assert "qwen3-tiny-demo" in repr(engine) or engine.backend == "fake"
    assert rerank_engine.dimensions is None


def test_vectors_are_unit_rows_in_order(embedder):
    vectors = embedder.embed_documents(DOCUMENTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(DOCUMENTS), embedder.engine.dimensions)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.abs(vectors[0] - vectors[3]).max() < TOLERANCE
    alone = np.concatenate([embedder.embed_documents([text]) for text in DOCUMENTS])
    assert np.abs(alone - vectors).max() < TOLERANCE


def test_a_query_is_not_a_document(embedder):
    query, document = embedder.embed_queries(["sort"])[0], embedder.embed_documents(["sort"])[0]
    assert np.abs(query - document).max() > 1e-3
    assert np.abs(embedder.embed_queries(["sort"], "Find code.")[0] - query).max() > 1e-3
    assert np.abs(embedder.embed_queries(["sort"], "")[0] - document).max() < TOLERANCE


def test_dimensions_cut_and_normalise_again(embedder):
    whole = embedder.embed_documents(DOCUMENTS)
    narrow = Embedder(embedder.engine, dimensions=32).embed_documents(DOCUMENTS)
    assert narrow.shape == (len(DOCUMENTS), 32)
    expected = whole[:, :32] / np.linalg.norm(whole[:, :32], axis=1, keepdims=True)
    assert np.abs(narrow - expected).max() < TOLERANCE


def test_a_ranking_is_in_order_of_score_and_then_of_position(reranker):
    ranking = reranker.rank("How do I sort a list?", DOCUMENTS)
    assert sorted(hit.index for hit in ranking) == list(range(len(DOCUMENTS)))
    assert [hit.rank for hit in ranking] == list(range(len(DOCUMENTS)))
    assert all(0 <= hit.score <= 1 for hit in ranking)
    assert all(hit.document == DOCUMENTS[hit.index] for hit in ranking)
    scores = [hit.score for hit in ranking]
    assert scores == sorted(scores, reverse=True)
    by_pairs = reranker.score([("How do I sort a list?", document) for document in DOCUMENTS])
    for hit in ranking:
        assert abs(by_pairs[hit.index] - hit.score) < TOLERANCE
    assert ranking.usage.prompts == len(DOCUMENTS)
    assert ranking.usage.tokens > 60 * len(DOCUMENTS)


def test_top_n_and_threshold_keep_and_drop_documents(reranker):
    whole = reranker.rank("sort a list", DOCUMENTS)
    cut = reranker.rank("sort a list", DOCUMENTS, top_n=2)
    assert [hit.index for hit in cut] == [hit.index for hit in whole][:2]
    assert len(cut.dropped) == len(DOCUMENTS) - 2
    threshold = (whole[1].score + whole[-1].score) / 2
    kept = reranker.rank("sort a list", DOCUMENTS, score_threshold=threshold)
    assert len(kept) == sum(hit.score >= threshold for hit in whole)
    assert len(reranker.rank("sort a list", DOCUMENTS, score_threshold=1.0).dropped) == len(DOCUMENTS)


def test_calls_without_texts_do_not_reach_the_engine(embedder, reranker):
    assert embedder.embed_documents([]).shape[0] == 0
    assert embedder.embed_queries([]).shape[0] == 0
    assert len(reranker.rank("query", [])) == 0
    assert reranker.score([]).shape == (0,)


async def test_every_sync_call_has_an_async_twin(embedder, reranker):
    """Sync calls inside a running loop, as in a notebook, and the same numbers from both."""
    pairs = [("sort", document) for document in DOCUMENTS]
    assert np.abs(await embedder.aembed_documents(DOCUMENTS) - embedder.embed_documents(DOCUMENTS)).max() < TOLERANCE
    assert np.abs(await embedder.aembed_queries(["sort"]) - embedder.embed_queries(["sort"])).max() < TOLERANCE
    assert np.abs(await reranker.ascore(pairs) - reranker.score(pairs)).max() < TOLERANCE
    ranking, twin = reranker.rank("sort", DOCUMENTS), await reranker.arank("sort", DOCUMENTS)
    assert {hit.index: pytest.approx(hit.score, abs=TOLERANCE) for hit in ranking} == {hit.index: hit.score for hit in twin}


def test_64_threads_at_once_get_their_own_answers(embedder, reranker):
    texts = [f"text number {number} about {HOSTILE[number % len(HOSTILE)]}" for number in range(64)]
    expected = embedder.embed_documents(texts)
    wanted = reranker.score([(f"query {number}", text) for number, text in enumerate(texts)])
    with ThreadPoolExecutor(64) as pool:
        vectors = np.concatenate(list(pool.map(lambda text: embedder.embed_documents([text]), texts)))
        scores = list(pool.map(lambda n: reranker.rank(f"query {n}", [texts[n]])[0].score, range(64)))
    assert np.abs(vectors - expected).max() < TOLERANCE
    assert np.abs(np.asarray(scores) - wanted).max() < TOLERANCE


async def test_64_tasks_at_once_get_their_own_answers(embedder, reranker):
    texts = [f"task number {number} about {HOSTILE[number % len(HOSTILE)]}" for number in range(64)]
    expected = embedder.embed_documents(texts)
    wanted = reranker.score([(f"query {number}", text) for number, text in enumerate(texts)])
    vectors = await asyncio.gather(*(embedder.aembed_documents([text]) for text in texts))
    rankings = await asyncio.gather(*(reranker.arank(f"query {n}", [text]) for n, text in enumerate(texts)))
    assert np.abs(np.concatenate(vectors) - expected).max() < TOLERANCE
    assert np.abs(np.asarray([ranking[0].score for ranking in rankings]) - wanted).max() < TOLERANCE


def test_an_engine_serves_several_event_loops_in_turn(embedder):
    first = asyncio.run(embedder.aembed_documents(["one"]))
    second = asyncio.run(embedder.aembed_documents(["one"]))
    assert np.abs(first - second).max() < TOLERANCE


async def test_the_engine_works_after_a_cancelled_task(embedder):
    texts = [f"{number} long text " * 50 for number in range(256)]
    task = asyncio.create_task(embedder.aembed_documents(texts))
    await asyncio.sleep(0.05)
    if task.cancel():  # the fake one is done by then
        assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
        assert embedder.usage.prompts == 0
    assert (await embedder.aembed_documents(["one"])).shape[0] == 1


def test_long_documents_are_cut_and_logged(embed_engine, rerank_engine, caplog):
    embedder = Embedder(embed_engine, max_tokens=20)
    embedder.embed_documents(["short", "word " * 100])
    assert embedder.usage.truncated == 1
    assert "1 of 2 texts were truncated to 20 tokens" in caplog.text
    ranking = Reranker(rerank_engine, max_tokens=200).rank("query", ["short", "word " * 300])
    assert {hit.index: hit.truncated for hit in ranking} == {0: False, 1: True}
    assert ranking.usage.truncated == 1


def test_a_query_that_exceeds_the_budget_is_an_error(embed_engine, rerank_engine):
    with pytest.raises(PromptTooLong, match="max_tokens is 20") as caught:
        Embedder(embed_engine, max_tokens=20).embed_queries(["word " * 100])
    assert caught.value.tokens > caught.value.max_tokens == 20
    with pytest.raises(PromptTooLong, match="max_tokens is 100"):
        Reranker(rerank_engine, max_tokens=100).rank("word " * 100, ["document"])


@pytest.mark.parametrize("wrong", [None, 3, b"bytes", ["list"]])
def test_an_item_that_is_not_a_string_is_named_by_its_index(embedder, reranker, wrong):
    with pytest.raises(TypeError, match=r"texts\[1\]"):
        embedder.embed_documents(["fine", wrong])
    with pytest.raises(TypeError, match=r"documents\[2\]"):
        reranker.rank("query", ["fine", "fine", wrong])
    with pytest.raises(TypeError, match="query"):
        reranker.rank(wrong, ["fine"])
    with pytest.raises(TypeError, match="pass \\[text\\]"):
        embedder.embed_documents("one string")


def test_lone_surrogates_are_named_by_their_index(embedder, reranker):
    with pytest.raises(InvalidText, match=r"texts\[1\].*U\+D83D") as caught:
        embedder.embed_documents(["fine", "half an emoji \ud83d"])
    assert caught.value.index == 1
    with pytest.raises(InvalidText, match=r"documents\[0\]"):
        reranker.rank("query", ["\udcff"])


def test_an_engine_refuses_the_other_task(embed_engine, rerank_engine):
    with pytest.raises(ConfigError, match="engine must be opened for embed"):
        Embedder(rerank_engine)
    with pytest.raises(ConfigError, match="engine must be opened for rerank"):
        Reranker(embed_engine)
    with pytest.raises(EngineError):
        embed_engine.run(Job("rerank", (), 100))


def test_a_shared_engine_closes_with_its_last_user(opener):
    first, second = opener("embed"), opener("embed")
    assert first.engine is second.engine
    first.close()
    first.close()
    with pytest.raises(EngineClosed, match="closed"):
        Embedder(first).embed_documents(["text"])
    assert Embedder(second).embed_documents(["text"]).shape[0] == 1
    second.close()


def test_an_engine_has_capabilities(embed_engine, rerank_engine):
    for engine in (embed_engine, rerank_engine):
        assert engine.capabilities.modalities == {"text"}
        assert not engine.capabilities.gradients
        assert engine.capabilities.exact == (engine.backend != "http")  # all others compute in float32 here
        assert engine.capabilities.devices == (None if engine.backend == "http" else 1)


def test_a_fingerprint_has_identity_and_numerics_and_stays_the_same(embed_engine, rerank_engine):
    one, other = embed_engine.fingerprint(), rerank_engine.fingerprint()
    assert one == embed_engine.fingerprint()
    assert Fingerprint.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    assert one.identity["width"] == embed_engine.dimensions
    assert other.identity["width"] is None
    assert ("identity", "task") in [(difference.part, difference.name) for difference in one.differences(other)]
    for found in (one, other):
        assert found.numerics["backend"] == embed_engine.backend
        assert found.partial == (embed_engine.backend == "http")
    if embed_engine.backend == "http":
        assert "weights" not in one.identity
        assert one.sample
    else:
        assert one.numerics["dtype"] == "float32"
        assert one.identity["weights"] != other.identity["weights"] or embed_engine.backend == "fake"


def test_engines_of_one_model_have_one_identity(embed_engine):
    torch = open_engine("embed", "qwen3-tiny-demo", backend="torch", device="cpu", dtype="float32")
    differences = torch.fingerprint().differences(embed_engine.fingerprint())
    torch.close()
    if embed_engine.backend == "fake":
        assert "weights" in [difference.name for difference in differences]
    else:
        assert [(difference.part, difference.name) for difference in differences] == [
            ("numerics", "backend") for _ in range(embed_engine.backend != "torch")
        ]


def test_a_reply_counts_the_tokens_of_each_prompt(embed_engine, rerank_engine):
    tokenizer = embed_engine.tokenizer
    prompts = document_prompts(DOCUMENTS, tokenizer, 512)
    reply = embed_engine.run(Job("embed", prompts, 512))
    assert reply.tokens == tuple(prompt.tokens for prompt in prompts)
    assert reply.total_tokens == sum(reply.tokens)
    assert reply.max_tokens is None
    assert embed_engine.run(Job("embed", (), 512)).tokens == ()
    pairs = rerank_prompts([("query", document) for document in DOCUMENTS], "Find it.", "\n", rerank_engine.tokenizer, 512)
    assert rerank_engine.run(Job("rerank", pairs, 512)).tokens == tuple(prompt.tokens for prompt in pairs)


async def test_a_wrapper_can_replace_its_engine(embed_engine, rerank_engine):
    for engine in (embed_engine, rerank_engine):
        wrapper = EngineWrapper(engine)
        assert isinstance(wrapper, Engine)
        for name in ("backend", "task", "model", "tokenizer", "max_tokens", "dimensions", "capabilities"):
            assert getattr(wrapper, name) is getattr(engine, name), name
        assert wrapper.fingerprint() == engine.fingerprint()
        for name in [name for name in dir(engine.engine) if not name.startswith("_")]:
            assert hasattr(wrapper, name), name
            assert hasattr(engine, name), name
    expected = Embedder(embed_engine).embed_documents(DOCUMENTS)
    wrapped = Embedder(EngineWrapper(embed_engine))
    assert np.abs(wrapped.embed_documents(DOCUMENTS) - expected).max() < TOLERANCE
    assert np.abs(await wrapped.aembed_documents(DOCUMENTS) - expected).max() < TOLERANCE


def test_a_fingerprint_of_a_closed_engine_is_refused(opener):
    engine = opener("embed")
    engine.close()
    with pytest.raises(EngineClosed):
        engine.fingerprint()
