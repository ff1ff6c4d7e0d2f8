"""Records from text lines or JSON lines: one at a time, with line numbers and a hash of the lines."""

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
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, cast

from qwen3_integrations.bulk.error_report import SKIP_ADVICE, ErrorReport
from qwen3_integrations.core.preparation import OnBadText, Preparation, Preprocess, without_surrogates
from qwen3_integrations.errors import InputError, PreprocessFailed

STDIN = "-"
"""The name of standard input (and, for an output, of standard output)."""

NO_LINES = hashlib.sha256().hexdigest()
"""Digest of an input before the first line."""

_BOM = b"\xef\xbb\xbf"


class InputFormat(StrEnum):
    """Format of an input line."""

    TEXT = "text"
    """Each line is a text, also blank lines: line n is row n."""
    JSONL = "jsonl"
    """Each line is a JSON object with the text in one field; blank lines are skipped."""


@dataclass(frozen=True, slots=True)
class Record:
    """One text of the input.

    Attributes:
        text: The text as the model reads it.
        fields: The line's JSON object, with the field of the text; a text line has only that field.
        line: Line number, from 1.
    """

    text: str
    fields: Mapping[str, Any]
    line: int


@dataclass(frozen=True, slots=True)
class Mark:
    """Position in an input after a record.

    Attributes:
        lines: Line number of the last record.
        digest: SHA-256 of the lines up to there, without line endings and byte order mark.
        made: SHA-256 of the texts that `preprocess` made of them; the digest of nothing without it.
        position: Bytes of the file that were read (compressed bytes for a compressed file); None for a pipe.
    """

    lines: int = 0
    digest: str = NO_LINES
    position: int | None = None
    made: str = NO_LINES


class Lines:
    """The records of an input. It can be iterated once, and does not keep records.

    Args:
        stream: Bytes in UTF-8, with or without a byte order mark; lines end with LF or CRLF.
        name: The input's name, for messages.
        kind: Format of the lines.
        field: Name of the JSON field with the text; for text lines, name of the only field.
        report: Takes the lines without a valid record. Without it, or if it does not take them, such a line is an error. Lines that it
            has from an earlier run are left out.
        on_bad_text: `replace` puts U+FFFD in the place of lone surrogates, and of bytes that are not UTF-8, in all fields of a line.
        preprocess: Makes the text that the model reads of each record's text; the fields stay as they are.
        reserved: Name of the output's field for vectors, which no record may have; None if the output has no fields.
        guessed: The user did not choose the format, and text was assumed. Then a first line with a JSON object is refused.
        raw: The file whose position shows the progress of reading.

    Attributes:
        size: Bytes of the file; None for a pipe.
        replaced: Records with replaced surrogates or bytes so far.
        preprocessed: Records that `preprocess` changed so far.
    """

    def __init__(
        self,
        stream: BinaryIO,
        name: str,
        kind: InputFormat,
        *,
        field: str = "text",
        report: ErrorReport | None = None,
        on_bad_text: OnBadText = "error",
        preprocess: Preprocess | None = None,
        reserved: str | None = None,
        guessed: bool = False,
        raw: BinaryIO | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.size = os.fstat(raw.fileno()).st_size if raw else None
        self.replaced = self.preprocessed = 0
        self._reserved = reserved
        self._replaces = on_bad_text == "replace"
        self._preparation = Preparation(on_bad_text, preprocess)
        self._made = hashlib.sha256()
        self._stream, self._field, self._report, self._raw = stream, field, report or ErrorReport(None, skips=False), raw
        self._guessed = guessed and kind is InputFormat.TEXT
        self._last = 0
        self._hash = hashlib.sha256()

    def __iter__(self) -> Iterator[Record]:
        """Read the records.

        Raises:
            InputError: For a line without a valid record, unless `report` takes it, and for a stream that can't be read.
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
            if record is not None and self._reserved in record.fields:
                raise InputError(
                    f"{self.place(number)}: has a field {self._reserved!r}, which is also the name of the output's field for vectors",
                    advice="Choose another name with --vector-field",
                )
            running.update(line + b"\n")
            if record is not None:
                # The hash covers lines up to the last record only: before a resumed run, the user may fix a bad line or add blank lines.
                self._hash, self._last = running.copy(), number
                if self._preparation.preprocess:
                    self._made.update(f"{len(record.text)}:{record.text}".encode())
                if number not in self._report.earlier:
                    yield record

    def place(self, line: int) -> str:
        """Name of the input and line number, for messages."""
        return f"{self.name}, line {line}"

    def mark(self) -> Mark:
        """The position after the last record."""
        return Mark(self._last, self._hash.hexdigest(), self._raw.tell() if self._raw else None, self._made.hexdigest())

    def _raw_lines(self) -> Iterator[bytes]:
        count = 0
        try:
            for count, raw in enumerate(self._stream, start=1):  # noqa: B007  used in the message
                yield raw
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{self.name} can't be read after line {count}: {error}") from error

    def _record(self, line: bytes, number: int) -> Record | None:
        try:
            return self._prepared(line, number)
        except ValueError as error:
            reason = error.reason if isinstance(error, PreprocessFailed) else error
            if number in self._report.earlier:
                return None
            failure = InputError(f"{self.place(number)}: {reason}", advice=f"Repair the line. {SKIP_ADVICE}")
            if not self._report.skips:
                raise failure from None
            self._report.add(number, _fields_or_none(line), failure, str(reason))
            return None

    def _prepared(self, line: bytes, number: int) -> Record | None:
        record, is_replaced = self._parsed(line, number)
        if record is None:
            return None
        made = self._preparation.documents([record.text], self._field)
        self.replaced += bool(is_replaced or made.replaced)
        self.preprocessed += bool(made.preprocessed)
        return replace(record, text=made.texts[0])

    def _parsed(self, line: bytes, number: int) -> tuple[Record | None, bool]:
        """The record of a line, and whether something in it was replaced."""
        decoded = _repaired(line) if self._replaces else _decoded(line)
        is_replaced = self._replaces and decoded.encode() != line
        if self.kind is InputFormat.TEXT:
            return Record(decoded, {self._field: decoded}, number), is_replaced
        if not line.strip():
            return None, False
        fields, has_bad = _json_object(decoded, replaces=self._replaces)
        if self._field not in fields:
            raise ValueError(f"has no field {self._field!r}; its fields are: {', '.join(map(repr, fields)) or 'none'}")
        text = fields[self._field]
        if not isinstance(text, str):
            raise ValueError(f"has a field {self._field!r} that is not a string but {json.dumps(text):.40}")
        return Record(text, fields, number), is_replaced or has_bad


@contextmanager
def open_lines(
    source: str,
    kind: InputFormat | None = None,
    *,
    field: str = "text",
    report: ErrorReport | None = None,
    on_bad_text: OnBadText = "error",
    preprocess: Preprocess | None = None,
    reserved: str | None = None,
) -> Iterator[Lines]:
    """Open an input.

    Args:
        source: A path (also `.gz`), or `-` for standard input.
        kind: Format of the lines; None for JSON lines with the suffixes `.jsonl`, `.ndjson` and `.json`, and text with other suffixes.
        field, report, on_bad_text, preprocess, reserved: As for `Lines`.

    Raises:
        InputError: If the file can't be opened.
    """
    path = Path(source)
    suffixes = path.suffixes
    packed = suffixes[-1:] == [".gz"]
    if packed:
        suffixes.pop()
    chosen = kind or (InputFormat.JSONL if suffixes[-1:] in ([".jsonl"], [".ndjson"], [".json"]) else InputFormat.TEXT)
    options: dict[str, Any] = {"field": field, "report": report, "on_bad_text": on_bad_text, "preprocess": preprocess}
    options |= {"reserved": reserved, "guessed": kind is None}
    if source == STDIN:
        yield Lines(sys.stdin.buffer, "standard input", chosen, **options)
        return
    try:
        raw = path.open("rb")
    except OSError as error:
        raise InputError(f"{source} can't be read: {error.strerror}") from error
    with raw, gzip.open(raw) if packed else nullcontext(raw) as stream:
        yield Lines(cast("BinaryIO", stream), source, chosen, **options, raw=raw if raw.seekable() else None)


def _content(raw: bytes, *, first: bool) -> bytes:
    line = raw.removesuffix(b"\n").removesuffix(b"\r")
    return line.removeprefix(_BOM) if first else line


def _holds_object(line: bytes) -> bool:
    try:
        return line.startswith(b"{") and bool(_json_object(_decoded(line))[0])
    except ValueError:
        return False


def _fields_or_none(line: bytes) -> dict[str, Any]:
    """The fields of a bad line, as far as it has some."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 (byte 0x{line[error.start]:02x} at {error.start})") from None


def _repaired(line: bytes) -> str:
    """The text of a line, with U+FFFD for what is not UTF-8. Surrogates in the form of three bytes each are read as surrogates."""
    try:
        return without_surrogates(line.decode(errors="surrogatepass"))
    except UnicodeDecodeError:
        return line.decode(errors="replace")


def _without_surrogates(value: Any) -> Any:
    match value:
        case str():
            return without_surrogates(value)
        case list():
            return [_without_surrogates(each) for each in value]
        case dict():
            return {without_surrogates(name): _without_surrogates(each) for name, each in value.items()}
        case _:
            return value


def _json_object(line: str, *, replaces: bool = False) -> tuple[dict[str, Any], bool]:
    """The object in a line, and whether lone surrogates in it were replaced.

    Raises:
        ValueError: If it is not an object, or has a value that JSON does not allow: NaN, an infinite number, a lone surrogate.
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
            if replaces:
                return _without_surrogates(value), True
            raise ValueError(f"contains the lone surrogate U+{ord(error.object[error.start]):04X}, which UTF-8 can't encode") from None
    return value, False


def _no_constant(name: str) -> None:
    raise ValueError(f"is not JSON ({name} is not a JSON number)")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"contains the number {number:.20}, which exceeds 64 bits")
    return value
