"""Qwen3-Embedding and Qwen3-Reranker as retriever components, right by construction."""

from __future__ import annotations

from qwen3_integrations.embedder import Embedder
from qwen3_integrations.engines import Engine, FakeEngine, open_engine
from qwen3_integrations.errors import Qwen3Error
from qwen3_integrations.prompts import DEFAULT_INSTRUCTION, INSTRUCTIONS
from qwen3_integrations.reranker import Reranker
from qwen3_integrations.results import Hit, Ranking, Timing, Usage

__version__ = "0.1.0"

__all__ = [
    "DEFAULT_INSTRUCTION",
    "INSTRUCTIONS",
    "Embedder",
    "Engine",
    "FakeEngine",
    "Hit",
    "Qwen3Error",
    "Ranking",
    "Reranker",
    "Timing",
    "Usage",
    "open_engine",
]
