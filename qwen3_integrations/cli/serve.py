"""`qwen3-integrations serve embed|rerank MODEL`: start a server, in the foreground or in the background."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from qwen3_integrations.cli.output import ExitCode, console, messages, print_json
from qwen3_integrations.cli.parameters import ending_in_order
from qwen3_integrations.cli.server_options import with_server_options

if TYPE_CHECKING:
    from rich.text import Text

    from qwen3_integrations.serving import Failed, Prepared, Progress, Server, ServerOptions, StartResult, TimedOut


_LOOKED_AT = 200
"""How many of the last lines of an ended server's log are searched for the reason."""


@with_server_options
def serve(
    ctx: typer.Context,
    *,
    timeout: Annotated[float, typer.Option(help="Seconds to wait until the server is ready.")] = 900.0,
    keep_running: Annotated[
        bool, typer.Option("--keep-running", help="Return when the server is ready, and let it continue to run.")
    ] = False,
    reuse: Annotated[bool, typer.Option(help="Use a running server with the same options, if there is one.")] = True,
    handshake: Annotated[Literal["full", "counts", "off"], typer.Option(help="How thoroughly the first answer is checked.")] = "full",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show command and memory plan, and start nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
    **given: Any,
) -> None:
    """Start a server with the flags that these models need, and wait for its first correct answer.

    The server runs in the foreground. It ends with Ctrl-C, or when this process ends for any reason; with --keep-running it stays.
    Without --engine, our own server is started where it can serve the model, else vLLM; the reason is printed.
    Words after -- are passed to the program: serve embed -- --access-log
    """
    from qwen3_integrations.serving import Failed, Reused, ServerOptions, TimedOut, prepare, start
    from qwen3_integrations.serving.log import first_error

    if given["without_key"]:  # the environment may hold a key
        given["api_key"] = None
    passed_on = list(ctx.args)
    if (given["model"] or "").startswith("-"):  # without MODEL, the parser reads the first word after -- as MODEL
        passed_on.insert(0, given["model"])
        given["model"] = None
    options = ServerOptions(**given, extra_args=tuple(passed_on))
    if dry_run:
        with _progress() as report:
            prepared = prepare(options, report)
        _show_plan(options, prepared, as_json=as_json)
        return
    with ending_in_order(), _progress() as report:
        outcome = start(
            options,
            timeout_s=timeout,
            keep_running=keep_running,
            reuse=reuse,
            handshake=handshake,
            on_progress=report,
            on_server=_tell_choice if options.engine == "auto" else None,
        )
    if isinstance(outcome, Failed | TimedOut):
        _show_failure(outcome, as_json=as_json)
        raise typer.Exit(ExitCode.FAILED)
    server = outcome.server
    _show_server(server, outcome, as_json=as_json)
    if keep_running or isinstance(outcome, Reused):
        return
    with server, ending_in_order():
        while server.is_running:
            time.sleep(0.2)
    if server.exit_code:
        reason = f": {why.rstrip('.')}" if (why := first_error(server.logs(_LOOKED_AT))) else ""
        text = f"error: the server ended with exit code {server.exit_code}{reason}\nhint: the whole log is in {server.log_path}"
        messages().print(text, markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(ExitCode.FAILED)


def _tell_choice(server: Server) -> None:
    messages().print(f"{server.program}: {server.reason}", markup=False, highlight=False, soft_wrap=True)


def _show_plan(options: ServerOptions, prepared: Prepared, *, as_json: bool) -> None:
    command = prepared.command(options.port or 8000, "secret")
    if as_json:
        plan = None if prepared.plan is None else {"bytes": prepared.plan.total_bytes, "text": str(prepared.plan)}
        print_json({"command": list(command.argv), "program": str(prepared.installed), "reason": prepared.reason, "memory": plan})
        return
    out = console()
    out.print(f"{prepared.installed}: {prepared.reason}", markup=False, highlight=False, soft_wrap=True)
    out.print(str(command), markup=False, highlight=False, soft_wrap=True)
    if prepared.plan is not None:
        out.print(f"\n{prepared.plan}", markup=False, highlight=False, soft_wrap=True)


def _show_server(server: Server, outcome: StartResult, *, as_json: bool) -> None:
    from qwen3_integrations.serving import Launched

    seconds = round(outcome.seconds, 1) if isinstance(outcome, Launched) else None
    if as_json:
        print_json({"outcome": type(outcome).__name__.lower(), "seconds": seconds, "log": str(server.log_path)} | server.status().to_dict())
        return
    how = f"ready after {seconds} s" if seconds is not None else "already running"
    out = console()
    out.print(f"{server.name}: {server.model} on {server.program}, {how}\n{server.url}", markup=False, highlight=False, soft_wrap=True)
    if server.api_key:
        named = shlex.quote(server.name)
        out.print(f"show its key: qwen3-integrations status {named} --show-keys", markup=False, highlight=False, soft_wrap=True)
    for client, code in server.snippets().items():
        if client in ("curl", "langchain"):
            out.print(f"\n{code}", markup=False, highlight=False, soft_wrap=True)


def _show_failure(outcome: Failed | TimedOut, *, as_json: bool) -> None:
    from qwen3_integrations.serving import Failed

    if isinstance(outcome, Failed):
        facts = {"outcome": "failed", "exit_code": outcome.exit_code, "error": outcome.error, "log": str(outcome.log)}
        text = f"the server did not start: {outcome.error}\nhint: the whole log is in {outcome.log}"
    else:
        outcome.server.stop()
        facts = {"outcome": "timedout", "phase": outcome.phase, "log": str(outcome.server.log_path)}
        text = f"the server was not ready after {outcome.seconds:.0f} s ({outcome.phase}) and was stopped\nhint: use a longer --timeout"
    if as_json:
        print_json(facts)
    messages().print(f"error: {text}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None]]:
    """Show the phases of a start: on a terminal in one line that is updated, elsewhere one line for each phase."""
    out = messages()
    if not out.is_terminal:
        yield _plain_progress(out)
        return
    with out.status("starting", spinner="dots") as status:
        yield lambda progress: status.update(_status_line(progress, out.width))


def _status_line(progress: Progress, width: int) -> Text:
    """A line of the log may have square brackets, which a string would mark up."""
    from rich.text import Text

    return Text(f"{progress}"[: max(20, width - 4)])


def _plain_progress(out: Any) -> Callable[[Progress], None]:
    seen: set[str] = set()

    def report(progress: Progress) -> None:
        if progress.phase not in seen:
            seen.add(progress.phase)
            out.print(f"{progress.phase}, {progress.elapsed_s:.0f} s", highlight=False)

    return report
