"""LlamaIndex's instrumentation: the spans and events of a Qwen3Embedding are those of LlamaIndex's own MockEmbedding."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler
from llama_index.core.schema import TextNode
from llama_index.core.storage.kvstore import SimpleKVStore
from pydantic import Field

from qwen3_integrations import FakeEngine
from qwen3_integrations.llama_index import Qwen3Embedding

OURS, STANDARD = "Qwen3Embedding", "BatchedMock"


class BatchedMock(MockEmbedding):
    """LlamaIndex's MockEmbedding, with the one method that embeddings with batches override."""

    def _get_text_embeddings(self, texts):
        return [self._get_vector() for _ in texts]

    async def _aget_text_embeddings(self, texts):
        return self._get_text_embeddings(texts)


class Spans(BaseSpanHandler):
    """Notes how each span began."""

    began: list[str] = Field(default_factory=list)

    def new_span(self, id_: str, bound_args: Any, instance: Any = None, parent_span_id: str | None = None, tags: Any = None, **_: Any):
        parent = (parent_span_id or "").rpartition(".")[2].partition("-")[0]
        self.began.append(f"{id_.partition('-')[0]} in {parent or 'nothing'}".replace(OURS, STANDARD))

    def prepare_to_exit_span(self, *_: Any, **__: Any):
        return None

    def prepare_to_drop_span(self, *_: Any, **__: Any):
        return None


class Events(BaseEventHandler):
    """Notes each event, and the number of vectors in it."""

    seen: list[tuple[str, int]] = Field(default_factory=list)

    def handle(self, event: Any, **_: Any):
        self.seen.append((type(event).__name__, len(event.embeddings) if isinstance(event, EmbeddingEndEvent) else 0))


@pytest.fixture
def noted():
    root, spans, events = get_dispatcher(), Spans(), Events()
    spans.began, events.seen = [], []
    before = list(root.span_handlers), list(root.event_handlers)
    root.add_span_handler(spans)
    root.add_event_handler(events)
    yield spans.began, events.seen
    root.span_handlers, root.event_handlers = before


def _indexed(embedding):
    index = VectorStoreIndex.from_documents([Document(text="one"), Document(text="two")], embed_model=embedding)
    return index.as_retriever().retrieve("three")


CALLS = {
    "query": lambda one: one.get_query_embedding("a"),
    "query, async": lambda one: asyncio.run(one.aget_query_embedding("a")),
    "text": lambda one: one.get_text_embedding("a"),
    "text, async": lambda one: asyncio.run(one.aget_text_embedding("a")),
    "texts": lambda one: one.get_text_embedding_batch(["a", "b"]),
    "texts, async": lambda one: asyncio.run(one.aget_text_embedding_batch(["a", "b"])),
    "nodes": lambda one: one([TextNode(text="a"), TextNode(text="b")]),
    "nodes, async": lambda one: asyncio.run(one.acall([TextNode(text="a"), TextNode(text="b")])),
    "queries of one search": lambda one: one.get_agg_embedding_from_queries(["a", "b"]),
    "an index": _indexed,
}


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_spans_and_events_are_those_of_the_standard_embedding(noted, call, cached):
    def cache():
        return {"embeddings_cache": SimpleKVStore()} if cached else {}

    began, seen = noted
    call(BatchedMock(embed_dim=64, embed_batch_size=2048, **cache()))
    wanted = list(began), list(seen)
    began.clear()
    seen.clear()
    call(Qwen3Embedding(engine=FakeEngine("embed"), **cache()))
    assert (began, seen) == wanted
    assert began
