"""The command line that starts a server, made from its options by pure functions."""

from __future__ import annotations

from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.memory import MemoryPlan
from qwen3_integrations.serving.argv import Command
from qwen3_integrations.serving.extra_flags import check_extra
from qwen3_integrations.serving.hidden import Masked
from qwen3_integrations.serving.installed import Installed
from qwen3_integrations.serving.options import ServerOptions
from qwen3_integrations.serving.programs import PROGRAMS
from qwen3_integrations.serving.programs.program import Request


def build_command(
    options: ServerOptions,
    files: ModelFiles,
    installed: Installed,
    *,
    port: int,
    api_key: str | None,
    plan: MemoryPlan | None = None,
    share: float | None = None,
    cpu: bool = False,
) -> Command:
    """The command that serves a model with these options.

    Args:
        options, files, installed, port, plan, share, cpu: As in `Request`.
        api_key: The key; None for no key.

    Raises:
        ConfigError: For an option that this engine or this version does not have.
    """
    check_extra(options.extra_args, installed)
    return PROGRAMS[installed.engine].command(Request(options, files, installed, port, Masked(api_key), plan, share, cpu))
