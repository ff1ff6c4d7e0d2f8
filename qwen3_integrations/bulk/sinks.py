"""Destinations of rows: a file that appears only when complete, with resuming of interrupted runs, or standard output."""

from __future__ import annotations

import itertools
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

from qwen3_integrations.bulk.formats import Format, JsonLines
from qwen3_integrations.bulk.sources import NO_LINES, Lines, Mark, Record
from qwen3_integrations.core.fingerprint import Fingerprint
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

    def match(self, made_by: Callable[[], Fingerprint]) -> None:
        """Prove that the rows done were made as the next will be; `made_by` may ask a server."""

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

    def match(self, made_by: Callable[[], Fingerprint]) -> None:
        """No row was written before."""

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
    made_by: Mapping[str, Any] | None
    rows: int = 0
    width: int = 0
    lines: int = 0
    digest: str = NO_LINES

    def checked(self) -> _Note:
        """The note, after proving that it was not damaged since it was read from a file.

        Raises:
            ValueError, TypeError, KeyError: If it was.
        """
        numbers = (self.rows, self.width, self.lines)
        if (
            any(type(number) is not int or number < 0 for number in numbers)
            or not isinstance(self.digest, str)
            or not isinstance(self.settings, dict)
        ):
            raise ValueError
        if self.rows:
            Fingerprint.from_dict(self.made_by or {})
        return self


class PartFile:
    """Writes rows to `OUT.part`; `OUT` appears when the file is complete.

    `OUT.part.json` has the settings, the engine's fingerprint, the number of written rows, and the hash of their input lines. A run with
    equal settings, the same model in the same number format, and an input that starts with the same lines, resumes after the last
    complete row. A note without a fingerprint is refused: nothing else says what made the rows.

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
        try:
            there = self._out.exists()
            is_regular = self._out.is_file() and not _is_of_process(self._out)
        except OSError as error:
            raise InputError(f"{self._out} can't be written: {error.strerror}") from error
        if there and not is_regular:  # it would be replaced, even /dev/null
            raise InputError(f"{self._out} is not a regular file", advice="Name a file, or leave --output out for standard output")
        if there and not self._overwrite:
            raise InputError(f"{self._out} exists already", advice="Name another file, or replace it with --overwrite")
        self._file = _opened(self.path)
        try:
            _lock(self._file, self.path)
            if self._restart:
                self._file.truncate(0)
            self._note = self._earlier()
            self.rows = self._note.rows
            self._made_by = self._note.made_by or {}
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
                f"{lines.name} does not begin with the {note.lines:,} lines that {self.path} was made from",
                advice="Pass the same input, or start again with --restart",
            )
        return itertools.chain(held, records)

    def match(self, made_by: Callable[[], Fingerprint]) -> None:
        """Prove that the rows so far were made as the next will be.

        Raises:
            InputError: If another model made them, or another backend or number format; names what was and what is.
            EngineError: If the engine can't say what it is.
        """
        now = made_by()
        if not self._note.rows:
            self._made_by = now.to_dict()
        elif different := Fingerprint.from_dict(self._made_by).differences(now):
            raise InputError(
                f"{self.path} was begun with another model, or in another number format ({'; '.join(map(str, different))}): "
                "use the same to go on, or begin again with --restart"
            )

    def write(self, records: Sequence[Record], vectors: Rows, mark: Mark) -> None:
        """Write rows.

        Raises:
            InputError: If the written rows have another width.
            Qwen3Error: If they can't be written.
        """
        width = vectors.shape[1]
        if self.rows and width != self._note.width:
            raise InputError(
                f"{self.path} contains vectors of {self._note.width} dimensions, but the model's have {width}",
                advice="Use the same model, or start again with --restart",
            )
        with _naming(self.path):
            self._begin(width)
            self._file.write(self._form.rows(records, vectors))
            self.rows += len(records)
            self._note = _Note(self._settings, self._made_by, self.rows, width, mark.lines, mark.digest)
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
            return _Note(self._settings, None)
        try:
            with _opened(self._notes, make=False) as file:
                content = file.read()
        except FileNotFoundError:
            content = b""
        try:
            note = _Note(**json.loads(content)).checked()
        except (ValueError, TypeError, KeyError, RecursionError):
            raise InputError(
                f"{self.path} exists, but {self._notes} does not say what it was made from",
                advice="Remove it, or start again with --restart",
            ) from None
        different = [
            f"{name} was {note.settings.get(name)!r} and is {self._settings.get(name)!r}"
            for name in sorted({*note.settings, *self._settings})
            if note.settings.get(name) != self._settings.get(name)
        ]
        if different:
            raise InputError(
                f"{self.path} was started with other settings ({'; '.join(different)})",
                advice="Use the same settings to continue, or start again with --restart",
            )
        return note

    def _save(self) -> None:
        """Save the state. The rows are synced to the disk before the state is."""
        self._file.flush()
        os.fsync(self._file.fileno())
        new = self._notes.with_name(f"{self._notes.name}.new")
        new.unlink(missing_ok=True)
        with new.open("x", encoding="utf-8") as file:  # never through a link that lies there
            json.dump(asdict(self._note), file)
        new.replace(self._notes)
        self.kept = self._note.rows
        self._saved_at = time.monotonic()

    def _remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)


def _opened(path: Path, *, make: bool = True) -> BinaryIO:
    """A file of an earlier run, or a new one: neither a link nor a file of another user, who could change what is written.

    Args:
        path: In a folder that others may write, such as /tmp. Links on the way to it are followed, itself it must be no link.
        make: Whether a file is made where there is none, to be written at its end.

    Raises:
        InputError: If it is a link, no regular file or another user's, or can't be written.
        FileNotFoundError: If it is not there, and none is made.
    """
    flags = (os.O_RDWR | os.O_APPEND | os.O_CREAT if make else os.O_RDONLY) | getattr(os, "O_BINARY", 0)
    harmless = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        if path.is_symlink():
            raise InputError(f"{path} is a symbolic link, which is not followed: remove it, or name another file")
        descriptor = os.open(path, flags | harmless, 0o666)
    except OSError as error:
        if not make and isinstance(error, FileNotFoundError):
            raise
        raise InputError(f"{path} can't be {'written' if make else 'read'}: {error.strerror}") from error
    about = os.fstat(descriptor)
    wrong = _wrong_with(about)
    if wrong:
        os.close(descriptor)
        raise InputError(f"{path} {wrong}: remove it, or name another file")
    return os.fdopen(descriptor, "a+b" if make else "rb")


def _is_of_process(out: Path) -> bool:
    """Whether a path stands for an open file of a process, as /dev/stdout does: it is a link that other processes need."""
    target = out.parent / out.readlink() if out.is_symlink() else out
    return any(each.parent.resolve().parts[:2] == ("/", "proc") for each in (out, target))


def _wrong_with(about: os.stat_result) -> str | None:
    """Why a file can't be an earlier run's; None if it can."""
    if not stat.S_ISREG(about.st_mode):
        return "is no regular file"
    if hasattr(os, "getuid") and about.st_uid not in (os.geteuid(), 0):
        return f"belongs to another user ({about.st_uid})"
    return "has a second name (a hard link), which would be changed with it" if about.st_nlink > 1 else None


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
        raise InputError(f"another run is writing {path}", advice="Wait for it, or name another file") from None
    except OSError:  # a file system without locks
        return
