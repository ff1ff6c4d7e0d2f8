"""PyTorch in this process: prompts packed into forward passes, an own forward pass, and one queue for all callers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_integrations.core.lazy import lazy_names

if TYPE_CHECKING:
    from qwen3_integrations.engines.torch.engine import TorchEngine

__all__ = ["TorchEngine"]

__getattr__ = lazy_names(__name__, {"engine": ("TorchEngine",)})
