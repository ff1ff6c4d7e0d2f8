"""Proving that an endpoint is right, or saying exactly what is wrong with it: `verify` and its `Report`."""

from __future__ import annotations

from qwen3_integrations.verification.report import Check, Report, State
from qwen3_integrations.verification.run import verify

__all__ = ["Check", "Report", "State", "verify"]
