"""PyTorch in this process: prompts packed into forward passes, an own forward pass, and one queue for all callers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen3_integrations.engines.torch.engine import TorchEngine

__all__ = ["TorchEngine"]


def __getattr__(name: str) -> Any:
    if name == "TorchEngine":  # loaded when it is used
        return getattr(import_module(f"{__name__}.engine"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
