"""Copies of components and engines: a component on the same engine, never a second model in memory."""

from __future__ import annotations

import asyncio
import copy
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from qwen3_integrations import Embedder, FakeEngine, Reranker, open_engine
from qwen3_integrations.core.types import Job
from qwen3_integrations.engines import EngineWrapper
from qwen3_integrations.errors import ConfigError, EngineClosed

TINY = "qwen3-tiny-demo"
COPIED = pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: copy.deepcopy({"deep": [one]})["deep"][0]])


@COPIED
@pytest.mark.parametrize("backend", ["torch", "fake"])
def test_a_copy_of_an_embedder_is_an_embedder_on_the_same_engine(copied, backend):
    first = Embedder(open_engine("embed", TINY, backend=backend), instruction="Find it", dimensions=48, max_tokens=100)
    rows = first.embed_queries(["a file"])
    second = copied(first)
    assert (second.instruction, second.dimensions, second.max_tokens) == ("Find it", 48, 100)
    assert second.engine.engine is first.engine.engine
    assert (first.usage.prompts, second.usage.prompts) == (1, 0)
    first.engine.close()
    np.testing.assert_array_equal(second.embed_queries(["a file"]), rows)
    second.engine.close()
    with pytest.raises(EngineClosed):
        second.embed_queries(["a file"])


@COPIED
def test_a_copy_of_a_reranker_keeps_its_settings(copied):
    first = Reranker(open_engine("rerank", TINY, backend="torch"), instruction="Find it", max_tokens=200, separator="\n\n")
    second = copied(first)
    assert (second.instruction, second.max_tokens, second.separator) == ("Find it", 200, "\n\n")
    pairs = [("a file", "files"), ("a file", "stars")]
    np.testing.assert_array_equal(second.score(pairs), first.score(pairs))


@COPIED
def test_settings_that_were_assigned_are_copied(copied):
    first = Embedder(FakeEngine("embed"))
    first.instruction = "Another one"
    assert copied(first).instruction == "Another one"


@COPIED
def test_bound_methods_can_be_copied(copied):
    embedder = Embedder(open_engine("embed", TINY, backend="torch"))
    assert copied(embedder.embed_documents)(["a"]).shape == (1, 160)
    assert asyncio.run(copied(embedder.aembed_documents)(["a"])).shape == (1, 160)
    assert copied(embedder.engine.run)(Job("embed", (), 1)).rows.shape[0] == 0


@COPIED
@pytest.mark.parametrize("options", [{"backend": "torch"}, {"backend": "http", "base_url": "http://127.0.0.1:1/v1"}, {"backend": "fake"}])
def test_an_opened_engine_is_never_copied(copied, options):
    engine = open_engine("embed", TINY, **options).engine
    assert copied(engine) is engine
    assert copied(Embedder(engine)).engine is engine


@COPIED
def test_an_engine_of_another_package_is_never_copied(copied):
    class Foreign:
        backend, task, model, tokenizer, max_tokens, dimensions = "foreign", "embed", "m", None, 10, 8

    engine = Foreign()
    assert copied(Embedder(engine)).engine is engine
    assert copied(EngineWrapper(engine)).engine is engine


def test_pickling_an_opened_engine_is_refused():
    for engine in (FakeEngine("embed"), EngineWrapper(FakeEngine("embed")), open_engine("embed", TINY, backend="torch").engine):
        with pytest.raises(ConfigError, match=r"can't be pickled: it .* opened engine\. Open an engine in each process"):
            pickle.dumps(engine)


def _again(one):
    return pickle.loads(pickle.dumps(one))


def test_components_are_pickled_as_their_settings():
    first = Embedder(open_engine("embed", TINY, backend="torch", dtype="float32"), instruction="Find it", dimensions=48)
    second = _again(first)
    assert (second.instruction, second.dimensions) == ("Find it", 48)
    assert second.engine is not first.engine
    np.testing.assert_array_equal(second.embed_queries(["a file"]), first.embed_queries(["a file"]))
    reranker = Reranker(open_engine("rerank", TINY, backend="fake"), separator="\n\n")
    assert _again(reranker).separator == "\n\n"
    assert _again(reranker.score)([("a", "a")]) == reranker.score([("a", "a")])


def test_another_process_opens_its_own_engine():
    embedder = Embedder(open_engine("embed", TINY, backend="fake"))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        rows = pool.submit(embedder.embed_documents, ["a file"]).result()
    np.testing.assert_array_equal(rows, embedder.embed_documents(["a file"]))


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": "http://127.0.0.1:1/v1", "api_key": "sk-very-secret"},
        {"base_url": "http://user:sk-very-secret@127.0.0.1:1/v1"},
        {"base_url": "http://127.0.0.1:1/v1", "headers": {"X-Key": "sk-very-secret"}},
    ],
)
def test_secrets_are_not_pickled(settings):
    component = Embedder(open_engine("embed", TINY, backend="http", **settings))
    for one in (component, component.engine, component.embed_documents):
        with pytest.raises(ConfigError, match="QWEN3_API_KEY") as caught:
            pickle.dumps(one)
        assert "very-secret" not in str(caught.value)


def test_a_secret_of_the_environment_is_read_in_the_other_process(monkeypatch):
    monkeypatch.setenv("QWEN3_API_KEY", "sk-very-secret")
    monkeypatch.setenv("QWEN3_EMBEDDING_URL", "http://127.0.0.1:1/v1")
    pickled = pickle.dumps(Embedder(open_engine("embed", TINY)))
    assert b"very-secret" not in pickled
    monkeypatch.setenv("QWEN3_EMBEDDING_URL", "http://127.0.0.1:2/v1")
    assert "http://127.0.0.1:2" in repr(pickle.loads(pickled))


def test_a_closed_engine_is_not_pickled():
    engine = open_engine("embed", TINY, backend="fake")
    engine.close()
    with pytest.raises(EngineClosed):
        pickle.dumps(engine)
