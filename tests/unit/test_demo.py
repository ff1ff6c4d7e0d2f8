"""The main job, as the README's first command runs it."""

from __future__ import annotations

import json
import re
from zlib import crc32

import numpy as np
import pytest
from typer.testing import CliRunner

from qwen3_integrations import __version__
from qwen3_integrations.cli import app
from qwen3_integrations.cli.docstring_search import collect_docstrings, run_demo
from qwen3_integrations.errors import InvalidText, PromptTooLong
from qwen3_integrations.models.catalog import DEFAULT_MODELS
from tests.server.faults import FaultsProxy, status

WIDTH = 1024
"""Of the vectors of the 0.6B model, which a server that serves it must answer with."""


def words(text):
    return re.findall(r"\w+", text.lower())


def vectors(body):
    """Bags of words in the shape of the 0.6B model's embeddings."""
    data = []
    for index, text in enumerate(body["input"]):
        counts = np.bincount([crc32(word.encode()) % WIDTH for word in words(text)], minlength=WIDTH)
        data.append({"index": index, "embedding": counts.tolist()})
    return {"data": data}


def ranks(body):
    """A score of the words that query and document share, which hears the instruction."""
    query = set(words(body["query"]))
    shared = [len(query & set(words(document))) for document in body["documents"]]
    scores = [number / (2 * len(query)) + len(body["instruction"]) / 1e4 for number in shared]
    return {"results": [{"index": index, "relevance_score": score} for index, score in enumerate(scores)]}


@pytest.fixture
def server():
    """A server of the real models' names, which knows nothing else."""
    answers = {
        "/v1/models": lambda body: {"data": [{"id": model, "owned_by": "a stand-in"} for model in DEFAULT_MODELS.values()]},
        "/v1/embeddings": vectors,
        "/v1/rerank": ranks,
    }

    def answer(call):
        make = answers.get(call.seen.path)
        if make is None:
            status(404, {"detail": "Not Found"})(call)
        else:
            call.answer(200, json.dumps(make(call.seen.body)).encode())

    with FaultsProxy(everywhere=answer) as proxy:
        yield proxy


def asked(server):
    """Path and model of all working requests."""
    return {(request.path, request.body["model"]) for request in server.work}


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
    assert "the folder 'nowhere' does not exist" in shown.output
    assert "Traceback" not in shown.output


SMALL = ("--texts", "50", "--retrieve", "5", "--show", "3")
EMBEDDED = ("/v1/embeddings", "Qwen/Qwen3-Embedding-0.6B")
RERANKED = ("/v1/rerank", "Qwen/Qwen3-Reranker-0.6B")


@pytest.mark.parametrize(
    ("options", "requests", "toy"),
    [
        (["--base-url"], {EMBEDDED}, True),
        (["--reranker-url"], {RERANKED}, True),
        (["--base-url", "--reranker-url"], {EMBEDDED, RERANKED}, False),
    ],
)
def test_an_address_means_the_real_model(server, options, requests, toy):
    addresses = [word for option in options for word in (option, server.url)]
    shown = CliRunner().invoke(app, ["demo", "read a file", *addresses, *SMALL], env={"COLUMNS": "140"})
    assert shown.exit_code == 0, shown.output
    assert asked(server) == requests
    assert ("is a toy" in shown.output) == toy


def test_a_model_named_beside_an_address_is_what_the_server_is_asked_for(server):
    shown = CliRunner().invoke(app, ["demo", "x", "--base-url", server.url, "--model", "qwen3-tiny-demo", *SMALL])
    assert shown.exit_code == 1
    assert "does not answer as qwen3-tiny-demo must" in shown.output


def test_the_offline_demo_asks_no_server_that_the_environment_names(server, monkeypatch):
    monkeypatch.setenv("QWEN3_EMBEDDING_URL", server.url)
    monkeypatch.setenv("QWEN3_RERANKER_URL", server.url)
    result = run_demo("read a file", most_texts=50, retrieve=5)
    assert result.toy
    assert server.seen == []
    run_demo("read a file", model=EMBEDDED[1], most_texts=50, retrieve=5)  # the environment's address is for real models
    assert asked(server) == {EMBEDDED}


def test_the_toy_runs_on_torch_even_where_vllm_and_a_gpu_are(monkeypatch):
    monkeypatch.setattr("qwen3_integrations.engines.registry._has_cuda", lambda: True)
    monkeypatch.setattr("qwen3_integrations.engines.registry.installed", lambda module: True)
    monkeypatch.setattr("qwen3_integrations.engines.vllm.engine.VllmEngine.__init__", None)
    assert all(engine.startswith("TorchEngine(") for engine in run_demo("read a file", most_texts=50, retrieve=5).engines)


@pytest.mark.parametrize(
    ("query", "error", "says"), [("\ud800", InvalidText, "query contains the lone"), ("word " * 600, PromptTooLong, "tokens")]
)
def test_a_query_that_can_not_be_read_is_refused_before_any_work(query, error, says, monkeypatch):
    monkeypatch.setattr("qwen3_integrations.cli.docstring_search.collect_docstrings", None)
    with pytest.raises(error, match=says):
        run_demo(query)


def test_the_version_is_shown():
    assert CliRunner().invoke(app, ["--version"]).output.strip() == __version__
