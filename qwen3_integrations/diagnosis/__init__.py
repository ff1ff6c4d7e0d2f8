"""Diagnose this machine: what works, what does not, how to fix it. `diagnose()` is behind `qwen3-integrations doctor`."""

from __future__ import annotations

from qwen3_integrations.diagnosis.checks import diagnose
from qwen3_integrations.diagnosis.finding import Finding, Severity
from qwen3_integrations.diagnosis.model import EngineFinding, ModelDiagnosis, diagnose_model

__all__ = ["EngineFinding", "Finding", "ModelDiagnosis", "Severity", "diagnose", "diagnose_model"]
