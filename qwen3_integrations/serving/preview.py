"""Preview a start: nothing is downloaded, nothing is started, and nothing is raised."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from qwen3_integrations.errors import Qwen3Error
from qwen3_integrations.models.checkpoint import read_model
from qwen3_integrations.models.hub import find_model
from qwen3_integrations.models.memory import MemoryPlan
from qwen3_integrations.serving.choice import choose
from qwen3_integrations.serving.launching import check_port, prepare
from qwen3_integrations.serving.options import ServerOptions
from qwen3_integrations.serving.sizing import Device, devices_for, plan_server

SOME_PORT = 8000
"""Placeholder in the command for a port that is chosen at the start."""


@dataclass(frozen=True, slots=True)
class Preview:
    """A possible start.

    Attributes:
        is_here: Whether the model is on this machine; only then its memory can be planned.
        plan: The memory of one of the server's processes; None where it is not known, or left to the server.
        devices: The devices it would run on, with their memory now.
        command: The server's own command line, without a key; empty where it is not known.
        refusal: The reason why a start would fail now; empty if none is known.
    """

    is_here: bool = False
    plan: MemoryPlan | None = None
    devices: tuple[Device, ...] = ()
    command: tuple[str, ...] = ()
    refusal: str = ""


def preview(options: ServerOptions) -> Preview:
    """Find out what `start` would do now.

    Args:
        options: The options.
    """
    folder: Path | None = None
    plan: MemoryPlan | None = None
    devices: tuple[Device, ...] = ()
    try:
        installed = choose(options, None).installed
        devices = devices_for(options, installed)
        folder = find_model(options.model_name, options.task, source=options.source, revision=options.revision)
        if folder is None:
            return Preview(devices=devices)
        with contextlib.suppress(Qwen3Error):  # `prepare` below gives the reason in the words of a start
            files = read_model(folder, options.task)
            installed = choose(options, files).installed
            devices = devices_for(options, installed)
            plan = plan_server(options, files, installed)
        check_port(options)
        prepared = prepare(options)
        command = prepared.command(options.port or SOME_PORT, None if options.without_key else "key").argv
    except Qwen3Error as error:
        return Preview(folder is not None, plan, devices, refusal=str(error))
    return Preview(True, plan, devices, command)
