"""LangChain components: `Qwen3Embeddings`, `Qwen3Rerank` and `RerankingRetriever`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from qwen3_integrations.adapters.embedder_settings import EmbedderSettings
from qwen3_integrations.adapters.reranker_settings import RERANK_ERROR, RerankerSettings, Unranked
from qwen3_integrations.adapters.strict_model import STRICT
from qwen3_integrations.core.extras import require
from qwen3_integrations.core.results import Ranking
from qwen3_integrations.core.validation import check_options, checked_list, kind_of, plain_text, suggest
from qwen3_integrations.errors import InputError

if not TYPE_CHECKING:
    require("langchain_core", "langchain")

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, BaseRunManager, CallbackManagerForChainRun, Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables import RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import merge_configs
from pydantic import BaseModel, Field

from qwen3_integrations.adapters.reranking_retriever import RerankingRetriever

__all__ = ["DocumentText", "Qwen3Embeddings", "Qwen3Rerank", "RerankingRetriever"]

log = logging.getLogger("qwen3_integrations")

TopN = int | EllipsisType | None
"""`top_n` of one call: `...` for the component's setting, None for all."""

Threshold = float | EllipsisType | None
"""`score_threshold` of one call: `...` for the component's setting, None for no minimum."""

DocumentText = Callable[[Document], str] | str | Sequence[str] | None
"""Text of a document for the model: a function, one or more metadata keys, or None for its content only."""


_RETRIEVAL_SCORES = ("relevance_score", "score")
"""Where retrievers put a score: LangChain's compressors the first, retrievers of vector stores the second."""


class _RerankInput(BaseModel):
    """Input of `Qwen3Rerank` as a runnable."""

    query: str
    documents: list[Document]


class Qwen3Embeddings(EmbedderSettings, Embeddings):
    """Qwen3-Embedding as LangChain embeddings, from an engine in this process or from a server.

    The instruction is put before queries; documents are embedded without instruction.

    A cache with the text as its key, such as `CacheBackedEmbeddings`, needs `namespace=embeddings.cache_namespace`: another model, width or
    budget has another one. It would confuse a query with an equal document, and two instructions: give it a separate store for queries
    (`query_embedding_cache=InMemoryByteStore()`), one for each instruction.

    Args:
        model: A folder, a name on the hub, or `qwen3-tiny-demo`.
        base_url: A server's address; the default is `QWEN3_EMBEDDING_URL` from the environment.
        api_key: The server's key; the default is `QWEN3_API_KEY`. It is never shown, dumped or pickled.
        instruction: The task of the search, as one English sentence; empty for queries without instruction. May be assigned. The default
            is the prompt that the model's folder declares, else the model card's instruction; None where that prompt has another form
            (`query_prompt`).
        dimensions: Width of the vectors (Matryoshka), from 32 to the model's width; None for the model's width.
        max_tokens: Maximum tokens of a text, with the end token. Longer documents are cut; a longer query is an error. The
            default is 8192, or what the model's folder declares where that is less.
        on_bad_text: `error` for texts with lone surrogates, or `replace` each by U+FFFD.
        preprocess: A function from a document to the text that the model reads; see `Embedder`. Queries are not changed.
        backend: `auto`, `vllm`, `torch`, `http` or `fake`; see `open_engine`.
        engine: An opened engine; `close()` does not close it. It can't be combined with `base_url`, `api_key`, `backend` and
            `engine_options`.
        engine_options: Options of the engine. Options that are named like a key, token, header or client are omitted from
            `model_dump`.

    Raises:
        ConfigError: For an unknown setting, or a value that is not allowed.
        MissingExtra: If the backend is not installed; names the pip command.
        ModelNotFound: If the model could not be found or downloaded.

    Example:
        >>> from qwen3_integrations.langchain import Qwen3Embeddings
        >>> embeddings = Qwen3Embeddings(model="qwen3-tiny-demo", backend="torch", dimensions=64)
        >>> len(embeddings.embed_query("how do I read a csv file"))
        64
    """

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts without instruction.

        Returns:
            One list of floats per text, of unit length, in the order of `texts`.

        Raises:
            TypeError: For an item that is not a string; names its index.
            InvalidText: For lone surrogates; names the index.
            EngineError: If the engine or its server fails; the tree is in `qwen3_integrations.errors`.
        """
        return self._documents(texts)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """As `embed_documents`, without blocking the event loop."""
        return await self._adocuments(texts)

    def embed_query(self, text: str) -> list[float]:
        """Embed a query with the instruction.

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

    As a runnable it takes `{"query": ..., "documents": [...]}`. This is a retrieval chain:

        {"query": RunnablePassthrough(), "documents": retriever} | Qwen3Rerank(top_n=5)

    The metadata of its run in a trace has the model, the backend, the instruction, `top_n`, `score_threshold`, and the numbers of
    documents, truncated, replaced and preprocessed documents, and tokens.

    It returns new documents, best first, with two more metadata entries: `relevance_score` (the model's probability of "yes", in [0, 1])
    and `original_rank` (the position in the input, from 0). With `on_error="keep_order"`, documents that could not be reranked are returned
    in their order, with the metadata entry `rerank_error` instead of `relevance_score`.

    Args:
        model: A folder, a name on the hub, or `qwen3-tiny-demo`.
        base_url: A server's address; the default is `QWEN3_RERANKER_URL` from the environment.
        api_key: The server's key; the default is `QWEN3_API_KEY`. It is never shown, dumped or pickled.
        instruction: The definition of relevance, as one English sentence. May be assigned.
        top_n: Maximum number of results, at least 1; None for all. May be assigned.
        score_threshold: Minimum score of a result, in [0, 1]; None for no minimum. May be assigned.
        document_text: Text of a document for the model. Either a function from document to text; or one or more metadata keys, whose
            values are put before the content, one per line (without the line if a document lacks the key); or None for the content only.
            May be assigned.
        keep_retrieval_score: Add the retriever's score as `retrieval_score` to the metadata of the results: the `relevance_score`, else
            the `score`, that a document's metadata had before; None if it had neither.
        on_error: What a call does when the engine or its server fails, or does not finish within `deadline_s`. `raise`: it raises the
            error. `keep_order`: it logs a warning and returns the first `top_n` documents in the retriever's order, each with the error as
            `rerank_error` in its metadata; `score_threshold` can't apply. A wrong query or document is always an error. May be assigned.
        deadline_s: Seconds that a call may last; None for no limit. May be assigned.
        max_tokens: Maximum tokens of a prompt, with the template. Only the document is cut. The default is 8192, or what the model's
            folder declares where that is less.
        on_bad_text: As in `Qwen3Embeddings`.
        preprocess: A function from a document's text, as `document_text` makes it, to the text that the model reads.
        backend, engine, engine_options: As in `Qwen3Embeddings`.

    Raises:
        ConfigError, MissingExtra, ModelNotFound: As in `Qwen3Embeddings`.

    Example:
        >>> from langchain_core.documents import Document
        >>> from qwen3_integrations.langchain import Qwen3Rerank
        >>> documents = [Document(page_content="Gravity attracts bodies."), Document(page_content="The csv module reads csv files.")]
        >>> reranker = Qwen3Rerank(model="qwen3-tiny-demo", backend="torch", top_n=1)
        >>> [document.page_content for document in reranker.compress_documents(documents, "how do I read a csv file")]
        ['The csv module reads csv files.']
    """

    model_config = STRICT

    document_text: DocumentText = None
    keep_retrieval_score: bool = Field(default=False, strict=True)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks = None, *, top_n: TopN = ..., score_threshold: Threshold = ...
    ) -> list[Document]:
        """Rerank documents.

        Args:
            documents: In the retriever's order; they are not changed.
            query: The search query.
            callbacks: They receive the reranking as a separate run.
            top_n: Maximum number of results for this call; `...` for the component's `top_n`, None for all.
            score_threshold: Minimum score for this call; `...` for the component's `score_threshold`, None for no minimum.

        Returns:
            New documents, best first, at most `top_n`, none below `score_threshold`. Documents with equal scores keep their order.

        Raises:
            ConfigError: For `top_n` or `score_threshold` outside their range.
            PromptTooLong: If template, instruction and query alone exceed `max_tokens`.
            TypeError: If the query, or a result of `document_text`, is not a string.
            InvalidText, EngineError: As in `Reranker.rank`.
        """
        cut = _passed(top_n=top_n, score_threshold=score_threshold)
        return self.invoke({"query": query, "documents": documents}, {"callbacks": callbacks}, **cut)

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks = None, *, top_n: TopN = ..., score_threshold: Threshold = ...
    ) -> list[Document]:
        """As `compress_documents`, without blocking the event loop."""
        cut = _passed(top_n=top_n, score_threshold=score_threshold)
        return await self.ainvoke({"query": query, "documents": documents}, {"callbacks": callbacks}, **cut)

    def invoke(self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:  # noqa: A002
        """Rerank `{"query": ..., "documents": [...]}`; result and errors as in `compress_documents`.

        Args:
            input: The query and the documents.
            config: LangChain's config: callbacks, tags, names.
            kwargs: `top_n` and `score_threshold` for this call, or from `bind(top_n=5)`.

        Raises:
            ConfigError: For another keyword, or a value outside its range.
        """
        # partial, because LangChain reads some names itself
        return self._call_with_config(partial(self._ranked, **kwargs), input, self._traced(config))

    async def ainvoke(self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:  # noqa: A002
        """As `invoke`, without blocking the event loop."""
        return await self._acall_with_config(partial(self._aranked, **kwargs), input, self._traced(config))

    def rerank(self, documents: Sequence[str | Document | Mapping[str, Any]], query: str, *, top_n: TopN = ...) -> list[dict[str, Any]]:
        """Rerank strings, documents or mappings; return only positions and scores.

        Failures are raised, also with `on_error="keep_order"`: the result has no place for a mark.

        Args:
            documents: Strings, documents, or mappings with the text under `page_content` or `text` (the entries of `metadata`, or else
                all entries, are the metadata).
            query: The search query.
            top_n: Maximum number of results for this call; `...` for the component's `top_n`, None for all.

        Returns:
            `{"index": position in documents, "relevance_score": in [0, 1]}`, best first.

        Raises:
            TypeError: For a document of another type; names its index.
            ConfigError: For `top_n` outside its range.
            PromptTooLong, InvalidText, EngineError: As in `compress_documents`.
        """
        texts = self._texts(_as_documents(documents))
        wanted = self.top_n if isinstance(top_n, EllipsisType) else top_n
        return _positions(self._ranking(query, texts, wanted, self.score_threshold))

    async def arerank(
        self, documents: Sequence[str | Document | Mapping[str, Any]], query: str, *, top_n: TopN = ...
    ) -> list[dict[str, Any]]:
        """As `rerank`, without blocking the event loop."""
        texts = await asyncio.to_thread(self._texts, _as_documents(documents))
        wanted = self.top_n if isinstance(top_n, EllipsisType) else top_n
        return _positions(await self._aranking(query, texts, wanted, self.score_threshold))

    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:  # noqa: ARG002
        """The schema of the input: `query` and `documents`."""
        return _RerankInput

    def _ranked(self, inputs: dict[str, Any], /, *, run_manager: CallbackManagerForChainRun, **arguments: Any) -> list[Document]:
        cut = self._cut(arguments)
        query, documents = _query_and_documents(inputs)
        order = self._order(query, self._texts(documents), **cut)
        self._trace(run_manager, order, cut)
        return self._reordered(documents, order)

    async def _aranked(
        self, inputs: dict[str, Any], /, *, run_manager: AsyncCallbackManagerForChainRun, **arguments: Any
    ) -> list[Document]:
        cut = self._cut(arguments)
        query, documents = _query_and_documents(inputs)
        texts = await asyncio.to_thread(self._texts, documents)  # document_text may be a slow function of the user
        order = await self._aorder(query, texts, **cut)
        self._trace(run_manager, order, cut)
        return self._reordered(documents, order)

    def _traced(self, config: RunnableConfig | None) -> RunnableConfig:
        """A config with metadata: tracers do not see what is added to a run that starts without any."""
        return merge_configs(config, {"metadata": {"model": self.model, "backend": self._opened.backend}})

    def _trace(self, run_manager: BaseRunManager, order: Ranking | Unranked, cut: Mapping[str, Any]) -> None:
        """Add the facts of a call to the metadata of its run, which tracers read when the run ends."""
        facts: dict[str, Any] = {"instruction": self.instruction, **cut}
        if isinstance(order, Unranked):
            facts[RERANK_ERROR] = order.error
        else:
            used = order.usage
            facts |= {"documents": used.prompts, "truncated_documents": used.truncated, "tokens": used.tokens}
            facts |= {"replaced_documents": used.replaced, "preprocessed_documents": used.preprocessed}
        run_manager.metadata.update(facts)

    def _reordered(self, documents: Sequence[Document], order: Ranking | Unranked) -> list[Document]:
        """New documents in the order of the ranking, with copied metadata."""
        if isinstance(order, Unranked):
            return [self._with_metadata(documents[at], at, {RERANK_ERROR: order.error}) for at in order.positions]
        return [self._with_metadata(documents[hit.index], hit.index, {"relevance_score": hit.score}) for hit in order]

    def _with_metadata(self, document: Document, position: int, added: Mapping[str, Any]) -> Document:
        metadata = _copied(document.metadata)
        earlier = next((metadata[name] for name in _RETRIEVAL_SCORES if name in metadata), None)
        kept = {"retrieval_score": earlier} if self.keep_retrieval_score else {}
        return document.model_copy(update={"metadata": {**metadata, **kept, **added, "original_rank": position}})

    def _cut(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        own: dict[str, Any] = {"top_n": self.top_n, "score_threshold": self.score_threshold}
        check_options(arguments, own, "Qwen3Rerank as a runnable")
        return {**own, **arguments}

    def _texts(self, documents: Sequence[Document]) -> list[str]:
        rule = self.document_text
        if rule is None:
            return [document.page_content for document in documents]
        if callable(rule):
            return [rule(document) for document in documents]
        keys = [rule] if isinstance(rule, str) else list(rule)
        seen = {key for document in documents for key in document.metadata}
        for key in keys:
            if documents and key not in seen:
                log.warning("document_text names %r, which no document has in its metadata%s", key, suggest(key, map(str, seen)))
        return ["\n".join([*(str(d.metadata[key]) for key in keys if key in d.metadata), d.page_content]) for d in documents]


def _passed(**arguments: Any) -> dict[str, Any]:
    """The arguments that are not `...`."""
    return {name: value for name, value in arguments.items() if value is not ...}


def _query_and_documents(inputs: dict[str, Any]) -> tuple[str, Sequence[Document]]:
    if not isinstance(inputs, Mapping) or not {"query", "documents"} <= inputs.keys():
        keys = f"one with {', '.join(map(repr, inputs))}" if isinstance(inputs, Mapping) else type(inputs).__name__
        raise InputError(f"the input of Qwen3Rerank must be a dictionary with 'query' and 'documents', not {keys}")
    documents = checked_list(inputs["documents"], "documents", "Documents", "[document]")
    for index, document in enumerate(documents):
        if not isinstance(document, Document):
            raise TypeError(f"documents[{index}] must be LangChain's Document, not {kind_of(document)}; rerank() accepts strings too")
    return inputs["query"], documents


def _as_documents(items: Sequence[str | Document | Mapping[str, Any]]) -> list[Document]:
    listed = checked_list(items, "documents", "strings, Documents or mappings", "[document]")
    return [_as_document(plain_text(item), index) for index, item in enumerate(listed)]


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
    raise TypeError(f"documents[{index}] must be a string, LangChain's Document or a mapping, not {kind_of(item)}")


def _copied(value: Any, around: frozenset[int] = frozenset()) -> Any:
    """A deep copy; values that can't be copied (locks, connections) are shared. `around`: ids of the enclosing collections."""
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
