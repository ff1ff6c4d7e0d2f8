"""`qwen3-integrations embed`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qwen3_integrations.bulk.formats import VECTOR, OutputFormat
from qwen3_integrations.cli import parameters
from qwen3_integrations.cli.functions import named_function
from qwen3_integrations.cli.output import ExitCode, messages, print_json
from qwen3_integrations.errors import ConfigError

if TYPE_CHECKING:
    from qwen3_integrations.bulk.error_report import ErrorReport
    from qwen3_integrations.bulk.part_file import PartFile
    from qwen3_integrations.bulk.run import Summary
    from qwen3_integrations.bulk.sources import Lines, Mark


def embed(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A file of text lines or JSON lines; - is standard input.")] = "-",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write. Default: JSON lines on standard output.", show_default=False),
    ] = None,
    output_format: Annotated[
        OutputFormat | None, typer.Option(help="Default: by the suffix of the output file.", show_default=False)
    ] = None,
    input_format: parameters.InputKind = None,
    field: parameters.Field = "text",
    on_error: parameters.OnError = "stop",
    report: parameters.ReportFile = None,
    on_bad_text: parameters.BadText = "error",
    preprocess: parameters.PreprocessName = None,
    vector_field: Annotated[
        str, typer.Option(help="The output's field or column for the vectors. Input with a field of this name is refused.")
    ] = VECTOR,
    model: parameters.Model = None,
    base_url: parameters.BaseUrl = None,
    api_key: parameters.ApiKey = None,
    backend: parameters.BackendName = "auto",
    option: parameters.EngineOptions = None,
    wait: parameters.Wait = "0",
    queries: Annotated[bool, typer.Option("--queries", help="Embed the texts as queries, with the instruction in front.")] = False,
    instruction: parameters.Instruction = None,
    dimensions: Annotated[
        int | None, typer.Option(min=1, help="Dimensions of the vectors. Default: the model's own.", show_default=False)
    ] = None,
    max_tokens: parameters.DeclaredMaxTokens = None,
    chunk: Annotated[int, typer.Option(min=1, help="Number of texts per job of the engine; up to eight jobs are in flight.")] = 256,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output file.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Start from the beginning instead of resuming an interrupted run.")] = False,
    quiet: parameters.Quiet = False,
    json: Annotated[
        bool,
        typer.Option("--json", help="Print a JSON summary: on standard output, or on standard error if the vectors are there."),
    ] = False,
) -> None:
    """Embed the lines of a file or a pipe of any length, in constant memory.

    INPUT is UTF-8: text lines, where each line is a text, also a blank one; or JSON lines, objects with the text in one field
    (--field). Output is JSON lines (the input's fields and `embedding`), NPY (a float32 array of shape (texts, dimensions), no
    fields; opens with numpy.load(mmap_mode="r")) or Parquet (the fields as columns, and `embedding`; needs the extra parquet).

    The output file appears when it is complete. Until then, its rows are in OUTPUT.part. After Ctrl-C, a crash or a bad line, the
    same command with the same input continues there, if model, weights, backend and number format are the same (--restart starts
    again). A server may have another address. Its weights and number format are not known: another model is recognised by its
    vector for a fixed text, but another number format or a slight quantisation may not be recognised.
    """
    from qwen3_integrations.bulk.formats import choose_format, make_format
    from qwen3_integrations.bulk.part_file import PartFile
    from qwen3_integrations.bulk.run import embed_records
    from qwen3_integrations.bulk.sinks import StandardOutput
    from qwen3_integrations.bulk.sources import STDIN
    from qwen3_integrations.core.embedder import Embedder
    from qwen3_integrations.models.catalog import checked_model

    if instruction is not None and not queries:
        raise ConfigError("applies only to queries", option="instruction", advice="Add --queries, or leave it out")
    if preprocess is not None and queries:
        raise ConfigError("applies only to documents", option="preprocess", advice="Leave out --queries, or leave it out")
    function, wait_s = named_function(preprocess), parameters.duration(wait, "wait")
    out = None if output == Path(STDIN) else output
    errors = parameters.make_report(report, on_error, source, out)
    chosen = choose_format(out, output_format)
    reserved = None if chosen is OutputFormat.NPY else vector_field
    opened = parameters.open_input(source, input_format, field, errors, on_bad_text, function, reserved)
    with opened as lines, parameters.ending_in_order():
        settings = {
            "model": _saved_name(checked_model(model, "embed")),
            "dimensions": dimensions,
            "max-tokens": max_tokens,
            "queries": queries,
            "instruction": instruction if queries else None,
            "input-format": lines.kind.value,
            "field": field,
            "on-bad-text": on_bad_text,
            "vector-field": reserved,
            "output-format": chosen.value,
        }
        part = (
            PartFile(out, make_format(chosen, vector_field), settings, report=errors, overwrite=overwrite, restart=restart) if out else None
        )
        with _message_about_kept_rows(part), part or StandardOutput(vector_field, errors) as target:
            records = target.resume(lines)
            with parameters.open_engine_from("embed", model, base_url, api_key, backend, option, wait_s) as engine:
                embedder = Embedder(engine, instruction=instruction, dimensions=dimensions, max_tokens=max_tokens)
                with _progress(lines, quiet) as progress, parameters.no_log_line_per_chunk():
                    summary = embed_records(
                        embedder, lines, records, target, queries=queries, chunk=chunk, report=errors, progress=progress
                    )
    if json:
        where = errors.path if errors.count else None
        document = asdict(summary) | {"output": str(out) if out else None, "first_error": errors.first}
        document |= {"replaced": lines.replaced, "preprocessed": lines.preprocessed, "report": str(where) if where else None}
        print_json(document) if out else messages().print_json(data=document, indent=None)
    elif not quiet:
        messages().print(_sentence(summary, lines, errors, out), markup=False, highlight=False, soft_wrap=True)
    if errors.count:
        raise typer.Exit(ExitCode.SKIPPED)


def _saved_name(model: str) -> str:
    """The model's name in the saved state. A folder has no name there: it may move, because its weights are in the state too."""
    return "a folder" if Path(model).is_dir() else model


def _sentence(summary: Summary, lines: Lines, errors: ErrorReport, out: Path | None) -> str:
    here = summary.rows - summary.resumed
    text = f"{here:,} texts, {summary.tokens:,} tokens in {summary.seconds:.1f} s ({here / summary.seconds:,.0f} texts/s)"
    if summary.resumed:
        text += f", after {summary.resumed:,} from an earlier run"
    if summary.truncated:
        text += f"; {summary.truncated:,} truncated to the budget"
    if lines.replaced:
        text += f"; {lines.replaced:,} with characters replaced by U+FFFD"
    if lines.preprocessed:
        text += f"; {lines.preprocessed:,} preprocessed"
    text += parameters.skipped_words(errors)
    return text + (f"\n{out}: {summary.rows:,} vectors of {summary.dimensions} dimensions" if out else "")


@contextmanager
def _message_about_kept_rows(part: PartFile | None) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if part and part.kept:
            kept = f"{part.kept:,} rows are kept in {part.path}: the same command with the same input continues from there"
            messages().print(kept, markup=False, highlight=False, soft_wrap=True)
        raise


@contextmanager
def _progress(lines: Lines, quiet: bool) -> Iterator[Callable[[int, Mark], None] | None]:
    """A progress bar on a terminal: the finished bytes of a file; of a pipe, the number of texts."""
    out = messages()
    if quiet or not out.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.fields[rows]:,} texts"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("", total=lines.size, rows=0)
        yield lambda rows, mark: bar.update(task, completed=mark.position or 0, rows=rows)
