"""A server's status, and its HTML table, which needs no scripts and styles: for exported notebooks and code hosts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from qwen3_integrations.core.html import facts_table
from qwen3_integrations.core.types import Task
from qwen3_integrations.serving.choice import NAMED
from qwen3_integrations.serving.health import Load

ServerState = Literal["starting", "ready", "not answering", "stopped"]


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """A server at one moment.

    Attributes:
        name, task, model, engine, url: As in `Server`.
        state: `starting`, `ready`, `not answering` (it was ready, or a process of it is frozen) or `stopped`.
        pid: The server's process, and its process group.
        owner_pid: The process that started it. It ends with that process unless `keep_running`.
        keep_running: Whether it continues without its owner.
        uptime_s: Seconds since it was started.
        load: Its load.
        reason: Why its program was chosen.
    """

    name: str
    task: Task
    model: str
    engine: str
    url: str
    state: ServerState
    pid: int
    owner_pid: int
    keep_running: bool
    uptime_s: float
    load: Load
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        load = {name: getattr(self.load, name) for name in Load.__slots__}
        return {name: getattr(self, name) for name in ServerStatus.__slots__ if name != "load"} | {"load": load}

    def _repr_html_(self) -> str:
        return status_table(self)


def status_table(status: ServerStatus) -> str:
    """The HTML table of a status, one fact a row."""
    return facts_table(f"{status.name}: {status.state}", status_facts(status))


def status_facts(status: ServerStatus) -> dict[str, object]:
    """The facts by name; None for what the server does not report."""
    load = status.load
    life = "continues without the process that started it" if status.keep_running else f"ends with process {status.owner_pid}"
    running = [f"{load.running:,} in flight"] if load.running is not None else []
    running += [f"{load.waiting:,} in the queue"] if load.waiting is not None else []
    done = [f"{load.requests:,} prompts"] if load.requests is not None else []
    done += [f"{load.prompt_tokens:,} tokens"] if load.prompt_tokens is not None else []
    return {
        "model": status.model,
        "task": status.task,
        "address": status.url,
        "program": status.engine + (f" ({status.reason})" if status.reason not in ("", NAMED) else ""),
        "process": f"{status.pid}, up {duration(status.uptime_s)}, {life}",
        "requests": ", ".join(running) or None,
        "answered": ", ".join(done) or None,
    }


def duration(seconds: float) -> str:
    """Seconds as `45 s`, `3 min` or `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
