"""Widgets and magics for notebooks. Every widget is a view of a value; the value is complete without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_integrations.core.lazy import lazy_names

if TYPE_CHECKING:
    from qwen3_integrations.notebook.explorer import EmbeddingExplorer
    from qwen3_integrations.notebook.inspector import RankInspector
    from qwen3_integrations.notebook.panel import ServerPanel

__all__ = ["EmbeddingExplorer", "RankInspector", "ServerPanel"]

__getattr__ = lazy_names(__name__, {"explorer": ("EmbeddingExplorer",), "inspector": ("RankInspector",), "panel": ("ServerPanel",)})
