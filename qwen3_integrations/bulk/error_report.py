"""The error report of a job: the lines that were left out, and why."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

from qwen3_integrations.bulk.own_files import is_process_file, lock, open_own, write_errors
from qwen3_integrations.errors import InputError, Qwen3Error

SKIP_ADVICE = "--on-error skip leaves such lines out"

IDS = ("id", "_id")
"""Fields that name a record; the first that a line has is in the report."""


class ErrorReport:
    """Takes the lines that a job leaves out, in a file of JSON lines with `line`, `id` (if there is one), `error` and `cause`.

    A line is written to the file before the rows after it, so that a job that continues does not report it twice.

    Args:
        path: The file; None for no file. It exists only if a line was left out.
        skips: Whether bad lines are left out. Otherwise the report only has the lines of an earlier run.

    Attributes:
        count: Number of written lines, also by earlier runs.
        first: Error message of the first line of this run; None if there is none.
        earlier: Numbers of the lines that an earlier run left out.
    """

    def __init__(self, path: Path | None, *, skips: bool) -> None:
        self.path, self.skips = path, skips
        self.count = 0
        self.first: str | None = None
        self.earlier: frozenset[int] = frozenset()
        self._pending: list[tuple[int, dict[str, Any]]] = []
        self._file: BinaryIO | None = None

    def open(self, lines: int = 0, expected: int = 0, *, overwrite: bool = False) -> None:
        """Open the file, and keep what an earlier run wrote about the first `lines` lines of the input.

        Args:
            lines: Number of input lines whose rows are written.
            expected: Number of them that the report must have.
            overwrite: Replace a report of another job.

        Raises:
            InputError: If the file can't be written, exists already, or lacks lines of the earlier run.
        """
        if self.path is None or not (self.skips or expected):
            if expected:
                raise self._lacking(expected)
            return
        existed = self.path.exists()
        if existed and (not self.path.is_file() or is_process_file(self.path)):
            raise InputError(f"{self.path} is not a regular file", advice="Name a file with --report")
        if existed and not lines and not overwrite and self.path.stat().st_size:
            raise InputError(f"{self.path} exists already", advice="Name another file with --report, or replace it with --overwrite")
        self._file = open_own(self.path)
        try:
            lock(self._file, self.path)
            kept, end = self._kept(lines if expected else 0)
            if len(kept) != expected:
                raise self._lacking(expected)
            self._file.truncate(end)
        except BaseException:
            self._file.close()
            self._file = None
            if not existed:
                self.path.unlink(missing_ok=True)
            raise
        self.earlier, self.count = frozenset(kept), expected

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def add(self, line: int, fields: Mapping[str, Any], error: Qwen3Error, cause: str) -> None:
        """Take a line; it is written by the next `write` behind it.

        Args:
            line: Its number in the input, from 1.
            fields: Its fields, of which one may be the record's id.
            error: The error, for the summary.
            cause: The error in words, without the place.
        """
        self.first = self.first or str(error.replace(advice=None))
        name = next((fields[name] for name in IDS if name in fields), None)
        entry = {"line": line} | ({} if name is None else {"id": name}) | {"error": type(error).__name__, "cause": cause}
        if (status := getattr(error, "status", None)) is not None:
            entry["status"] = status
        self._pending.append((line, entry))

    def write(self, lines: int | None = None) -> None:
        """Write what is known about the first `lines` lines of the input; None for all.

        Raises:
            Qwen3Error: If it can't be written.
        """
        if not self._pending:
            return
        done = sorted((each for each in self._pending if lines is None or each[0] <= lines), key=lambda each: each[0])
        if lines is None:
            self._pending = []
        else:
            self._pending = [each for each in self._pending if each[0] > lines]
        if self._file:
            with write_errors(self.path):
                self._file.write("".join(f"{json.dumps(entry)}\n" for _, entry in done).encode())
        self.count += len(done)

    def sync(self) -> None:
        """Write the file to the disk."""
        if self._file and not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self, *, keep: bool = True) -> None:
        """Close the file, and remove it if it is empty or not to keep."""
        if self._file is None or self._file.closed or self.path is None:
            return
        try:
            self._file.close()
        finally:
            if not self.count or not keep:
                self.path.unlink(missing_ok=True)

    def _kept(self, lines: int) -> tuple[list[int], int]:
        """Numbers of the lines up to `lines` that the file has, and the number of bytes up to their end."""
        assert self._file is not None
        self._file.seek(0)
        kept, end = [], 0
        for raw in self._file if lines else ():
            try:
                number = json.loads(raw)["line"]
            except (ValueError, TypeError, KeyError, RecursionError):
                break
            if not raw.endswith(b"\n") or type(number) is not int or number > lines:
                break
            kept.append(number)
            end += len(raw)
        return kept, end

    def _lacking(self, expected: int) -> InputError:
        where = self.path or "the error report"
        return InputError(
            f"{where} does not have the {expected:,} lines that the earlier run left out",
            advice="Name its report with --report, or start again with --restart",
        )


def placed(error: Qwen3Error, place: str) -> Qwen3Error:
    """The same error with a line number instead of an index, because the caller passed a file and not a list."""
    fields = {"argument": None} if isinstance(error, InputError) else {}
    return error.replace(reason=f"{place}: {error.reason}", index=None, **fields)
