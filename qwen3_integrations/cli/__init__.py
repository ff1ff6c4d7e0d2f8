"""The command line: `qwen3-integrations`."""

from __future__ import annotations

from typing import Annotated

import typer

from qwen3_integrations import __version__
from qwen3_integrations.cli import demo, doctor, download, embed, rerank, serve, servers, verify
from qwen3_integrations.cli.output import EXIT_CODES, Commands
from qwen3_integrations.cli.server_options import ServeCommand

__all__ = ["app"]

app = typer.Typer(
    name="qwen3-integrations",
    cls=Commands,
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo.demo)
app.command("serve", cls=ServeCommand, context_settings={"allow_extra_args": True, "ignore_unknown_options": False})(serve.serve)
app.command("status")(servers.status)
app.command("stop")(servers.stop)
app.command("logs")(servers.logs)
app.command("doctor")(doctor.doctor)
app.command("download")(download.download)
app.command("verify")(verify.verify)
app.command("embed")(embed.embed)
app.command("rerank")(rerank.rerank)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    """Qwen3 embeddings and reranking: start servers, embed and rerank files, check servers and this machine."""
