"""The examples run, print the expected output, and are short."""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from qwen3_integrations.serving import servers
from qwen3_integrations.serving.records import FOLDER_VARIABLE
from tests.server.launch import free_port

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SHORT = ("quickstart", "langchain_rag", "llamaindex_query_engine", "servers", "instructions_and_dimensions", "gradio_compare")


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs an example as `python examples/NAME.py WORDS` does; returns the printed lines."""

    def ran(name, *words):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return ran


@pytest.mark.parametrize("name", SHORT)
def test_they_are_short(name):
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 60


def test_quickstart(run, tmp_path):
    page = tmp_path / "found.html"
    lines = run("quickstart", "copy a <file>", "--html", str(page))
    assert len(lines) == 6
    scores = [float(line[:5]) for line in lines[:5]]
    assert scores == sorted(scores, reverse=True)
    assert all(re.match(r"[01]\.\d{3}  +(up \d+|down \d+|same)  \w", line) for line in lines[:5])
    assert "copy a &lt;file&gt;" in page.read_text(encoding="utf-8")


def test_langchain_rag(run):
    lines = run("langchain_rag", "How do I copy a file?")
    assert re.match(r"0\.\d{3}  was +\d+  'shutil\.copyfileobj", lines[0])
    assert lines[-1] == "(a fake model's words) See the first document."


def test_llamaindex_query_engine(run):
    lines = run("llamaindex_query_engine", "How do I copy a file?")
    assert re.match(r"0\.\d{3}  retrieved with 0\.\d{3}  'shutil\.copyfileobj", lines[0])
    assert "Query: How do I copy a file?" in lines


def test_instructions_and_dimensions(run):
    lines = run("instructions_and_dimensions")
    assert [line[:36].rstrip() for line in lines] == [
        "embedder, instruction none",
        "embedder, instruction default",
        "embedder, instruction documentation",
        "embedder, instruction other",
        "reranker, instruction default",
        "reranker, instruction documentation",
        "reranker, instruction other",
        "embedder, 160 dimensions",
        "embedder, 80 dimensions",
        "embedder, 40 dimensions",
    ]
    values = [float(number) for line in lines for number in re.findall(r"0\.\d{3}", line)]
    assert len(values) == 2 * len(lines)
    assert len(set(values)) > len(lines)  # they have an effect


@pytest.mark.server
@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_servers(run, tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    try:
        lines = run("servers")
    finally:
        left = servers()
        for server in left:
            server.stop()
    assert left == ()
    assert lines[0] == "starting"
    ready = lines.index("ready")
    assert re.fullmatch(r"rerank-qwen3-tiny-demo-\d+ on vllm .*: http://127\.0\.0\.1:\d+", lines[ready + 1])
    assert len(lines[ready + 2 : -2]) == 3
    assert int(lines[-2].split()[0]) >= 90
    assert lines[-1].endswith(": stopped")


@pytest.fixture
def compare_page(tmp_path):
    """The page's address. It runs in another process, because gradio leaves event loops open."""
    port = free_port()
    variables = {
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_TEMP_DIR": str(tmp_path),
        "HF_HUB_OFFLINE": "1",
    }
    process = subprocess.Popen([sys.executable, str(EXAMPLES / "gradio_compare.py")], env=os.environ | variables, cwd=tmp_path)
    url = f"http://127.0.0.1:{port}"
    try:
        while process.poll() is None:
            with suppress(httpx.ConnectError):
                httpx.get(url)
                break
            time.sleep(0.1)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def ranked_by_page(url, *words):
    """The result of the page's function, called as by the browser."""
    begun = httpx.post(f"{url}/gradio_api/call/compare", json={"data": words}).json()
    said = httpx.get(f"{url}/gradio_api/call/compare/{begun['event_id']}", timeout=60).text
    event, data = re.findall(r"event: (\w+)\ndata: (.*)", said)[-1]
    return event, json.loads(data)


@pytest.mark.timeout(120)
def test_gradio_compare(compare_page):
    assert "gradio" in httpx.get(compare_page).text
    about = httpx.get(f"{compare_page}/config").json()
    assert (about["title"], about["analytics_enabled"]) == ("Two rerankers", False)
    event, (left, right, alike) = ranked_by_page(compare_page, "copy", "<b>other</b> words\ncopy it\n\ncopy that", "Find this", "Find that")
    assert event == "complete"
    assert left.count("<tr><td") == right.count("<tr><td") == 3
    assert "&lt;b&gt;other" in left
    assert "Find this" in left
    assert "Find that" in right
    assert "Kendall's tau" in alike
    event, said = ranked_by_page(compare_page, "copy", " \n", "x", "x")
    assert event == "error"
    assert "at least one document" in str(said)
