"""LangChain components: `Qwen3Embeddings`, `Qwen3Rerank` and `RerankingRetriever`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from qwen3_integrations.adapters.components import STRICT, EmbedderSettings, FetchK, RerankerSettings, StrictModel
from qwen3_integrations.core.extras import require
from qwen3_integrations.core.results import Ranking
from qwen3_integrations.core.validation import check_options, suggest
from qwen3_integrations.errors import ConfigError, InputError

if not TYPE_CHECKING:
    require("langchain_core", "langchain")

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun, Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever, RetrieverLike
from langchain_core.runnables import RunnableConfig, RunnableSerializable
from langchain_core.vectorstores import VectorStore
from pydantic import Field

__all__ = ["DocumentText", "Qwen3Embeddings", "Qwen3Rerank", "RerankingRetriever"]

log = logging.getLogger("qwen3_integrations")

DocumentText = Callable[[Document], str] | str | Sequence[str] | None
"""What the model reads of a document: a function, a metadata key or several, or None for its content alone."""

FETCH_K = 50
"""Documents fetched from a vector store unless told: what one reranking reads in well under a second on a GPU."""


class Qwen3Embeddings(EmbedderSettings, Embeddings):
    """Qwen3-Embedding as LangChain embeddings, from an engine in this process or from a server.

    Queries go behind the instruction, documents as they stand. A cache keyed on text alone, such as
    `CacheBackedEmbeddings(query_embedding_cache=True)`, can't tell the two apart: give it a store of its own for
    queries (`query_embedding_cache=InMemoryByteStore()`), and a namespace that names model and dimensions.

    Args:
        model: A folder, a hub's name, or `qwen3-tiny-demo`.
        base_url: A server's address; else `QWEN3_EMBEDDING_URL` from the environment.
        api_key: The server's key; else `QWEN3_API_KEY`. Never shown, dumped or pickled.
        instruction: What queries are embedded with; one English sentence. Empty: bare queries. May be assigned.
        dimensions: Width of the vectors (Matryoshka), from 32 to the model's; None for the model's own.
        max_tokens: Budget of a text, end token included. Longer documents are cut; a longer query is an error.
        backend: `auto`, `vllm`, `torch`, `http` or `fake`; see `open_engine`.
        engine: An opened engine, which is used and left open by `close()`. Stands alone: without `base_url`,
            `api_key`, `backend`, `engine_options`.
        engine_options: The engine's own vocabulary. Options named like a key, token, header or client are left
            out of `model_dump`.

    Raises:
        ConfigError: For an unknown or unfit setting.
        MissingExtra: If the backend is not installed; names the pip line.
        ModelNotFound: If the model can't be found or downloaded.
    """

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts as they stand.

        Returns:
            One list of floats a text, of unit length, in the order of `texts`.

        Raises:
            TypeError: For an item that is no string; names its index.
            InvalidText: For lone surrogates; names the index.
            EngineError: If the engine or its server fails; the tree is in `qwen3_integrations.errors`.
        """
        return self._documents(texts)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """As `embed_documents`, without blocking the event loop."""
        return await self._adocuments(texts)

    def embed_query(self, text: str) -> list[float]:
        """Embed a query behind the instruction.

        Returns:
            A list of floats of unit length.

        Raises:
            PromptTooLong: If instruction and query exceed `max_tokens`: a query is never cut.
            TypeError, InvalidText, EngineError: As in `embed_documents`.
        """
        return self._query(text)

    async def aembed_query(self, text: str) -> list[float]:
        """As `embed_query`, without blocking the event loop."""
        return await self._aquery(text)


class Qwen3Rerank(RerankerSettings, BaseDocumentCompressor, RunnableSerializable[dict[str, Any], list[Document]]):
    """Qwen3-Reranker as a LangChain document compressor, and as a runnable for LCEL.

    As a runnable it takes `{"query": ..., "documents": [...]}`, so that this is a retrieval chain:

        {"query": RunnablePassthrough(), "documents": retriever} | Qwen3Rerank(top_n=5)

    The documents it returns are new ones, best first, with two more entries in their metadata: `relevance_score`,
    the model's probability of "yes" in [0, 1], and `original_rank`, the position from 0 in what was passed.

    Args:
        model: A folder, a hub's name, or `qwen3-tiny-demo`.
        base_url: A server's address; else `QWEN3_RERANKER_URL` from the environment.
        api_key: The server's key; else `QWEN3_API_KEY`. Never shown, dumped or pickled.
        instruction: What relevance means; one English sentence. May be assigned.
        top_n: Keep at most so many, at least 1; None for all. May be assigned.
        score_threshold: Keep those with at least this score, in [0, 1]; None for any. May be assigned.
        document_text: What the model reads of a document. A function from document to text; or a metadata key,
            or several, whose values go before the content on lines of their own (a document without one goes
            without that line); None for the content alone. May be assigned.
        max_tokens: Budget of a prompt, template included. Only the document is cut to fit.
        backend, engine, engine_options: As in `Qwen3Embeddings`.

    Raises:
        ConfigError, MissingExtra, ModelNotFound: As in `Qwen3Embeddings`.
    """

    model_config = STRICT

    document_text: DocumentText = None

    def compress_documents(self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None) -> list[Document]:
        """Rerank documents.

        Args:
            documents: In the retriever's order; they are not touched.
            query: What was searched for.
            callbacks: See the reranking as a run of its own.

        Returns:
            New documents, best first, at most `top_n`, none below `score_threshold`; equal scores keep their order.

        Raises:
            PromptTooLong: If template, instruction and query alone exceed `max_tokens`.
            TypeError: For a query, or a `document_text`, that is no string.
            InvalidText, EngineError: As in `Reranker.rank`.
        """
        return self.invoke({"query": query, "documents": documents}, {"callbacks": callbacks})

    async def acompress_documents(self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None) -> list[Document]:
        """As `compress_documents`, without blocking the event loop."""
        return await self.ainvoke({"query": query, "documents": documents}, {"callbacks": callbacks})

    def invoke(self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:  # noqa: A002
        """Rerank `{"query": ..., "documents": [...]}`; result and errors as in `compress_documents`.

        Args:
            input: The query and the documents.
            config: LangChain's own: callbacks, tags, names.
            kwargs: `top_n` and `score_threshold` of this call, or of a runnable made by `bind(top_n=5)`.

        Raises:
            ConfigError: For one of another name, or outside its range.
        """
        return self._call_with_config(self._ranked, input, config, **kwargs)

    async def ainvoke(self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:  # noqa: A002
        """As `invoke`, without blocking the event loop."""
        return await self._acall_with_config(self._aranked, input, config, **kwargs)

    def rerank(
        self, documents: Sequence[str | Document | Mapping[str, Any]], query: str, *, top_n: int | EllipsisType | None = ...
    ) -> list[dict[str, Any]]:
        """Rerank anything that holds text, and say only where it was and what it scores.

        Args:
            documents: Strings, documents, or mappings with the text under `page_content` or `text` (their other
                entries, or those of their `metadata`, count as metadata).
            query: What is searched for.
            top_n: Instead of the component's own, which `...` means; None for all.

        Returns:
            `{"index": position in documents, "relevance_score": in [0, 1]}`, best first.

        Raises:
            TypeError: For a document of another kind; names its index.
            ConfigError: For `top_n` outside its range.
            PromptTooLong, InvalidText, EngineError: As in `compress_documents`.
        """
        texts = self._texts(_as_documents(documents))
        return _positions(self._ranking(query, texts, self.top_n if isinstance(top_n, EllipsisType) else top_n))

    async def arerank(
        self, documents: Sequence[str | Document | Mapping[str, Any]], query: str, *, top_n: int | EllipsisType | None = ...
    ) -> list[dict[str, Any]]:
        """As `rerank`, without blocking the event loop."""
        texts = await asyncio.to_thread(self._texts, _as_documents(documents))
        return _positions(await self._aranking(query, texts, self.top_n if isinstance(top_n, EllipsisType) else top_n))

    def _ranked(self, asked: dict[str, Any], **told: Any) -> list[Document]:
        cut = self._cut(told)
        query, documents = _query_and_documents(asked)
        return _reordered(documents, self._reranker.rank(query, self._texts(documents), instruction=self.instruction, **cut))

    async def _aranked(self, asked: dict[str, Any], **told: Any) -> list[Document]:
        cut = self._cut(told)
        query, documents = _query_and_documents(asked)
        texts = await asyncio.to_thread(self._texts, documents)  # document_text may be a slow function of the user's
        return _reordered(documents, await self._reranker.arank(query, texts, instruction=self.instruction, **cut))

    def _cut(self, told: Mapping[str, Any]) -> dict[str, Any]:
        own: dict[str, Any] = {"top_n": self.top_n, "score_threshold": self.score_threshold}
        check_options(told, own, "Qwen3Rerank as a runnable")
        return {**own, **told}

    def _texts(self, documents: Sequence[Document]) -> list[str]:
        how = self.document_text
        if how is None:
            return [document.page_content for document in documents]
        if callable(how):
            return [how(document) for document in documents]
        keys = [how] if isinstance(how, str) else list(how)
        seen = {key for document in documents for key in document.metadata}
        for key in keys:
            if documents and key not in seen:
                log.warning("document_text names %r, which no document has in its metadata%s", key, suggest(key, map(str, seen)))
        return ["\n".join([*(str(d.metadata[key]) for key in keys if key in d.metadata), d.page_content]) for d in documents]


class RerankingRetriever(StrictModel, BaseRetriever):
    """Fetch many documents, keep the best: any retriever or vector store, then a reranker.

    Args:
        retriever: A retriever, a vector store, or any runnable from a query to documents.
        reranker: A `Qwen3Rerank`, whose `top_n` and `score_threshold` say what is kept; any other document
            compressor works too. It is not closed with this retriever.
        fetch_k: Documents to fetch, at least 1. None: 50 from a vector store; a retriever's own number. A
            retriever takes it if it has `search_kwargs` or a field `k`; one that searches by MMR needs its own
            `fetch_k`, among its `search_kwargs`, to be larger still. May be assigned.
        search_kwargs: More arguments for a vector store's search, such as `filter`. May be assigned.

    Raises:
        ConfigError: For an unknown or unfit setting, or a retriever that can't be told how many to fetch.
    """

    model_config = STRICT

    retriever: VectorStore | RetrieverLike = Field(frozen=True)
    reranker: BaseDocumentCompressor = Field(frozen=True)
    fetch_k: FetchK = Field(default=None, ge=1)
    search_kwargs: dict[str, Any] = Field(default_factory=dict)

    if not TYPE_CHECKING:

        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self._fetcher()

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        fetched = self._fetcher().invoke(query, {"callbacks": run_manager.get_child()})
        return list(self.reranker.compress_documents(fetched, query, callbacks=run_manager.get_child()))

    async def _aget_relevant_documents(self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun) -> list[Document]:
        fetched = await self._fetcher().ainvoke(query, {"callbacks": run_manager.get_child()})
        return list(await self.reranker.acompress_documents(fetched, query, callbacks=run_manager.get_child()))

    def _fetcher(self) -> RetrieverLike:
        """The retriever to ask, told how many documents to fetch; the caller's own stays as it is."""
        retriever = self.retriever
        if isinstance(retriever, VectorStore):
            if "k" in self.search_kwargs:
                raise ConfigError("must not contain 'k'", option="search_kwargs", advice="Set the number of documents to fetch with fetch_k")
            return retriever.as_retriever(search_kwargs={**self.search_kwargs, "k": self.fetch_k or FETCH_K})
        if self.search_kwargs:
            advice = "Set those of this retriever on the retriever itself"
            raise ConfigError("are for a vector store only", option="search_kwargs", advice=advice)
        if self.fetch_k is None:
            return retriever
        fields = type(retriever).model_fields if isinstance(retriever, BaseRetriever) else {}
        if isinstance(retriever, BaseRetriever) and "search_kwargs" in fields:
            told = {**getattr(retriever, "search_kwargs", {}), "k": self.fetch_k}
            return retriever.model_copy(update={"search_kwargs": told})
        if isinstance(retriever, BaseRetriever) and "k" in fields:
            return retriever.model_copy(update={"k": self.fetch_k})
        raise ConfigError(
            f"{self.fetch_k} can't be passed on to {type(retriever).__name__}, which has neither search_kwargs nor k",
            option="fetch_k",
            advice="Leave fetch_k out, and set the number on the retriever itself",
        )


def _query_and_documents(asked: dict[str, Any]) -> tuple[str, Sequence[Document]]:
    if not isinstance(asked, Mapping) or not {"query", "documents"} <= asked.keys():
        held = f"one with {', '.join(map(repr, asked))}" if isinstance(asked, Mapping) else type(asked).__name__
        raise InputError(f"the input of Qwen3Rerank must be a dictionary with 'query' and 'documents', not {held}")
    documents = list(asked["documents"])
    for index, document in enumerate(documents):
        if not isinstance(document, Document):
            raise TypeError(f"documents[{index}] must be a Document, not {type(document).__name__}; rerank() takes strings too")
    return asked["query"], documents


def _as_documents(items: Sequence[str | Document | Mapping[str, Any]]) -> list[Document]:
    if isinstance(items, str | bytes | Document | Mapping):
        raise TypeError(f"documents must be a list, not one {type(items).__name__}: pass [document]")
    return [_as_document(item, index) for index, item in enumerate(items)]


def _as_document(item: object, index: int) -> Document:
    if isinstance(item, Document):
        return item
    if isinstance(item, str):
        return Document(page_content=item)
    if isinstance(item, Mapping):
        text = item.get("page_content", item.get("text"))
        if isinstance(text, str):
            return Document(page_content=text, metadata=dict(item.get("metadata") or item))
        raise TypeError(
            f"documents[{index}] is a mapping without a string under 'page_content' or 'text'; its keys are: {', '.join(map(str, item))}"
        )
    raise TypeError(f"documents[{index}] must be a string, a Document or a mapping, not {type(item).__name__}")


def _reordered(documents: Sequence[Document], ranking: Ranking) -> list[Document]:
    """New documents in the ranking's order; the metadata is a copy, so that later changes stay theirs."""
    return [
        documents[hit.index].model_copy(
            update={"metadata": {**_copied(documents[hit.index].metadata), "relevance_score": hit.score, "original_rank": hit.index}}
        )
        for hit in ranking
    ]


def _copied(value: Any, around: frozenset[int] = frozenset()) -> Any:
    """A deep copy in which what can't be copied (a lock, a connection) is the caller's own; `around` holds ids of collections it is in."""
    try:
        return deepcopy(value)
    except Exception:  # noqa: BLE001  a class may refuse to be copied with any error
        if id(value) in around or type(value) not in (dict, list, tuple):
            return value
        around |= {id(value)}
        if type(value) is dict:
            return {key: _copied(item, around) for key, item in value.items()}
        return type(value)(_copied(item, around) for item in value)


def _positions(ranking: Ranking) -> list[dict[str, Any]]:
    return [{"index": hit.index, "relevance_score": hit.score} for hit in ranking]
