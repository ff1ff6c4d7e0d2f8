"""The running servers and the starts in progress, as a list for the side panel. It has no keys."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from qwen3_integrations import serving
from qwen3_integrations.errors import Qwen3Error
from qwen3_integrations.labextension.panels import Panels
from qwen3_integrations.labextension.usage import DeviceUsage
from qwen3_integrations.serving import Server
from qwen3_integrations.serving.status import duration

_LEAST_S = 1.0
"""Seconds between two looks at the servers, however many pages ask."""


class Overview:
    """What the side panel lists.

    Args:
        panels: The panels of this process.
    """

    def __init__(self, panels: Panels) -> None:
        self._panels = panels
        self._usage = DeviceUsage()
        self._lock = threading.Lock()
        self._at = 0.0
        self._servers: list[dict[str, Any]] = []

    def now(self) -> dict[str, Any]:
        """The lists `servers`, `starts` and `devices`, and `problem`: why the servers can't be listed, or an empty text."""
        problem = ""
        with self._lock:
            if time.monotonic() - self._at >= _LEAST_S:
                try:
                    self._servers = _facts(serving.servers())
                except Qwen3Error as error:
                    self._servers, problem = [], str(error)
                self._at = time.monotonic()
            servers = self._servers
        starts, of = [], {}
        for name, panel in self._panels.starts().items():
            facts = panel.to_dict()
            if facts["server"] is not None:
                of[facts["server"]] = name, facts
            if facts["server"] is None:
                starts.append({"panel": name, **facts})
        return {
            "servers": [_with_start(server, of) for server in servers],
            "starts": starts,
            "devices": self._usage.now(),
            "problem": problem,
        }

    def forget(self) -> None:
        """Look again at the next call, because something has changed."""
        self._at = 0.0


def _facts(found: tuple[Server, ...]) -> list[dict[str, Any]]:
    if not found:
        return []
    with ThreadPoolExecutor(min(8, len(found))) as pool:
        states = pool.map(lambda server: server.status(), found)
        return [
            {
                "name": status.name,
                "task": status.task,
                "model": status.model,
                "program": status.engine,
                "url": status.url,
                "state": status.state,
                "up": duration(status.uptime_s),
                "keep_running": status.keep_running,
                "owned": status.owner_pid == os.getpid(),
                "owner_pid": status.owner_pid,
                "running": status.load.running,
                "waiting": status.load.waiting,
            }
            for status in states
        ]


def _with_start(server: dict[str, Any], of: dict[str, Any]) -> dict[str, Any]:
    """While a server starts, its panel knows more than its health: the phase, and how much of it is done."""
    if server["name"] not in of:
        return server | {"panel": None, "fraction": None, "detail": "", "first_error": ""}
    name, facts = of[server["name"]]
    state = facts["state"] if server["state"] == "starting" else server["state"]
    return server | {"panel": name, "state": state, **{key: facts[key] for key in ("fraction", "detail", "first_error")}}
