"""Check an endpoint: `verify` and its `Report`, which names each fault and its fix."""

from __future__ import annotations

from qwen3_integrations.verification.report import Check, Report, State
from qwen3_integrations.verification.run import verify

__all__ = ["Check", "Report", "State", "verify"]
