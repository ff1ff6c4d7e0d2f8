"""`qwen3-integrations verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from qwen3_integrations.cli.output import ExitCode, console, messages, print_json
from qwen3_integrations.engines.http.dialects import DIALECT_NAMES
from qwen3_integrations.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from qwen3_integrations.serving import Server
    from qwen3_integrations.verification import Report

COLOURS = {"passed": "green", "warned": "yellow", "failed": "bold red", "skipped": "dim"}


def verify(
    url: Annotated[str, typer.Argument(help="The server's address, with or without /v1; or the name of a server of this machine.")],
    task: Annotated[Literal["embed", "rerank"] | None, typer.Option(help="The server's task. Default: determined by a request.")] = None,
    model: Annotated[str | None, typer.Option(help="The model's name on the server. Default: the first that it lists.")] = None,
    adapter: Annotated[
        str | None, typer.Option(help="The name of a LoRA adapter on the server: check it, and that its answers differ from its model's.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(help="The server's key. Default: the known key of a server of this machine, otherwise QWEN3_API_KEY.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder with the model's tokenizer.json. Default: a local copy of the model, if there is one.")
    ] = None,
    dialect: Annotated[str, typer.Option(help=f"The server's dialect: {', '.join(DIALECT_NAMES)}; auto determines it.")] = "auto",
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for one request.")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")] = False,
) -> None:
    """Check that a server gives correct answers, or say exactly what is wrong with it.

    Any server: vLLM, SGLang, TEI, infinity, OpenAI-compatible. Exits with 1 when a check failed; warnings do not count.
    """
    from qwen3_integrations.verification import verify as check

    # Key and tokenizer of a server that was started here are known. Its key comes before the environment's, which may be another server's.
    server = _started_here(url)
    if server is not None:
        url, api_key, tokenizer = server.url, api_key or server.api_key, tokenizer or server.model_folder
    with messages().status("connecting") as shown:
        report = check(
            url,
            task,
            model,
            api_key,
            adapter=adapter,
            on_check=lambda name: shown.update(f"checking: {name}"),
            tokenizer=tokenizer,
            dialect=dialect,
            timeout_s=timeout,
        )
    if as_json:
        print_json(
            {
                "url": report.url,
                "task": report.task,
                "model": report.model,
                "dialect": report.dialect,
                "ok": report.ok,
                "checks": report.to_dicts(),
            }
        )
    else:
        show_report(report, console())
    if not report.ok:
        raise typer.Exit(ExitCode.FAILED)


def _started_here(url: str) -> Server | None:
    """The server of this machine with that name or address; None if there is none."""
    from qwen3_integrations.serving import servers

    try:
        running = servers()
    except (ConfigError, OSError):
        if "://" in url:  # an address does not need the folder of this machine's servers
            return None
        raise
    return next((server for server in running if url.rstrip("/") in (server.name, server.url, f"{server.url}/v1")), None)


def show_report(report: Report, out: Console) -> None:
    """Print a report: a table on a terminal, elsewhere one line per check. Text to copy follows the table, without line breaks."""
    from rich.table import Table
    from rich.text import Text

    if not out.is_terminal:
        out.print(str(report), markup=False, highlight=False, soft_wrap=True)
        return
    table = Table("", "check", "detail", box=None, pad_edge=False, header_style="dim")
    for check in report.checks:
        colour = COLOURS[check.state]
        table.add_row(Text(check.state, colour), Text(check.name), Text(check.detail, "dim" if check.state == "skipped" else ""))
    out.print(Text(report.title), soft_wrap=True)
    out.print(table)
    for fix, names in report.fixes.items():
        out.print(Text.assemble("\n", (f"fix for {', '.join(names)}: ", "bold"), fix), soft_wrap=True)
    out.print(Text(f"\n{report.summary}", "bold green" if report.ok else "bold red"), soft_wrap=True)
