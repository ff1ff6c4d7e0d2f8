"""Arguments of a call in LangChain: a tenant's filter reaches the store, the cut reaches the reranker, and others are refused."""

from __future__ import annotations

import asyncio

import pytest
from langchain_classic.retrievers import (
    ContextualCompressionRetriever,
    EnsembleRetriever,
    MergerRetriever,
    MultiVectorRetriever,
)
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import ConfigurableField, RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.stores import InMemoryStore
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_qdrant import QdrantVectorStore
from qdrant_client import QdrantClient, models

from qwen3_integrations import FakeEngine
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.langchain import Qwen3Embeddings, Qwen3Rerank, RerankingRetriever

QUERY = "files"
DOCUMENTS = [Document(f"text {number} about files", metadata={"tenant": "ab"[number % 2], "n": number}) for number in range(20)]


def in_memory():
    store = InMemoryVectorStore(Qwen3Embeddings(backend="fake", dimensions=64))
    store.add_documents(DOCUMENTS)
    return store, {"a": lambda found: found.metadata["tenant"] == "a", "b": lambda found: found.metadata["tenant"] == "b"}


def qdrant():
    client = QdrantClient(":memory:")
    client.create_collection("texts", vectors_config=models.VectorParams(size=64, distance=models.Distance.COSINE))
    store = QdrantVectorStore(client, "texts", embedding=Qwen3Embeddings(backend="fake", dimensions=64))
    store.add_documents(DOCUMENTS)

    def of(tenant):
        return models.Filter(must=[models.FieldCondition(key="metadata.tenant", match=models.MatchValue(value=tenant))])

    return store, {"a": of("a"), "b": of("b")}


@pytest.fixture(params=[in_memory, qdrant])
def tenants(request):
    """A store, and a filter for each tenant."""
    return request.param()


@pytest.fixture
def engine():
    return FakeEngine("rerank")


@pytest.fixture
def rerank(engine):
    return Qwen3Rerank(engine=engine, top_n=5)


def read(engine):
    """The number of documents that the reranker got in its last job."""
    return len(engine.jobs[-1].prompts)


def tenants_of(found):
    return [document.metadata["tenant"] for document in found]


def invoked(retriever, **arguments):
    return retriever.invoke(QUERY, **arguments)


def ainvoked(retriever, **arguments):
    return asyncio.run(retriever.ainvoke(QUERY, **arguments))


def batched(retriever, **arguments):
    return retriever.batch([QUERY, QUERY], **arguments)[1]


def abatched(retriever, **arguments):
    return asyncio.run(retriever.abatch([QUERY, QUERY], **arguments))[1]


def bound(retriever, **arguments):
    return retriever.bind(**arguments).invoke(QUERY)


def streamed(retriever, **arguments):
    return next(iter(retriever.stream(QUERY, **arguments)))


def astreamed(retriever, **arguments):
    async def last():
        return [found async for found in retriever.astream(QUERY, **arguments)][-1]

    return asyncio.run(last())


def chained(retriever, **arguments):
    return (retriever | RunnableLambda(list)).invoke(QUERY, **arguments)


def streamed_chain(retriever, **arguments):
    return next(iter((retriever | RunnablePassthrough()).stream(QUERY, **arguments)))


WAYS = [invoked, ainvoked, batched, abatched, bound, streamed, astreamed, chained, streamed_chain]


@pytest.mark.parametrize("way", WAYS)
def test_a_tenants_filter_reaches_the_store(tenants, rerank, way):
    store, only = tenants
    for inner in (store, store.as_retriever(), store.as_retriever(search_type="mmr", search_kwargs={"fetch_k": 100})):
        retriever = RerankingRetriever(retriever=inner, reranker=rerank, fetch_k=10)
        for tenant in "ab":
            assert tenants_of(way(retriever, filter=only[tenant])) == [tenant] * 5


@pytest.mark.parametrize("way", WAYS)
def test_the_cut_reaches_the_reranker(tenants, engine, rerank, way):
    retriever = RerankingRetriever(retriever=tenants[0], reranker=rerank)
    assert len(way(retriever, top_n=2)) == 2
    assert len(way(retriever, top_n=None)) == 20
    assert way(retriever, score_threshold=1) == []
    assert len(way(retriever)) == 5
    assert len(way(retriever, fetch_k=3)) == read(engine) == 3


@pytest.mark.parametrize("way", WAYS)
def test_an_unknown_argument_is_refused(tenants, rerank, way):
    store, _ = tenants
    for inner in (store, store.as_retriever(), RunnableLambda(lambda query: DOCUMENTS)):
        with pytest.raises(ConfigError, match=r"nonsense is not an option of .*The options are: .*fetch_k.*score_threshold.*top_n"):
            way(RerankingRetriever(retriever=inner, reranker=rerank), nonsense=2)


def test_the_nearest_known_argument_is_named(tenants, rerank):
    with pytest.raises(ConfigError, match=r"filters is not an option of .*did you mean 'filter'"):
        RerankingRetriever(retriever=tenants[0], reranker=rerank).invoke(QUERY, filters={})


@pytest.mark.parametrize("arguments", [{"top_n": 0}, {"top_n": True}, {"score_threshold": 2}, {"fetch_k": 0}, {"fetch_k": True}])
def test_an_argument_outside_its_range_is_refused_before_the_search(rerank, arguments):
    def search(query):
        pytest.fail("searched")

    with pytest.raises(ConfigError, match=next(iter(arguments))):
        RerankingRetriever(retriever=RunnableLambda(search), reranker=rerank).invoke(QUERY, **arguments)


@pytest.mark.parametrize("as_retriever", [False, True])
def test_k_is_ambiguous_and_refused(tenants, rerank, as_retriever):
    inner = tenants[0].as_retriever() if as_retriever else tenants[0]
    with pytest.raises(ConfigError, match=r"^k is ambiguous.*fetch_k.*top_n"):
        RerankingRetriever(retriever=inner, reranker=rerank).invoke(QUERY, k=3)


def test_an_argument_of_the_call_overrides_a_setting(tenants, rerank):
    store, only = tenants
    retriever = RerankingRetriever(retriever=store, reranker=rerank, search_kwargs={"filter": only["a"]})
    assert tenants_of(retriever.invoke(QUERY, filter=only["b"])) == ["b"] * 5
    assert tenants_of(retriever.invoke(QUERY)) == ["a"] * 5
    own = RerankingRetriever(retriever=store.as_retriever(search_kwargs={"filter": only["a"]}), reranker=rerank, fetch_k=9)
    assert tenants_of(own.invoke(QUERY, filter=only["b"])) == ["b"] * 5
    assert tenants_of(own.invoke(QUERY)) == ["a"] * 5


@pytest.mark.parametrize("way", WAYS)
def test_a_tenants_search_kwargs_in_the_config_reach_a_configurable_retriever(tenants, rerank, way):
    """LangChain's documented way to serve several users with one chain."""
    store, only = tenants
    inner = store.as_retriever().configurable_fields(search_kwargs=ConfigurableField(id="search_kwargs"))
    retriever = RerankingRetriever(retriever=inner, reranker=rerank)
    for tenant in "ab":
        config = {"configurable": {"search_kwargs": {"filter": only[tenant], "k": 10}}}
        assert tenants_of(way(retriever.with_config(config))) == [tenant] * 5
    if way not in (bound, chained, streamed_chain):
        assert tenants_of(way(retriever, config=config)) == ["b"] * 5


class Named(BaseRetriever):
    """Accepts a tenant by name, as the interface of LangChain allows."""

    def _get_relevant_documents(self, query, *, run_manager, tenant="a"):
        return [document for document in DOCUMENTS if document.metadata["tenant"] == tenant]

    async def _aget_relevant_documents(self, query, *, run_manager, tenant="a"):
        return self._get_relevant_documents(query, run_manager=run_manager, tenant=tenant)


class Anything(BaseRetriever):
    """Accepts any argument."""

    def _get_relevant_documents(self, query, *, run_manager, **more):
        return [document for document in DOCUMENTS if document.metadata["tenant"] == more.get("tenant", "a")]

    async def _aget_relevant_documents(self, query, *, run_manager, **more):
        return self._get_relevant_documents(query, run_manager=run_manager, **more)


class WithoutArguments(BaseRetriever):
    """Accepts no arguments: LangChain drops them."""

    def _get_relevant_documents(self, query, *, run_manager):
        return DOCUMENTS


class HalfWithoutArguments(BaseRetriever):
    """Accepts a tenant, but only in the synchronous search."""

    def _get_relevant_documents(self, query, *, run_manager, tenant="a"):
        return [document for document in DOCUMENTS if document.metadata["tenant"] == tenant]


class Numbered(BaseRetriever):
    """Gets the number of documents as an argument of the call."""

    def _get_relevant_documents(self, query, *, run_manager, k=4):
        return DOCUMENTS[:k]


def function(query, tenant="a"):
    return [document for document in DOCUMENTS if document.metadata["tenant"] == tenant]


READERS = [
    Named(),
    Anything(),
    RunnableLambda(function),
    RunnableLambda(Named().invoke, afunc=Named().ainvoke),
    Named().bind(tenant="a"),
    Named().with_retry(),
    Named().with_fallbacks([Anything()]),
    Named() | RunnableLambda(list),
    ContextualCompressionRetriever(base_retriever=Named(), base_compressor=DocumentCompressorPipeline(transformers=[])),
    Named().configurable_alternatives(ConfigurableField(id="which"), default_key="named", any=Anything()),
]
DEAF = [
    WithoutArguments(),
    WithoutArguments().bind(),
    RunnableLambda(WithoutArguments().invoke, afunc=WithoutArguments().ainvoke),
    Named().with_fallbacks([WithoutArguments()]),
    EnsembleRetriever(retrievers=[Named()]),
    MergerRetriever(retrievers=[Named()]),
    ContextualCompressionRetriever(base_retriever=WithoutArguments(), base_compressor=DocumentCompressorPipeline(transformers=[])),
    ContextualCompressionRetriever(
        base_retriever=EnsembleRetriever(retrievers=[Named()]), base_compressor=DocumentCompressorPipeline(transformers=[])
    ),
    RunnableParallel(found=Named()) | RunnableLambda(lambda both: both["found"]),
    Named().configurable_alternatives(ConfigurableField(id="which"), default_key="named", without=WithoutArguments()),
]


@pytest.mark.parametrize("inner", READERS, ids=repr)
def test_arguments_reach_a_retriever_that_accepts_them(rerank, inner):
    retriever = RerankingRetriever(retriever=inner, reranker=rerank)
    for way in (invoked, ainvoked):
        assert tenants_of(way(retriever, tenant="b")) == ["b"] * 5
        assert tenants_of(way(retriever)) == ["a"] * 5


@pytest.mark.parametrize("inner", DEAF, ids=repr)
def test_arguments_that_a_retriever_would_drop_are_refused(rerank, inner):
    retriever = RerankingRetriever(retriever=inner, reranker=rerank)
    for way in (invoked, ainvoked):
        with pytest.raises(ConfigError, match="tenant is not an option"):
            way(retriever, tenant="b")
        assert len(way(retriever)) == 5


@pytest.mark.parametrize("wrap", [lambda inner: inner, lambda inner: inner.with_retry(), lambda inner: inner | RunnableLambda(list)])
def test_arguments_that_were_bound_to_a_retriever_that_drops_them_are_refused(rerank, wrap):
    for without in (WithoutArguments(), EnsembleRetriever(retrievers=[Named()])):
        retriever = RerankingRetriever(retriever=wrap(without.bind(tenant="b")), reranker=rerank)
        for way in (invoked, ainvoked):
            with pytest.raises(ConfigError, match=rf"tenant is bound to {type(without).__name__}, which would drop it"):
                way(retriever)
    kept = RerankingRetriever(retriever=wrap(Named().bind(tenant="b")), reranker=rerank)
    for way in (invoked, ainvoked):
        assert tenants_of(way(kept)) == ["b"] * 5


def test_arguments_that_only_one_of_invoke_and_ainvoke_would_drop(rerank):
    retriever = RerankingRetriever(retriever=HalfWithoutArguments(), reranker=rerank)
    assert tenants_of(invoked(retriever, tenant="b")) == ["b"] * 5
    with pytest.raises(ConfigError, match="tenant is not an option"):
        ainvoked(retriever, tenant="b")


def test_fetch_k_is_the_k_of_a_retriever_with_k_as_argument(engine, rerank):
    RerankingRetriever(retriever=Numbered(), reranker=rerank, fetch_k=7).invoke(QUERY)
    assert read(engine) == 7
    RerankingRetriever(retriever=Numbered(), reranker=rerank).invoke(QUERY, fetch_k=8)
    assert read(engine) == 8


def test_a_retriever_that_searches_a_docstore_drops_arguments(rerank):
    inner = MultiVectorRetriever(vectorstore=in_memory()[0], docstore=InMemoryStore())
    with pytest.raises(ConfigError, match="filter is not an option"):
        RerankingRetriever(retriever=inner, reranker=rerank).invoke(QUERY, filter=len)


@pytest.mark.parametrize("way", WAYS)
def test_a_reranking_retriever_inside_another(tenants, engine, rerank, way):
    store, only = tenants
    inner = RerankingRetriever(retriever=store, reranker=rerank)
    outer = RerankingRetriever(retriever=inner, reranker=Qwen3Rerank(engine=engine))
    assert tenants_of(way(outer, filter=only["b"])) == ["b"] * 5
    assert len(way(outer, filter=only["b"], top_n=2)) == 2  # of the outer retriever; the inner one returns five
    assert read(engine) == 5
    assert len(way(outer, fetch_k=3)) == 3  # the number that the outer one fetches is the number that the inner one returns
    with pytest.raises(ConfigError, match="nonsense is not an option"):
        way(outer, nonsense=1)


def test_fetch_k_of_a_reranking_retriever_around_another(engine, rerank, tenants):
    inner = RerankingRetriever(retriever=tenants[0], reranker=rerank)
    RerankingRetriever(retriever=inner, reranker=Qwen3Rerank(engine=engine), fetch_k=7).invoke(QUERY)
    assert read(engine) == 7
    uncut = RerankingRetriever(retriever=tenants[0], reranker=DocumentCompressorPipeline(transformers=[rerank]))
    with pytest.raises(ConfigError, match="fetch_k 7 can't be passed on to RerankingRetriever"):
        RerankingRetriever(retriever=uncut, reranker=rerank, fetch_k=7)


class Reversed(BaseDocumentCompressor):
    """Another compressor, with the number as a field."""

    top_n: int = 3

    def compress_documents(self, documents, query, callbacks=None):
        return list(documents)[::-1][: self.top_n]


class Told(BaseDocumentCompressor):
    """Another compressor, with the number as an argument of the call."""

    def compress_documents(self, documents, query, callbacks=None, *, top_n=3):
        return list(documents)[:top_n]

    async def acompress_documents(self, documents, query, callbacks=None, *, top_n=3):
        return list(documents)[:top_n]


@pytest.mark.parametrize("other", [Reversed(), Told()], ids=repr)
@pytest.mark.parametrize("way", [invoked, ainvoked])
def test_another_compressor_gets_the_cut_that_it_accepts(tenants, other, way):
    retriever = RerankingRetriever(retriever=tenants[0], reranker=other)
    assert (len(way(retriever, top_n=2)), len(way(retriever))) == (2, 3)
    with pytest.raises(ConfigError, match="score_threshold is not an option"):
        way(retriever, score_threshold=0.5)


@pytest.mark.parametrize("way", [invoked, ainvoked])
def test_a_compressor_without_a_cut_gets_none(tenants, rerank, way):
    store, only = tenants
    retriever = RerankingRetriever(retriever=store, reranker=DocumentCompressorPipeline(transformers=[rerank]))
    assert tenants_of(way(retriever, filter=only["b"])) == ["b"] * 5
    for cut in ({"top_n": 2}, {"score_threshold": 0.5}):
        with pytest.raises(ConfigError, match=f"{next(iter(cut))} is not an option"):
            way(retriever, **cut)


class Wrapping(InMemoryVectorStore):
    """Passes its arguments to a client, which no signature shows."""

    def similarity_search(self, query, k=4, **kwargs):
        return [document for document in DOCUMENTS if document.metadata["tenant"] == kwargs.get("tenant", "a")][:k]


class Filtering(InMemoryVectorStore):
    """Adds an argument to those of its base class."""

    def similarity_search(self, query, k=4, *, tenant="a", **kwargs):
        kept = [document for document in super().similarity_search(query, 100, **kwargs) if document.metadata["tenant"] == tenant]
        return kept[:k]


def test_a_store_whose_arguments_no_method_names(rerank):
    store = Wrapping(Qwen3Embeddings(backend="fake"))
    with pytest.raises(ConfigError, match=r"tenant is not an option.*search_kwargs"):
        RerankingRetriever(retriever=store, reranker=rerank).invoke(QUERY, tenant="b")
    for retriever in (
        RerankingRetriever(retriever=store, reranker=rerank, search_kwargs={"tenant": "a"}),
        RerankingRetriever(retriever=store.as_retriever(search_kwargs={"tenant": "a", "k": 50}), reranker=rerank),
    ):
        assert tenants_of(retriever.invoke(QUERY, tenant="b")) == ["b"] * 5
        assert tenants_of(retriever.invoke(QUERY)) == ["a"] * 5


def test_a_store_that_passes_arguments_to_its_base_class(rerank):
    store = Filtering(Qwen3Embeddings(backend="fake"))
    store.add_documents(DOCUMENTS)
    retriever = RerankingRetriever(retriever=store, reranker=rerank)
    found = retriever.invoke(QUERY, tenant="b", filter=lambda document: document.metadata["n"] > 10)
    assert {document.metadata["n"] for document in found} == {11, 13, 15, 17, 19}


class Forgetful(Filtering):
    """Accepts any argument, and calls a search that names some, without passing them on."""

    def similarity_search(self, query, k=4, **kwargs):
        return self.search_tenant(query, k)

    async def asimilarity_search(self, query, k=4, **kwargs):
        return self.search_tenant(query, k)

    def search_tenant(self, query, k, tenant="a", **kwargs):
        return super().similarity_search(query, k, tenant=tenant, **kwargs)


@pytest.mark.parametrize("way", [invoked, ainvoked])
def test_a_store_that_does_not_pass_its_arguments_on(rerank, way):
    store = Forgetful(Qwen3Embeddings(backend="fake"))
    store.add_documents(DOCUMENTS)
    for inner in (store, store.as_retriever()):
        with pytest.raises(ConfigError, match="tenant is not an option"):
            way(RerankingRetriever(retriever=inner, reranker=rerank), tenant="b")


class Collecting(Filtering):
    """Passes its arguments on in an inner function."""

    def similarity_search(self, query, k=4, **kwargs):
        def search():
            return self.search_tenant(query, k, **kwargs)

        return search()

    def search_tenant(self, query, k, tenant="a", **kwargs):
        return super().similarity_search(query, k, tenant=tenant, **kwargs)


def test_a_store_that_passes_its_arguments_on_in_an_inner_function(rerank):
    store = Collecting(Qwen3Embeddings(backend="fake"))
    store.add_documents(DOCUMENTS)
    assert tenants_of(RerankingRetriever(retriever=store, reranker=rerank).invoke(QUERY, tenant="b")) == ["b"] * 5


def test_an_argument_of_another_search_is_refused(rerank):
    retriever = RerankingRetriever(retriever=in_memory()[0], reranker=rerank)
    with pytest.raises(ConfigError, match="lambda_mult is not an option"):
        retriever.invoke(QUERY, lambda_mult=0.5)
    by_mmr = RerankingRetriever(retriever=in_memory()[0].as_retriever(search_type="mmr"), reranker=rerank)
    assert len(by_mmr.invoke(QUERY, lambda_mult=0.5)) == 4


def test_arguments_that_langchain_reads_are_accepted(rerank, tenants):
    import uuid

    retriever = RerankingRetriever(retriever=tenants[0], reranker=rerank)
    assert len(retriever.invoke(QUERY, verbose=True, run_id=uuid.uuid4())) == 5


@pytest.mark.parametrize("name", ["nonsense", "run_type", "serialized", "filter", "k"])
@pytest.mark.parametrize("way", [invoked, ainvoked, batched, abatched, bound, streamed, astreamed])
def test_the_reranker_as_a_runnable_refuses_unknown_arguments(rerank, way, name, monkeypatch):
    monkeypatch.setattr("tests.unit.test_call_arguments.QUERY", {"query": "files", "documents": DOCUMENTS})
    assert len(way(rerank, top_n=2)) == 2
    with pytest.raises(ConfigError, match=f"{name} is not an option of Qwen3Rerank as a runnable"):
        way(rerank, **{name: "chain"})


async def test_compress_documents_accepts_a_cut(rerank):
    assert len(rerank.compress_documents(DOCUMENTS, "files", top_n=2)) == 2
    assert len(await rerank.acompress_documents(DOCUMENTS, "files", top_n=2)) == 2
    assert len(rerank.compress_documents(DOCUMENTS, "files", top_n=None)) == 20
    assert rerank.compress_documents(DOCUMENTS, "files", score_threshold=1) == []
    assert await rerank.acompress_documents(DOCUMENTS, "files", score_threshold=1) == []
    assert len(rerank.compress_documents(DOCUMENTS, "files")) == 5
    with pytest.raises(ConfigError, match="top_n"):
        rerank.compress_documents(DOCUMENTS, "files", top_n=0)


@pytest.mark.parametrize(
    "call",
    [
        lambda rerank, embed, **more: rerank.compress_documents(DOCUMENTS, "files", **more),
        lambda rerank, embed, **more: rerank.rerank(DOCUMENTS, "files", **more),
        lambda rerank, embed, **more: embed.embed_documents(["text"], **more),
        lambda rerank, embed, **more: embed.embed_query("text", **more),
    ],
)
def test_other_methods_refuse_arguments_that_they_do_not_name(rerank, call):
    with pytest.raises(TypeError, match="nonsense"):
        call(rerank, Qwen3Embeddings(backend="fake"), nonsense=1)
