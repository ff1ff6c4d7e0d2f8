"""A file as destination of rows: it appears only when it is complete, and an interrupted run can be resumed."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from qwen3_integrations.bulk.error_report import ErrorReport
from qwen3_integrations.bulk.formats import Format
from qwen3_integrations.bulk.own_files import is_process_file, lock, open_own, write_errors
from qwen3_integrations.bulk.part_state import PartState, read_state
from qwen3_integrations.bulk.sources import Lines, Mark, Record
from qwen3_integrations.core.fingerprint import Fingerprint
from qwen3_integrations.core.types import Rows
from qwen3_integrations.errors import InputError

SAVE_S = 1.0
"""Seconds between two saved states of the part file. A power failure loses the rows since the last saved state."""

SPARED_BYTES = 1 << 16
"""Bytes at the end of the part file that are given up on a full disk, so that the state can be saved."""


class PartFile:
    """Writes rows to `OUT.part`; `OUT` appears when the file is complete.

    `OUT.part.json` has the settings, the engine's fingerprint, the number of written rows, and the hash of their input lines. A run with
    equal settings, the same model in the same number format, and an input that starts with the same lines, resumes after the last
    complete row. A state without a fingerprint is refused, because nothing else says which engine made the rows.

    Args:
        out: The output file.
        form: Format of the rows.
        settings: All settings that the rows depend on, by the names of the command's options; JSON values.
        report: The error report of the job; None for none.
        overwrite: Replace an existing `out`, and an existing report.
        restart: Start again, and discard the rows of an earlier run.

    Attributes:
        path: The part file.
        kept: Number of rows in the last saved state, available to the next run.

    Raises:
        InputError: On entry: if `out` exists or can't be written, if another run is writing it, or if an earlier run had other settings.
    """

    def __init__(
        self,
        out: Path,
        form: Format,
        settings: Mapping[str, Any],
        *,
        report: ErrorReport | None = None,
        overwrite: bool = False,
        restart: bool = False,
    ) -> None:
        self.rows = self.kept = 0
        self.path = out.with_name(f"{out.name}.part")
        self._state_path = out.with_name(f"{out.name}.part.json")
        self._out, self._form, self._settings = out, form, settings
        self._overwrite, self._restart = overwrite, restart
        self._report = report or ErrorReport(None, skips=False)

    def __enter__(self) -> Self:
        try:
            exists = self._out.exists()
            is_regular = self._out.is_file() and not is_process_file(self._out)
        except OSError as error:
            raise InputError(f"{self._out} can't be written: {error.strerror}") from error
        if exists and not is_regular:  # `finish` would replace it, even /dev/null
            raise InputError(f"{self._out} is not a regular file", advice="Name a file, or leave --output out for standard output")
        if exists and not self._overwrite:
            raise InputError(f"{self._out} exists already", advice="Name another file, or replace it with --overwrite")
        self._file = open_own(self.path)
        try:
            lock(self._file, self.path)
            if self._restart:
                self._file.truncate(0)
            self._state = self._earlier()
            self.rows = self._state.rows
            self._made_by = self._state.made_by or {}
            self._saved_at = 0.0
            self._open_report()
            with write_errors(self.path):
                self._save()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file.closed:  # finished
            return
        try:
            self._save()
        except OSError:
            with suppress(OSError):  # otherwise the last saved state stays valid
                self._save_in_less_space()
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._report.close(keep=bool(self.kept))
        if not self.kept:
            self._remove()

    def resume(self, lines: Lines) -> Iterator[Record]:
        """The remaining records.

        The records of the written rows are read again, to check that they are the same.

        Raises:
            InputError: If the input does not start with the lines of the written rows.
        """
        state = self._state
        self._file.seek(0)
        self.rows, end = self._form.whole(self._file, state.rows, state.width) if state.rows else (0, 0)
        self._file.truncate(end)
        self._file.seek(0, os.SEEK_END)
        records = iter(lines)
        # If the end of the part file was lost, its rows are computed again from these records. Otherwise this list stays empty.
        lost: list[Record] = []
        read = 0
        while lines.mark().lines < state.lines and (record := next(records, None)):
            read += 1
            if read > self.rows:
                lost.append(record)
        if lines.mark().digest != state.digest:
            raise InputError(
                f"{lines.name} does not begin with the {state.lines:,} lines that {self.path} was made from",
                advice="Pass the same input, or start again with --restart",
            )
        if lines.mark().made != state.made:
            raise InputError(
                f"--preprocess makes other texts of the first {state.lines:,} lines of {lines.name} than {self.path} was made from",
                advice="Use the same function, or start again with --restart",
            )
        return itertools.chain(lost, records)

    def match(self, made_by: Callable[[], Fingerprint]) -> None:
        """Check that the earlier rows were made by the same engine.

        Raises:
            InputError: If another model, another backend or another number format made them; names the old and the new value.
            EngineError: If the engine can't compute its fingerprint.
        """
        now = made_by()
        if not self._state.rows:
            self._made_by = now.to_dict()
        elif different := Fingerprint.from_dict(self._made_by).differences(now):
            raise InputError(
                f"{self.path} was started with another model, or in another number format ({'; '.join(map(str, different))})",
                advice="Use the same to continue, or start again with --restart",
            )

    def write(self, records: Sequence[Record], vectors: Rows, mark: Mark) -> None:
        """Write rows.

        Raises:
            InputError: If the written rows have another width.
            Qwen3Error: If they can't be written.
        """
        width = vectors.shape[1]
        if self.rows and width != self._state.width:
            raise InputError(
                f"{self.path} contains vectors of {self._state.width} dimensions, but the model's have {width}",
                advice="Use the same model, or start again with --restart",
            )
        with write_errors(self.path):
            self._begin(width)
            self._file.write(self._form.rows(records, vectors))
            self.rows += len(records)
            self._state = PartState(self._settings, self._made_by, self.rows, width, mark.lines, mark.digest, mark.made, self._report.count)
            if time.monotonic() - self._saved_at >= SAVE_S:
                self._save()

    def finish(self, width: int) -> None:
        """Complete the file, and move it to its final name.

        Args:
            width: Width of the vectors, for a file without rows.

        Raises:
            Qwen3Error: If it can't be written.
        """
        with write_errors(self.path):
            self._begin(width)
            self._save()
            self._report.close()
            complete = self._form.finish(self.path, self.rows, width)
            self._file.close()
            complete.replace(self._out)
            self._remove()

    def _open_report(self) -> None:
        try:
            self._report.open(self._state.lines, self._state.skipped, overwrite=self._overwrite or self._restart)
        except BaseException:
            if not self._state.rows:  # no stray files
                self._remove()
            raise

    def _begin(self, width: int) -> None:
        if not self._file.tell():
            self._file.write(self._form.head(width))

    def _earlier(self) -> PartState:
        """Saved state of an earlier run; an empty state if there is no part file."""
        if not os.fstat(self._file.fileno()).st_size:
            return PartState(self._settings, None)
        state = read_state(self._state_path, self.path)
        state.check_settings(self._settings, self.path)
        return state

    def _save(self) -> None:
        """Save the state, after the rows have been synced to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._report.sync()
        self._state.save(self._state_path)
        self.kept = self._state.rows
        self._saved_at = time.monotonic()

    def _save_in_less_space(self) -> None:
        """Save the state on a full disk: the end of the part file makes room for it. Its rows are computed again by the next run."""
        descriptor = self._file.fileno()
        os.ftruncate(descriptor, max(os.fstat(descriptor).st_size - SPARED_BYTES, 0))
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, descriptor)  # what the file's buffer still has would be written behind the new end
        os.close(nowhere)
        self._report.sync()
        self._state.save(self._state_path)
        with self.path.open("rb") as file:
            self.kept, _ = self._form.whole(file, self._state.rows, self._state.width) if self._state.rows else (0, 0)

    def _remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._state_path.unlink(missing_ok=True)
