"""Engines: torch, vllm, http and fake behind one protocol."""

from __future__ import annotations

from qwen3_integrations.engines.fake import FakeEngine
from qwen3_integrations.engines.opening import open_engine
from qwen3_integrations.engines.protocol import Engine

__all__ = ["Engine", "FakeEngine", "open_engine"]
