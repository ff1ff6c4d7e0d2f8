"""`qwen3-integrations demo`."""

from __future__ import annotations

from typing import Annotated

import typer

from qwen3_integrations.models.catalog import DEFAULT_MODELS, TINY


def _which(what: str, option: str, real: str) -> str:
    return f"{what}: a name or a folder. Unless told: {real} with {option}, else the bundled {TINY}."


def demo(
    query: Annotated[str, typer.Argument(help="What to look for in the standard library's documentation.")] = "sort a list of numbers",
    model: Annotated[str | None, typer.Option(help=_which("Embedding model", "--base-url", DEFAULT_MODELS["embed"]))] = None,
    reranker: Annotated[str | None, typer.Option(help=_which("Reranker", "--reranker-url", DEFAULT_MODELS["rerank"]))] = None,
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
    from qwen3_integrations.cli.docstring_search import run_demo, show_demo

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
    show_demo(result, show)
