"""`Qwen3Embedding`: what the model reads, what LlamaIndex gets, its cache, its pipelines."""

from __future__ import annotations

import asyncio
import pickle
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from llama_index.core import Settings, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import Document, TextNode
from llama_index.core.storage.kvstore import SimpleKVStore

from qwen3_integrations import Embedder, FakeEngine, open_engine
from qwen3_integrations.errors import ConfigError, InvalidText, PromptTooLong
from qwen3_integrations.llama_index import Qwen3Embedding
from tests.texts import HOSTILE

INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
KEY = "sk-do-not-show-me"


@pytest.fixture
def engine():
    return FakeEngine("embed")


@pytest.fixture
def embedding(engine):
    return Qwen3Embedding(engine=engine)


class Chunks(BaseCallbackHandler):
    """Records the texts of every embedding event that ended."""

    def __init__(self):
        super().__init__([], [])
        self.chunks = []

    def on_event_start(self, event_type, payload=None, event_id="", parent_id="", **about):
        return event_id

    def on_event_end(self, event_type, payload=None, event_id="", **about):
        if event_type is CBEventType.EMBEDDING:
            self.chunks.append(payload[EventPayload.CHUNKS])

    def start_trace(self, trace_id=None):
        pass

    def end_trace(self, trace_id=None, trace_map=None):
        pass


def read(engine):
    """The prompts of all jobs."""
    return [prompt.text for job in engine.jobs for prompt in job.prompts]


def test_a_query_is_put_after_the_instruction(engine, embedding):
    embedding.get_query_embedding("What is the capital of China?")
    assert read(engine) == [f"Instruct: {INSTRUCTION}\nQuery:What is the capital of China?"]


def test_texts_are_not_changed(engine, embedding):
    embedding.get_text_embedding_batch(HOSTILE)
    assert read(engine) == HOSTILE
    assert len(engine.jobs) == 1
    for text in HOSTILE:
        embedding.get_text_embedding(text)
        assert read(engine)[-1] == text


def test_a_large_batch_goes_to_the_engine_at_once(engine, embedding):
    assert embedding.embed_batch_size == 2048
    embedding.get_text_embedding_batch(["text"] * 2050)
    assert list(Counter(job.fairness_key for job in engine.jobs for _ in job.prompts).values()) == [2048, 2]
    with pytest.raises(ConfigError, match="embed_batch_size"):
        embedding.embed_batch_size = 0
    embedding.embed_batch_size = 2000
    embedding.get_text_embedding_batch(["text"] * 2000)
    assert engine.jobs[-1].call_size == 2000


def test_vectors_are_those_of_the_core(embedding):
    core = Embedder(FakeEngine("embed"))
    assert embedding.get_text_embedding_batch(["red planet", ""]) == core.embed_documents(["red planet", ""]).tolist()
    assert embedding.get_query_embedding("red planet") == core.embed_queries(["red planet"])[0].tolist()
    vector = embedding.get_text_embedding("mars")
    assert {type(value) for value in vector} == {float}
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_no_texts(embedding):
    assert embedding.get_text_embedding_batch([]) == []


async def test_bad_input(embedding):
    with pytest.raises(TypeError, match=r"texts\[1\] must be a string"):
        embedding.get_text_embedding_batch(["fine", 5])
    with pytest.raises(TypeError, match=r"texts\[1\] must be a string"):
        await embedding.aget_text_embedding_batch(["fine", 5])
    with pytest.raises(TypeError, match=r"^text must be a string"):
        embedding.get_query_embedding(None)
    with pytest.raises(InvalidText, match=r"^text contains the lone surrogate"):
        embedding.get_text_embedding("\udc80")
    with pytest.raises(PromptTooLong):
        Qwen3Embedding(backend="fake", max_tokens=20).get_query_embedding("word " * 100)


async def test_a_bad_text_is_named_by_its_position_before_any_work(engine, embedding):
    texts = ["a"] * 2050 + ["\ud800"]
    with pytest.raises(InvalidText, match=r"texts\[2050\] contains the lone surrogate") as caught:
        embedding.get_text_embedding_batch(texts)
    assert caught.value.index == 2050
    with pytest.raises(InvalidText, match=r"texts\[2050\] contains the lone surrogate"):
        await embedding.aget_text_embedding_batch(texts)
    with pytest.raises(TypeError, match=r"texts\[2050\] must be a string, not int"):
        embedding.get_text_embedding_batch(["a"] * 2050 + [5])
    with pytest.raises(TypeError, match="must be a list of strings, not one str"):
        embedding.get_text_embedding_batch("a text")
    assert engine.jobs == []


async def test_batches_report_progress_and_events(engine, capsys):
    recorded = Chunks()
    embedding = Qwen3Embedding(engine=engine, embed_batch_size=2, callback_manager=CallbackManager([recorded]))
    texts = ["red", "blue", "green"]
    assert embedding.get_text_embedding_batch(texts, show_progress=True) == embedding.get_text_embedding_batch(texts=texts)
    assert "Generating embeddings" in capsys.readouterr().err
    await embedding.aget_text_embedding_batch(texts, show_progress=True)
    assert "Generating embeddings" in capsys.readouterr().err
    assert recorded.chunks == [["red", "blue"], ["green"]] * 3


async def test_async_calls_give_the_same_answers(embedding):
    for text in HOSTILE:
        assert await embedding.aget_query_embedding(text) == embedding.get_query_embedding(text)
        assert await embedding.aget_text_embedding(text) == embedding.get_text_embedding(text)
    assert await embedding.aget_text_embedding_batch(HOSTILE) == embedding.get_text_embedding_batch(HOSTILE)
    two = ["red", "planet"]
    assert await embedding.aget_agg_embedding_from_queries(two) == embedding.get_agg_embedding_from_queries(two)
    sync, twin = [TextNode(text=text, id_=text) for text in two], [TextNode(text=text, id_=text) for text in two]
    assert await embedding.acall(twin) == embedding(sync)
    assert [node.embedding for node in sync] == embedding.get_text_embedding_batch(two)


async def test_async_calls_are_native(embedding, monkeypatch):
    monkeypatch.setattr(Embedder, "embed_documents", None)
    monkeypatch.setattr(Embedder, "embed_queries", None)
    assert len(await embedding.aget_text_embedding_batch(["a", "b"])) == 2
    assert await embedding.aget_text_embedding("a")
    assert await embedding.aget_query_embedding("a")
    assert await embedding.aget_agg_embedding_from_queries(["a", "b"])
    native = {"_get_text_embeddings", "_aget_text_embedding", "_aget_text_embeddings"}
    assert native <= vars(Qwen3Embedding).keys()


async def test_workers(embedding):
    """`num_workers` limits the batches in flight and changes no answer."""
    texts = [f"text {number}" for number in range(30)]
    plain = embedding.get_text_embedding_batch(texts)
    embedding.embed_batch_size, embedding.num_workers = 4, 3
    assert await embedding.aget_text_embedding_batch(texts) == plain


async def test_many_callers_at_once(embedding):
    texts = [f"text {number} of many" for number in range(64)]
    alone = [(embedding.get_query_embedding(text), embedding.get_text_embedding(text)) for text in texts]
    with ThreadPoolExecutor(64) as pool:
        threads = list(pool.map(lambda text: (embedding.get_query_embedding(text), embedding.get_text_embedding(text)), texts))
    queries = await asyncio.gather(*map(embedding.aget_query_embedding, texts))
    documents = await asyncio.gather(*map(embedding.aget_text_embedding, texts))
    assert threads == alone
    assert list(zip(queries, documents, strict=True)) == alone


async def test_a_cache_keeps_a_query_and_an_equal_text_apart(engine):
    store = SimpleKVStore()
    cached, plain = Qwen3Embedding(engine=engine, embeddings_cache=store), Qwen3Embedding(engine=FakeEngine("embed"))
    for _ in range(2):
        assert cached.get_query_embedding("mars") == plain.get_query_embedding("mars")
        assert cached.get_text_embedding("mars") == plain.get_text_embedding("mars")
        assert await cached.aget_query_embedding("mars") == plain.get_query_embedding("mars")
        assert await cached.aget_text_embedding("mars") == plain.get_text_embedding("mars")
        assert cached.get_text_embedding_batch(["mars", "venus"])[0] == plain.get_text_embedding("mars")
        assert (await cached.aget_text_embedding_batch(["mars", "venus"]))[1] == plain.get_text_embedding("venus")
    assert read(engine) == [f"Instruct: {INSTRUCTION}\nQuery:mars", "mars", "venus"]
    assert cached.embeddings_cache is store


def test_a_cache_keeps_instructions_apart(engine):
    cached = Qwen3Embedding(engine=engine, embeddings_cache=SimpleKVStore(), instruction="Find planets.")
    first = cached.get_query_embedding("mars")
    cached.instruction = "Find moons."
    second = cached.get_query_embedding("mars")
    cached.instruction = ""
    bare = cached.get_query_embedding("mars")
    assert first != second
    assert bare == cached.get_text_embedding("mars")
    assert read(engine) == ["Instruct: Find planets.\nQuery:mars", "Instruct: Find moons.\nQuery:mars", "mars"]


def test_an_object_that_is_no_cache_is_refused(engine):
    with pytest.raises(TypeError, match="BaseKVStore"):
        Qwen3Embedding(engine=engine, embeddings_cache={})


def test_names():
    embedding = Qwen3Embedding(backend="fake", model="some-name")
    assert (embedding.class_name(), embedding.model, embedding.model_name) == ("Qwen3Embedding", "some-name", "some-name")
    assert Qwen3Embedding(backend="fake", model_name="some-name").model == "some-name"
    assert Qwen3Embedding(backend="fake").model_name == "Qwen/Qwen3-Embedding-0.6B"
    with pytest.raises(ConfigError, match="both mean the same"):
        Qwen3Embedding(backend="fake", model="this", model_name="that")
    with pytest.raises(ConfigError, match="model_name of Qwen3Embedding is fixed"):
        embedding.model_name = "other"
    assert embedding.model_copy(update={"model": "other"}).model_name == "other"


def test_to_dict_and_back():
    embedding = Qwen3Embedding(backend="fake", api_key=KEY, dimensions=32, instruction="Find planets.", embed_batch_size=100)
    as_dict, as_json = embedding.to_dict(), embedding.to_json()
    assert KEY not in str(as_dict) + as_json
    assert not {"api_key", "engine"} & as_dict.keys()
    assert as_dict["class_name"] == "Qwen3Embedding"
    for again in (Qwen3Embedding.from_dict(as_dict), Qwen3Embedding.from_json(as_json), Qwen3Embedding.from_dict(as_dict, api_key=KEY)):
        assert again.to_dict() == as_dict
        assert again.get_query_embedding("mars") == embedding.get_query_embedding("mars")
    borrowed = Qwen3Embedding(engine=FakeEngine("embed", "that"))
    assert Qwen3Embedding.from_dict(borrowed.to_dict(), engine=FakeEngine("embed", "that")).model == "that"


def test_events_contain_names_and_no_secret(monkeypatch):
    recorded = []

    class Handler(BaseEventHandler):
        def handle(self, event, **kwargs):
            recorded.append(event)

    root = get_dispatcher()
    monkeypatch.setattr(root, "event_handlers", [Handler()])
    embedding = Qwen3Embedding(backend="fake", api_key=KEY)
    embedding.get_query_embedding("mars")
    embedding.get_text_embedding_batch(["mars"])
    kinds = [event.class_name() for event in recorded]
    assert kinds == ["EmbeddingStartEvent", "EmbeddingEndEvent"] * 2
    assert recorded[0].model_dict == {"class_name": "Qwen3Embedding", "model_name": embedding.model, "embed_batch_size": 2048}
    assert KEY not in str([event.model_dump() for event in recorded])


def test_as_the_default_of_all_components(monkeypatch, embedding):
    monkeypatch.setattr(Settings, "_embed_model", None)
    Settings.embed_model = embedding
    assert Settings.embed_model is embedding
    assert isinstance(embedding, BaseEmbedding)


DOCUMENTS = [
    Document(text="The sort method puts the items of a list in order.", id_="sort"),
    Document(text="A socket waits for connections from the network.", id_="socket"),
    Document(text="Compression makes a file smaller.", id_="compression"),
]


async def test_in_an_index(embedding):
    index = VectorStoreIndex.from_documents(DOCUMENTS, embed_model=embedding)
    retriever = index.as_retriever(similarity_top_k=1)
    found = retriever.retrieve("sort the items of a list in order")
    assert [node.node.ref_doc_id for node in found] == ["sort"]
    assert await retriever.aretrieve("sort the items of a list in order") == found


async def test_in_an_ingestion_pipeline(engine, embedding):
    pipeline = IngestionPipeline(transformations=[SentenceSplitter(), embedding], cache=IngestionCache())
    nodes = pipeline.run(documents=DOCUMENTS)
    assert [node.embedding for node in nodes] == embedding.get_text_embedding_batch([document.text for document in DOCUMENTS])
    calls = len(engine.jobs)
    assert [node.embedding for node in pipeline.run(documents=DOCUMENTS)] == [node.embedding for node in nodes]
    assert len(engine.jobs) == calls  # they were in LlamaIndex's cache
    uncached = IngestionPipeline(transformations=[SentenceSplitter(), embedding], disable_cache=True)
    assert [node.embedding for node in await uncached.arun(documents=DOCUMENTS)] == [node.embedding for node in nodes]
    assert len(engine.jobs) == calls + 1


@pytest.mark.slow
def test_in_an_ingestion_pipeline_with_worker_processes():
    embedding = Qwen3Embedding(backend="fake", dimensions=32)
    pipeline = IngestionPipeline(transformations=[embedding], disable_cache=True)
    nodes = pipeline.run(documents=DOCUMENTS, num_workers=2)
    assert [node.embedding for node in nodes] == embedding.get_text_embedding_batch([document.text for document in DOCUMENTS])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_in_a_pipeline_that_forks_its_workers():
    """`arun` forks, and the forked process has no threads of the engine."""
    embedding = Qwen3Embedding(model="qwen3-tiny-demo", backend="torch", engine_options={"device": "cpu"})
    expected = embedding.get_text_embedding_batch([document.text for document in DOCUMENTS])
    nodes = await IngestionPipeline(transformations=[embedding], disable_cache=True).arun(documents=DOCUMENTS, num_workers=2)
    assert [node.embedding for node in nodes] == [pytest.approx(vector, abs=1e-5) for vector in expected]


def test_the_error_for_a_component_that_can_not_be_pickled_has_advice(embedding):
    with pytest.raises(ConfigError, match="Make it with model, base_url and backend instead of engine"):
        pickle.dumps(embedding)
    with pytest.raises(ConfigError, match="QWEN3_API_KEY"):
        pickle.dumps(Qwen3Embedding(backend="fake", api_key=KEY))


async def test_real_model():
    with open_engine("embed", "qwen3-tiny-demo", backend="torch") as engine:
        embedding, core = Qwen3Embedding(engine=engine), Embedder(engine)
        vectors, query = core.embed_documents(HOSTILE), core.embed_queries(["How do I sort a list?"])[0]
        assert embedding.get_text_embedding_batch(HOSTILE) == pytest.approx(vectors, abs=1e-5)
        assert await embedding.aget_text_embedding_batch(HOSTILE) == pytest.approx(vectors, abs=1e-5)
        assert embedding.get_query_embedding("How do I sort a list?") == pytest.approx(query, abs=1e-5)
        assert await embedding.aget_query_embedding("How do I sort a list?") == pytest.approx(query, abs=1e-5)


async def test_an_argument_that_would_be_dropped_is_refused(engine, embedding):
    for name in ("nonsense", "instruction", "dimensions", "batch_size"):
        with pytest.raises(
            ConfigError, match=f"{name} is not an option of a?get_text_embedding_batch. The options are: show_progress, texts"
        ):
            embedding.get_text_embedding_batch(["text"], **{name: 1})
        with pytest.raises(
            ConfigError, match=f"{name} is not an option of a?get_text_embedding_batch. The options are: show_progress, texts"
        ):
            await embedding.aget_text_embedding_batch(["text"], **{name: 1})
        for call in (embedding.get_text_embedding, embedding.get_query_embedding, embedding.get_agg_embedding_from_queries):
            with pytest.raises(TypeError, match=name):
                call("text", **{name: 1})
    assert not engine.jobs


async def test_arguments_of_a_pipeline_for_other_components_are_ignored(embedding):
    """LlamaIndex passes all arguments of the pipeline, or of `from_documents`, to each component."""
    nodes = [TextNode(text="one"), TextNode(text="two")]
    assert all(node.embedding for node in embedding(nodes, show_progress=False, use_async=True))
    assert all(node.embedding for node in await embedding.acall(nodes, show_progress=False, use_async=True))
    pipeline = IngestionPipeline(transformations=[SentenceSplitter(), embedding])
    assert all(node.embedding for node in pipeline.run(documents=[Document(text="one")], num_chunks=3))
    index = VectorStoreIndex.from_documents(
        [Document(text="one")], transformations=[SentenceSplitter(), embedding], embed_model=embedding, use_async=False
    )
    assert len(index.index_struct.nodes_dict) == 1
