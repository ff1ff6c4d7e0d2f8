"""Widgets and magics for notebooks. Every widget is a view of a value; the value is complete without it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen3_integrations.notebook.explorer import EmbeddingExplorer
    from qwen3_integrations.notebook.inspector import RankInspector
    from qwen3_integrations.notebook.panel import ServerPanel

__all__ = ["EmbeddingExplorer", "RankInspector", "ServerPanel"]

_HOMES = {"explorer": ("EmbeddingExplorer",), "inspector": ("RankInspector",), "panel": ("ServerPanel",)}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
