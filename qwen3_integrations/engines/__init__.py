"""Engines: torch, vllm, http and fake behind one protocol; wrappers around any of them."""

from __future__ import annotations

from qwen3_integrations.core.engine import Capabilities, Engine
from qwen3_integrations.core.fingerprint import Difference, Fingerprint
from qwen3_integrations.core.types import Job, Reply
from qwen3_integrations.engines.fake import FakeEngine
from qwen3_integrations.engines.registry import backends, open_engine
from qwen3_integrations.engines.sharing import SharedEngine
from qwen3_integrations.engines.wrapper import EngineWrapper

__all__ = [
    "Capabilities",
    "Difference",
    "Engine",
    "EngineWrapper",
    "FakeEngine",
    "Fingerprint",
    "Job",
    "Reply",
    "SharedEngine",
    "backends",
    "open_engine",
]
