"""Output file formats for vectors and their fields: JSON lines, NPY, Parquet."""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from qwen3_integrations.bulk.sources import Record
from qwen3_integrations.core.extras import require
from qwen3_integrations.core.types import Rows
from qwen3_integrations.errors import ConfigError

VECTOR = "embedding"
"""Name of the field or column with the vector, unless another is chosen."""

ROW_GROUP = 4096
"""Rows of a Parquet row group: 16 MiB of vectors of width 1024."""


class OutputFormat(StrEnum):
    """The output formats."""

    JSONL = "jsonl"
    NPY = "npy"
    PARQUET = "parquet"


class Format(Protocol):
    """Format of rows in a part file while it grows, and conversion to the complete file."""

    def head(self, width: int) -> bytes:
        """Bytes before the first row."""

    def rows(self, records: Sequence[Record], vectors: Rows) -> bytes:
        """Bytes of rows, one after another."""

    def whole(self, part: BinaryIO, most: int, width: int) -> tuple[int, int]:
        """Number of complete rows in a part file, at most `most`, and the number of bytes up to their end."""

    def finish(self, part: Path, rows: int, width: int) -> Path:
        """Complete a part file with `rows` rows, and return the path of the complete file. A repeated call after an interrupt works."""


def choose_format(output: Path | None, wanted: OutputFormat | None) -> OutputFormat:
    """Choose the format: the given one, else by the file's suffix; JSON lines for standard output.

    Raises:
        ConfigError: If the suffix is unknown, or the format can't be written to standard output.
    """
    if output is None:
        if wanted not in (None, OutputFormat.JSONL):
            raise ConfigError(
                f"{wanted} can't be written to standard output, since its header is written last", advice="Name a file with --output"
            )
        return OutputFormat.JSONL
    suffixes = {".jsonl": OutputFormat.JSONL, ".ndjson": OutputFormat.JSONL, ".npy": OutputFormat.NPY, ".parquet": OutputFormat.PARQUET}
    chosen = wanted or suffixes.get(output.suffix)
    if chosen is None:
        raise ConfigError(
            f"the suffix of {output} is not that of a known format",
            advice=f"Use {', '.join(suffixes)}, or name one of {', '.join(OutputFormat)} with --output-format",
        )
    return chosen


def make_format(chosen: OutputFormat, vector: str = VECTOR) -> Format:
    """Create a format.

    Args:
        chosen: Which one.
        vector: Name of the field or column with the vector, which no record has.

    Raises:
        MissingExtra: If Parquet is wanted and pyarrow is not installed.
    """
    match chosen:
        case OutputFormat.JSONL:
            return JsonLines(vector)
        case OutputFormat.NPY:
            return Npy()
        case OutputFormat.PARQUET:
            return Parquet(vector)


class JsonLines:
    """One line per row: the record's fields, then `embedding`.

    Numbers have nine significant digits, which restore every float32 exactly.
    """

    def __init__(self, vector: str = VECTOR) -> None:
        self._vector = _dumps(vector)

    def head(self, width: int) -> bytes:  # noqa: ARG002
        """No bytes."""
        return b""

    def rows(self, records: Sequence[Record], vectors: Rows) -> bytes:
        """One JSON line per row."""
        numbers = ", ".join(["%.9g"] * vectors.shape[1])  # four times the speed of `json.dumps`, with a third fewer bytes
        return "".join(
            f"{_dumps(record.fields)[:-1]}, {self._vector}: [{numbers % tuple(vector.tolist())}]}}\n"
            for record, vector in zip(records, vectors, strict=True)
        ).encode()

    def whole(self, part: BinaryIO, most: int, width: int) -> tuple[int, int]:  # noqa: ARG002
        """Count complete lines."""
        return _whole_lines(part, most)

    def finish(self, part: Path, rows: int, width: int) -> Path:  # noqa: ARG002
        """The part file is the complete file."""
        return part


class Npy:
    """One float32 array of shape (rows, width), and no fields. Opens with `numpy.load(path, mmap_mode="r")`."""

    def head(self, width: int) -> bytes:
        """Header of an array without rows. NumPy reserves space in it for any number of rows."""
        return _npy_header(0, width)

    def rows(self, records: Sequence[Record], vectors: Rows) -> bytes:  # noqa: ARG002
        """Float32 values in little-endian order."""
        return vectors.astype("<f4").tobytes()

    def whole(self, part: BinaryIO, most: int, width: int) -> tuple[int, int]:
        """Compute the number of rows from the file's size."""
        head, row = len(self.head(width)), 4 * width
        data = os.fstat(part.fileno()).st_size - head
        rows = min(most, data // row)
        return (rows, head + rows * row) if data >= 0 else (0, 0)

    def finish(self, part: Path, rows: int, width: int) -> Path:
        """Write the number of rows into the header."""
        header = _npy_header(rows, width)
        assert len(header) == len(self.head(width))
        with part.open("r+b") as file:
            file.write(header)
            file.flush()
            os.fsync(file.fileno())
        return part


class Parquet:
    """A column for each field, and `embedding` as a list of fixed size of float32.

    Columns of strings, booleans, integers and floats have their own type, with null if a record has no such field. A field with other
    values (lists, objects, values of several types) is a column of JSON text.

    A Parquet file can't grow, and the types are known only after the last record. So the part file has JSON lines.

    Raises:
        MissingExtra: If pyarrow is not installed.
    """

    def __init__(self, vector: str = VECTOR) -> None:
        self._vector = vector
        self._arrow = require("pyarrow", "parquet")
        self._parquet = require("pyarrow.parquet", "parquet")

    def head(self, width: int) -> bytes:  # noqa: ARG002
        """No bytes."""
        return b""

    def rows(self, records: Sequence[Record], vectors: Rows) -> bytes:
        """One line per row: its fields, and the vector as base64."""
        packed = [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]
        lines = [_dumps([record.fields, vector]) for record, vector in zip(records, packed, strict=True)]
        return "".join(f"{line}\n" for line in lines).encode()

    def whole(self, part: BinaryIO, most: int, width: int) -> tuple[int, int]:  # noqa: ARG002
        """Count complete lines."""
        return _whole_lines(part, most)

    def finish(self, part: Path, rows: int, width: int) -> Path:  # noqa: ARG002
        """Read the part file twice: once for the types of the fields, once to write them."""
        arrow = self._arrow
        with part.open("rb") as file:
            kinds = column_kinds(fields for fields, _ in map(json.loads, file))
        types = {kind: getattr(arrow, kind if kind != "json" else "string")() for kind in set(kinds.values())}
        columns = [(name, types[kind]) for name, kind in kinds.items()]
        schema = arrow.schema([*columns, (self._vector, arrow.list_(arrow.float32(), width))])
        whole = part.with_name(f"{part.name}.parquet")
        whole.unlink(missing_ok=True)
        with (
            part.open("rb") as file,
            whole.open("xb") as new,
            self._parquet.ParquetWriter(new, schema) as writer,
        ):  # "x": not through a link
            for group in _groups(map(json.loads, file), ROW_GROUP):
                arrays = [arrow.array([_cell(fields.get(name), kind) for fields, _ in group], types[kind]) for name, kind in kinds.items()]
                vectors = np.frombuffer(b"".join(base64.b64decode(packed) for _, packed in group), dtype="<f4")
                arrays.append(arrow.FixedSizeListArray.from_arrays(arrow.array(vectors), width))
                writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
        return whole


def column_kinds(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Arrow type of each field, in order of first appearance; `json` if no single type fits all its values."""
    seen: dict[str, set[str]] = {}
    for fields in rows:
        for name, value in fields.items():
            seen.setdefault(name, set()).add(_kind(value))
    return {name: _common(kinds - {"null"}) for name, kinds in seen.items()}


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "bool_"
        case int():
            # An integer beyond 53 bits is not exact as a double; beyond 64 bits it fits no column type.
            return "small" if abs(value) <= 2**53 else "int64" if -(2**63) <= value < 2**63 else "json"
        case float():
            return "float64"
        case str():
            return "string"
        case _:
            return "json"


def _common(kinds: set[str]) -> str:
    if kinds <= {"small", "int64"}:
        return "int64" if kinds else "string"
    if kinds == {"small", "float64"}:
        return "float64"
    return next(iter(kinds)) if len(kinds) == 1 else "json"


def _cell(value: Any, kind: str) -> Any:
    return _dumps(value) if kind == "json" and value is not None else value


def _groups(rows: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while group := list(itertools.islice(rows, size)):
        yield group


def _whole_lines(part: BinaryIO, most: int) -> tuple[int, int]:
    rows = end = 0
    for line in itertools.islice(part, most):
        if not line.endswith(b"\n"):
            break
        rows += 1
        end += len(line)
    return rows, end


def _npy_header(rows: int, width: int) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (rows, width)})
    return file.getvalue()


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
