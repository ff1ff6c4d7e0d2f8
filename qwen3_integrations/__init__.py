"""Qwen3-Embedding and Qwen3-Reranker as retriever components, right by construction."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from qwen3_integrations.core.lazy import lazy_names

if TYPE_CHECKING:
    from qwen3_integrations.core.embedder import Embedder
    from qwen3_integrations.core.prompts import DEFAULT_INSTRUCTION, INSTRUCTIONS
    from qwen3_integrations.core.reranker import Reranker
    from qwen3_integrations.core.results import Hit, Ranking, Timing, Usage
    from qwen3_integrations.engines import Engine, FakeEngine, open_engine
    from qwen3_integrations.errors import Qwen3Error

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

__getattr__ = lazy_names(
    __name__,
    {
        "core.prompts": ("DEFAULT_INSTRUCTION", "INSTRUCTIONS"),
        "core.embedder": ("Embedder",),
        "engines": ("Engine", "FakeEngine", "open_engine"),
        "core.results": ("Hit", "Ranking", "Timing", "Usage"),
        "errors": ("Qwen3Error",),
        "core.reranker": ("Reranker",),
    },
)
"""Public names are loaded on first use: numpy alone takes longer than the rest of the import."""


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext qwen3_integrations`: the magics of `qwen3_integrations.notebook.magics`."""
    import_module(f"{__name__}.notebook.magics").load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """`%unload_ext qwen3_integrations`."""
    import_module(f"{__name__}.notebook.magics").unload(shell)
