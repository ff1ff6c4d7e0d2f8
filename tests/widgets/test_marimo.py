"""A widget in a real marimo: it is shown, and actions reach Python."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress

import httpx
import pytest
from playwright.sync_api import expect

from tests.server.launch import free_port

pytestmark = [pytest.mark.browser, pytest.mark.slow]

APP = """
import marimo

app = marimo.App()


@app.cell
def _():
    import marimo
    from qwen3_integrations import FakeEngine, Reranker

    documents = ["remove a file", "copy data of a file to another", "the weather"]
    inspector = Reranker(FakeEngine("rerank")).rank("copy a file", documents).inspect(reranker=Reranker(FakeEngine("rerank")))
    view = marimo.ui.anywidget(inspector)
    view
    return inspector, marimo, view


@app.cell
def _(inspector, marimo, view):
    view.value
    marimo.md(f"in Python: {inspector.kept}")
    return
"""


@pytest.fixture(scope="module")
def marimo(tmp_path_factory):
    """The app's address."""
    folder = tmp_path_factory.mktemp("marimo")
    (folder / "app.py").write_text(APP)
    port = free_port()
    command = [sys.executable, "-m", "marimo", "run", "app.py", "--headless", "--no-token", "--host", "127.0.0.1", "--port", str(port)]
    variables = {
        "MARIMO_SKIP_UPDATE_CHECK": "1",
        "XDG_CONFIG_HOME": str(folder),
        "XDG_STATE_HOME": str(folder),
        "XDG_CACHE_HOME": str(folder),
    }
    process = subprocess.Popen(command, cwd=folder, env=os.environ | variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        while process.poll() is None:
            with suppress(httpx.ConnectError):
                httpx.get(url)
                break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def test_an_inspector_in_marimo(marimo, browser_page):
    page = browser_page()
    page.goto(marimo)
    rows = page.locator("[role=row][data-item]")
    expect(rows).to_have_count(3, timeout=30_000)
    expect(rows.first).to_contain_text("copy data of a file")
    page.get_by_role("slider", name="Threshold").fill("0.9")
    expect(page.get_by_text("in Python: [1]")).to_be_visible()
    page.get_by_label("Instruction", exact=True).fill("Find texts about the weather")
    page.get_by_role("button", name="Run again").click()
    expect(page.get_by_role("button", name="Compare with previous")).to_be_visible()
