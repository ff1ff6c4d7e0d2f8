"""Read a server's log: the phase of its start, and its first error. Pure functions over lines."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from qwen3_integrations.errors import printable

Phase = Literal["downloading", "starting", "loading", "compiling", "capturing", "answering", "ready"]
"""The phases of a start: downloading the model, importing, loading weights, compiling, capturing CUDA graphs, the first answer, done."""

_PREFIX = re.compile(
    r"^(?:\([^()]*pid=\d+\)\s+)?"  # vLLM's process
    r"(?:\[[\d\- :,.]+(?: [A-Z]+\d+)*\]\s+)?"  # SGLang's time and rank
    r"(?:(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)\s*:?\s+)?"
    r"(?:\d\d-\d\d \d\d:\d\d:\d\d )?(?:\[[\w./]+:\d+\]\s?)?"
)
_PHASES: tuple[tuple[re.Pattern[str], Phase], ...] = (
    (
        re.compile(
            r"Application startup complete|Starting vLLM (?:API )?server on|fired up and ready to roll|Uvicorn running on|^INFO ready$"
        ),
        "answering",
    ),
    (re.compile(r"[Cc]apturing (?:CUDA |cuda )?graph|Capture cuda graph|Capturing batches"), "capturing"),
    (
        re.compile(r"torch\.compile (?:takes|took)|Dynamo bytecode transform|[Cc]ompil(?:ing|ed) (?:a )?graph|for vLLM's torch\.compile"),
        "compiling",
    ),
    (
        re.compile(
            r"Starting to load model|Loading safetensors|Loading weights|Load weight begin|^INFO loading |Loading .*checkpoint shards"
        ),
        "loading",
    ),
)
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, movements of the cursor
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # strings: links, titles
    r"|\x1b[ -/]*[0-OQ-WYZ\\`-~]"
)
"""Escape sequences of terminals. Source: ECMA-48, sections 5.3 to 5.6; xterm also ends strings with BEL."""
_SHARE = re.compile(r"(\d{1,3})%(?:\||\s+Completed)")
_RAISED = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Interrupt|Exit|NotFound)(?::\s+\S|$)")
_SAID = re.compile(r"^(?:(?:\S+\.py|vllm\b.*|usage.*): error|[Ee]rror): (?P<what>.+)|^(?:Segmentation fault|Killed|Aborted|Bus error)\b.*")
_SECONDARY = ("Engine core initialization failed", "See root cause above", "EngineCore failed to start")
"""Messages of the front end about a failed engine; the engine's own error is above them."""

_INVALID = re.compile(r"(?P<error>\S+): \d+ validation errors? for (?P<owner>\w+)$")
_ABOUT_INPUT = re.compile(r"\s*\[type=\w+, input_value=.*$")
"""What pydantic adds to the reason."""

_FIELD = re.compile(r"[\w.`\[\]-]+$")

_MOST_LINES = 6
"""Most lines of one message that are joined."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a start.

    Attributes:
        phase: The present phase.
        elapsed_s: Seconds since the start.
        detail: The log line that shows the phase, or the downloaded bytes; may be empty.
        fraction: The finished share of this phase, in [0, 1]; None where it is not known.
    """

    phase: Phase
    elapsed_s: float
    detail: str = ""
    fraction: float | None = None

    def __str__(self) -> str:
        share = f" {self.fraction:.0%}" if self.fraction is not None else ""
        return f"{self.phase}{share}, {self.elapsed_s:.0f} s" + (f": {self.detail}" if self.detail else "")


def message_of(line: str) -> str:
    """A log line without process, level, time and source in front."""
    return _PREFIX.sub("", line, count=1).strip()


def phase_of(line: str) -> tuple[Phase, float | None] | None:
    """The phase that a line shows and, if the line says it, the finished share; None for most lines."""
    for pattern, phase in _PHASES:
        if pattern.search(line):
            share = _SHARE.search(line)
            return phase, min(1.0, int(share[1]) / 100) if share else None
    return None


def first_error(lines: Iterable[str]) -> str | None:
    """The line with the reason why a server did not start: of the first exception, otherwise of the first error.

    It usually stands far above the end of the log, which is full of later errors. A line that only announces the reason is joined with the
    lines that follow: the fields that pydantic refuses, and a list.
    """
    fallback: str | None = None
    rest = list(lines)
    for at, line in enumerate(rest):
        message = message_of(line)
        if any(word in message for word in _SECONDARY):
            continue
        said = _SAID.match(message)
        if said or _RAISED.match(message):
            return _with_reason(said["what"] or message if said else message, rest[at + 1 : at + 1 + _MOST_LINES])
        before = _PREFIX.match(line)
        if fallback is None and before and before["level"] in ("ERROR", "CRITICAL") and not _is_of_traceback(line[before.end() :]):
            fallback = _with_reason(message, rest[at + 1 : at + 1 + _MOST_LINES])
    return fallback


def _with_reason(message: str, following: list[str]) -> str:
    """A message with the reason from the lines that follow it, if it does not contain the reason itself."""
    invalid = _INVALID.match(message)
    if not invalid and not message.endswith(":"):
        return message
    told: list[str] = []
    for line in following:
        said = message_of(line)
        if not said or _is_new(line) or said.startswith("For further information"):
            break
        told.append(said)
        if "[type=" in said and invalid:
            break
    if not told:
        return message
    if not invalid:
        return f"{message} {' '.join(told)}"
    field = f"{told.pop(0)}: " if len(told) > 1 and _FIELD.match(told[0]) else ""
    reason = _ABOUT_INPUT.sub("", " ".join(told)).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return f"{invalid['error'].rpartition('.')[2]}: {invalid['owner']}: {field}{reason}"


def _is_new(line: str) -> bool:
    """Whether a line begins another message of the log, or a traceback."""
    before = _PREFIX.match(line)
    said = message_of(line)
    return bool(before and before["level"]) or said.startswith(("Traceback", "File ")) or bool(_RAISED.match(said))


def _is_of_traceback(said: str) -> bool:
    """Whether a line belongs to a traceback: only the last line of a traceback has the reason."""
    return not said or said[0].isspace() or said.startswith("Traceback")


class LogReader:
    """Reads the new lines of a growing log.

    Args:
        path: The log; need not exist yet.
        begin: The byte to start at.
    """

    def __init__(self, path: Path, begin: int = 0) -> None:
        self._path = path
        self._at = begin
        self._rest = b""

    def lines(self) -> list[str]:
        """The lines completed since the last call. Each state of a progress bar counts as a line."""
        try:
            with _opened(self._path) as file:
                file.seek(self._at)
                gained = file.read()
        except OSError:  # does not exist yet, or is a link
            return []
        self._at += len(gained)
        *whole, self._rest = re.split(rb"\r\n|\n|\r", self._rest + gained)
        return [_shown(line.decode("utf-8", "replace")) for line in whole if line.strip()]


def tail_of(path: Path, count: int) -> list[str]:
    """The last lines of a log, without reading the rest of a long one."""
    most = 400 * count
    try:
        with _opened(path) as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - most))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    lines = [line.rpartition("\r")[2] for line in text.split("\n")]
    return [_shown(line) for line in lines if line.strip()][-count:]


def _shown(line: str) -> str:
    """A line without escape sequences, and with other control characters escaped: servers log what their clients send."""
    return printable(_ESCAPES.sub("", line).expandtabs())


def _opened(path: Path) -> BinaryIO:
    """Open a log; a link is not followed, and a pipe does not block."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    return os.fdopen(os.open(path, flags), "rb")
