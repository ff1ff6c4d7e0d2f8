"""`qwen3-integrations status`, `stop` and `logs`: the servers that run on this machine."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from qwen3_integrations.cli.output import console, messages, print_json
from qwen3_integrations.errors import EngineError

if TYPE_CHECKING:
    from qwen3_integrations.serving import Server

Name = Annotated[str | None, typer.Argument(help="A server's name or address, as printed by `status`; not needed if only one runs.")]
_FOLLOW_S = 0.3


def status(
    name: Name = None,
    show_keys: Annotated[bool, typer.Option("--show-keys", help="Show the servers' keys, which are secret.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, a list.")] = False,
) -> None:
    """List the servers that run on this machine, started from the command line, a notebook or a program."""
    from qwen3_integrations.serving import attach, servers

    found = [attach(name)] if name else list(servers())
    if as_json:
        print_json([server.status().to_dict() | ({"api_key": server.api_key} if show_keys else {}) for server in found])
        return
    if not found:
        messages().print("no servers run here; `qwen3-integrations serve embed MODEL` starts one", highlight=False, soft_wrap=True)
        return
    for server in found:
        _show(server, show_key=show_keys)


def stop(
    names: Annotated[list[str] | None, typer.Argument(help="Names or addresses of servers; not needed if only one runs.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Stop all servers of this machine.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, the names of the stopped servers.")] = False,
) -> None:
    """Stop servers and all their processes."""
    from qwen3_integrations.serving import attach, servers

    chosen = list(servers()) if everything else [attach(name) for name in names] if names else [attach()]
    stopped, failure = [], None
    for server in chosen:
        try:
            server.stop()
        except EngineError as error:  # the other servers are stopped nevertheless
            failure = error
            continue
        stopped.append(server.name)
        if not as_json:
            console().print(f"stopped {server.name}", highlight=False)
    if as_json:
        print_json(stopped)
    elif not chosen:
        messages().print("no servers run here", highlight=False)
    if failure is not None:
        raise failure


def logs(
    name: Name = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines to print.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print new lines until the server ends or Ctrl-C.")] = False,
) -> None:
    """Show a server's log."""
    from qwen3_integrations.serving import attach
    from qwen3_integrations.serving.log import LogReader

    server = attach(name)
    if not server.log_path.is_file():
        raise EngineError(f"the log of {server.name} does not exist any more: {server.log_path}")
    reader = LogReader(server.log_path, server.log_path.stat().st_size)
    _write(server.logs(lines))
    while follow:
        running = server.is_running
        _write(reader.lines())
        if not running:
            break
        time.sleep(_FOLLOW_S)


def _write(lines: list[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


def _show(server: Server, *, show_key: bool) -> None:
    from qwen3_integrations.serving.status import duration

    now = server.status()
    out = console()
    life = "keeps running" if now.keep_running else f"ends with process {now.owner_pid}"
    out.print(f"{now.name}: {now.state}, {now.task} {now.model} on {now.engine}", markup=False, highlight=False, soft_wrap=True)
    out.print(f"  {now.url}", markup=False, highlight=False, soft_wrap=True)
    out.print(f"  process {now.pid}, up {duration(now.uptime_s)}, {life}", markup=False, highlight=False, soft_wrap=True)
    load = now.load
    if load.running is not None:
        parts = [f"{load.running} running", f"{load.waiting or 0} waiting"]
        parts += [f"{load.requests:,} prompts answered"] if load.requests is not None else []
        parts += [f"{load.prompt_tokens:,} tokens read"] if load.prompt_tokens is not None else []
        out.print(f"  {', '.join(parts)}", markup=False, highlight=False, soft_wrap=True)
    if show_key:
        out.print(f"  key: {server.api_key or 'none'}", markup=False, highlight=False, soft_wrap=True)
