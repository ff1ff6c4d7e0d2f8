"""`Qwen3Embeddings` keeps LangChain's own contract for embeddings."""

from __future__ import annotations

from typing import ClassVar

from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from qwen3_integrations.langchain import Qwen3Embeddings


class TestFakeUnit(EmbeddingsUnitTests):
    embeddings_class = Qwen3Embeddings
    embedding_model_params: ClassVar = {"backend": "fake", "dimensions": 32}


class TestTorchUnit(EmbeddingsUnitTests):
    embeddings_class = Qwen3Embeddings
    embedding_model_params: ClassVar = {"model": "qwen3-tiny-demo", "backend": "torch"}


class TestFakeIntegration(EmbeddingsIntegrationTests):
    embeddings_class = Qwen3Embeddings
    embedding_model_params: ClassVar = {"backend": "fake"}


class TestTorchIntegration(EmbeddingsIntegrationTests):
    embeddings_class = Qwen3Embeddings
    embedding_model_params: ClassVar = {"model": "qwen3-tiny-demo", "backend": "torch", "dimensions": 64}
