"""State of the panel for the browser: values of the serving package as plain dictionaries, without any key."""

from __future__ import annotations

import shlex
from typing import Any

from qwen3_integrations.core.html import facts_table
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.memory import in_gib
from qwen3_integrations.notebook.panel_meters import Meter
from qwen3_integrations.serving import Server, ServerOptions, ServerStatus
from qwen3_integrations.serving.preview import Preview
from qwen3_integrations.serving.sizing import Device
from qwen3_integrations.serving.status import duration, status_facts


def preview_view(preview: Preview, options: ServerOptions) -> dict[str, Any]:
    """A preview: the parts of the memory plan, each device, and both command lines."""
    plan = preview.plan
    parts = (
        [] if plan is None else list(zip(_PARTS, (plan.weights_bytes, plan.cache_bytes, plan.pass_bytes, plan.runtime_bytes), strict=True))
    )
    needed = 0 if plan is None else plan.total_bytes
    return {
        "is_here": preview.is_here,
        "model": options.model_name,
        "parts": [{"name": name, "bytes": size, "text": in_gib(size)} for name, size in parts],
        "needed": in_gib(needed),
        "detail": "" if plan is None else plan.detail,
        "devices": [_device(device, needed) for device in preview.devices],
        "refusal": preview.refusal,
        "warning": options.warning or "",
        "command": shlex.join(preview.command),
        "cli": shlex.join(options.to_words()),
    }


_PARTS = ("weights", "cache", "forward pass", "runtime")


def _device(device: Device, needed: int) -> dict[str, Any]:
    left = device.free_bytes - needed * device.processes
    return {
        "name": device.name,
        "total_bytes": device.total_bytes,
        "free_bytes": device.free_bytes,
        "processes": device.processes,
        "total": in_gib(device.total_bytes),
        "free": in_gib(device.free_bytes),
        "left_bytes": left,
        "left": in_gib(abs(left)),
    }


def server_view(server: Server) -> dict[str, Any]:
    """The facts of a server that do not change while it runs."""
    try:
        options = server.options
    except ConfigError:  # started by another version of this package
        options = None
    key = "known" if server.api_key is not None else "none" if options is not None and options.without_key else "unknown"
    return {
        "name": server.name,
        "task": server.task,
        "model": server.model,
        "program": server.program,
        "url": server.url,
        "address": server.url if server.url.startswith("unix://") else f"{server.url}/v1",
        "key": key,
        "keep_running": server.keep_running,
        "owned": server.owned,
        "snippets": server.snippets(),
        "command": shlex.join(server.command),
        "cli": "" if options is None else shlex.join(options.to_words()),
    }


def load_view(status: ServerStatus, meter: Meter) -> dict[str, Any]:
    """The facts of a server that change while it runs."""
    load = status.load
    return {
        "healthy": status.state == "ready",
        "running": load.running,
        "waiting": load.waiting,
        "requests": load.requests,
        "tokens": load.prompt_tokens,
        "rates": [round(rate, 1) for rate in meter.rates],
        "up": duration(status.uptime_s),
        "pid": status.pid,
        "owner_pid": status.owner_pid,
    }


def other_view(server: Server) -> dict[str, str]:
    """A server to attach to."""
    return {"name": server.name, "model": server.model, "task": server.task, "program": server.program, "url": server.url}


def static_view(state: str, note: str, options: ServerOptions | None, status: ServerStatus | None, plan: str) -> str:
    """The panel as HTML without scripts. It is read later, so it says that the state is that of the moment at which it was made."""
    title = f"{state} when this was shown{f': {note}' if note else ''}"
    if status is not None:
        return facts_table(title, {"name": status.name} | status_facts(status))
    if options is None:
        return facts_table(title, {})
    return facts_table(title, {"model": options.model_name, "task": options.task, "engine": options.engine, "memory": plan or None})
