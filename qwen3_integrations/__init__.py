"""Qwen3-Embedding and Qwen3-Reranker as retriever components, right by construction."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

_HOMES = {
    "core.prompts": ("DEFAULT_INSTRUCTION", "INSTRUCTIONS"),
    "core.embedder": ("Embedder",),
    "engines": ("Engine", "FakeEngine", "open_engine"),
    "core.results": ("Hit", "Ranking", "Timing", "Usage"),
    "errors": ("Qwen3Error",),
    "core.reranker": ("Reranker",),
}
"""Where the public names live. They load when they are asked for: numpy alone takes longer than the rest."""


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext qwen3_integrations`: the magics of `qwen3_integrations.notebook.magics`."""
    import_module(f"{__name__}.notebook.magics").load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """`%unload_ext qwen3_integrations`."""
    import_module(f"{__name__}.notebook.magics").unload(shell)
