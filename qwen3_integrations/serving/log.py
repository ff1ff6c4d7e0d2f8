"""What a server's log says: how far its start is, and the first error in it. Pure functions over its lines."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

Phase = Literal["downloading", "starting", "loading", "compiling", "capturing", "answering", "ready"]
"""What a starting server does: fetching the model, importing itself, reading weights, compiling, capturing CUDA graphs,
giving its first answer, and done."""

_PREFIX = re.compile(
    r"^(?:\([^()]*pid=\d+\)\s+)?"  # vLLM's process
    r"(?:\[[\d\- :,.]+(?: [A-Z]+\d+)*\]\s+)?"  # SGLang's time and rank
    r"(?:(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)\s*:?\s+)?"
    r"(?:\d\d-\d\d \d\d:\d\d:\d\d )?(?:\[[\w./]+:\d+\]\s?)?"
)
_PHASES: tuple[tuple[re.Pattern[str], Phase], ...] = (
    (
        re.compile(r"Application startup complete|Starting vLLM (?:API )?server on|fired up and ready to roll|Uvicorn running on"),
        "answering",
    ),
    (re.compile(r"[Cc]apturing (?:CUDA |cuda )?graph|Capture cuda graph|Capturing batches"), "capturing"),
    (
        re.compile(r"torch\.compile (?:takes|took)|Dynamo bytecode transform|[Cc]ompil(?:ing|ed) (?:a )?graph|for vLLM's torch\.compile"),
        "compiling",
    ),
    (re.compile(r"Starting to load model|Loading safetensors|Loading weights|Load weight begin|Loading .*checkpoint shards"), "loading"),
)
_SHARE = re.compile(r"(\d{1,3})%(?:\||\s+Completed)")
_RAISED = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Interrupt|Exit|NotFound)(?::\s+\S|$)")
_SAID = re.compile(r"^(?:\S+\.py|vllm\b.*|usage.*): error: (?P<what>.+)|^(?:Segmentation fault|Killed|Aborted|Bus error)\b.*")
_HEARSAY = ("Engine core initialization failed", "See root cause above", "EngineCore failed to start")
"""What the front says when its engine has failed; the engine has said why, above."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a start is.

    Attributes:
        phase: What it does.
        elapsed_s: Seconds since the start.
        detail: The log line that shows it, or how many bytes have come; may be empty.
        fraction: How much of this phase is done, in [0, 1]; None where nobody says.
    """

    phase: Phase
    elapsed_s: float
    detail: str = ""
    fraction: float | None = None

    def __str__(self) -> str:
        share = f" {self.fraction:.0%}" if self.fraction is not None else ""
        return f"{self.phase}{share}, {self.elapsed_s:.0f} s" + (f": {self.detail}" if self.detail else "")


def message_of(line: str) -> str:
    """A log line without the process, level, time and place in front of it."""
    return _PREFIX.sub("", line, count=1).strip()


def phase_of(line: str) -> tuple[Phase, float | None] | None:
    """The phase that a line shows and, where it says so, how much of it is done; None for most lines."""
    for pattern, phase in _PHASES:
        if pattern.search(line):
            share = _SHARE.search(line)
            return phase, min(1.0, int(share[1]) / 100) if share else None
    return None


def first_error(lines: Iterable[str]) -> str | None:
    """The line that says why a server did not start: of the first exception, else of the first error.

    It usually stands far above the end of the log, which is full of what followed from it.
    """
    fallback: str | None = None
    for line in lines:
        message = message_of(line)
        if any(word in message for word in _HEARSAY):
            continue
        said = _SAID.match(message)
        if said:
            return said["what"] or message
        if _RAISED.match(message):
            return message
        before = _PREFIX.match(line)
        if fallback is None and before and before["level"] in ("ERROR", "CRITICAL") and not _is_of_traceback(line[before.end() :]):
            fallback = message
    return fallback


def _is_of_traceback(said: str) -> bool:
    """Whether it belongs to a traceback, whose last line says what went wrong; where that never came, the lines before it say nothing."""
    return not said or said[0].isspace() or said.startswith("Traceback")


class LogReader:
    """Reads what a growing log has gained.

    Args:
        path: The log; need not be there yet.
        begin: Byte to begin at.
    """

    def __init__(self, path: Path, begin: int = 0) -> None:
        self._path = path
        self._at = begin
        self._rest = b""

    def lines(self) -> list[str]:
        """The lines that have been completed since the last call. A bar that overwrites itself counts as lines."""
        try:
            with _opened(self._path) as file:
                file.seek(self._at)
                gained = file.read()
        except OSError:  # not there yet, or a link
            return []
        self._at += len(gained)
        *whole, self._rest = re.split(rb"\r\n|\n|\r", self._rest + gained)
        return [line.decode("utf-8", "replace") for line in whole if line.strip()]


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
    return [line for line in lines if line.strip()][-count:]


def _opened(path: Path) -> BinaryIO:
    """A log to read; a link in its place is not followed, and a pipe is not waited for."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    return os.fdopen(os.open(path, flags), "rb")
