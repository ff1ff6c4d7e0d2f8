"""A server elsewhere: what it speaks, whether it is right, and how many callers share its requests."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen3_integrations.engines.http.engine import HttpEngine

__all__ = ["HttpEngine"]


def __getattr__(name: str) -> Any:
    if name == "HttpEngine":  # loaded when it is used
        return getattr(import_module(f"{__name__}.engine"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
