"""Engines: torch, vllm, http and fake behind one protocol."""

from __future__ import annotations

from qwen3_integrations.core.engine import Engine
from qwen3_integrations.engines.fake import FakeEngine
from qwen3_integrations.engines.registry import open_engine

__all__ = ["Engine", "FakeEngine", "open_engine"]
