"""`RerankingRetriever` around retrievers and vector stores."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore

from qwen3_integrations import FakeEngine
from qwen3_integrations.adapters.reranking_retriever import FETCH_K
from qwen3_integrations.engines.wrapper import EngineWrapper
from qwen3_integrations.errors import ConfigError, EngineError
from qwen3_integrations.langchain import Qwen3Embeddings, Qwen3Rerank, RerankingRetriever

QUERY = "planet number 7"
TEXTS = [f"planet number {number}" for number in range(80)]


class Counting(BaseRetriever):
    """Finds the first `k` texts."""

    k: int = 4

    def _get_relevant_documents(self, query, *, run_manager):
        return [Document(text) for text in TEXTS[: self.k]]

    async def _aget_relevant_documents(self, query, *, run_manager):
        return self._get_relevant_documents(query, run_manager=run_manager)


class Stubborn(BaseRetriever):
    """A retriever without a number of documents."""

    def _get_relevant_documents(self, query, *, run_manager):
        return [Document(text) for text in TEXTS[:5]]


class Runs(BaseCallbackHandler):
    def __init__(self):
        self.names, self.parents = {}, {}

    def on_retriever_start(self, serialized, query, *, run_id, parent_run_id=None, **about):
        self.names[run_id], self.parents[run_id] = about.get("name"), parent_run_id

    def on_chain_start(self, serialized, inputs, *, run_id, parent_run_id=None, **about):
        self.names[run_id], self.parents[run_id] = about.get("name"), parent_run_id

    def tree(self):
        return sorted((name, self.names.get(self.parents[run])) for run, name in self.names.items())


@pytest.fixture
def engine():
    return FakeEngine("rerank", score=lambda query, document: 0.75 if query == document else 0.25)


@pytest.fixture
def rerank(engine):
    return Qwen3Rerank(engine=engine, top_n=3)


@pytest.fixture
def store():
    found = InMemoryVectorStore(Qwen3Embeddings(backend="fake"))
    found.add_documents([Document(text, metadata={"n": number}) for number, text in enumerate(TEXTS)])
    return found


def fetched(engine):
    """The number of documents that the reranker got in its last job."""
    return len(engine.jobs[-1].prompts)


async def test_a_vector_store(engine, rerank, store):
    retriever = RerankingRetriever(retriever=store, reranker=rerank)
    result = retriever.invoke(QUERY)
    assert fetched(engine) == FETCH_K
    assert len(result) == 3
    assert result[0].page_content == QUERY  # the embedder finds it among its first fifty
    assert result[0].metadata["relevance_score"] == 0.75
    assert await retriever.ainvoke(QUERY) == result


def test_fetch_k_of_a_vector_store(engine, rerank, store):
    retriever = RerankingRetriever(retriever=store, reranker=rerank, fetch_k=10)
    retriever.invoke(QUERY)
    assert fetched(engine) == 10
    retriever.fetch_k = 20
    retriever.invoke(QUERY)
    assert fetched(engine) == 20


def test_search_kwargs_of_a_vector_store(engine, rerank, store):
    retriever = RerankingRetriever(retriever=store, reranker=rerank, search_kwargs={"filter": lambda document: document.metadata["n"] < 6})
    assert {document.metadata["n"] for document in retriever.invoke(QUERY)} <= set(range(6))
    assert fetched(engine) == 6


async def test_a_retriever_keeps_its_number_without_fetch_k(engine, rerank, store):
    own = store.as_retriever(search_kwargs={"k": 7})
    RerankingRetriever(retriever=own, reranker=rerank).invoke(QUERY)
    assert fetched(engine) == 7
    fetching = RerankingRetriever(retriever=own, reranker=rerank, fetch_k=30)
    result = fetching.invoke(QUERY)
    assert fetched(engine) == 30
    assert await fetching.ainvoke(QUERY) == result
    assert own.search_kwargs == {"k": 7}


def test_a_retriever_with_k(engine, rerank):
    own = Counting()
    RerankingRetriever(retriever=own, reranker=rerank, fetch_k=12).invoke(QUERY)
    assert fetched(engine) == 12
    assert own.k == 4


async def test_any_runnable(engine, rerank):
    retriever = RerankingRetriever(retriever=RunnableLambda(lambda query: [Document(text) for text in TEXTS[:9]]), reranker=rerank)
    result = retriever.invoke(QUERY)
    assert fetched(engine) == 9
    assert result[0].page_content == QUERY
    assert await retriever.ainvoke(QUERY) == result


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"retriever": Stubborn(), "fetch_k": 9}, "fetch_k 9 can't be passed on to Stubborn"),
        ({"retriever": Stubborn(), "search_kwargs": {"filter": {}}}, "search_kwargs are for a vector store only"),
        ({"retriever": Counting(), "fetch_k": 0}, "fetch_k"),
        ({"retriever": Counting(), "fetch_k": True}, "fetch_k"),
        ({"retriever": "a name"}, "retriever"),
        ({"retriever": Counting(), "reranker": "a name"}, "reranker"),
        ({"retriever": Counting(), "topn": 3}, "topn is not a setting of RerankingRetriever"),
        ({}, "retriever of RerankingRetriever can't be used: Field required"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_the_constructor(rerank, wrong, message):
    with pytest.raises(ConfigError, match=message):
        RerankingRetriever(**{"reranker": rerank} | wrong)


def test_k_in_search_kwargs_is_refused(rerank, store):
    with pytest.raises(ConfigError, match="fetch_k"):
        RerankingRetriever(retriever=store, reranker=rerank, search_kwargs={"k": 9})


async def test_nothing_found(rerank):
    retriever = RerankingRetriever(retriever=RunnableLambda(lambda query: []), reranker=rerank)
    assert retriever.invoke(QUERY) == []
    assert await retriever.ainvoke(QUERY) == []


async def test_callbacks_are_passed_on(rerank):
    tree = [("Counting", "RerankingRetriever"), ("Qwen3Rerank", "RerankingRetriever"), ("RerankingRetriever", None)]
    retriever = RerankingRetriever(retriever=Counting(), reranker=rerank)
    retriever.invoke(QUERY, {"callbacks": [sync := Runs()]})
    await retriever.ainvoke(QUERY, {"callbacks": [twin := Runs()]})
    assert sync.tree() == twin.tree() == tree


async def test_many_callers_at_once(rerank):
    retriever = RerankingRetriever(retriever=Counting(), reranker=rerank, fetch_k=64)
    queries = TEXTS[:64]
    with ThreadPoolExecutor(64) as pool:
        threads = list(pool.map(retriever.invoke, queries))
    tasks = await asyncio.gather(*map(retriever.ainvoke, queries))
    assert threads == tasks
    for query, found in zip(queries, tasks, strict=True):
        assert found[0].metadata["relevance_score"] == 0.75
        assert (
            query in {document.page_content for document in found} or len({document.metadata["relevance_score"] for document in found}) == 1
        )


async def test_another_compressor(rerank):
    from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline

    retriever = RerankingRetriever(retriever=Counting(), reranker=DocumentCompressorPipeline(transformers=[rerank]), fetch_k=9)
    assert [found.page_content for found in retriever.invoke(QUERY)] == [TEXTS[7], TEXTS[0], TEXTS[1]]
    assert await retriever.ainvoke(QUERY) == retriever.invoke(QUERY)


class Failing(EngineWrapper):
    """A server that is away."""

    def run(self, job):
        raise EngineError("away")

    async def arun(self, job):
        raise EngineError("away")


async def test_a_reranker_with_fallbacks(engine, rerank, store):
    away = Qwen3Rerank(engine=Failing(FakeEngine("rerank")))
    retriever = RerankingRetriever(retriever=store, reranker=away.with_fallbacks([rerank]))
    result = retriever.invoke(QUERY)
    assert [document.page_content for document in result][:1] == [QUERY]
    assert len(result) == 3
    assert await retriever.ainvoke(QUERY) == result
    assert len(retriever.invoke(QUERY, top_n=2)) == 2
    assert retriever.invoke(QUERY, score_threshold=0.5) == result[:1]
    assert len(await retriever.ainvoke(QUERY, top_n=1)) == 1


def test_the_last_fallback_may_be_the_retrievers_order(rerank, store):
    away = Qwen3Rerank(engine=Failing(FakeEngine("rerank")), top_n=2)
    retriever = RerankingRetriever(retriever=store, reranker=away.with_fallbacks([RunnableLambda(lambda call: call["documents"][:2])]))
    assert retriever.invoke(QUERY) == store.similarity_search(QUERY, k=FETCH_K)[:2]
    with pytest.raises(ConfigError, match=r"top_n is not an option of a call"):  # the lambda would not read it
        retriever.invoke(QUERY, top_n=1)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda rerank: rerank.with_retry(),
        lambda rerank: rerank.bind(score_threshold=0.0),
        lambda rerank: rerank.with_config(tags=["a"]),
        lambda rerank: RunnableLambda(lambda call, top_n=3: rerank.invoke(call, top_n=top_n)),
    ],
    ids=["with_retry", "bind", "with_config", "lambda"],
)
def test_other_runnables_as_reranker(rerank, store, wrap):
    retriever = RerankingRetriever(retriever=store, reranker=wrap(rerank))
    assert [document.page_content for document in retriever.invoke(QUERY)] == [QUERY, *[d.page_content for d in rerank_rest(rerank, store)]]
    assert len(retriever.invoke(QUERY, top_n=1)) == 1


def rerank_rest(rerank, store):
    return RerankingRetriever(retriever=store, reranker=rerank).invoke(QUERY)[1:]


def test_the_run_of_a_reranker_with_fallbacks_is_inside_the_retrievers(rerank, store):
    runs = Runs()
    retriever = RerankingRetriever(retriever=store, reranker=rerank.with_fallbacks([rerank]))
    retriever.invoke(QUERY, {"callbacks": [runs]})
    assert {name for name, parent in runs.tree() if parent} == {"Qwen3Rerank", "RunnableWithFallbacks", "VectorStoreRetriever"}


@pytest.mark.parametrize(
    ("result", "words"),
    [("text", "not str"), ([Document("a"), "b"], "not a list with"), (None, "not None"), ({"documents": []}, "not dict")],
)
def test_a_runnable_that_returns_no_documents(store, result, words):
    retriever = RerankingRetriever(retriever=store, reranker=RunnableLambda(lambda call: result))
    with pytest.raises(TypeError, match=rf"must return a list of LangChain's Documents, {words}"):
        retriever.invoke(QUERY)


@pytest.fixture(scope="module")
def faiss():
    from langchain_community.vectorstores import FAISS

    embeddings = Qwen3Embeddings(model="qwen3-tiny-demo", backend="torch")
    texts = [f"text {number} about files" for number in range(60)]
    return FAISS.from_texts(texts, embeddings, [{"tenant": "b" if number % 15 == 0 else "a", "n": number} for number in range(60)])


def far(faiss):
    """A filter that only the 30 farthest texts pass."""
    return {"n": {"$in": [document.metadata["n"] for document in faiss.similarity_search("files", k=60)[30:]]}}


async def test_few_documents_under_a_filter_are_a_warning(faiss, rerank, caplog):
    retriever = RerankingRetriever(retriever=faiss, reranker=rerank, fetch_k=30)
    assert retriever.invoke("files", filter=far(faiss)) == []
    words = "0 of 30 documents came back under filter. This store filters after its search (fetch_k=its default): a larger search_kwargs="
    assert words in caplog.text
    caplog.clear()
    assert await retriever.ainvoke("files", filter=far(faiss)) == []
    assert words in caplog.text


def test_the_warning_names_the_way_out(faiss, rerank, engine, caplog):
    retriever = RerankingRetriever(retriever=faiss, reranker=rerank, fetch_k=30, search_kwargs={"fetch_k": 60})
    assert len(retriever.invoke("files", filter=far(faiss))) == 3
    assert fetched(engine) == 30
    assert not caplog.text


def test_a_store_that_filters_first_gets_no_advice(store, rerank, caplog):
    retriever = RerankingRetriever(retriever=store, reranker=rerank)
    retriever.invoke(QUERY, filter=lambda document: document.metadata["n"] < 6)
    assert caplog.messages == ["6 of 50 documents came back under filter"]


def test_a_filter_on_the_stores_own_retriever(faiss, rerank, caplog):
    own = faiss.as_retriever(search_kwargs={"k": 10, "filter": far(faiss)})
    RerankingRetriever(retriever=own, reranker=rerank).invoke("files")
    assert caplog.messages[0].startswith("0 of 10 documents came back under filter. This store")


def test_enough_documents_and_no_filter_are_silent(faiss, rerank, caplog):
    RerankingRetriever(retriever=faiss, reranker=rerank, fetch_k=30).invoke("files")
    RerankingRetriever(retriever=faiss, reranker=rerank, fetch_k=2).invoke("files", filter={"tenant": "a"})
    RerankingRetriever(retriever=faiss, reranker=rerank, fetch_k=80).invoke("files", filter=None)
    assert not caplog.text
