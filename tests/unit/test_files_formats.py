"""Written files can be read with the usual libraries, equal to the last bit."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from qwen3_integrations.bulk.formats import JsonLines, OutputFormat, choose_format, column_kinds, make_format
from qwen3_integrations.bulk.sources import Record
from qwen3_integrations.errors import ConfigError


def records(*fields: dict) -> list[Record]:
    return [Record(own.get("text", ""), own, line) for line, own in enumerate(fields, start=1)]


def written(tmp_path: Path, chosen: OutputFormat, *fields: dict, vectors: np.ndarray) -> Path:
    form = make_format(chosen)
    part = tmp_path / "part"
    half = len(fields) // 2
    rows = form.rows(records(*fields[:half]), vectors[:half]) + form.rows(records(*fields[half:]), vectors[half:])
    part.write_bytes(form.head(vectors.shape[1]) + rows)
    return form.finish(part, len(fields), vectors.shape[1])


def test_json_restores_every_float32():
    rng = np.random.default_rng(7)
    patterns = rng.integers(0, 2**32, 200_000, dtype=np.uint32).view(np.float32)
    edges = np.asarray([0, 1, -1, 1e-45, 3.4028235e38], dtype=np.float32)
    numbers = np.concatenate([patterns[np.isfinite(patterns)], edges])[None, :]
    (line,) = JsonLines().rows(records({"text": "x"}), numbers).decode().splitlines()
    assert np.array_equal(np.asarray(json.loads(line)["embedding"], dtype=np.float32), numbers[0])


def test_json_lines_carry_the_fields():
    fields = {"text": 'a "quoted"\n标题', "id": None}
    line = JsonLines().rows(records(fields), np.asarray([[0.5, -1]], dtype=np.float32)).decode()
    assert line == '{"text": "a \\"quoted\\"\\n标题", "id": null, "embedding": [0.5, -1]}\n'


@pytest.mark.parametrize("rows", [0, 1, 3, 1000])
def test_npy_is_a_memory_mapped_array(tmp_path, rows):
    vectors = np.random.default_rng(rows).standard_normal((rows, 32)).astype(np.float32)
    path = written(tmp_path, OutputFormat.NPY, *({"text": "x"} for _ in range(rows)), vectors=vectors)
    with path.open("rb") as file:
        read = np.load(file)
    assert read.dtype == np.float32
    assert np.array_equal(read, vectors)
    mapped = np.load(path, mmap_mode="r")
    assert mapped.shape == (rows, 32)
    assert np.array_equal(mapped, vectors)


def test_parquet_has_typed_columns(tmp_path):
    fields = [
        {"text": "one", "id": 2**60, "score": 0.5, "ok": True, "tags": ["a"], "mixed": 1, "big": 2**70},
        {"text": "two", "id": 2, "score": 1, "tags": None, "mixed": "1", "empty": None},
        {"text": "three", "late": "x", "mixed": {}},
    ]
    vectors = np.random.default_rng(3).standard_normal((3, 32)).astype(np.float32)
    table = parquet.read_table(written(tmp_path, OutputFormat.PARQUET, *fields, vectors=vectors))
    assert {name: str(table.schema.field(name).type) for name in table.column_names} == {
        "text": "string",
        "id": "int64",
        "score": "double",
        "ok": "bool",
        "tags": "string",
        "mixed": "string",
        "big": "string",
        "empty": "string",
        "late": "string",
        "embedding": "fixed_size_list<element: float>[32]",
    }
    assert np.array_equal(np.asarray(table["embedding"].to_pylist(), dtype=np.float32), vectors)
    rows = table.drop_columns("embedding").to_pylist()
    assert rows[0] == fields[0] | {"tags": '["a"]', "mixed": "1", "big": str(2**70), "empty": None, "late": None}
    assert (rows[1]["score"], rows[1]["mixed"], rows[1]["ok"], rows[1]["tags"]) == (1.0, '"1"', None, None)
    assert rows[2]["late"] == "x"


def test_parquet_without_rows_has_its_column(tmp_path):
    table = parquet.read_table(written(tmp_path, OutputFormat.PARQUET, vectors=np.empty((0, 64), dtype=np.float32)))
    assert table.num_rows == 0
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: float>[64]"


def test_a_column_type_holds_all_values_exactly():
    kinds = column_kinds([{"a": 2**53 + 1, "b": 1, "c": True, "d": 1.5}, {"a": 0.5, "b": -(2**63), "c": 0, "d": 1.5}])
    assert kinds == {"a": "json", "b": "int64", "c": "json", "d": "float64"}


def test_whole_rows_are_counted_up_to_the_last_whole_one():
    for chosen in (OutputFormat.JSONL, OutputFormat.PARQUET):
        form = make_format(chosen)
        rows = form.rows(records({"text": "a"}, {"text": "b"}), np.ones((2, 32), dtype=np.float32))
        first = rows.index(b"\n") + 1
        for size, most, expected in (
            (len(rows), 9, (2, len(rows))),
            (len(rows), 1, (1, first)),
            (len(rows) - 1, 9, (1, first)),
            (3, 9, (0, 0)),
        ):
            assert form.whole(io.BytesIO(rows[:size]), most, 32) == expected, chosen


@pytest.mark.parametrize(
    ("output", "wanted", "chosen"),
    [
        (None, None, "jsonl"),
        ("x.jsonl", None, "jsonl"),
        ("x.ndjson", None, "jsonl"),
        ("x.npy", None, "npy"),
        ("x.parquet", None, "parquet"),
        ("x.dat", OutputFormat.NPY, "npy"),
        ("x.npy", OutputFormat.JSONL, "jsonl"),
    ],
)
def test_the_suffix_or_the_option_determines_the_format(output, wanted, chosen):
    assert choose_format(Path(output) if output else None, wanted) == chosen


def test_an_unknown_format_is_refused():
    with pytest.raises(ConfigError, match=r"suffix of x\.csv is not that of a known format.*--output-format"):
        choose_format(Path("x.csv"), None)
    with pytest.raises(ConfigError, match="npy can't be written to standard output"):
        choose_format(None, OutputFormat.NPY)
