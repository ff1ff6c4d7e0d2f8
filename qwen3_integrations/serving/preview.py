"""What a start would do, for somebody who has not decided yet: nothing is downloaded, nothing is started, and nothing raised."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from qwen3_integrations.errors import Qwen3Error
from qwen3_integrations.models.checkpoint import read_model
from qwen3_integrations.models.hub import find_model
from qwen3_integrations.models.memory import MemoryPlan
from qwen3_integrations.serving.installed import find_server
from qwen3_integrations.serving.launching import prepare
from qwen3_integrations.serving.options import ServerOptions
from qwen3_integrations.serving.sizing import Device, devices_for, plan_server

SOME_PORT = 8000
"""Stands in the command for a port that is only found at the start."""


@dataclass(frozen=True, slots=True)
class Preview:
    """A start that has not happened.

    Attributes:
        is_here: Whether the model is on this machine; only then its memory can be planned.
        plan: The memory of one of the server's processes; None where it is not known, or left to the server.
        devices: What it would run on, as it is now.
        command: The server's own command line, without any key; empty where it is not known.
        refusal: Why a start would be refused now; empty where nothing is known to stand against it.
    """

    is_here: bool = False
    plan: MemoryPlan | None = None
    devices: tuple[Device, ...] = ()
    command: tuple[str, ...] = ()
    refusal: str = ""


def preview(options: ServerOptions) -> Preview:
    """Work out what `start` would do now.

    Args:
        options: What was asked for.
    """
    folder: Path | None = None
    plan: MemoryPlan | None = None
    devices: tuple[Device, ...] = ()
    try:
        installed = find_server(options.engine, options.python)
        devices = devices_for(options, installed)
        folder = find_model(options.model_name, options.task, source=options.source, revision=options.revision)
        if folder is None:
            return Preview(devices=devices)
        with contextlib.suppress(Qwen3Error):  # what is wrong is said below, as a start would say it
            plan = plan_server(options, read_model(folder, options.task))
        prepared = prepare(options)
        command = prepared.command(options.port or SOME_PORT, None if options.without_key else "key").argv
    except Qwen3Error as error:
        return Preview(folder is not None, plan, devices, refusal=str(error))
    return Preview(True, plan, devices, command)
