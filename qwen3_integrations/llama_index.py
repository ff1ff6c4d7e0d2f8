"""LlamaIndex components: `Qwen3Embedding` and `Qwen3Rerank`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qwen3_integrations.errors import ConfigError, InputError
from qwen3_integrations.extras import require
from qwen3_integrations.prompts import embedding_query
from qwen3_integrations.results import Ranking
from qwen3_integrations.settings import STRICT, EmbedderSettings, RerankerSettings

if not TYPE_CHECKING:
    require("llama_index.core", "llama-index")

from llama_index.core import instrumentation
from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
from llama_index.core.storage.kvstore.types import BaseKVStore
from pydantic import BaseModel, Field

__all__ = ["Qwen3Embedding", "Qwen3Rerank"]
