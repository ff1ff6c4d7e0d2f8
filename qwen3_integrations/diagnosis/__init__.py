"""What works on this machine, what does not, and what to do about it: `diagnose()`, and `qwen3-integrations doctor`."""

from __future__ import annotations

from qwen3_integrations.diagnosis.checks import diagnose
from qwen3_integrations.diagnosis.finding import Finding, Severity

__all__ = ["Finding", "Severity", "diagnose"]
