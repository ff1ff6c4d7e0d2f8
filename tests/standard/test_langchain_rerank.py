"""`Qwen3Rerank` keeps the compressor contract; and the contract catches compressors that don't."""

from __future__ import annotations

import asyncio
import inspect
from typing import ClassVar

import pytest
from langchain_core.documents import BaseDocumentCompressor, Document

from qwen3_integrations import open_engine
from qwen3_integrations.langchain import Qwen3Rerank
from tests.standard.document_compressors import DocumentCompressorIntegrationTests, DocumentCompressorUnitTests


@pytest.fixture(scope="module", autouse=True)
def _loaded_once():
    """Holds the real model open, so that the components share it and each test does not load it anew."""
    with open_engine("rerank", "qwen3-tiny-demo", backend="torch"):
        yield


class TestFake(DocumentCompressorUnitTests):
    score_key = "relevance_score"
    limit_param = "top_n"
    compressor_class = Qwen3Rerank
    compressor_params: ClassVar = {"backend": "fake"}


class TestTorch(DocumentCompressorUnitTests):
    score_key = "relevance_score"
    limit_param = "top_n"
    compressor_class = Qwen3Rerank
    compressor_params: ClassVar = {"model": "qwen3-tiny-demo", "backend": "torch"}


class TestFakeIntegration(DocumentCompressorIntegrationTests):
    score_key = "relevance_score"
    limit_param = "top_n"
    compressor_class = Qwen3Rerank
    compressor_params: ClassVar = {"backend": "fake"}


class TestTorchIntegration(DocumentCompressorIntegrationTests):
    score_key = "relevance_score"
    limit_param = "top_n"
    compressor_class = Qwen3Rerank
    compressor_params: ClassVar = {"model": "qwen3-tiny-demo", "backend": "torch"}


class Sound(BaseDocumentCompressor):
    """Longest text first."""

    top_n: int | None = None

    def compress_documents(self, documents, query, callbacks=None):
        ranked = sorted(documents, key=lambda document: -len(document.page_content))
        return [self.scored(document) for document in ranked][: self.top_n]

    def scored(self, document):
        copied = document.model_copy(deep=True)
        copied.metadata["score"] = min(1.0, len(document.page_content) / 100)
        return copied


class Mutates(Sound):
    def scored(self, document):
        document.metadata["score"] = min(1.0, len(document.page_content) / 100)
        return document


class SharesNested(Sound):
    def scored(self, document):
        return document.model_copy(update={"metadata": {**document.metadata, "score": min(1.0, len(document.page_content) / 100)}})


class LosesIds(Sound):
    def scored(self, document):
        return Document(document.page_content, metadata=super().scored(document).metadata)


class LosesEmpty(Sound):
    def compress_documents(self, documents, query, callbacks=None):
        return [document for document in super().compress_documents(documents, query) if document.page_content]


class FailsOnNothing(Sound):
    def compress_documents(self, documents, query, callbacks=None):
        max(documents, key=lambda document: len(document.page_content))
        return super().compress_documents(documents, query)


class WorstFirst(Sound):
    def compress_documents(self, documents, query, callbacks=None):
        return super().compress_documents(documents, query)[::-1]


class Strips(Sound):
    def scored(self, document):
        return super().scored(document).model_copy(update={"page_content": document.page_content.strip("👩‍🚀")})


class AsyncDiffers(Sound):
    async def acompress_documents(self, documents, query, callbacks=None):
        return [document.model_copy(update={"metadata": {**document.metadata, "score": 0.5}}) for document in documents]


class IgnoresLimit(Sound):
    def compress_documents(self, documents, query, callbacks=None):
        return [self.scored(document) for document in documents]


class NeedsList(Sound):
    def compress_documents(self, documents, query, callbacks=None):
        return super().compress_documents(documents.copy(), query)


class RefusesManagers(Sound):
    def compress_documents(self, documents, query, callbacks=None):
        return super().compress_documents(documents, query)[: len([*(callbacks or [])]) or None]


class OneQueryAtATime(Sound):
    """Keeps the query on itself while others call."""

    async def acompress_documents(self, documents, query, callbacks=None):
        _last.append(query)
        await asyncio.sleep(0)
        return [self.scored(document) for document in (documents if _last[-1] == query else documents[::-1])]


_last: list[str] = []


class TestSound(DocumentCompressorUnitTests):
    """The contract does not ask for more than it says."""

    score_key = "score"
    limit_param = "top_n"
    compressor_class = Sound


@pytest.mark.parametrize(
    ("broken", "caught_by"),
    [
        (Mutates, "test_caller_untouched"),
        (Mutates, "test_caller_untouched_async"),
        (Mutates, "test_result_is_the_callers_own"),
        (SharesNested, "test_result_is_the_callers_own"),
        (LosesIds, "test_id_and_metadata_kept"),
        (LosesEmpty, "test_nothing_lost"),
        (FailsOnNothing, "test_no_documents"),
        (FailsOnNothing, "test_no_documents_async"),
        (WorstFirst, "test_scores"),
        (Strips, "test_content_kept"),
        (AsyncDiffers, "test_async_equals_sync"),
        (IgnoresLimit, "test_limit"),
        (NeedsList, "test_any_sequence"),
        (RefusesManagers, "test_callbacks"),
        (OneQueryAtATime, "test_tasks"),
    ],
)
async def test_contract_catches(broken, caught_by):
    suite = type("Suite", (TestSound,), {"compressor_class": broken})()
    test = getattr(suite, caught_by)
    given = {"compressor": broken(), "kind": "manager"}
    wanted = {name: given[name] for name in inspect.signature(test).parameters}
    with pytest.raises((AssertionError, AttributeError, TypeError, ValueError)):
        await result if inspect.isawaitable(result := test(**wanted)) else result


def test_contract_catches_overriding():
    suite = type("Suite", (TestSound,), {"test_again": lambda self: None})()
    with pytest.raises(AssertionError, match="test_again was overridden"):
        suite.test_no_overrides_DO_NOT_OVERRIDE()
