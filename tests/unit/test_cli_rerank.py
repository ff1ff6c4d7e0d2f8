"""`qwen3-integrations rerank`: a ranked table, or JSON lines."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from qwen3_integrations import Reranker, open_engine
from qwen3_integrations.cli import app
from qwen3_integrations.engines.fake import FakeEngine

QUERY = "how to read a csv file"
TEXTS = ["Cats purr when they are content.", "The csv module reads and writes csv files.", "Read a file line by line."]
RECORDS = [{"id": number, "body": text, "score": -1} for number, text in enumerate(TEXTS)]
FAKE = ("--backend", "fake")


def invoke(*arguments: object, code: int = 0, **settings):
    result = CliRunner().invoke(app, ["rerank", *map(str, arguments)], **settings)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def json_file(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f"{json.dumps(record)}\n" for record in RECORDS), encoding="utf-8")
    return path


def test_json_lines_are_the_rerankers_own_ranking_with_the_fields_of_each_line(json_file):
    options = ("--model", "qwen3-tiny-demo", "--backend", "torch", "--option", "device=cpu", "--option", "dtype=float32")
    with open_engine("rerank", "qwen3-tiny-demo", backend="torch", device="cpu", dtype="float32") as engine:
        expected = Reranker(engine, instruction="Find code").rank(QUERY, TEXTS)
        shown = invoke(QUERY, json_file, "--field", "body", "--json", "--instruction", "Find code", *options)
    rows = [json.loads(line) for line in shown.stdout.splitlines()]
    for row, hit in zip(rows, expected.to_dicts(), strict=True):
        fields = row.pop("fields")
        assert fields == {"id": hit["index"], "score": -1}
        assert row == hit | {"score": pytest.approx(hit["score"], abs=1e-6)}


def test_text_lines_come_from_a_pipe_and_go_into_a_table():
    shown = invoke(QUERY, *FAKE, input="\n".join(TEXTS).encode(), env={"COLUMNS": "60"})
    ranking = Reranker(FakeEngine("rerank")).rank(QUERY, TEXTS)
    rows = [line for line in shown.stdout.splitlines() if line.startswith("│")]
    for row, hit in zip(rows, ranking, strict=True):
        rank, _, score, document = (cell.strip() for cell in row.strip("│").split("│"))
        assert (rank, score) == (str(hit.rank + 1), f"{hit.score:.3f}")
        assert hit.document.startswith(document.rstrip("…"))
    assert all(len(line) <= 60 for line in shown.stdout.splitlines())
    assert "3 of 3 documents" in shown.stderr


def test_cuts_are_the_rerankers(json_file):
    arguments = (QUERY, json_file, "--field", "body", "--json", *FAKE)
    ranking = Reranker(FakeEngine("rerank")).rank(QUERY, TEXTS)
    assert [json.loads(line)["index"] for line in invoke(*arguments, "--top-n", "1").stdout.splitlines()] == [ranking[0].index]
    cut = invoke(*arguments, "--threshold", ranking[1].score)
    assert [json.loads(line)["index"] for line in cut.stdout.splitlines()] == [hit.index for hit in ranking.hits[:2]]
    assert "2 of 3 documents" in cut.stderr
    short = invoke(*arguments, "--max-tokens", "90")
    assert [json.loads(line)["truncated"] for line in short.stdout.splitlines()] == [
        hit.truncated for hit in Reranker(FakeEngine("rerank"), max_tokens=90).rank(QUERY, TEXTS)
    ]


def test_a_document_can_not_steer_the_terminal():
    shown = invoke("x", *FAKE, "--quiet", input=b"\x1b[31mred\x1b]0;title\x07 and\x08 \xe2\x80\xaeback\n")
    assert not set("\x1b\x07\x08\u202e") & set(shown.stdout)
    assert "red" in shown.stdout
    assert shown.stderr == ""


def test_nothing_gives_nothing():
    assert invoke("x", *FAKE, "--json", input=b"").stdout == ""
    assert "0 of 0 documents" in invoke("x", *FAKE, input=b"").stderr


def test_bad_lines_are_named_or_counted():
    lines = b'{"text": "csv"}\n{"text": 1}\n'
    assert "error: standard input, line 2: " in invoke("x", *FAKE, "--input-format", "jsonl", input=lines, code=2).stderr
    shown = invoke("x", *FAKE, "--input-format", "jsonl", "--on-error", "skip", input=lines, code=3)
    assert "1 of 1 documents" in shown.stderr
    assert "1 lines skipped; the first of this run: standard input, line 2" in shown.stderr
