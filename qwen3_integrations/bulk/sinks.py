"""Destinations of rows: a file that appears only when complete, with resuming of interrupted runs, or standard output."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

from qwen3_integrations.bulk.formats import Format, JsonLines
from qwen3_integrations.bulk.sources import NO_LINES, Lines, Mark, Record
from qwen3_integrations.core.types import Rows
from qwen3_integrations.errors import InputError, Qwen3Error

SAVE_S = 1.0
"""Seconds between two saved states of the part file. A power failure loses the rows since the last saved state."""


class Target(Protocol):
    """Takes rows in order."""

    rows: int
    """Number of rows written so far, also by earlier runs."""

    def resume(self, lines: Lines) -> Iterator[Record]:
        """The remaining records, after the check that the written rows belong to this input."""

    def write(self, records: Sequence[Record], vectors: Rows, mark: Mark) -> None:
        """Write rows; `mark` is the position in the input after the last of them."""

    def finish(self, width: int) -> None:
        """Complete the output after the last row."""


class StandardOutput:
    """JSON lines on standard output, flushed with every write."""

    def __init__(self) -> None:
        self.rows = 0

    def resume(self, lines: Lines) -> Iterator[Record]:
        """All records."""
        return iter(lines)

    def write(self, records: Sequence[Record], vectors: Rows, mark: Mark) -> None:  # noqa: ARG002
        """Write rows.

        Raises:
            BrokenPipeError: If the reader has closed the pipe.
            Qwen3Error: If they can't be written.
        """
        with _naming("standard output"):
            sys.stdout.buffer.write(JsonLines().rows(records, vectors))
            sys.stdout.buffer.flush()
        self.rows += len(records)

    def finish(self, width: int) -> None:
        """Nothing to do."""


@dataclass(frozen=True, slots=True)
class _Note:
    """Content of `OUT.part.json`: the first `rows` rows of the part file come from the first `lines` lines of the input."""

    settings: Mapping[str, Any]
    rows: int = 0
    width: int = 0
    lines: int = 0
    digest: str = NO_LINES


class PartFile:
    """Writes rows to `OUT.part`; `OUT` appears when the file is complete.

    `OUT.part.json` has the settings, the number of written rows, and the hash of their input lines. A run with equal settings, and an
    input that starts with the same lines, resumes after the last complete row.

    Args:
        out: The output file.
        form: Format of the rows.
        settings: All settings that the rows depend on, by the names of the command's options; JSON values.
        overwrite: Replace an existing `out`.
        restart: Start again, and discard the rows of an earlier run.

    Attributes:
        path: The part file.
        kept: Number of rows in the last saved state, available to the next run.

    Raises:
        InputError: On entry: if `out` exists, or can't be written, or another run writes it, or an earlier run had other settings.
    """

    def __init__(self, out: Path, form: Format, settings: Mapping[str, Any], *, overwrite: bool = False, restart: bool = False) -> None:
        self.rows = self.kept = 0
        self.path = out.with_name(f"{out.name}.part")
        self._notes = out.with_name(f"{out.name}.part.json")
        self._out, self._form, self._settings = out, form, settings
        self._overwrite, self._restart = overwrite, restart

    def __enter__(self) -> Self:
        if self._out.exists() and not self._out.is_file():  # it would be replaced, even /dev/null
            raise InputError(f"{self._out} is no regular file: name a file, or leave --output out for standard output")
        if self._out.exists() and not self._overwrite:
            raise InputError(f"{self._out} is there already: name another file, or replace it with --overwrite")
        try:
            self._file: BinaryIO = self.path.open("a+b")
        except OSError as error:
            raise InputError(f"{self.path} can't be written: {error.strerror}") from error
        try:
            _lock(self._file, self.path)
            if self._restart:
                self._file.truncate(0)
            self._note = self._earlier()
            self.rows = self._note.rows
            self._saved_at = 0.0
            with _naming(self.path):
                self._save()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file.closed:  # finished
            return
        with suppress(OSError):  # with a full disk, the last saved state stays valid
            self._save()
        with suppress(OSError):
            self._file.close()
        if not self.kept:
            self._remove()

    def resume(self, lines: Lines) -> Iterator[Record]:
        """The remaining records.

        The records of the written rows are read again, to check that they are the same.

        Raises:
            InputError: If the input does not start with the lines of the written rows.
        """
        note = self._note
        self._file.seek(0)
        self.rows, end = self._form.whole(self._file, note.rows, note.width) if note.rows else (0, 0)
        self._file.truncate(end)
        self._file.seek(0, os.SEEK_END)
        records = iter(lines)
        # If the end of the part file was lost, the records of the lost rows are computed again. Otherwise this list stays empty.
        held: list[Record] = []
        read = 0
        while lines.mark().lines < note.lines and (record := next(records, None)):
            read += 1
            if read > self.rows:
                held.append(record)
        if lines.mark().digest != note.digest:
            raise InputError(
                f"{lines.name} does not begin with the {note.lines:,} lines that {self.path} was made from: "
                "give the same input, or begin again with --restart"
            )
        return itertools.chain(held, records)

    def write(self, records: Sequence[Record], vectors: Rows, mark: Mark) -> None:
        """Write rows.

        Raises:
            InputError: If the written rows have another width.
            Qwen3Error: If they can't be written.
        """
        width = vectors.shape[1]
        if self.rows and width != self._note.width:
            raise InputError(
                f"{self.path} holds vectors of {self._note.width} dimensions and the model gives {width}: "
                "use the same model, or begin again with --restart"
            )
        with _naming(self.path):
            self._begin(width)
            self._file.write(self._form.rows(records, vectors))
            self.rows += len(records)
            self._note = _Note(self._settings, self.rows, width, mark.lines, mark.digest)
            if time.monotonic() - self._saved_at >= SAVE_S:
                self._save()

    def finish(self, width: int) -> None:
        """Complete the file, and move it to its final name.

        Args:
            width: Width of the vectors, for a file without rows.

        Raises:
            Qwen3Error: If it can't be written.
        """
        with _naming(self.path):
            self._begin(width)
            self._save()
            whole = self._form.finish(self.path, self.rows, width)
            self._file.close()
            whole.replace(self._out)
            self._remove()

    def _begin(self, width: int) -> None:
        if not self._file.tell():
            self._file.write(self._form.head(width))

    def _earlier(self) -> _Note:
        """Saved state of an earlier run; an empty state if there is no part file."""
        if not os.fstat(self._file.fileno()).st_size:
            return _Note(self._settings)
        try:
            note = _Note(**json.loads(self._notes.read_bytes()))
        except (OSError, ValueError, TypeError):
            raise InputError(
                f"{self.path} is there, but {self._notes} does not say what it was made from: remove it, or begin again with --restart"
            ) from None
        different = [
            f"{name} was {note.settings.get(name)!r} and is {self._settings.get(name)!r}"
            for name in sorted({*note.settings, *self._settings})
            if note.settings.get(name) != self._settings.get(name)
        ]
        if different:
            raise InputError(
                f"{self.path} was begun with other settings ({'; '.join(different)}): use the same to go on, or begin again with --restart"
            )
        return note

    def _save(self) -> None:
        """Save the state. The rows are synced to the disk before the state is."""
        self._file.flush()
        os.fsync(self._file.fileno())
        new = self._notes.with_name(f"{self._notes.name}.new")
        new.write_text(json.dumps(asdict(self._note)), encoding="utf-8")
        new.replace(self._notes)
        self.kept = self._note.rows
        self._saved_at = time.monotonic()

    def _remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)


@contextmanager
def _naming(where: object) -> Iterator[None]:
    """Turn an OSError into a `Qwen3Error`, except for a closed pipe."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Qwen3Error(f"{where} can't be written: {error.strerror or error}") from error


def _lock(file: BinaryIO, path: Path) -> None:
    """Lock the part file for this process, if the system has such locks. The lock ends with the process."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"another run is writing {path}: wait for it, or name another file") from None
    except OSError:  # a file system without locks
        return
