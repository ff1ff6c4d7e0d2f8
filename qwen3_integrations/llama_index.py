"""LlamaIndex components: `Qwen3Embedding` and `Qwen3Rerank`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from qwen3_integrations.adapters.embedder_settings import EmbedderSettings
from qwen3_integrations.adapters.reranker_settings import RERANK_ERROR, RerankerSettings, Unranked
from qwen3_integrations.adapters.strict_model import STRICT
from qwen3_integrations.core.extras import require
from qwen3_integrations.core.pipeline import is_quick
from qwen3_integrations.core.results import Ranking
from qwen3_integrations.core.tokenizer import checked_text, checked_texts
from qwen3_integrations.core.validation import check_options, checked_list, kind_of, whole_number
from qwen3_integrations.errors import ConfigError, InputError, Qwen3Error

if not TYPE_CHECKING:
    require("llama_index.core", "llama-index")

from llama_index.core import instrumentation
from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle
from llama_index.core.storage.kvstore.types import BaseKVStore
from pydantic import BaseModel, BeforeValidator, Field

__all__ = ["Qwen3Embedding", "Qwen3Rerank"]

BATCH_SIZE = 2048
"""Default of `embed_batch_size`: LlamaIndex's maximum. LlamaIndex's default of 10 is too small for an engine that makes its own batches."""

_ARGUMENTS = ("texts", "show_progress")
MAX_BATCH_SIZE = 2048
"""Source: LlamaIndex's `BaseEmbedding.embed_batch_size`."""


def _batch_size(value: Any) -> int:
    return whole_number(value, "embed_batch_size", 1, MAX_BATCH_SIZE)


BatchSize = Annotated[int, BeforeValidator(_batch_size)]

dispatcher = instrumentation.get_dispatcher(__name__)  # type: ignore[attr-defined]  # documented, but not in its __all__


if TYPE_CHECKING:
    _Base = BaseEmbedding
else:
    _Base = object


class _EmbeddingCalls(_Base):
    """The public calls of `Qwen3Embedding`, checked before LlamaIndex's own.

    A class of its own, because LlamaIndex decorates what a subclass of `BaseEmbedding` overrides: each call would be two spans.
    """

    def get_query_embedding(self, query: str) -> Embedding:
        """Embed a query with the instruction; a list of floats of unit length.

        Raises:
            PromptTooLong: If instruction and query exceed `max_tokens`: a query is never cut.
            TypeError, InvalidText, EngineError: As in `Embedder.embed_queries`.
        """
        return BaseEmbedding.get_query_embedding(_with_query_cache(self), query)

    async def aget_query_embedding(self, query: str) -> Embedding:
        """As `get_query_embedding`, without blocking the event loop."""
        return await BaseEmbedding.aget_query_embedding(_with_query_cache(self), query)

    def get_text_embedding_batch(self, texts: list[str], show_progress: bool = False, **kwargs: Any) -> list[Embedding]:
        """Embed texts without instruction, `embed_batch_size` per call; one list of floats per text, of unit length, in their order.

        Raises:
            ConfigError: For an argument of another name, which LlamaIndex would drop.
            TypeError: For an item that is not a string; names its index. Raised before anything is embedded.
            InvalidText: For lone surrogates; names the index. Raised before anything is embedded.
            EngineError: As in `Embedder.embed_documents`; the position of an item is its position in the batch.
        """
        check_options(kwargs, _ARGUMENTS, "get_text_embedding_batch")
        return super().get_text_embedding_batch(_checked(self, texts), show_progress)

    async def aget_text_embedding_batch(self, texts: list[str], show_progress: bool = False, **kwargs: Any) -> list[Embedding]:
        """As `get_text_embedding_batch`, without blocking the event loop."""
        check_options(kwargs, _ARGUMENTS, "aget_text_embedding_batch")
        checked = _checked(self, texts) if is_quick(texts) else await asyncio.to_thread(_checked, self, texts)
        return await super().aget_text_embedding_batch(checked, show_progress)

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """The settings, as LlamaIndex saves them. As a string, they are what the vectors of nodes depend on; see `_NodeSettings`."""
        return _NodeSettings(super().to_dict(**kwargs), self)

    def __call__(self, nodes: Sequence[BaseNode], show_progress: bool = False, **_for_other_components: Any) -> Sequence[BaseNode]:
        """Embed nodes as a component of a pipeline. A pipeline passes all arguments to all components; unknown ones are ignored."""
        return super().__call__(nodes, show_progress=show_progress)

    async def acall(self, nodes: Sequence[BaseNode], show_progress: bool = False, **_for_other_components: Any) -> Sequence[BaseNode]:
        """As `__call__`, without blocking the event loop."""
        return await super().acall(nodes, show_progress=show_progress)


class _NodeSettings(dict[str, Any]):
    """Settings whose string is the `cache_namespace`.

    The key of LlamaIndex's `IngestionCache` is made from `str(component.to_dict())`. Settings that change no vector of a node
    (instruction, `base_url`, key, backend, batch size) must not change the key; other weights under the same name must.
    """

    def __init__(self, settings: Mapping[str, Any], embedding: Any) -> None:
        super().__init__(settings)
        self._embedding = embedding

    def __str__(self) -> str:
        try:
            return str(self._embedding.cache_namespace)
        except Qwen3Error:  # the server is away: it will fail again when nodes are embedded
            return super().__str__()

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class Qwen3Embedding(_EmbeddingCalls, EmbedderSettings, BaseEmbedding):
    """Qwen3-Embedding as a LlamaIndex embedding, from an engine in this process or from a server.

    The instruction is put before queries; texts are embedded without instruction. In LlamaIndex, the key of an `embeddings_cache` is the
    text only. Here the key of a query includes the instruction, so that a query and an equal text have separate entries. Use one cache
    for one `cache_namespace` only: one model, width and budget. An `IngestionPipeline` does that by itself: its cache keeps the nodes of
    another model, width or budget apart, and finds them again if only instruction, `base_url`, backend or batch size changed.

    Args:
        model: A folder, a name on the hub, or `qwen3-tiny-demo`. `model_name` is LlamaIndex's name for the same setting.
        base_url: A server's address; the default is `QWEN3_EMBEDDING_URL` from the environment.
        api_key: The server's key; the default is `QWEN3_API_KEY`. It is never shown, dumped or pickled.
        instruction: The task of the search, as one English sentence; empty for queries without instruction. May be assigned. The default
            is the prompt that the model's folder declares, else the model card's instruction; None where that prompt has another form
            (`query_prompt`).
        dimensions: Width of the vectors (Matryoshka), from 32 to the model's width; None for the model's width.
        max_tokens: Maximum tokens of a text, with the end token. Longer texts are cut; a longer query is an error. The default is
            8192, or what the model's folder declares where that is less.
        on_bad_text: `error` for texts with lone surrogates, or `replace` each by U+FFFD.
        preprocess: A function from a document to the text that the model reads; see `Embedder`. Queries are not changed.
            `to_dict` does not include it.
        backend: `auto`, `vllm`, `torch`, `http` or `fake`; see `open_engine`.
        engine: An opened engine; `close()` does not close it. It can't be combined with `base_url`, `api_key`, `backend` and
            `engine_options`. `to_dict` does not include it: pass it to `from_dict` again.
        engine_options: Options of the engine. Options that are named like a key, token, header or client are omitted from `to_dict`.
        embed_batch_size: Texts per call of the engine, at most 2048; the engine makes its own batches.

    Raises:
        ConfigError: For an unknown setting, or a value that is not allowed.
        MissingExtra: If the backend is not installed; names the pip command.
        ModelNotFound: If the model could not be found or downloaded.

    Example:
        >>> from qwen3_integrations.llama_index import Qwen3Embedding
        >>> embedding = Qwen3Embedding(model="qwen3-tiny-demo", backend="torch", dimensions=64)
        >>> len(embedding.get_query_embedding("how do I read a csv file"))
        64
    """

    model_config = STRICT

    model_name: str = Field(default="", frozen=True, description="The same as model.")
    embed_batch_size: BatchSize = Field(default=BATCH_SIZE, gt=0, le=MAX_BATCH_SIZE, description="Texts per call of the engine.")

    if not TYPE_CHECKING:

        def __init__(self, **settings: Any) -> None:
            name = settings.pop("model_name", None)
            if name and settings.setdefault("model", name) != name:
                reason = f"is {name!r}, but model is {settings['model']!r}, and both mean the same"
                raise ConfigError(reason, option="model_name", advice="Leave one of them out")
            super().__init__(**settings)
            self.__dict__["model_name"] = self.model  # not by assignment, because the field is frozen

    def _settings(self) -> dict[str, Any]:
        return {name: value for name, value in super()._settings().items() if name != "model_name"}  # the same as `model`

    @classmethod
    def class_name(cls) -> str:
        """`Qwen3Embedding`, LlamaIndex's name of this class."""
        return "Qwen3Embedding"

    def _get_query_embedding(self, query: str) -> Embedding:
        return self._query(query)

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return await self._aquery(query)

    def _get_text_embedding(self, text: str) -> Embedding:
        return self._document(text)

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return await self._adocument(text)

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return self._documents(texts)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return await self._adocuments(texts)


class Qwen3Rerank(RerankerSettings, BaseNodePostprocessor):
    """Qwen3-Reranker as a LlamaIndex node postprocessor.

    It returns new `NodeWithScore` objects, best first. Their score is the model's probability of "yes", in [0, 1]. They contain the
    caller's nodes, which are not changed. With `on_error="keep_order"`, nodes that could not be reranked are returned in their order and
    with their scores, with the metadata entry `rerank_error`.

    Args:
        model: A folder, a name on the hub, or `qwen3-tiny-demo`.
        base_url: A server's address; the default is `QWEN3_RERANKER_URL` from the environment.
        api_key: The server's key; the default is `QWEN3_API_KEY`. It is never shown, dumped or pickled.
        instruction: The definition of relevance, as one English sentence. May be assigned.
        top_n: Maximum number of results, at least 1; None for all. May be assigned.
        score_threshold: Minimum score of a result, in [0, 1]; None for no minimum. May be assigned.
        keep_retrieval_score: Add the retriever's score as `retrieval_score` to the metadata of a copy of each node. It is excluded from the
            text for embedding models and LLMs.
        metadata_mode: Selects the metadata that the model reads before a node's text; a node's own exclusions apply.
        on_error: What a call does when the engine or its server fails, or does not finish within `deadline_s`. `raise`: it raises the
            error. `keep_order`: it logs a warning and returns the first `top_n` nodes in the retriever's order, each with the error as
            `rerank_error` in its metadata; `score_threshold` can't apply. A wrong query or node is always an error. May be assigned.
        deadline_s: Seconds that a call may last; None for no limit. May be assigned.
        max_tokens: Maximum tokens of a prompt, with the template. Only the document is cut. The default is 8192, or what the model's
            folder declares where that is less.
        on_bad_text: As in `Qwen3Embedding`.
        preprocess: A function from a node's text, as `metadata_mode` makes it, to the text that the model reads.
        backend, engine, engine_options: As in `Qwen3Embedding`.

    Raises:
        ConfigError, MissingExtra, ModelNotFound: As in `Qwen3Embedding`.

    Example:
        >>> from llama_index.core.schema import NodeWithScore, TextNode
        >>> from qwen3_integrations.llama_index import Qwen3Rerank
        >>> texts = ["Gravity attracts bodies.", "The csv module reads csv files."]
        >>> nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
        >>> best = Qwen3Rerank(model="qwen3-tiny-demo", backend="torch", top_n=1)
        >>> [node.text for node in best.postprocess_nodes(nodes, query_str="how do I read a csv file")]
        ['The csv module reads csv files.']
    """

    model_config = STRICT

    keep_retrieval_score: bool = Field(default=False, strict=True)
    metadata_mode: MetadataMode = MetadataMode.EMBED

    @classmethod
    def class_name(cls) -> str:
        """`Qwen3Rerank`, LlamaIndex's name of this class."""
        return "Qwen3Rerank"

    def _postprocess_nodes(self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None) -> list[NodeWithScore]:
        nodes, query = _with_scores(nodes), _query_of(query_bundle, any_text=self.on_bad_text == "replace")
        self._started(nodes, query)
        with self.callback_manager.event(CBEventType.RERANKING, payload=self._payload(nodes, query)) as event:
            kept = self._kept(nodes, self._order(query, self._texts(nodes), self.top_n, self.score_threshold))
            event.on_end(payload={EventPayload.NODES: kept})
        dispatcher.event(ReRankEndEvent(nodes=kept))
        return kept

    @dispatcher.span
    async def _apostprocess_nodes(self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None) -> list[NodeWithScore]:
        nodes, query = _with_scores(nodes), _query_of(query_bundle, any_text=self.on_bad_text == "replace")
        self._started(nodes, query)
        with self.callback_manager.event(CBEventType.RERANKING, payload=self._payload(nodes, query)) as event:
            kept = self._kept(nodes, await self._aorder(query, self._texts(nodes), self.top_n, self.score_threshold))
            event.on_end(payload={EventPayload.NODES: kept})
        dispatcher.event(ReRankEndEvent(nodes=kept))
        return kept

    def _started(self, nodes: Sequence[NodeWithScore], query: str) -> None:
        top_n = len(nodes) if self.top_n is None else self.top_n
        dispatcher.event(ReRankStartEvent(query=query, nodes=list(nodes), top_n=top_n, model_name=self.model))

    def _payload(self, nodes: Sequence[NodeWithScore], query: str) -> dict[str, Any]:
        return {
            EventPayload.NODES: list(nodes),
            EventPayload.MODEL_NAME: self.model,
            EventPayload.QUERY_STR: query,
            EventPayload.TOP_K: self.top_n,
        }

    def _texts(self, nodes: Sequence[NodeWithScore]) -> list[str]:
        return [node.node.get_content(metadata_mode=self.metadata_mode) for node in nodes]

    def _kept(self, nodes: Sequence[NodeWithScore], order: Ranking | Unranked) -> list[NodeWithScore]:
        if isinstance(order, Unranked):
            return [self._copied(nodes[at], nodes[at].score, {RERANK_ERROR: order.error}) for at in order.positions]
        return [self._copied(nodes[hit.index], hit.score, {}) for hit in order]

    def _copied(self, found: NodeWithScore, score: float | None, added: dict[str, Any]) -> NodeWithScore:
        """A copy with a score, whose node is a copy too if it gets more metadata."""
        node = found.node
        if self.keep_retrieval_score:
            added = {"retrieval_score": found.score} | added
        if added:
            changes: dict[str, Any] = {
                "metadata": {**node.metadata, **added},
                "excluded_embed_metadata_keys": [*node.excluded_embed_metadata_keys, *added],
                "excluded_llm_metadata_keys": [*node.excluded_llm_metadata_keys, *added],
            }
            node = node.model_copy(update=changes)
        return found.model_copy(update={"node": node, "score": score})


def _checked(embedding: Any, texts: list[str]) -> list[str]:
    return checked_texts(texts, any_text=embedding.on_bad_text == "replace")


def _with_scores(nodes: Sequence[NodeWithScore | BaseNode]) -> list[NodeWithScore]:
    """The nodes, each as a `NodeWithScore`."""
    listed = checked_list(nodes, "nodes", "NodeWithScore", "[node]")
    return [_with_score(node, index) for index, node in enumerate(listed)]


def _with_score(node: NodeWithScore | BaseNode, index: int) -> NodeWithScore:
    if isinstance(node, NodeWithScore):
        return node
    if isinstance(node, BaseNode):
        return NodeWithScore(node=node)
    raise TypeError(f"nodes[{index}] must be LlamaIndex's NodeWithScore, not {kind_of(node)}: pass NodeWithScore(node=TextNode(text=...))")


def _with_query_cache(embedding: Any) -> BaseEmbedding:
    """A component with the same engine, whose cache is wrapped in a `_QueryCache`; the component itself if it has no cache."""
    if embedding.embeddings_cache is None:
        component: BaseEmbedding = embedding
    else:
        component = BaseModel.__copy__(embedding)  # shares the embedder, so that the engine is not opened twice
        component.__dict__["embeddings_cache"] = _QueryCache(embedding.embeddings_cache, embedding.query_prompt)
    return component


class _QueryCache(BaseKVStore):
    """A cache for queries. The key is the text that the model reads: the query behind its prompt."""

    def __init__(self, store: BaseKVStore, prompt: str) -> None:
        self._store = store
        self._prompt = prompt

    def put(self, key: str, val: dict[str, Any], collection: str = "data") -> None:
        self._store.put(self._key(key), val, collection)

    async def aput(self, key: str, val: dict[str, Any], collection: str = "data") -> None:
        await self._store.aput(self._key(key), val, collection)

    def get(self, key: str, collection: str = "data") -> dict[str, Any] | None:
        return self._store.get(self._key(key), collection)

    async def aget(self, key: str, collection: str = "data") -> dict[str, Any] | None:
        return await self._store.aget(self._key(key), collection)

    def get_all(self, collection: str = "data") -> dict[str, dict[str, Any]]:
        return self._store.get_all(collection)

    async def aget_all(self, collection: str = "data") -> dict[str, dict[str, Any]]:
        return await self._store.aget_all(collection)

    def delete(self, key: str, collection: str = "data") -> bool:
        return self._store.delete(self._key(key), collection)

    async def adelete(self, key: str, collection: str = "data") -> bool:
        return await self._store.adelete(self._key(key), collection)

    def _key(self, query: str) -> str:
        return self._prompt + query


def _query_of(query_bundle: QueryBundle | str | None, *, any_text: bool) -> str:
    if query_bundle is None:
        advice = "Pass query_str='...' or query_bundle=QueryBundle('...')"
        raise InputError("is missing: Qwen3Rerank ranks by a query", argument="query", advice=advice)
    query = query_bundle.query_str if isinstance(query_bundle, QueryBundle) else query_bundle
    return checked_text(query, "query", any_text=any_text)  # checked here too, because the start event has another error message
