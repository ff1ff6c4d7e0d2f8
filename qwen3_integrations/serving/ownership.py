"""Which running servers a command without a name acts on: the user's own, and not those of another program that still runs."""

from __future__ import annotations

import os

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.serving.server import Server, servers


def own_servers() -> tuple[tuple[Server, ...], tuple[Server, ...]]:
    """This user's running servers, in two parts.

    Returns:
        The own servers of this process: those that it or a process above it started (a notebook runs commands too), those of commands in
        any terminal, and those whose starter has ended. And the others: of notebooks and programs that run and may be using them.
    """
    above = _processes_above()
    running = servers()
    own = tuple(server for server in running if server.owner_pid in above or not _is_of_a_program(server))
    return own, tuple(server for server in running if server not in own)


def only_own_server() -> Server:
    """The own server of this process, if there is just one.

    Raises:
        ConfigError: If there is none, or several; lists them, and the others with the processes that started them.
    """
    own, others = own_servers()
    if len(own) == 1:
        return own[0]
    names = ", ".join(server.name for server in own) or "none"
    more = "".join(f", {server.name} (of process {server.owner_pid})" for server in others)
    if others and not own:
        raise ConfigError(
            f"the running server{'s were' if len(others) > 1 else ' was'} started by another program, so a name is needed",
            advice=f"Running: {more[2:]}. Name it, or use --all",
        )
    whose = "servers of yours" if own else "servers"
    raise ConfigError(f"{len(own)} {whose} are running here, so a name is needed", advice=f"Running: {names}{more}")


def _processes_above() -> frozenset[int]:
    """This process and the processes above it."""
    import psutil

    try:
        return frozenset({os.getpid(), *(each.pid for each in psutil.Process().parents())})
    except psutil.Error:
        return frozenset({os.getpid()})


def _is_of_a_program(server: Server) -> bool:
    """Whether the process that started a server still runs, and is not this package's `serve` command."""
    import psutil

    owner = server.owner
    try:
        words = owner.cmdline() if owner is not None else []
    except psutil.Error:  # it has just ended
        words = []
    is_command = any(word.rpartition("/")[2] == "qwen3-integrations" or word == "qwen3_integrations.cli" for word in words[:4])
    return owner is not None and not (is_command and "serve" in words)
