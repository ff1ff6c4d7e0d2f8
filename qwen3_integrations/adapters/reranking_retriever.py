"""`RerankingRetriever`: a LangChain retriever that fetches many documents and returns the best."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun, Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever, RetrieverLike
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config
from langchain_core.vectorstores import VectorStore, VectorStoreRetriever
from pydantic import Field

from qwen3_integrations.adapters.call_arguments import Names, bound_in_vain, cut_arguments, read_by, with_cut
from qwen3_integrations.adapters.fields import FetchK
from qwen3_integrations.adapters.reranker_settings import RerankerSettings
from qwen3_integrations.adapters.strict_model import STRICT, StrictModel
from qwen3_integrations.core.validation import check_options, checked_cut, kind_of, optional_whole_number
from qwen3_integrations.errors import ConfigError

log = logging.getLogger("qwen3_integrations")

FETCH_K = 50
"""Default number of documents from a vector store; a GPU reranks them in well under a second."""

_DEFAULT_K = 4
"""Number of documents that a vector store returns without `k`. Source: LangChain's `VectorStore.similarity_search`."""

_OWN = frozenset({"top_n", "score_threshold", "fetch_k", "k"})
"""Arguments of a call that belong to the `RerankingRetriever`, even if the inner retriever has arguments of the same names."""

_FILTERS = ("filter", "where", "expr")
"""Parts of the names that vector stores give to a filter of a search: `filter`, `pre_filter`, `where_document`, `expr`."""

_CONFIGURABLE = "_configurable"
"""The argument that passes `config["configurable"]` to `_get_relevant_documents`, because LangChain passes no config."""


class RerankingRetriever(StrictModel, BaseRetriever):
    """Fetch many documents from any retriever or vector store, and return the best, as a reranker scores them.

    `invoke(query, **arguments)` accepts `top_n` and `score_threshold` for the reranker, `fetch_k`, and every argument that the retriever
    reads or the vector store's search names, such as `filter=...`. An argument of a call overrides a setting of the same name. An argument
    that would be dropped is refused. The same holds for `ainvoke`, `batch`, `stream`, `bind` and chains. `config["configurable"]` is passed
    to a retriever with `configurable_fields`.

    Args:
        retriever: A retriever, a vector store, or any runnable from a query to documents.
        reranker: A `Qwen3Rerank`, whose `top_n` and `score_threshold` decide which documents are returned; any other document
            compressor; or a runnable from `{"query": ..., "documents": [...]}` to documents, such as
            `Qwen3Rerank(base_url=...).with_fallbacks([Qwen3Rerank()])`. It is not closed with this retriever.
        fetch_k: Number of documents to fetch, at least 1. None for 50 from a vector store, or for the retriever's number. It works
            with retrievers that have `search_kwargs` or `k`; a retriever with MMR search needs a larger `fetch_k` in its own
            `search_kwargs`. For another `RerankingRetriever` it is the `top_n`. May be assigned.
        search_kwargs: Arguments for a vector store's search, such as `filter`. A call may override each of them, even if the store's
            methods do not name it. May be assigned. FAISS applies a filter after its search, to its own `fetch_k` candidates (20 by
            default), and so finds too few: `search_kwargs={"fetch_k": 1000}` raises that number. A warning says when fewer documents
            than wanted came back under a filter.

    Raises:
        ConfigError: For an unknown setting or a value that is not allowed, or `fetch_k` with a retriever that has no such number; from a
            call, for an argument that is unknown, would be dropped, or is outside its range.

    Example:
        >>> from langchain_core.vectorstores import InMemoryVectorStore
        >>> from qwen3_integrations.langchain import Qwen3Embeddings, Qwen3Rerank, RerankingRetriever
        >>> store = InMemoryVectorStore(Qwen3Embeddings(model="qwen3-tiny-demo", backend="torch"))
        >>> ids = store.add_texts(["The csv module reads csv files.", "Gravity attracts bodies."], [{"tenant": "a"}, {"tenant": "b"}])
        >>> reranker = Qwen3Rerank(model="qwen3-tiny-demo", backend="torch", top_n=5)
        >>> retriever = RerankingRetriever(retriever=store, fetch_k=50, reranker=reranker)
        >>> found = retriever.invoke("how do I read a csv file", filter=lambda document: document.metadata["tenant"] == "b")
        >>> [document.page_content for document in found]
        ['Gravity attracts bodies.']
    """

    model_config = STRICT

    retriever: VectorStore | RetrieverLike = Field(frozen=True)
    reranker: BaseDocumentCompressor | Runnable[Any, Any] = Field(frozen=True)
    fetch_k: FetchK = Field(default=None, ge=1)
    search_kwargs: dict[str, Any] = Field(default_factory=dict)

    if not TYPE_CHECKING:

        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self._fetcher(self.fetch_k)

    def invoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:  # noqa: A002
        """Fetch documents for a query and return the best.

        Args:
            input: The query.
            config: LangChain's config: callbacks, tags, names, and `configurable` for the inner retriever.
            kwargs: Arguments of this call; see the class.

        Returns:
            The reranker's result. A `Qwen3Rerank` returns new documents, best first, with `relevance_score` and `original_rank`.

        Raises:
            ConfigError: For an argument that is unknown, would be dropped, or is outside its range.
        """
        config = ensure_config(config)
        return super().invoke(input, config, **kwargs, **{_CONFIGURABLE: config.get("configurable")})

    async def ainvoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:  # noqa: A002
        """As `invoke`, without blocking the event loop."""
        config = ensure_config(config)
        return await super().ainvoke(input, config, **kwargs, **{_CONFIGURABLE: config.get("configurable")})

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **arguments: Any) -> list[Document]:
        config = _inner_config(run_manager.get_child(), arguments)
        cut = self._split(arguments, asynchronous=False)
        fetcher, more = self._fetcher(arguments.pop("fetch_k", self.fetch_k), arguments)
        fetched = fetcher.invoke(query, config, **more)
        _warn_of_few(fetched, fetcher, more)
        callbacks = run_manager.get_child()
        if not isinstance(self.reranker, BaseDocumentCompressor):
            return _documents(self.reranker.invoke({"query": query, "documents": fetched}, {"callbacks": callbacks}, **cut))
        reranker, cut = with_cut(self.reranker, cut, asynchronous=False)
        return list(reranker.compress_documents(fetched, query, callbacks=callbacks, **cut))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **arguments: Any
    ) -> list[Document]:
        config = _inner_config(run_manager.get_child(), arguments)
        cut = self._split(arguments, asynchronous=True)
        fetcher, more = self._fetcher(arguments.pop("fetch_k", self.fetch_k), arguments)
        fetched = await fetcher.ainvoke(query, config, **more)
        _warn_of_few(fetched, fetcher, more)
        callbacks = run_manager.get_child()
        if not isinstance(self.reranker, BaseDocumentCompressor):
            return _documents(await self.reranker.ainvoke({"query": query, "documents": fetched}, {"callbacks": callbacks}, **cut))
        reranker, cut = with_cut(self.reranker, cut, asynchronous=True)
        return list(await reranker.acompress_documents(fetched, query, callbacks=callbacks, **cut))

    def _call_arguments(self, *, asynchronous: bool) -> Names:
        """Every name that an argument of a call may have."""
        read = read_by(self.retriever, asynchronous=asynchronous)
        return None if read is None else self._own(asynchronous) | (read | self.search_kwargs.keys()) - _OWN

    def _own(self, asynchronous: bool) -> frozenset[str]:
        return cut_arguments(self.reranker, asynchronous=asynchronous) | {"fetch_k"}

    def _split(self, arguments: dict[str, Any], *, asynchronous: bool) -> dict[str, Any]:
        """Check that each argument of a call is read, and remove those of the reranker from `arguments` to return them."""
        for name, kind in bound_in_vain(self.retriever, asynchronous=asynchronous):
            raise ConfigError(f"is bound to {kind}, which would drop it", option=name, advice=self._remedy())
        if not arguments:
            return {}
        if "k" in arguments:
            advice = "Set how many documents to fetch with fetch_k, and how many to keep with top_n"
            raise ConfigError("is ambiguous", option="k", advice=advice)
        known = self._call_arguments(asynchronous=asynchronous)
        if known is None:
            known = self._own(asynchronous) | (arguments.keys() - _OWN)
        try:
            check_options(arguments, known, f"a call of RerankingRetriever around {type(self.retriever).__name__}")
        except ConfigError as error:
            raise error.replace(advice=f"{error.advice}. {self._remedy()}") from None
        cut: dict[str, Any] = {name: arguments.pop(name) for name in ("top_n", "score_threshold") if name in arguments}
        if isinstance(self.reranker, RerankerSettings):
            checked_cut(cut.get("top_n"), cut.get("score_threshold"))
        if "fetch_k" in arguments:
            arguments["fetch_k"] = optional_whole_number(arguments["fetch_k"], "fetch_k")
        return cut

    def _remedy(self) -> str:
        if isinstance(self.retriever, VectorStore | VectorStoreRetriever):
            return "If the store's search reads an argument that its methods do not name, put the argument into search_kwargs"
        return "Arguments that the retriever does not read would be dropped"

    def _fetcher(self, fetch_k: int | None, arguments: Mapping[str, Any] | None = None) -> tuple[RetrieverLike, dict[str, Any]]:
        """A retriever with the number of documents to fetch, and the arguments of its call. The caller's retriever is not changed."""
        retriever, more = self.retriever, dict(arguments or {})
        if isinstance(retriever, VectorStore):
            if "k" in self.search_kwargs:
                raise ConfigError(
                    "must not contain 'k'", option="search_kwargs", advice="Set the number of documents to fetch with fetch_k"
                )
            return retriever.as_retriever(search_kwargs={**self.search_kwargs, **more, "k": fetch_k or FETCH_K}), {}
        if self.search_kwargs:
            advice = "Set them on the retriever itself"
            raise ConfigError("are for a vector store only", option="search_kwargs", advice=advice)
        if fetch_k is None:
            return retriever, more
        if isinstance(retriever, RerankingRetriever):
            if "top_n" in cut_arguments(retriever.reranker, asynchronous=False):
                return retriever, {**more, "top_n": fetch_k}
        elif isinstance(retriever, BaseRetriever):
            fields = type(retriever).model_fields
            if "search_kwargs" in fields:
                return retriever.model_copy(update={"search_kwargs": {**getattr(retriever, "search_kwargs", {}), "k": fetch_k}}), more
            if "k" in fields:
                return retriever.model_copy(update={"k": fetch_k}), more
            if "k" in (read_by(retriever, asynchronous=False) or ()):
                return retriever, {**more, "k": fetch_k}
        raise ConfigError(
            f"{fetch_k} can't be passed on to {type(retriever).__name__}, which has neither search_kwargs nor k",
            option="fetch_k",
            advice="Omit fetch_k, and set the number on the retriever itself",
        )


def _inner_config(callbacks: Callbacks, arguments: dict[str, Any]) -> RunnableConfig:
    """The config for the inner retriever. Removes LangChain's arguments from `arguments`."""
    arguments.pop("verbose", None)
    return {"callbacks": callbacks, "configurable": arguments.pop(_CONFIGURABLE, None) or {}}


def _documents(result: object) -> list[Document]:
    """The result of a runnable as a list of documents."""
    if isinstance(result, Sequence) and all(isinstance(one, Document) for one in result):
        return list(result)
    found = f"a list with {kind_of(result[0])}" if isinstance(result, list) and result else kind_of(result)
    raise TypeError(f"the reranker of a RerankingRetriever must return a list of LangChain's Documents, not {found}")


def _warn_of_few(fetched: Sequence[Document], fetcher: object, arguments: Mapping[str, Any]) -> None:
    """Log a warning if a search under a filter returned fewer documents than wanted."""
    if not isinstance(fetcher, VectorStoreRetriever):
        return
    given = {**fetcher.search_kwargs, **arguments}
    wanted = given.get("k", _DEFAULT_K)
    filters = [name for name, value in given.items() if value is not None and any(part in name for part in _FILTERS)]
    if not filters or len(fetched) >= wanted:
        return
    advice = ""
    if fetcher.search_type == "similarity" and "fetch_k" in (read_by(fetcher, asynchronous=False) or ()):
        own = given.get("fetch_k", "its default")
        advice = f". This store filters after its search (fetch_k={own}): a larger search_kwargs={{'fetch_k': ...}} finds the others"
    log.warning("%d of %d documents came back under %s%s", len(fetched), wanted, " and ".join(sorted(filters)), advice)
