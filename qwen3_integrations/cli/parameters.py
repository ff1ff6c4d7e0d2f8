"""Parameters that several commands share, and the engine that they open."""

from __future__ import annotations

import json
import logging
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from qwen3_integrations.bulk.sources import STDIN, InputFormat
from qwen3_integrations.cli.output import messages
from qwen3_integrations.errors import ConfigError

if TYPE_CHECKING:
    from qwen3_integrations.bulk.error_report import ErrorReport
    from qwen3_integrations.bulk.sources import Lines
    from qwen3_integrations.bulk.waiting import WaitingEngine
    from qwen3_integrations.core.preparation import OnBadText, Preprocess
    from qwen3_integrations.core.types import Task
    from qwen3_integrations.engines.sharing import SharedEngine

Model = Annotated[str | None, typer.Option(help="A hub's name or a folder. Default: the 0.6B model.", show_default=False)]
BaseUrl = Annotated[str | None, typer.Option(help="A server's address. Default: this machine.", show_default=False)]
ApiKey = Annotated[str | None, typer.Option(envvar="QWEN3_API_KEY", help="The server's key.", show_default=False)]
BackendName = Annotated[
    str, typer.Option("--backend", help="auto, vllm, torch, http, fake, or an engine that another package has registered.")
]
Instruction = Annotated[str | None, typer.Option(help="The instruction that defines relevance: one English sentence.", show_default=False)]
DeclaredMaxTokens = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Longest text in tokens, prompt or template included; longer documents are truncated. The default is 8192, or what the "
        "model's folder declares where that is less.",
        show_default=False,
    ),
]
EngineOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option", metavar="NAME=VALUE", help="An option of the engine, such as device=cpu or concurrency=16.", show_default=False
    ),
]

Field = Annotated[str, typer.Option(help="The JSON field that contains the text.")]
InputKind = Annotated[
    InputFormat | None,
    typer.Option(
        "--input-format", help="Default: jsonl for .jsonl, .ndjson and .json, with or without .gz; otherwise text.", show_default=False
    ),
]
OnError = Annotated[
    Literal["stop", "skip"],
    typer.Option(
        "--on-error",
        help="A line without a text, or whose text can't be processed: stop there; or leave it out, report it, and exit with 3.",
    ),
]
ReportFile = Annotated[
    Path | None,
    typer.Option(
        "--report",
        help="The file for the lines that --on-error skip leaves out, and why. Default: OUTPUT.errors.jsonl; none without an output file.",
        show_default=False,
    ),
]
BadText = Annotated[
    Literal["error", "replace"],
    typer.Option("--on-bad-text", help="Lines with lone surrogates, or that are not UTF-8: an error, or U+FFFD in their place."),
]
PreprocessName = Annotated[
    str | None,
    typer.Option(
        "--preprocess",
        metavar="MODULE:FUNCTION",
        help="A function from a document to the text that the model reads; the output keeps the document.",
        show_default=False,
    ),
]
Wait = Annotated[
    str,
    typer.Option(
        "--wait",
        metavar="DURATION",
        help="How long to wait for a server that goes away, or is not there yet: seconds, or 90s, 10m, 1h. Another model is refused.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no summary line.")]


def open_engine_from(
    task: Task,
    model: str | None,
    base_url: str | None,
    api_key: str | None,
    backend: str,
    options: Sequence[str] | None,
    wait_s: float = 0.0,
) -> SharedEngine | WaitingEngine:
    """Open the engine that the parameters name; with `wait_s`, it waits for its server.

    Raises:
        ConfigError: For options that can't work; see `open_engine`.
    """
    from qwen3_integrations.bulk.waiting import WaitingEngine
    from qwen3_integrations.engines import open_engine

    own_options = engine_options(options or ())
    engine = open_engine(task, model, base_url=base_url, api_key=api_key, backend=backend, **own_options)
    try:
        return WaitingEngine(engine, wait_s, _tell) if wait_s else engine
    except ConfigError:
        engine.close()
        raise


def duration(text: str, option: str) -> float:
    """Seconds, from a number with or without a unit: `90`, `90s`, `10m`, `1h`.

    Raises:
        ConfigError: For anything else.
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?([smh]?)", text.strip(), re.ASCII)
    if not found:
        raise ConfigError(f"must be seconds, or a number with a unit such as 90s, 10m or 1h, not {text!r}", option=option)
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def _tell(text: str) -> None:
    messages().print(text, markup=False, highlight=False, soft_wrap=True)


def engine_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Engine options from `NAME=VALUE`: the value is JSON if it can be parsed as JSON, otherwise a string.

    Raises:
        ConfigError: For a pair without a name or a value, or for a name that has an option of its own.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise ConfigError(f"must be NAME=VALUE, not {pair!r}", option="--option")
        if name in ("task", "model", "base_url", "api_key", "backend"):
            raise ConfigError(f"can't set {name}", option="--option", advice=f"Use --{name.replace('_', '-')}")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


def open_input(
    source: str,
    kind: InputFormat | None,
    field: str,
    report: ErrorReport,
    on_bad_text: OnBadText = "error",
    preprocess: Preprocess | None = None,
    reserved: str | None = None,
) -> AbstractContextManager[Lines]:
    """Open the input that the parameters name; print a note when it is the keyboard."""
    from qwen3_integrations.bulk.sources import open_lines

    if source == STDIN and sys.stdin.isatty():
        messages().print("reading lines from the terminal; end with Ctrl-D", highlight=False)
    options: dict[str, Any] = {"report": report, "on_bad_text": on_bad_text, "preprocess": preprocess, "reserved": reserved}
    return open_lines(source, kind, field=field, **options)


def make_report(path: Path | None, on_error: str, source: str, output: Path | None = None) -> ErrorReport:
    """The error report that the parameters name.

    Raises:
        ConfigError: If it is the input or the output, or names a file although nothing is left out.
    """
    from qwen3_integrations.bulk.error_report import ErrorReport

    if path is not None:
        others = [Path(source)] + ([output, output.with_name(f"{output.name}.part")] if output else [])
        if path == Path(STDIN) or any(path.absolute() == each.absolute() or (path.exists() and _same(path, each)) for each in others):
            raise ConfigError(f"can't be {path}", option="report", advice="Name a file of its own")
    elif output:
        path = output.with_name(f"{output.name}.errors.jsonl")
    return ErrorReport(path, skips=on_error == "skip")


def skipped_words(report: ErrorReport) -> str:
    """The part of the closing line about lines that were left out; empty if there are none."""
    if not report.count:
        return ""
    where = f", see {report.path}" if report.path else ""
    return f"; {report.count:,} lines skipped{where}" + (f"; the first of this run: {report.first}" if report.first else "")


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does: everything open is closed, the engine's processes included."""
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    raise SystemExit(128 + number)


@contextmanager
def no_log_line_per_chunk() -> Iterator[None]:
    """Suppress the log lines about truncated texts: the summary line has their number."""
    log = logging.getLogger("qwen3_integrations")

    def keep(record: logging.LogRecord) -> bool:
        return record.module != "embedder"

    log.addFilter(keep)
    try:
        yield
    finally:
        log.removeFilter(keep)
