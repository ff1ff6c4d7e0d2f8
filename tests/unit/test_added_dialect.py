"""Adding a dialect is one row in one file."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.server.faults import FaultsProxy
from tests.unit.test_serving_options import changed_files, copy_of_the_package

ROW = (
    '    Dialect("cohere2", "rerank", "/v2/rerank", lambda model, prompts: {"model": model, "query": prompts[0].prefix.query, "documents": '
    '[document_of(prompt) for prompt in prompts]}, read_ranks, lambda entry: entry.get("owned_by") == "cohere", versioned=False, '
    "one_query=True),\n"
)
USE = """
import json, sys
from typer.testing import CliRunner
from qwen3_integrations import Reranker, open_engine
from qwen3_integrations.cli import app
from qwen3_integrations.engines.http.engine import HttpEngine

url = sys.argv[1]
ranks, shown = [], []
for dialect in ("auto", "cohere2"):
    engine = open_engine("rerank", "someone/reranker", base_url=url, dialect=dialect, handshake="off")
    ranks.append(Reranker(engine).rank("fruit", ["stones", "apples"]).to_dicts()[0]["document"])
    shown.append(repr(engine))
    engine.close()
refused = []
for task, name in (("embed", "cohere2"), ("rerank", "grpc")):
    try:
        HttpEngine(task, "someone/model", base_url=url, dialect=name)
    except ValueError as error:
        refused.append(str(error))
cli = CliRunner().invoke(app, ["verify", "--help"], env={"COLUMNS": "200"}).output
report = CliRunner().invoke(app, ["verify", url, "--dialect", "cohere2", "--json"]).output
print(json.dumps({"ranks": ranks, "shown": shown, "refused": refused, "cli": cli, "report": json.loads(report)}))
"""


def answer(call):
    if call.seen.path == "/v1/models":
        content = {"data": [{"id": "someone/reranker", "owned_by": "cohere"}]}
    elif call.seen.path == "/v2/rerank":
        documents = call.seen.body["documents"]
        content = {"results": [{"index": at, "relevance_score": len(text) % 7 / 10} for at, text in enumerate(documents)]}
    else:
        call.answer(404, b'{"detail": "Not Found"}')
        return
    call.answer(200, json.dumps(content).encode())


def test_a_new_dialect_is_one_row_in_one_file(tmp_path):
    copy = copy_of_the_package(tmp_path)
    path = copy / "engines" / "http" / "dialects.py"
    text = path.read_text()
    first = '    Dialect("vllm", "embed",'
    path.write_text(text.replace(first, ROW + first, 1))
    assert changed_files(copy) == ["engines/http/dialects.py"]
    assert len(path.read_text().splitlines()) == len(text.splitlines()) + 1
    with FaultsProxy() as server:
        server.everywhere = answer
        env = os.environ | {"PYTHONPATH": str(tmp_path), "no_proxy": "*"}
        command = [sys.executable, "-c", USE, server.url]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stderr
        asked = [seen for seen in server.seen if seen.path == "/v2/rerank"]
    seen = json.loads(done.stdout)
    assert seen["ranks"] == ["stones", "stones"]
    assert [request.body for request in asked[:2]] == [
        {"model": "someone/reranker", "query": "fruit", "documents": ["stones", "apples"]},
    ] * 2
    assert all("dialect='cohere2'" in each for each in seen["shown"])
    assert "cohere2" in seen["refused"][0]
    assert "can't embed" in seen["refused"][0]
    assert "cohere2" in seen["refused"][1]
    assert "cohere2" in seen["cli"]
    assert (seen["report"]["dialect"], seen["report"]["task"]) == ("cohere2", "rerank")
