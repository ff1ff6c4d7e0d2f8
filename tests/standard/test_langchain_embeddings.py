"""`Qwen3Embeddings` keeps LangChain's own contract for embeddings."""

from __future__ import annotations

from typing import Any, ClassVar

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


class TestEnvironmentUnit(EmbeddingsUnitTests):
    embeddings_class = Qwen3Embeddings
    embedding_model_params: ClassVar = {"base_url": "http://127.0.0.1:1/v1", "api_key": "key"}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        variables = {"QWEN3_EMBEDDING_URL": "http://127.0.0.1:1/v1", "QWEN3_API_KEY": "key"}
        return variables, {}, {"base_url": "http://127.0.0.1:1/v1", "api_key": "key"}
