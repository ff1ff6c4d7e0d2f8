"""The main job, as the README's first command runs it."""

from __future__ import annotations

from typer.testing import CliRunner

from qwen3_integrations import __version__
from qwen3_integrations.cli import app
from qwen3_integrations.demo import collect_docstrings, run_demo


def test_the_corpus_is_thousands_of_real_texts():
    corpus = collect_docstrings()
    assert len(corpus) > 2000
    assert len({docstring.text for docstring in corpus}) == len(corpus)
    (entry,) = [docstring for docstring in corpus if docstring.name == "csv"]
    assert entry.text.startswith("csv: ")


def test_the_demo_shows_what_moved():
    shown = CliRunner().invoke(app, ["demo", "read a file", "--texts", "200", "--retrieve", "8", "--show", "3"], env={"COLUMNS": "140"})
    assert shown.exit_code == 0, shown.output
    assert "200 docstrings of Python's standard library, 8 retrieved and reranked" in shown.output
    assert all(heading in shown.output for heading in ("before", "cosine", "after", "moved", "score", "document"))
    assert "toy" in shown.output
    assert "texts/s" in shown.output


def test_the_demo_ranks_what_it_retrieved():
    result = run_demo("parse command line arguments", most_texts=300, retrieve=10)
    assert list(result.similarities) == sorted(result.similarities, reverse=True)
    assert len(result.names) == len(result.ranking) == 10
    assert result.ranking[0].document.startswith(result.names[result.ranking[0].index])


def test_the_demo_fails_in_one_line():
    shown = CliRunner().invoke(app, ["demo", "x", "--model", "./nowhere"])
    assert shown.exit_code == 1
    assert "there is no folder './nowhere'" in shown.output
    assert "Traceback" not in shown.output


def test_the_version_is_shown():
    assert CliRunner().invoke(app, ["--version"]).output.strip() == __version__
