"""`embed` and `rerank`: `--preprocess`, `--on-bad-text` and `--vector-field`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from qwen3_integrations import Embedder
from qwen3_integrations.cli import app
from qwen3_integrations.engines.fake import FakeEngine

FAKE = ("--backend", "fake", "--option", "dimensions=64")
FOOTER = "\n--\nthe footer"


def invoke(*arguments: object, code: int = 0, **settings):
    result = CliRunner().invoke(app, list(map(str, arguments)), **settings)
    assert result.exit_code == code, result.output
    return result


def vectors_of(lines: str) -> np.ndarray:
    return np.asarray([json.loads(line)["embedding"] for line in lines.splitlines()], dtype=np.float32)


def fake_vectors(*texts: str) -> np.ndarray:
    return Embedder(FakeEngine("embed")).embed_documents(list(texts))


@pytest.fixture
def folder(tmp_path, monkeypatch, request) -> Path:
    """The current folder, with a module of functions."""
    module = f"own_{abs(hash(request.node.name))}"
    (tmp_path / f"{module}.py").write_text(
        "WORD = 5\n"
        "def cut(text):\n    return text.partition('\\n--\\n')[0]\n"
        "def fails(text):\n    return None if text == 'bad' else text\n"
        "async def later(text):\n    return text\n"
        "class Tools:\n    lower = staticmethod(str.lower)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OWN", module)
    lines = [{"text": "geese" + FOOTER, "id": 1}, {"text": "cats", "id": 2}, {"text": "GEESE and cats" + FOOTER, "id": 3}]
    (tmp_path / "in.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return tmp_path


@pytest.fixture
def own(folder) -> str:
    return next(folder.glob("own_*.py")).stem


def test_documents_are_preprocessed_and_the_output_keeps_them(own):
    shown = invoke("embed", "in.jsonl", *FAKE, "--preprocess", f"{own}:cut")
    assert np.array_equal(vectors_of(shown.stdout), fake_vectors("geese", "cats", "GEESE and cats"))
    assert json.loads(shown.stdout.splitlines()[0])["text"] == "geese" + FOOTER
    assert "; 2 preprocessed" in shown.stderr
    shown = invoke("embed", "in.jsonl", *FAKE, "--preprocess", f"{own}:Tools.lower", "--json", "-o", "out.npy")
    assert json.loads(shown.stdout)["preprocessed"] == 1

    shown = invoke("rerank", "geese", "in.jsonl", "--backend", "fake", "--json", "--preprocess", f"{own}:cut")
    best = json.loads(shown.stdout.splitlines()[0])
    assert best["document"].endswith(FOOTER)
    assert "; 2 preprocessed" in shown.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("{own}", "must be MODULE:FUNCTION"),
        ("nowhere:cut", "names the module 'nowhere', which can't be imported: ModuleNotFoundError"),
        ("{own}:nothing", "names 'nothing', which {own}"),
        ("{own}:WORD", "must be a function from text to text, or None, not int"),
        ("{own}:later", "is async"),
    ],
)
def test_wrong_functions_are_one_line(own, name, said):
    shown = invoke("embed", "in.jsonl", *FAKE, "--preprocess", name.format(own=own), code=2)
    assert shown.stderr.startswith("error: --preprocess ")
    assert said.format(own=own) in shown.stderr


def test_queries_are_not_preprocessed(own):
    assert "applies only to documents" in invoke("embed", "in.jsonl", *FAKE, "--queries", "--preprocess", f"{own}:cut", code=2).stderr


def test_a_function_that_fails_stops_at_its_line_or_is_skipped(own, folder):
    (folder / "in.txt").write_text("one\nbad\nthree\n")
    shown = invoke("embed", "in.txt", *FAKE, "--preprocess", f"{own}:fails", "-o", "out.npy", code=2)
    assert f"error: in.txt, line 2: can't be preprocessed: {own}:fails returned None, not a string" in shown.stderr
    shown = invoke("embed", "in.txt", *FAKE, "--preprocess", f"{own}:fails", "-o", "out.npy", "--on-error", "skip", code=3)
    assert "1 lines skipped" in shown.stderr
    assert np.array_equal(np.load("out.npy"), fake_vectors("one", "three"))


def test_a_resumed_run_needs_a_function_that_makes_the_same_texts(own, folder):
    good = [json.dumps({"text": f"text {number}{FOOTER}"}) for number in range(6)]
    path, arguments = folder / "job.jsonl", ("embed", "job.jsonl", *FAKE, "--chunk", "2", "-o", "job.npy")
    path.write_text("\n".join([*good[:4], "broken", ""]))
    assert "4 rows are kept" in invoke(*arguments, "--preprocess", f"{own}:cut", code=2).stderr
    path.write_text("\n".join([*good, ""]))
    for other in ([], ["--preprocess", f"{own}:fails"]):
        said = invoke(*arguments, *other, code=2).stderr
        assert "--preprocess makes other texts of the first 4 lines of job.jsonl" in said
        assert "--restart" in said
    (folder / "renamed.py").write_text(f"from {own} import cut as tidy\n")
    assert "after 4 from an earlier run" in invoke(*arguments, "--preprocess", "renamed:tidy").stderr
    assert np.array_equal(np.load(folder / "job.npy"), fake_vectors(*(f"text {number}" for number in range(6))))


BAD_LINES = [
    (b'{"text": "caf\\udce9", "note": "x"}', "caf\ufffd"),
    (b'{"text": "fine", "note": "\\ud800"}', "fine"),
    (b'{"text": "caf\xe9"}', "caf\ufffd"),
    (b'{"text": "\xed\xa0\xbd\xed\xb8\x80"}', "\N{GRINNING FACE}"),
]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_bad_text_is_an_error_or_replaced_in_the_whole_line(tmp_path, suffix):
    path, out = tmp_path / "in.jsonl", tmp_path / f"out.{suffix}"
    path.write_bytes(b"\n".join(line for line, _ in BAD_LINES) + b'\n{"text": "plain"}\n')
    assert "line 1: contains the lone surrogate U+DCE9" in invoke("embed", path, *FAKE, code=2).stderr
    shown = invoke("embed", path, *FAKE, "--on-bad-text", "replace", "-o", out)
    assert "; 4 with characters replaced by U+FFFD" in shown.stderr
    rows = parquet.read_table(out).to_pylist() if suffix == "parquet" else list(map(json.loads, out.read_text("utf-8").splitlines()))
    texts = [*(text for _, text in BAD_LINES), "plain"]
    assert [row["text"] for row in rows] == texts
    assert rows[1]["note"] == "\ufffd"
    assert np.array_equal(np.asarray([row["embedding"] for row in rows], dtype=np.float32), fake_vectors(*texts))


def test_rerank_replaces_bad_text(tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes(b"one\ncaf\xe9\n")
    assert "line 2: is not UTF-8" in invoke("rerank", "q", path, "--backend", "fake", code=2).stderr
    shown = invoke("rerank", "q\udc80", path, "--backend", "fake", "--json", "--on-bad-text", "replace")
    assert {json.loads(line)["document"] for line in shown.stdout.splitlines()} == {"one", "caf\ufffd"}
    assert "; 1 lines with characters replaced by U+FFFD" in shown.stderr


@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "npy"])
def test_a_field_named_like_the_vectors_is_never_lost(tmp_path, suffix):
    path, out = tmp_path / "in.jsonl", tmp_path / f"out.{suffix}"
    path.write_text('{"text": "one"}\n{"text": "two", "embedding": [1, 2]}\n')
    if suffix == "npy":  # it has no fields
        invoke("embed", path, *FAKE, "-o", out)
        assert np.array_equal(np.load(out), fake_vectors("one", "two"))
        return
    for more in (
        (),
        (
            "--on-error",
            "skip",
        ),
    ):
        said = invoke("embed", path, *FAKE, "-o", out, *more, code=2).stderr
        assert "line 2: has a field 'embedding', which is also the name of the output's field for vectors" in said
        assert "--vector-field" in said
    invoke("embed", path, *FAKE, "-o", out, "--vector-field", "vector", "--restart")
    rows = parquet.read_table(out).to_pylist() if suffix == "parquet" else list(map(json.loads, out.read_text().splitlines()))
    assert np.array_equal(np.asarray([row["vector"] for row in rows], dtype=np.float32), fake_vectors("one", "two"))
    assert rows[1]["embedding"] == ("[1, 2]" if suffix == "parquet" else [1, 2])
    assert "has a field 'text'" in invoke("embed", path, *FAKE, "--vector-field", "text", code=2).stderr
