"""`qwen3-integrations rerank`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from qwen3_integrations.cli import parameters
from qwen3_integrations.cli.functions import named_function
from qwen3_integrations.cli.output import ExitCode, console, messages, print_json

if TYPE_CHECKING:
    from qwen3_integrations.core.results import Ranking


def rerank(
    query: Annotated[str, typer.Argument(help="The query.")],
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A file of documents, one a line; - is standard input.")] = "-",
    input_format: parameters.InputKind = None,
    field: parameters.Field = "text",
    on_error: parameters.OnError = "stop",
    report: parameters.ReportFile = None,
    on_bad_text: parameters.BadText = "error",
    preprocess: parameters.PreprocessName = None,
    top_n: Annotated[int | None, typer.Option(min=1, help="Largest number of documents to keep.", show_default=False)] = None,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Smallest score to keep, in [0, 1].", show_default=False)] = None,
    model: parameters.Model = None,
    base_url: parameters.BaseUrl = None,
    api_key: parameters.ApiKey = None,
    backend: parameters.BackendName = "auto",
    option: parameters.EngineOptions = None,
    wait: parameters.Wait = "0",
    instruction: parameters.Instruction = None,
    max_tokens: parameters.DeclaredMaxTokens = None,
    quiet: parameters.Quiet = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON lines, best first.")] = False,
) -> None:
    """Rank the lines of a file or a pipe by their relevance to a query.

    INPUT is UTF-8: text lines, or JSON lines, objects with the text in one field (--field). A score is the model's probability
    that the document answers the query, in [0, 1].

    With --json, each line has rank and index (from 0), score, moved (places gained), truncated, document, and in `fields` the
    other fields of the input's line.
    """
    from qwen3_integrations.bulk.ranking import rank_records, ranked_records
    from qwen3_integrations.core.reranker import Reranker

    function, wait_s = named_function(preprocess), parameters.duration(wait, "wait")
    errors = parameters.make_report(report, on_error, source)
    with errors, parameters.open_input(source, input_format, field, errors, on_bad_text) as lines, parameters.ending_in_order():
        found = list(lines)
        with parameters.open_engine_from("rerank", model, base_url, api_key, backend, option, wait_s) as engine:
            reranker = Reranker(engine, instruction=instruction, max_tokens=max_tokens, on_bad_text=on_bad_text, preprocess=function)
            ranking, records = rank_records(reranker, query, found, lines, errors, top_n, threshold)
    if json:
        for row in ranked_records(ranking, records, field):
            print_json(row)
    else:
        _show(ranking)
    if not quiet:
        replaced = f"; {lines.replaced:,} lines with characters replaced by U+FFFD" if lines.replaced else ""
        skipped = replaced + (f"; {ranking.usage.preprocessed:,} preprocessed" if ranking.usage.preprocessed else "")
        skipped += parameters.skipped_words(errors)
        messages().print(_sentence(ranking) + skipped, markup=False, highlight=False, soft_wrap=True)
    if errors.count:
        raise typer.Exit(ExitCode.SKIPPED)


def _show(ranking: Ranking) -> None:
    from rich.table import Table
    from rich.text import Text

    from qwen3_integrations.core.results import moved_in_words

    table = Table(expand=True)
    for heading in ("rank", "moved", "score"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("document", ratio=1, no_wrap=True, overflow="ellipsis")
    for hit in ranking:
        table.add_row(str(hit.rank + 1), moved_in_words(hit.moved), f"{hit.score:.3f}", Text(_one_line(hit.document)))
    console().print(table)


def _one_line(document: str) -> str:
    """The beginning of a document in one line; characters that would control the terminal become blanks."""
    return " ".join("".join(character if character.isprintable() else " " for character in document[:1000]).split())


def _sentence(ranking: Ranking) -> str:
    cut = f", {ranking.usage.truncated:,} documents truncated" if ranking.usage.truncated else ""
    total = len(ranking) + len(ranking.dropped)
    return f"{len(ranking):,} of {total:,} documents, {ranking.usage.tokens:,} tokens{cut}, {ranking.timing.total_s:.2f} s"
