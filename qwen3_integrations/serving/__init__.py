"""Start, supervise and stop model servers (vLLM, SGLang) on this machine, with the flags that these models need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_integrations.core.lazy import lazy_names

if TYPE_CHECKING:
    from qwen3_integrations.serving.launching import Prepared, astart, prepare, start
    from qwen3_integrations.serving.log import Progress
    from qwen3_integrations.serving.options import ServerOptions
    from qwen3_integrations.serving.progress_bar import start_bar
    from qwen3_integrations.serving.server import Server, attach, servers
    from qwen3_integrations.serving.start_result import Failed, Launched, Reused, StartResult, TimedOut
    from qwen3_integrations.serving.status import ServerStatus

__all__ = [
    "Failed",
    "Launched",
    "Prepared",
    "Progress",
    "Reused",
    "Server",
    "ServerOptions",
    "ServerStatus",
    "StartResult",
    "TimedOut",
    "astart",
    "attach",
    "prepare",
    "servers",
    "start",
    "start_bar",
]

__getattr__ = lazy_names(
    __name__,
    {
        "progress_bar": ("start_bar",),
        "status": ("ServerStatus",),
        "log": ("Progress",),
        "options": ("ServerOptions",),
        "start_result": ("Failed", "Launched", "StartResult", "Reused", "TimedOut"),
        "server": ("Server", "attach", "servers"),
        "launching": ("Prepared", "astart", "prepare", "start"),
    },
)
