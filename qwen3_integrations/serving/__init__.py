"""Servers that start right, and end: vLLM and SGLang with the flags these models need, on this machine."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen3_integrations.serving.launching import Prepared, astart, prepare, start
    from qwen3_integrations.serving.log import Progress
    from qwen3_integrations.serving.options import ServerOptions
    from qwen3_integrations.serving.outcomes import Failed, Launched, Outcome, Reused, TimedOut
    from qwen3_integrations.serving.server import Server, ServerStatus, attach, servers

__all__ = [
    "Failed",
    "Launched",
    "Outcome",
    "Prepared",
    "Progress",
    "Reused",
    "Server",
    "ServerOptions",
    "ServerStatus",
    "TimedOut",
    "astart",
    "attach",
    "prepare",
    "servers",
    "start",
]

_HOMES = {
    "log": ("Progress",),
    "options": ("ServerOptions",),
    "outcomes": ("Failed", "Launched", "Outcome", "Reused", "TimedOut"),
    "server": ("Server", "ServerStatus", "attach", "servers"),
    "launching": ("Prepared", "astart", "prepare", "start"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
