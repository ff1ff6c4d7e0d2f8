"""`qwen3-integrations demo`."""

from __future__ import annotations

from typing import Annotated

import typer

from qwen3_integrations.models.catalog import DEFAULT_MODELS, TINY


def _which(what: str, option: str, real: str) -> str:
    return f"{what}: a name or a folder. Default: {real} with {option}, otherwise the bundled {TINY}."


def demo(
    query: Annotated[str, typer.Argument(help="The query to search the standard library's documentation for.")] = "sort a list of numbers",
    model: Annotated[str | None, typer.Option(help=_which("Embedding model", "--base-url", DEFAULT_MODELS["embed"]))] = None,
    reranker: Annotated[str | None, typer.Option(help=_which("Reranker", "--reranker-url", DEFAULT_MODELS["rerank"]))] = None,
    base_url: Annotated[str | None, typer.Option(help="A server's address for the embedding model.")] = None,
    reranker_url: Annotated[str | None, typer.Option(help="A server's address for the reranker.")] = None,
    instruction: Annotated[str | None, typer.Option(help="The task instruction that defines relevance: one English sentence.")] = None,
    retrieve: Annotated[int, typer.Option(min=1, help="How many texts to retrieve and rerank.")] = 20,
    show: Annotated[int, typer.Option(min=1, help="How many of them to print.")] = 10,
    texts: Annotated[int, typer.Option(min=1, help="Most texts to index; a real model on a CPU takes seconds for each.")] = 100_000,
) -> None:
    """Index the docstrings of the installed standard library, retrieve, rerank, and show how the order changed.

    With the bundled toy models (the default) this runs offline. They show how it works, not how good the real models are.
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
