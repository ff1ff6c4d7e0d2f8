"""Arithmetic on embeddings; the public name of `qwen3_integrations.analysis.vectors`."""

from __future__ import annotations

from qwen3_integrations.analysis.vectors import *  # noqa: F403
from qwen3_integrations.analysis.vectors import __all__ as __all__  # noqa: PLC0414
