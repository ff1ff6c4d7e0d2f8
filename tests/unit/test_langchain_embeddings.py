"""`Qwen3Embeddings`: what the model reads, what LangChain gets, and LangChain's stores and caches."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_core.documents import Document
from langchain_core.stores import InMemoryByteStore
from langchain_core.vectorstores import InMemoryVectorStore

from qwen3_integrations import Embedder, FakeEngine, open_engine
from qwen3_integrations.errors import InvalidText, PromptTooLong
from qwen3_integrations.langchain import Qwen3Embeddings
from tests.texts import HOSTILE


@pytest.fixture
def engine():
    return FakeEngine("embed")


@pytest.fixture
def embeddings(engine):
    return Qwen3Embeddings(engine=engine)


def read(engine):
    """The prompts of the model's last job."""
    return [prompt.text for prompt in engine.jobs[-1].prompts]


def test_a_query_is_put_after_the_instruction(engine, embeddings):
    embeddings.embed_query("What is the capital of China?")
    instruction = "Given a web search query, retrieve relevant passages that answer the query"
    assert read(engine) == [f"Instruct: {instruction}\nQuery:What is the capital of China?"]


def test_documents_are_not_changed(engine, embeddings):
    embeddings.embed_documents(HOSTILE)
    assert read(engine) == HOSTILE
    assert len(engine.jobs) == 1


def test_queries_are_not_changed(engine, embeddings):
    embeddings.instruction = ""
    for text in HOSTILE:
        embeddings.embed_query(text)
        assert read(engine) == [text]


def test_vectors_are_those_of_the_core(engine, embeddings):
    core = Embedder(FakeEngine("embed"))
    assert embeddings.embed_documents(["red planet", ""]) == core.embed_documents(["red planet", ""]).tolist()
    assert embeddings.embed_query("red planet") == core.embed_queries(["red planet"])[0].tolist()


def test_lists_of_floats_of_unit_length(embeddings):
    vectors = [*embeddings.embed_documents(["mars", "venus"]), embeddings.embed_query("mars")]
    assert {type(value) for vector in vectors for value in vector} == {float}
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)


def test_dimensions(engine):
    full = Qwen3Embeddings(engine=engine).embed_documents(["mars"])[0]
    short = Qwen3Embeddings(engine=engine, dimensions=32).embed_documents(["mars"])[0]
    assert short == pytest.approx(np.array(full[:32]) / np.linalg.norm(full[:32]), abs=1e-6)


def test_no_texts(embeddings):
    assert embeddings.embed_documents([]) == []


async def test_bad_input(embeddings):
    for sync, twin, wrong, name in [
        (embeddings.embed_documents, embeddings.aembed_documents, ["fine", 5], r"texts\[1\]"),
        (embeddings.embed_query, embeddings.aembed_query, None, "text"),
    ]:
        with pytest.raises(TypeError, match=f"^{name} must be a string"):
            sync(wrong)
        with pytest.raises(TypeError, match=f"^{name} must be a string"):
            await twin(wrong)
    with pytest.raises(InvalidText, match=r"texts\[1\].*U\+DC80"):
        embeddings.embed_documents(["fine", "\udc80"])
    with pytest.raises(TypeError, match="not one str"):
        embeddings.embed_documents("one text")


async def test_a_long_query_is_refused_and_a_long_document_cut(engine):
    embeddings = Qwen3Embeddings(engine=engine, max_tokens=40)
    with pytest.raises(PromptTooLong):
        embeddings.embed_query("word " * 100)
    with pytest.raises(PromptTooLong):
        await embeddings.aembed_query("word " * 100)
    embeddings.embed_documents(["word " * 100])
    assert embeddings.usage.truncated == 1


async def test_async_calls_give_the_same_answers(embeddings):
    assert await embeddings.aembed_documents(HOSTILE) == embeddings.embed_documents(HOSTILE)
    assert await embeddings.aembed_documents([]) == embeddings.embed_documents([])
    for text in HOSTILE:
        assert await embeddings.aembed_query(text) == embeddings.embed_query(text)


async def test_many_callers_at_once(embeddings):
    texts = [f"text {number} of many" for number in range(64)]
    alone = [(embeddings.embed_query(text), embeddings.embed_documents([text, "x"])) for text in texts]
    with ThreadPoolExecutor(64) as pool:
        threads = list(pool.map(lambda text: (embeddings.embed_query(text), embeddings.embed_documents([text, "x"])), texts))
    queries = await asyncio.gather(*map(embeddings.aembed_query, texts))
    documents = await asyncio.gather(*(embeddings.aembed_documents([text, "x"]) for text in texts))
    assert threads == alone
    assert list(zip(queries, documents, strict=True)) == alone
    assert embeddings.usage.prompts == 3 * 64 * 3


async def test_async_calls_are_native(embeddings, monkeypatch):
    """They call the engine's `arun` on the event loop's thread, and never its `run`."""
    monkeypatch.setattr(Embedder, "embed_documents", None)
    monkeypatch.setattr(Embedder, "embed_queries", None)
    assert len(await embeddings.aembed_documents(["a", "b"])) == 2
    assert await embeddings.aembed_query("a")


def test_cache_backed_embeddings(engine, embeddings):
    cached = CacheBackedEmbeddings.from_bytes_store(
        embeddings,
        InMemoryByteStore(),
        namespace=embeddings.cache_namespace,
        query_embedding_cache=InMemoryByteStore(),
        key_encoder="blake2b",
    )
    query, document = cached.embed_query("mars"), cached.embed_documents(["mars", "venus"])[0]
    assert query == embeddings.embed_query("mars")
    assert document == embeddings.embed_documents(["mars"])[0]
    assert query != document
    calls = len(engine.jobs)
    assert (cached.embed_query("mars"), cached.embed_documents(["venus", "mars"])[1]) == (query, document)
    assert len(engine.jobs) == calls


async def test_cache_backed_embeddings_async(engine, embeddings):
    cached = CacheBackedEmbeddings.from_bytes_store(
        embeddings, InMemoryByteStore(), query_embedding_cache=InMemoryByteStore(), key_encoder="sha256"
    )
    query, document = await cached.aembed_query("mars"), (await cached.aembed_documents(["mars"]))[0]
    calls = len(engine.jobs)
    assert await cached.aembed_query("mars") == query == embeddings.embed_query("mars")
    assert (await cached.aembed_documents(["mars"]))[0] == document
    assert len(engine.jobs) == calls + 1  # the embed_query without cache, for the comparison


DOCUMENTS = [
    Document("The sort method puts the items of a list in order.", metadata={"n": 0}),
    Document("A socket waits for connections from the network.", metadata={"n": 1}),
    Document("Compression makes a file smaller.", metadata={"n": 2}),
]


async def test_in_memory_vector_store(embeddings):
    store = InMemoryVectorStore.from_documents(DOCUMENTS, embeddings)
    best = store.similarity_search("sort the items of a list in order", k=1)
    assert [found.metadata["n"] for found in best] == [0]
    assert await store.asimilarity_search("sort the items of a list in order", k=1) == best


async def test_a_real_vector_store(embeddings, tmp_path):
    from langchain_qdrant import QdrantVectorStore

    query = "Compression makes a file smaller"
    store = QdrantVectorStore.from_documents(DOCUMENTS, embeddings, path=str(tmp_path), collection_name="texts")
    try:
        (best, similarity), *others = store.similarity_search_with_score(query, k=3)
        assert best.metadata["n"] == 2
        expected = np.dot(embeddings.embed_query(query), embeddings.embed_documents([best.page_content])[0])
        assert similarity == pytest.approx(expected, abs=1e-5)
        found = await store.asimilarity_search(query, k=3)
        assert [document.metadata["n"] for document in found] == [2, *(document.metadata["n"] for document, _ in others)]
    finally:
        store.client.close()


async def test_real_model():
    with open_engine("embed", "qwen3-tiny-demo", backend="torch") as engine:
        embeddings, core = Qwen3Embeddings(engine=engine), Embedder(engine)
        assert embeddings.embed_documents(HOSTILE) == pytest.approx(core.embed_documents(HOSTILE), abs=1e-5)
        assert await embeddings.aembed_documents(HOSTILE) == pytest.approx(core.embed_documents(HOSTILE), abs=1e-5)
        query = core.embed_queries(["How do I sort a list?"])[0]
        assert embeddings.embed_query("How do I sort a list?") == pytest.approx(query, abs=1e-5)
        assert await embeddings.aembed_query("How do I sort a list?") == pytest.approx(query, abs=1e-5)
