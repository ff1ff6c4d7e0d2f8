"""The contract of a LangChain document compressor, in the manner of langchain-tests, which has none for them.

Subclass `DocumentCompressorUnitTests`, and `DocumentCompressorIntegrationTests` for a compressor with a real model:

    class TestMyRerankUnit(DocumentCompressorUnitTests):
        @property
        def compressor_class(self):
            return MyRerank

        @property
        def compressor_params(self):
            return {"model": "model-001"}

        score_key = "relevance_score"
        limit_param = "top_n"

Needs pytest and pytest-asyncio in auto mode. What a compressor does by design can be declared: see the class attributes.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler, CallbackManager
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever

_WORDS = [
    "earth",
    "rings",
    "size",
    "moon",
    "red",
    "appearance",
    "twin",
    "known",
    "planet",
    "Mars",
    "Venus",
    "火星",
    "because",
    "often",
    "reddish",
    "called",
]
CALLERS = len(_WORDS)


class DocumentCompressorTests:
    """What both suites need to know about a compressor."""

    score_key: str | None = None
    """Metadata key of a float by which the result is ordered, highest first; None if there is none."""

    score_range: tuple[float, float] = (0.0, 1.0)
    """The least and the highest possible score."""

    score_tolerance: float = 1e-4
    """By how much a score may differ between calls: a model that batches callers together rounds differently."""

    limit_param: str | None = None
    """Constructor parameter for the most documents to return; None if there is none."""

    keeps_content: bool = True
    """False for a compressor that rewrites or shortens the text of documents."""

    keeps_duplicates: bool = True
    """False for a compressor that drops a document equal to another."""

    drops: bool = False
    """True for a compressor that may leave out documents even without a limit."""

    @property
    @abstractmethod
    def compressor_class(self) -> type[BaseDocumentCompressor]:
        """The class to test."""

    @property
    def compressor_params(self) -> dict[str, Any]:
        """What to make it with."""
        return {}

    @property
    def query(self) -> str:
        """Goes with `documents`."""
        return "Which planet is known as the Red Planet?"

    @property
    def documents(self) -> list[Document]:
        """Fresh on every access: with and without id, flat and nested metadata, two equal texts, an empty one, several scripts."""
        return [
            Document("Venus is often called Earth's twin because of its size.", metadata={"source": "venus.txt", "page": 1}, id="venus"),
            Document(
                "Mars, known for its reddish appearance, is the Red Planet.", metadata={"tags": ["planet", {"colour": "red"}]}, id="mars"
            ),
            Document("Saturn is known for its rings.", metadata={"source": "saturn.txt"}),
            Document(""),
            Document("火星は赤い惑星です。\r\n👩‍🚀", metadata={"language": "ja"}, id="火星"),
            Document("Saturn is known for its rings.", metadata={"source": "copy.txt"}, id="copy"),
        ]

    @property
    def queries(self) -> list[str]:
        """As many different queries as there are callers at once; better if their answers differ."""
        return [f"{self.query} {document.page_content}" for document in self.documents] + [self.query] * (CALLERS - len(self.documents))

    @pytest.fixture
    def compressor(self) -> BaseDocumentCompressor:
        """The compressor under test."""
        return self.compressor_class(**self.compressor_params)

    def assert_same(self, one: Sequence[Document], other: Sequence[Document]) -> None:
        """Two results are the same: equal, or with `score_key` equal but for the order of those that score the same."""
        if self.score_key is None:
            assert list(one) == list(other)
            return
        scored = [[(document.page_content, document.metadata[self.score_key]) for document in result] for result in (one, other)]
        assert [score for _, score in scored[1]] == pytest.approx([score for _, score in scored[0]], abs=self.score_tolerance)
        known = dict(scored[0])
        assert {text: score for text, score in scored[1] if text in known} == pytest.approx(known, abs=self.score_tolerance)

    def test_no_overrides_DO_NOT_OVERRIDE(self) -> None:  # noqa: N802
        """No test of the contract is removed or overridden, unless it is marked xfail with a reason."""
        suite = next(cls for cls in type(self).__mro__ if cls.__module__ == __name__)
        for name in (name for name in dir(suite) if name.startswith("test_")):
            own = getattr(type(self), name, None)
            marks = getattr(own, "pytestmark", [])
            excused = any(mark.name == "xfail" and mark.kwargs.get("reason") for mark in marks)
            assert own is getattr(suite, name) or excused, f"{name} was overridden without @pytest.mark.xfail(reason=...)"


class DocumentCompressorUnitTests(DocumentCompressorTests):
    """What every document compressor must do, whatever its model thinks."""

    def test_init(self) -> None:
        """It can be made from `compressor_params`."""
        assert isinstance(self.compressor_class(**self.compressor_params), BaseDocumentCompressor)

    def test_no_documents(self, compressor: BaseDocumentCompressor) -> None:
        """Nothing in, nothing out."""
        assert list(compressor.compress_documents([], self.query)) == []

    async def test_no_documents_async(self, compressor: BaseDocumentCompressor) -> None:
        """Nothing in, nothing out, async."""
        assert list(await compressor.acompress_documents([], self.query)) == []

    def test_result_is_documents(self, compressor: BaseDocumentCompressor) -> None:
        """The result is a sequence of `Document`, no longer than what was passed."""
        result = compressor.compress_documents(self.documents, self.query)
        assert len(result) <= len(self.documents)
        assert all(isinstance(document, Document) for document in result)

    def test_nothing_lost(self, compressor: BaseDocumentCompressor) -> None:
        """Without a limit every document comes back, equal and empty ones too. Declare `drops` or `keeps_duplicates` if not."""
        result = compressor.compress_documents(self.documents, self.query)
        if self.drops:
            assert len(result) <= len(self.documents)
        elif self.keeps_duplicates:
            assert len(result) == len(self.documents)
        else:
            assert len(result) == len({document.page_content for document in self.documents})

    def test_content_kept(self, compressor: BaseDocumentCompressor) -> None:
        """Every text comes from what was passed, and none more often. Declare `keeps_content` if not."""
        result = compressor.compress_documents(self.documents, self.query)
        given = Counter(document.page_content for document in self.documents)
        if self.keeps_content:
            assert not Counter(document.page_content for document in result) - given
        else:
            assert len(result) <= given.total()

    def test_id_and_metadata_kept(self, compressor: BaseDocumentCompressor) -> None:
        """A document keeps its id and its metadata; a compressor may add to the metadata."""
        given = {document.id: document for document in self.documents if document.id}
        result = [document for document in compressor.compress_documents(self.documents, self.query) if document.id]
        assert result
        for document in result:
            before = given.pop(document.id)
            assert {key: document.metadata.get(key) for key in before.metadata} == before.metadata

    def test_caller_untouched(self, compressor: BaseDocumentCompressor) -> None:
        """Neither the list nor the documents that were passed are changed."""
        documents = self.documents
        before, members = deepcopy(documents), list(documents)
        compressor.compress_documents(documents, self.query)
        assert documents == before
        assert all(now is then for now, then in zip(documents, members, strict=True))

    async def test_caller_untouched_async(self, compressor: BaseDocumentCompressor) -> None:
        """Neither the list nor the documents that were passed are changed, async."""
        documents = self.documents
        before = deepcopy(documents)
        await compressor.acompress_documents(documents, self.query)
        assert documents == before

    def test_result_is_the_callers_own(self, compressor: BaseDocumentCompressor) -> None:
        """Changing a returned document, nested metadata included, does not reach the one that was passed."""
        documents = self.documents
        before = deepcopy(documents)
        for document in compressor.compress_documents(documents, self.query):
            for value in document.metadata.values():
                if isinstance(value, list):
                    value.append("changed")
            document.metadata["changed"] = True
        assert documents == before

    def test_any_sequence(self, compressor: BaseDocumentCompressor) -> None:
        """A tuple is as good as a list."""
        as_list = compressor.compress_documents(self.documents, self.query)
        self.assert_same(compressor.compress_documents(tuple(self.documents), self.query), as_list)

    def test_again(self, compressor: BaseDocumentCompressor) -> None:
        """The same call gives the same answer; what was returned can be passed in again."""
        first = compressor.compress_documents(self.documents, self.query)
        self.assert_same(compressor.compress_documents(self.documents, self.query), first)
        again = compressor.compress_documents(first, self.query)
        assert Counter(document.page_content for document in again) == Counter(document.page_content for document in first)

    async def test_async_equals_sync(self, compressor: BaseDocumentCompressor) -> None:
        """Both ways give the same answer."""
        result = await compressor.acompress_documents(self.documents, self.query)
        self.assert_same(result, compressor.compress_documents(self.documents, self.query))

    @pytest.mark.parametrize("kind", ["none", "empty", "handlers", "manager"])
    def test_callbacks(self, compressor: BaseDocumentCompressor, kind: str) -> None:
        """Callbacks in every form change nothing in the result."""
        callbacks: dict[str, Any] = {
            "none": None,
            "empty": [],
            "handlers": [BaseCallbackHandler()],
            "manager": CallbackManager([BaseCallbackHandler()]),
        }
        plain = compressor.compress_documents(self.documents, self.query)
        self.assert_same(compressor.compress_documents(self.documents, self.query, callbacks=callbacks[kind]), plain)

    @pytest.mark.parametrize("kind", ["none", "empty", "handlers", "manager"])
    async def test_callbacks_async(self, compressor: BaseDocumentCompressor, kind: str) -> None:
        """Callbacks in every form change nothing in the result, async."""
        callbacks: dict[str, Any] = {
            "none": None,
            "empty": [],
            "handlers": [BaseCallbackHandler()],
            "manager": AsyncCallbackManager([BaseCallbackHandler()]),
        }
        plain = await compressor.acompress_documents(self.documents, self.query)
        self.assert_same(await compressor.acompress_documents(self.documents, self.query, callbacks=callbacks[kind]), plain)

    def test_limit(self) -> None:
        """With a limit come the first of those that come without one. Declare `limit_param`."""
        if self.limit_param is None:
            return
        everything = list(self.compressor_class(**self.compressor_params).compress_documents(self.documents, self.query))
        for limit in (1, 2, len(everything), len(everything) + 1):
            limited = self.compressor_class(**{**self.compressor_params, self.limit_param: limit})
            self.assert_same(everything[:limit], limited.compress_documents(self.documents, self.query))

    def test_scores(self, compressor: BaseDocumentCompressor) -> None:
        """Scores are floats in `score_range`, highest first. Declare `score_key`."""
        if self.score_key is None:
            return
        result = compressor.compress_documents(self.documents, self.query)
        scores = [document.metadata[self.score_key] for document in result]
        assert all(type(score) is float for score in scores)
        assert scores == sorted(scores, reverse=True)
        least, most = self.score_range
        assert all(least <= score <= most for score in scores)

    def test_threads(self, compressor: BaseDocumentCompressor) -> None:
        """Many threads at once get their own right answers."""
        queries = self.queries
        alone = [compressor.compress_documents(self.documents, query) for query in queries]
        with ThreadPoolExecutor(CALLERS) as pool:
            together = list(pool.map(lambda query: compressor.compress_documents(self.documents, query), queries))
        for one, other in zip(alone, together, strict=True):
            self.assert_same(one, other)

    async def test_tasks(self, compressor: BaseDocumentCompressor) -> None:
        """Many tasks at once get their own right answers."""
        queries = self.queries
        alone = [await compressor.acompress_documents(self.documents, query) for query in queries]
        together = await asyncio.gather(*(compressor.acompress_documents(self.documents, query) for query in queries))
        for one, other in zip(alone, together, strict=True):
            self.assert_same(one, other)


class DocumentCompressorIntegrationTests(DocumentCompressorTests):
    """What a compressor with a real model must do."""

    @property
    def easy_cases(self) -> list[tuple[str, str, str]]:
        """Query, a document that answers it, and one that has nothing to do with it."""
        return [
            (
                "How do I sort a list of names?",
                "The items of a list can be put in order with the sort method. Names are then arranged from A to Z.",
                "A socket waits for connections from other machines on the network and answers each of them in turn.",
            ),
            (
                "How can I make a file smaller?",
                "Compression reduces the size of a file. The compressed data can be restored later without any loss.",
                "Each thread holds a lock while it changes the shared value, and other threads have to wait for it.",
            ),
        ]

    @pytest.mark.parametrize("turned", [False, True])
    def test_relevant_first(self, compressor: BaseDocumentCompressor, turned: bool) -> None:
        """The relevant document comes first, wherever it was."""
        for query, relevant, other in self.easy_cases:
            documents = [Document(text) for text in ((other, relevant) if turned else (relevant, other))]
            assert compressor.compress_documents(documents, query)[0].page_content == relevant

    async def test_relevant_first_async(self, compressor: BaseDocumentCompressor) -> None:
        """The relevant document comes first, async."""
        for query, relevant, other in self.easy_cases:
            result = await compressor.acompress_documents([Document(other), Document(relevant)], query)
            assert result[0].page_content == relevant

    async def test_in_contextual_compression_retriever(self, compressor: BaseDocumentCompressor) -> None:
        """LangChain's own retriever around it gives what it gives, sync and async; and copes with nothing found."""
        from langchain_classic.retrievers import ContextualCompressionRetriever

        retriever = ContextualCompressionRetriever(base_compressor=compressor, base_retriever=_Found(documents=self.documents))
        alone = compressor.compress_documents(self.documents, self.query)
        self.assert_same(retriever.invoke(self.query), alone)
        self.assert_same(await retriever.ainvoke(self.query), alone)
        nothing = ContextualCompressionRetriever(base_compressor=compressor, base_retriever=_Found(documents=[]))
        assert nothing.invoke(self.query) == []

    async def test_in_pipeline(self, compressor: BaseDocumentCompressor) -> None:
        """LangChain's own compressor pipeline around it gives what it gives, sync and async."""
        from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline

        pipeline = DocumentCompressorPipeline(transformers=[compressor])
        alone = compressor.compress_documents(self.documents, self.query)
        self.assert_same(pipeline.compress_documents(self.documents, self.query), alone)
        self.assert_same(await pipeline.acompress_documents(self.documents, self.query), alone)


class _Found(BaseRetriever):
    """Finds the same documents for every query."""

    documents: list[Document]

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return self.documents

    async def _aget_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return self.documents
