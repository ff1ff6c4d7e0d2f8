"""The command line: `qwen3-integrations`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from qwen3_integrations import __version__
from qwen3_integrations.errors import Qwen3Error
from qwen3_integrations.models import TINY

app = typer.Typer(name="qwen3-integrations", help="Qwen3 embeddings and reranking.", no_args_is_help=True, pretty_exceptions_enable=False)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    """Qwen3 embeddings and reranking."""


@app.command()
def demo(
    query: Annotated[str, typer.Argument(help="What to look for in the standard library's documentation.")] = "sort a list of numbers",
    model: Annotated[str, typer.Option(help="Embedding model: a name or a folder.")] = TINY,
    reranker: Annotated[str, typer.Option(help="Reranker: a name or a folder.")] = TINY,
    base_url: Annotated[str | None, typer.Option(help="A server's address for the embedding model.")] = None,
    reranker_url: Annotated[str | None, typer.Option(help="A server's address for the reranker.")] = None,
    instruction: Annotated[str | None, typer.Option(help="What relevance means; one English sentence.")] = None,
    retrieve: Annotated[int, typer.Option(min=1, help="How many texts the embedder hands to the reranker.")] = 20,
    show: Annotated[int, typer.Option(min=1, help="How many of them to show.")] = 10,
    texts: Annotated[int, typer.Option(min=1, help="At most so many texts; a real model on a CPU takes seconds for each.")] = 100_000,
) -> None:
    """Index the docstrings of the installed standard library, retrieve, rerank, and show what moved.

    With the bundled toy models (the default) this runs offline; they show the wiring, not quality.
    """
    from qwen3_integrations.demo import run_demo, show_demo

    try:
        result = run_demo(
            query,
            model=model,
            reranker=reranker,
            base_url=base_url,
            reranker_url=reranker_url,
            instruction=instruction,
            retrieve=retrieve,
            most_texts=texts,
        )
    except Qwen3Error as error:
        Console(stderr=True).print(f"error: {error}", markup=False, highlight=False)
        raise typer.Exit(1) from None
    show_demo(result, show)
