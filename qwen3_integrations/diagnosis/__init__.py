"""Diagnose this machine: what works, what does not, how to fix it. `diagnose()` is behind `qwen3-integrations doctor`."""

from __future__ import annotations

from qwen3_integrations.diagnosis.checks import diagnose
from qwen3_integrations.diagnosis.finding import Finding, Severity

__all__ = ["Finding", "Severity", "diagnose"]
