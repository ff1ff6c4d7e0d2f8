"""Records from text lines or JSON lines: one at a time, with their line numbers, and a hash of what was read."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, cast

from qwen3_integrations.errors import InputError

STDIN = "-"
"""The name that means standard input (and, for an output, standard output)."""

NO_LINES = hashlib.sha256().hexdigest()
"""The digest of an input of which nothing is read."""

_BOM = b"\xef\xbb\xbf"


class InputFormat(StrEnum):
    """How a line holds its text."""

    TEXT = "text"
    """The line is the text, blank lines too: line n is row n."""
    JSONL = "jsonl"
    """The line is a JSON object with the text in one field; blank lines are nothing."""


@dataclass(frozen=True, slots=True)
class Record:
    """One text of the input.

    Attributes:
        text: The text, unchanged.
        fields: The line's JSON object, the text's own field included; for a text line only that field.
        line: Its line number, from 1.
    """

    text: str
    fields: Mapping[str, Any]
    line: int


@dataclass(frozen=True, slots=True)
class Mark:
    """How far an input has been read.

    Attributes:
        lines: The line number of the last record.
        digest: SHA-256 over the lines up to there, their line endings and a byte order mark left out.
        position: Bytes of the file that were read, compressed ones if it is compressed; None for a pipe.
    """

    lines: int = 0
    digest: str = NO_LINES
    position: int | None = None


class Lines:
    """The records of an input. Iterate once; nothing is kept.

    Args:
        stream: Bytes in UTF-8, with or without a byte order mark; lines end with LF or CRLF.
        name: The input's name, for messages.
        kind: How a line holds its text.
        field: The JSON field that holds the text; the name of a text line's only field.
        skip_bad: Count lines that hold no record, instead of raising.
        guessed: Nobody said that the lines are text: refuse a first line that is a JSON object, rather than embed braces and names.
        raw: The file whose position tells how far the reading is.

    Attributes:
        size: Bytes of the file; None for a pipe.
        skipped: Bad lines so far.
        first_bad: What was wrong with the first of them.
    """

    def __init__(
        self,
        stream: BinaryIO,
        name: str,
        kind: InputFormat,
        *,
        field: str = "text",
        skip_bad: bool = False,
        guessed: bool = False,
        raw: BinaryIO | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.size = os.fstat(raw.fileno()).st_size if raw else None
        self.skipped = 0
        self.first_bad: str | None = None
        self._stream, self._field, self._skip_bad, self._raw = stream, field, skip_bad, raw
        self._guessed = guessed and kind is InputFormat.TEXT
        self._last = 0
        self._hash = hashlib.sha256()

    def __iter__(self) -> Iterator[Record]:
        """Read on.

        Raises:
            InputError: For a line that holds no record, unless such lines are skipped, and for a stream that breaks.
        """
        running = self._hash.copy()
        for number, raw in enumerate(self._raw_lines(), start=1):
            line = _content(raw, first=number == 1)
            if number == 1 and self._guessed and _holds_object(line):
                raise InputError(
                    f"{self.name} looks like JSON lines",
                    advice="Pass --input-format jsonl, or --input-format text if each line is a text",
                )
            record = self._record(line, number)
            running.update(line + b"\n")
            if record is not None:
                # Only up to a record: a bad line that was refused may be mended, and blank ones may follow, before reading goes on.
                self._hash, self._last = running.copy(), number
                yield record

    def place(self, line: int) -> str:
        """A line's place, for messages."""
        return f"{self.name}, line {line}"

    def mark(self) -> Mark:
        """How far the reading is: behind the last record."""
        return Mark(self._last, self._hash.hexdigest(), self._raw.tell() if self._raw else None)

    def _raw_lines(self) -> Iterator[bytes]:
        count = 0
        try:
            for count, raw in enumerate(self._stream, start=1):  # noqa: B007  told in the message
                yield raw
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{self.name} can't be read after line {count}: {error}") from error

    def _record(self, line: bytes, number: int) -> Record | None:
        try:
            return self._parsed(line, number)
        except ValueError as error:
            said = f"{self.place(number)}: {error}"
            if not self._skip_bad:
                raise InputError(said, advice="Repair the line, or leave such lines out with --skip-bad") from None
            self.skipped += 1
            self.first_bad = self.first_bad or said
            return None

    def _parsed(self, line: bytes, number: int) -> Record | None:
        if self.kind is InputFormat.TEXT:
            text = _decoded(line)
            return Record(text, {self._field: text}, number)
        if not line.strip():
            return None
        fields = _json_object(_decoded(line))
        if self._field not in fields:
            raise ValueError(f"has no field {self._field!r}; its fields are: {', '.join(map(repr, fields)) or 'none'}")
        text = fields[self._field]
        if not isinstance(text, str):
            raise ValueError(f"has a field {self._field!r} that is not a string but {json.dumps(text):.40}")
        return Record(text, fields, number)


@contextmanager
def open_lines(source: str, kind: InputFormat | None = None, *, field: str = "text", skip_bad: bool = False) -> Iterator[Lines]:
    """Open an input.

    Args:
        source: A path, `.gz` among them, or `-` for standard input.
        kind: How a line holds its text; None: JSON lines for `.jsonl`, `.ndjson` and `.json`, text for everything else.
        field, skip_bad: As for `Lines`.

    Raises:
        InputError: If the file can't be opened.
    """
    path = Path(source)
    suffixes = path.suffixes
    packed = suffixes[-1:] == [".gz"]
    if packed:
        suffixes.pop()
    told = kind or (InputFormat.JSONL if suffixes[-1:] in ([".jsonl"], [".ndjson"], [".json"]) else InputFormat.TEXT)
    guessed = kind is None
    if source == STDIN:
        yield Lines(sys.stdin.buffer, "standard input", told, field=field, skip_bad=skip_bad, guessed=guessed)
        return
    try:
        raw = path.open("rb")
    except OSError as error:
        raise InputError(f"{source} can't be read: {error.strerror}") from error
    with raw, gzip.open(raw) if packed else nullcontext(raw) as stream:
        yield Lines(
            cast("BinaryIO", stream), source, told, field=field, skip_bad=skip_bad, guessed=guessed, raw=raw if raw.seekable() else None
        )


def _content(raw: bytes, *, first: bool) -> bytes:
    line = raw.removesuffix(b"\n").removesuffix(b"\r")
    return line.removeprefix(_BOM) if first else line


def _holds_object(line: bytes) -> bool:
    try:
        return line.startswith(b"{") and bool(_json_object(_decoded(line)))
    except ValueError:
        return False


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 (byte 0x{line[error.start]:02x} at {error.start})") from None


def _json_object(line: str) -> dict[str, Any]:
    """The object in a line.

    Raises:
        ValueError: If it is none, or holds what no JSON file could hold: NaN, an infinite number, a lone surrogate.
    """
    try:
        value = json.loads(line, parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({error.msg} at column {error.colno})") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"is not a JSON object but {line:.40}")
    if "\\u" in line:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"contains the lone surrogate U+{ord(error.object[error.start]):04X}, which UTF-8 can't encode") from None
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"is not JSON ({name} is not a JSON number)")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"contains the number {number:.20}, which exceeds 64 bits")
    return value
