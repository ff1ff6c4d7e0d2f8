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
_OTHERS = "those that a running notebook or program started"


def status(
    name: Name = None,
    everything: Annotated[bool, typer.Option("--all", help=f"List {_OTHERS} too.")] = False,
    show_keys: Annotated[bool, typer.Option("--show-keys", help="Show the servers' keys, which are secret.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, a list.")] = False,
) -> None:
    """List your servers that run on this machine, started from the command line, or by a notebook or program that has ended."""
    from qwen3_integrations.serving import attach
    from qwen3_integrations.serving.ownership import own_servers

    own, others = ((attach(name),), ()) if name else own_servers()
    found = [*own, *(others if everything else ())]
    if as_json:
        print_json([server.status().to_dict() | ({"api_key": server.api_key} if show_keys else {}) for server in found])
        return
    for server in found:
        _show(server, show_key=show_keys)
    if others and not everything:
        _tell(f"{_counted(others)}: `qwen3-integrations status --all` lists {'it' if len(others) == 1 else 'them'} too")
    elif not found:
        _tell("no servers run here; `qwen3-integrations serve embed MODEL` starts one")


def stop(
    names: Annotated[list[str] | None, typer.Argument(help="Names or addresses of servers; not needed if only one runs.")] = None,
    everything: Annotated[bool, typer.Option("--all", help=f"Stop all your servers, {_OTHERS} too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, the names of the stopped servers.")] = False,
) -> None:
    """Stop servers and all their processes. A server of a running notebook or program is stopped only by its name, or with --all."""
    from qwen3_integrations.serving import attach, servers
    from qwen3_integrations.serving.ownership import only_own_server

    chosen = list(servers()) if everything else [attach(name) for name in names] if names else [only_own_server()]
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
        _tell("no servers run here")
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


def _counted(others: tuple[Server, ...]) -> str:
    return f"{len(others)} server{' runs' if len(others) == 1 else 's run'} here that other programs started"


def _tell(text: str) -> None:
    messages().print(text, markup=False, highlight=False, soft_wrap=True)


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
