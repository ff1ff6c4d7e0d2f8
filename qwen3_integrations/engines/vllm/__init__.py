"""Embedded vLLM (its own worker process): the engine, its start, and the thread that owns it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_integrations.core.lazy import lazy_names

if TYPE_CHECKING:
    from qwen3_integrations.engines.vllm.engine import VllmEngine

__all__ = ["VllmEngine"]

__getattr__ = lazy_names(__name__, {"engine": ("VllmEngine",)})
