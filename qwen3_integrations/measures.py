"""Metrics of rankings; the public name of `qwen3_integrations.analysis.metrics`."""

from __future__ import annotations

from qwen3_integrations.analysis.metrics import *  # noqa: F403
from qwen3_integrations.analysis.metrics import __all__ as __all__  # noqa: PLC0414
