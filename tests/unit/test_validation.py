"""Whole numbers and shares: taken and refused alike, and in the same words, wherever a user passes one."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

import numpy as np
import pytest
from langchain_core.retrievers import BaseRetriever

from qwen3_integrations import Embedder, FakeEngine, Reranker, open_engine
from qwen3_integrations.analysis import metrics, vectors
from qwen3_integrations.bulk.run import embed_records
from qwen3_integrations.core.validation import fraction, seconds, whole_number
from qwen3_integrations.engines.http.engine import HttpEngine
from qwen3_integrations.errors import ConfigError, InputError
from qwen3_integrations.langchain import Qwen3Embeddings, Qwen3Rerank, RerankingRetriever
from qwen3_integrations.llama_index import Qwen3Embedding
from qwen3_integrations.llama_index import Qwen3Rerank as Postprocessor
from qwen3_integrations.models.memory import ModelShape, plan_memory
from qwen3_integrations.notebook import EmbeddingExplorer, RankInspector
from qwen3_integrations.serving import ServerOptions

NUMBER = 40
GOOD = (NUMBER, np.int64(NUMBER), np.int32(NUMBER), np.uint8(NUMBER), np.asarray(NUMBER))
BAD = (True, False, np.True_, 2.5, 40.0, np.float64(40), np.float32(40), "40", "x", b"40", [40], -1, np.int64(-1), np.nan)
SHAPE = ModelShape(layers=2, width=64, heads=2, cache_heads=1, head_width=32, inner_width=128)
ROWS = np.eye(64, dtype=np.float32)
TEXTS = [f"text {number}" for number in range(64)]


class Fetcher(BaseRetriever):
    """A retriever of a user's own."""

    k: int = 4

    def _get_relevant_documents(self, query, *, run_manager):
        return []


@dataclass
class Place:
    """Where a whole number is passed: the name in the message, and a call that gives back what became of it, if that can be seen."""

    name: str
    call: object
    id: str = ""


def embed_engine():
    return FakeEngine("embed")


def rerank_engine():
    return FakeEngine("rerank")


def http(name):
    def call(value):
        engine = HttpEngine("embed", "m", base_url="http://127.0.0.1:9/v1", **{name: value})
        engine.close()

    return Place(name, call, f"HttpEngine-{name}")


def torch_engine(value):
    open_engine("embed", "qwen3-tiny-demo", backend="torch", device="cpu", max_batch_tokens=value).close()


def rank(value):
    return Reranker(rerank_engine()).rank("query", TEXTS, value).top_n


def arank(value):
    return asyncio.run(Reranker(rerank_engine()).arank("query", TEXTS, value)).top_n


def component(cls, task, name):
    def call(value):
        with cls(engine=FakeEngine(task), **{name: value}) as made:
            return getattr(made, name)

    return Place(name, call, f"{cls.__module__.split('.')[1]}-{cls.__name__}-{name}")


def assigned(cls, name):
    def call(value):
        with cls(engine=rerank_engine()) as made:
            setattr(made, name, value)
            return getattr(made, name)

    return Place(name, call, f"{cls.__module__.split('.')[1]}-{cls.__name__}-{name}-assigned")


def fetch_k(value):
    return RerankingRetriever(retriever=Fetcher(), reranker=Qwen3Rerank(engine=rerank_engine()), fetch_k=value).fetch_k


def option(name, **more):
    return Place(name, lambda value: getattr(ServerOptions(task="embed", **more, **{name: value}), name), f"ServerOptions-{name}")


def planned(name):
    return Place(name, lambda value: plan_memory("m", SHAPE, 1 << 20, value_bytes=2, **{name: value}).max_model_len, f"plan_memory-{name}")


def inspector(name):
    def call(value):
        made = RankInspector(Reranker(rerank_engine()).rank("query", TEXTS), **{name: value})
        return getattr(made, name)

    return Place(name, call, f"RankInspector-{name}")


def set_trait(name):
    def call(value):
        made = RankInspector(Reranker(rerank_engine()).rank("query", TEXTS))
        setattr(made, name, [value] if name == "selection" else value)
        return made.selection[0] if name == "selection" else getattr(made, name)

    return Place(name, call, f"RankInspector-{name}-assigned")


def explorer(name, get):
    def call(value):
        made = EmbeddingExplorer(vectors=ROWS, texts=TEXTS, **{name: [value] if name in ("widths", "selection") else value})
        try:
            return get(made)
        finally:
            made.close()

    return Place(name, call, f"EmbeddingExplorer-{name}")


LISTS = [[1.0] * NUMBER]
PLACES = (
    Place("dimensions", lambda value: Embedder(embed_engine(), dimensions=value).dimensions, "Embedder-dimensions"),
    Place("max_tokens", lambda value: Embedder(embed_engine(), max_tokens=value).max_tokens, "Embedder-max_tokens"),
    Place("max_tokens", lambda value: Reranker(rerank_engine(), max_tokens=value).max_tokens, "Reranker-max_tokens"),
    Place("top_n", rank, "Reranker.rank"),
    Place("top_n", arank, "Reranker.arank"),
    Place("dimensions", lambda value: FakeEngine("embed", dimensions=value).dimensions, "FakeEngine-dimensions"),
    Place("max_tokens", lambda value: FakeEngine("embed", max_tokens=value).max_tokens, "FakeEngine-max_tokens"),
    *map(http, ("concurrency", "request_size", "max_retries")),
    Place("max_batch_tokens", torch_engine, "TorchEngine-max_batch_tokens"),
    component(Qwen3Embeddings, "embed", "dimensions"),
    component(Qwen3Embeddings, "embed", "max_tokens"),
    component(Qwen3Rerank, "rerank", "top_n"),
    component(Qwen3Rerank, "rerank", "max_tokens"),
    component(Qwen3Embedding, "embed", "dimensions"),
    component(Qwen3Embedding, "embed", "max_tokens"),
    component(Qwen3Embedding, "embed", "embed_batch_size"),
    component(Postprocessor, "rerank", "top_n"),
    component(Postprocessor, "rerank", "max_tokens"),
    assigned(Qwen3Rerank, "top_n"),
    assigned(Postprocessor, "top_n"),
    Place("fetch_k", fetch_k, "RerankingRetriever-fetch_k"),
    *map(option, ("port", "max_tokens", "concurrency", "max_num_seqs", "max_num_batched_tokens", "tensor_parallel_size")),
    *map(option, ("pipeline_parallel_size", "data_parallel_size", "api_server_count", "kv_cache_memory_bytes")),
    *map(planned, ("concurrency", "max_model_len", "pass_tokens", "tensor_parallel_size", "pipeline_parallel_size", "cache_bytes")),
    Place("k", lambda value: metrics.ndcg(LISTS, value) and None, "ndcg"),
    Place("k", lambda value: metrics.mrr(LISTS, value) and None, "mrr"),
    Place("k", lambda value: metrics.hit_rate(LISTS, value) and None, "hit_rate"),
    Place("k", lambda value: len(vectors.best_first(np.arange(64, dtype=np.float32), value)), "best_first"),
    Place("k", lambda value: vectors.recall_of_widths(ROWS, (8,), value) and None, "recall_of_widths-k"),
    Place("most_queries", lambda value: vectors.recall_of_widths(ROWS, (8,), most_queries=value) and None, "recall_of_widths-most"),
    Place("widths", lambda value: vectors.recall_of_widths(ROWS, (8, value)) and None, "recall_of_widths-widths"),
    Place("most", lambda value: vectors.closest_pairs(ROWS, value) and None, "closest_pairs"),
    Place("width", lambda value: vectors.matryoshka_widths(value)[-1], "matryoshka_widths"),
    *map(inspector, ("top_n", "k")),
    *map(set_trait, ("top_n", "k", "selection")),
    explorer("widths", lambda made: None),
    explorer("dimensions", lambda made: made.dimensions),
    explorer("focused", lambda made: made.focused),
    explorer("selection", lambda made: made.selection[0]),
)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.id)
def test_whole_numbers_are_taken_from_numpy_too_and_become_plain_ones(place):
    for value in GOOD:
        stored = place.call(value)
        assert stored is None or type(stored) is int, place
        json.dumps(stored)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.id)
def test_what_is_no_whole_number_in_range_is_refused_in_the_same_words(place):
    for value in BAD:
        with pytest.raises((ConfigError, InputError)) as caught:
            place.call(value)
        assert str(caught.value).startswith(f"{place.name} must be a whole number "), value
        assert str(caught.value).endswith(f", not {value!r}"), value
        field = caught.value.option if isinstance(caught.value, ConfigError) else caught.value.argument
        assert field == place.name


def test_a_chunk_of_a_file_is_checked_before_anything_is_read():
    for value in (*BAD, 0):
        with pytest.raises(ConfigError, match=r"^chunk must be a whole number of at least 1, not"):
            embed_records(None, None, iter(()), None, chunk=value)


@pytest.mark.parametrize(
    ("least", "most", "note", "value", "message"),
    [
        (1, None, "", 0, "n must be a whole number of at least 1, not 0"),
        (0, 9, "", 10, "n must be a whole number from 0 to 9, not 10"),
        (1, None, ", or None for all", "x", "n must be a whole number of at least 1, or None for all, not 'x'"),
        (1, None, "", None, "n must be a whole number of at least 1, not None"),
        (1, None, "", "y" * 500, "n must be a whole number of at least 1, not '" + "y" * 79),
    ],
)
def test_the_words(least, most, note, value, message):
    with pytest.raises(ConfigError) as caught:
        whole_number(value, "n", least, most, note=note)
    assert (str(caught.value), caught.value.option) == (message, "n")


def test_a_tensor_of_a_boolean_is_no_whole_number():
    torch = pytest.importorskip("torch")
    assert whole_number(torch.tensor(3), "n") == 3
    with pytest.raises(ConfigError):
        whole_number(torch.tensor(True), "n")


@pytest.mark.parametrize("value", [0.5, 1, np.float32(0.5), np.float64(1), np.int64(1)])
def test_shares_become_plain_floats(value):
    assert type(fraction(value, "n")) is float
    assert type(seconds(value, "n")) is float
    assert type(ServerOptions(task="embed", gpu_memory_utilization=value).gpu_memory_utilization) is float
    assert type(Reranker(rerank_engine()).rank("q", TEXTS[:2], score_threshold=value).score_threshold) is float
    for cls in (Qwen3Rerank, Postprocessor):
        with cls(engine=rerank_engine(), score_threshold=value) as made:
            assert type(made.score_threshold) is float
    inspector = RankInspector(Reranker(rerank_engine()).rank("q", TEXTS[:2]), threshold=value)
    inspector.threshold = value
    assert type(inspector.threshold) is float


@pytest.mark.parametrize("value", [True, np.True_, "0.5", float("nan"), -0.1, 1.5, [0.5]])
def test_what_is_no_share_is_refused(value):
    for call in (
        lambda: fraction(value, "n"),
        lambda: ServerOptions(task="embed", gpu_memory_utilization=value),
        lambda: Reranker(rerank_engine()).rank("q", TEXTS[:2], score_threshold=value),
        lambda: Qwen3Rerank(engine=rerank_engine(), score_threshold=value),
        lambda: Postprocessor(engine=rerank_engine(), score_threshold=value),
    ):
        with pytest.raises(ConfigError, match=r"must be a number in [(\[]0, 1\]"):
            call()
