"""Destinations of rows: the protocol, and standard output. A file as destination is in `part_file`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, Self

from qwen3_integrations.bulk.error_report import ErrorReport
from qwen3_integrations.bulk.formats import VECTOR, JsonLines
from qwen3_integrations.bulk.own_files import write_errors
from qwen3_integrations.bulk.sources import Lines, Mark, Record
from qwen3_integrations.core.fingerprint import Fingerprint
from qwen3_integrations.core.types import Rows


class Target(Protocol):
    """Takes rows in order."""

    rows: int
    """Number of rows written so far, also by earlier runs."""

    def resume(self, lines: Lines) -> Iterator[Record]:
        """The remaining records, after the check that the written rows belong to this input."""

    def match(self, made_by: Callable[[], Fingerprint]) -> None:
        """Check that the earlier rows were made by the same engine; `made_by` may send a request to a server."""

    def write(self, records: Sequence[Record], vectors: Rows, mark: Mark) -> None:
        """Write rows; `mark` is the position in the input after the last of them."""

    def finish(self, width: int) -> None:
        """Complete the output after the last row."""


class StandardOutput:
    """JSON lines on standard output, flushed with every write.

    Args:
        vector: Name of the field with the vector.
        report: The error report of the job; it is opened on entry.
    """

    def __init__(self, vector: str = VECTOR, report: ErrorReport | None = None) -> None:
        self.rows = 0
        self._form = JsonLines(vector)
        self._report = report or ErrorReport(None, skips=False)

    def __enter__(self) -> Self:
        self._report.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self._report.close()

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
        with write_errors("standard output"):
            sys.stdout.buffer.write(self._form.rows(records, vectors))
            sys.stdout.buffer.flush()
        self.rows += len(records)

    def finish(self, width: int) -> None:
        """Nothing to do."""
