"""Every snippet that is shown runs as it stands, against real servers, over TCP and a Unix socket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from qwen3_integrations.serving.snippets import SAMPLES, snippets
from tests.reference import reference_embeddings, reference_scores
from tests.server.fixtures import NAME
from tests.server.relay import socket_before

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(1200)]

TOLERANCE = 1e-5
OPENAI_2 = "QWEN3_TEST_OPENAI_2"
"""Names a folder with openai 2, which is built on httpx; `nox` makes it."""

USES = {
    ("embed", "openai"): "client.close()",
    ("embed", "langchain"): "vector = embeddings.embed_documents([{text!r}])[0]",
    ("embed", "llama_index"): "vector = embed_model.get_text_embedding({text!r})",
    ("rerank", "langchain"): "found = reranker.rerank([{text!r}], {query!r})[0]['relevance_score']",
    ("rerank", "llama_index"): (
        "from llama_index.core.schema import NodeWithScore, TextNode\n"
        "nodes = reranker.postprocess_nodes([NodeWithScore(node=TextNode(text={text!r}))], query_str={query!r})\n"
        "found = nodes[0].score"
    ),
}
"""What a reader does with a snippet's object."""


def run(kind: str, code: str, use: str) -> Any:
    """Run a snippet; the vector or score it leads to, or what the server answered to curl."""
    if kind == "curl":
        return json.loads(_output(["bash", "-c", f"{code} --silent --show-error --fail"]))
    names: dict[str, Any] = {}
    exec(f"{code}\n{use}", names)
    return names["vector"] if "vector" in names else names["found"]


def _output(command: list[str], **environment: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("QWEN3_API_KEY", "sk-some-key")


@pytest.fixture(scope="module", params=["port", "socket"])
def urls(request, tiny_servers, tmp_path_factory):
    """task -> its server's address; the socket's path has a blank and quotes."""
    with ExitStack() as stack:

        def url(task: str) -> str:
            if request.param == "port":
                return tiny_servers[task].url
            folder = tmp_path_factory.mktemp(f'it\'s "{task}"')
            return stack.enter_context(socket_before(tiny_servers[task].port, folder / "s.sock"))

        yield {task: url(task) for task in ("embed", "rerank")}


@pytest.mark.parametrize("kind", ["curl", "openai", "langchain", "llama_index"])
def test_an_embedders_snippets_run(urls, kind, tiny_embedder):
    code = snippets("embed", NAME, urls["embed"], has_key=kind != "langchain")
    assert set(code) == {"curl", "openai", "langchain", "llama_index"}
    said = run(kind, code[kind], USES.get(("embed", kind), "").format(text=SAMPLES[1], query=SAMPLES[0]))
    vector = np.asarray(said["data"][0]["embedding"] if kind == "curl" else said)
    assert np.abs(vector - reference_embeddings(tiny_embedder, [SAMPLES[1]])[0]).max() < TOLERANCE


@pytest.mark.parametrize("kind", ["curl", "langchain", "llama_index"])
def test_a_rerankers_snippets_run(urls, kind, tiny_reranker):
    code = snippets("rerank", NAME, urls["rerank"], has_key=kind != "langchain")
    assert set(code) == {"curl", "langchain", "llama_index"}
    said = run(kind, code[kind], USES.get(("rerank", kind), "").format(text=SAMPLES[1], query=SAMPLES[0]))
    if kind == "curl":  # this server has no template, so the score of its own route is another
        (result,) = said["results"]
        assert 0 <= result["relevance_score"] <= 1
    else:
        assert abs(said - reference_scores(tiny_reranker, [(SAMPLES[0], SAMPLES[1])])[0]) < TOLERANCE


def test_the_openai_snippet_runs_under_its_version_2(urls, tiny_embedder):
    """openai 2 is built on httpx, openai 3 on httpx2."""
    folder = os.environ.get(OPENAI_2)
    if not folder:
        if os.environ.get("CI"):
            pytest.fail(f"{OPENAI_2} must name a folder with openai 2: pip install --target FOLDER 'openai<3'")
        pytest.skip(f"{OPENAI_2} names no folder with openai 2")
    code = snippets("embed", NAME, urls["embed"], has_key=True)["openai"]
    code += "\nimport json, openai\nclient.close()\nprint(json.dumps([openai.__version__, vector]))"
    path = os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])
    version, vector = json.loads(_output([sys.executable, "-c", code], PYTHONPATH=path))
    assert version.startswith("2.")
    assert np.abs(np.asarray(vector) - reference_embeddings(tiny_embedder, [SAMPLES[1]])[0]).max() < TOLERANCE
