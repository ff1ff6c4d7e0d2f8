"""The widgets in a real JupyterLab, in a real browser, on a real kernel, with a real server."""

from __future__ import annotations

import json
import re

import nbformat
import psutil
import pytest
from playwright.sync_api import expect

from tests.waiting import until
from tests.widgets.jupyter import ROOT, exported

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(1200)]

RERANKER = """
from qwen3_integrations import Reranker, open_engine
reranker = Reranker(open_engine("rerank", "qwen3-tiny-demo", backend="{}"))
documents = [
    "Remove a file or a directory from the disk.",
    "Copy data from one file to another file.",
    "<img src=x onerror=alert(1)> The weather in the north.",
    "Rename a file.",
]
"""
TORCH, FAKE = RERANKER.format("torch"), RERANKER.format("fake")  # the fake one where only the appearance is tested
INSPECT = "inspector = reranker.rank('copy a file', documents).inspect(reranker=reranker)\ninspector"
EXPLORE = """
from qwen3_integrations import Embedder, FakeEngine
from qwen3_integrations.notebook import EmbeddingExplorer
explorer = EmbeddingExplorer(Embedder(FakeEngine("embed")), documents)
explorer
"""
PANEL = """
from qwen3_integrations.notebook import ServerPanel
panel = ServerPanel(task="embed", model="qwen3-tiny-demo", engine="vllm", dtype="float32", max_tokens=1024, enforce_eager=True)
panel
"""
THREADS = "import threading; print([thread.name for thread in threading.enumerate() if '{}' in thread.name])"


@pytest.fixture
def notebook(lab, browser_page, request):
    """Opens a notebook with cells in JupyterLab, runs them, and ends its kernel afterwards."""
    opened = []

    def made(*cells, dark=False):
        page = lab.open(browser_page(dark=dark, width=1200, height=1000), f"n{abs(hash(request.node.name))}", cells)
        opened.append(page)
        page.run_all()
        return page

    yield made
    for page in opened:
        page.shut_down_kernel()


def luminance(locator):
    """Of an element's background, from 0 (black) to 255."""
    colour = locator.evaluate("element => getComputedStyle(element).backgroundColor")
    red, green, blue = map(float, re.findall(r"[\d.]+", colour)[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def rows(page):
    return page.page.locator("[role=row][data-item]")


def test_an_inspector_works_in_jupyterlab(notebook):
    lab = notebook(TORCH, INSPECT)
    page = lab.page
    inspector = page.get_by_role("region", name="Rank inspector")
    expect(inspector).to_be_visible()
    expect(rows(lab)).to_have_count(4)
    expect(rows(lab).first).to_contain_text("Copy data from one file")
    assert page.locator(".q3 img").count() == 0
    before = json.loads(lab.python("import json; print(json.dumps([hit.score for hit in inspector.ranking]))"))

    # from the browser: another instruction, run again
    instruction = "Find texts about <b>the weather</b>"
    page.get_by_label("Instruction", exact=True).fill(instruction)
    page.get_by_role("button", name="Run again").click()
    expect(page.get_by_role("button", name="Compare with previous")).to_be_visible()
    assert lab.python("print(inspector.ranking.instruction)") == instruction
    after = json.loads(lab.python("print(json.dumps([hit.score for hit in inspector.ranking]))"))
    assert after != before
    expect(rows(lab).first).to_contain_text(f"{after[0]:.3f}")
    page.get_by_role("button", name="Compare with previous").click()
    expect(page.get_by_role("group", name="Comparison")).to_contain_text("Kendall tau")
    page.get_by_role("button", name="Stop comparing").click()

    # from the kernel: again with the first one
    lab.python("inspector.run_again(reranker.instruction)")
    expect(page.get_by_label("Instruction", exact=True)).to_have_value(re.compile("^Given a web search query"))
    expect(rows(lab).first).to_contain_text(f"{before[0]:.3f}")

    # cut and selection, both ways
    page.get_by_role("slider", name="Threshold").fill("0.5")
    kept = json.loads(lab.python("print(inspector.kept)"))
    expect(page.get_by_role("status").filter(has_text=f"{len(kept)} of 4 kept")).to_be_visible()
    lab.python("inspector.threshold = 0.0; inspector.selection = [2]")
    expect(page.get_by_role("status").filter(has_text="4 of 4 kept")).to_be_visible()
    expect(page.locator("[role=row][data-item='2']")).to_have_attribute("aria-selected", "true")

    # an error is shown under the widget, and not in the notebook
    lab.python("reranker.engine.close()")
    page.get_by_role("button", name="Run again").click()
    expect(inspector.get_by_role("alert")).to_contain_text("is closed. Call open_engine again")
    expect(page.locator(".jp-OutputArea-output[data-mime-type*='error'], .jp-RenderedText[data-mime-type*='stderr']")).to_have_count(0)

    lab.python("inspector.close()")
    expect(inspector).to_have_count(0)
    assert lab.python(THREADS.format("RankInspector")) == "[]"


def test_keys_in_a_widget_are_not_the_notebooks(notebook):
    lab = notebook(FAKE, INSPECT)
    first = rows(lab).first
    first.click()
    for key in ("ArrowDown", "Enter", "Escape", "ArrowUp"):
        lab.page.keyboard.press(key)
    box = lab.page.get_by_label("Instruction", exact=True)
    box.fill("")
    box.press_sequentially("dd aabb m 00")  # commands of a notebook that has lost the focus
    expect(box).to_have_value("dd aabb m 00")
    assert lab.page.locator(".jp-Cell").count() == 2
    expect(rows(lab)).to_have_count(4)


def test_the_widgets_follow_jupyterlabs_theme_and_not_the_browsers(notebook):
    lab = notebook(FAKE, INSPECT, EXPLORE, PANEL, dark=True)
    widgets = [lab.page.locator(f".q3-{name}") for name in ("inspector", "explorer", "panel")]
    for widget in widgets:
        expect(widget).to_be_visible()
    assert lab.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert all(luminance(widget) > 240 for widget in widgets)
    assert all(luminance(each) > 200 for widget in widgets for each in widget.locator("textarea, input[type=text]").all())
    lab.page.emulate_media(color_scheme="light")
    lab.theme("JupyterLab Dark")
    assert all(luminance(widget) < 60 for widget in widgets)
    assert all(luminance(each) < 90 for widget in widgets for each in widget.locator("textarea, input[type=text]").all())


def test_magics_and_values_show_themselves(notebook):
    lab = notebook(
        "%load_ext qwen3_integrations",
        "%%qwen3_rank copy a file --model qwen3-tiny-demo --backend fake\nCopy data.\nRemove data.",
        "%%qwen3_rank --topn 1\ntext",
    )
    expect(lab.page.locator(".jp-RenderedHTMLCommon table")).to_contain_text("Copy data.")
    error = lab.page.locator(".jp-OutputArea-output").last
    expect(error).to_have_text(re.compile(r"^UsageError: unrecognized arguments: --topn\. %%qwen3_rank\? shows all arguments\s*$"))


def test_a_saved_notebook_reads_well_without_a_kernel(notebook, lab, browser_page):
    """What JupyterLab itself saved, as a page: the widget's static form replaces the widget."""
    opened = notebook(FAKE, INSPECT)
    expect(rows(opened)).to_have_count(4)
    opened.command("docmanager:save")
    path = lab.root / opened.name
    saved = nbformat.read(path, as_version=4)
    assert {"text/html", "text/plain", "application/vnd.jupyter.widget-view+json"} <= saved.cells[-1].outputs[0].data.keys()
    page = browser_page()
    page.set_content(exported(path))
    expect(page.get_by_role("cell", name="Copy data from one file to another file.")).to_be_visible()
    expect(page.get_by_role("cell", name="<img src=x onerror=alert(1)> The weather in the north.")).to_be_visible()
    assert page.locator("table img").count() == 0


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_committed_notebooks_read_well_as_pages(path, browser_page):
    page = browser_page()
    page.set_content(exported(path))
    tables = page.locator(".jp-RenderedHTMLCommon table")
    assert tables.count() >= 2
    expect(tables.first).to_be_visible()
    assert page.get_by_text("Error displaying widget").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def servers_of(lab):
    return [json.loads(path.read_text()) for path in lab.state.glob("*.json")] if lab.state.exists() else []


def is_gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.server
@pytest.mark.vllm
def test_a_panel_starts_shows_and_stops_a_server(notebook, lab):
    opened = notebook(PANEL)
    page = opened.page
    panel = page.get_by_role("region", name="Server panel")
    state = panel.get_by_role("status").first
    expect(state).to_contain_text("stopped")
    expect(panel.get_by_text("1.29 GiB").first).to_be_visible()  # its memory, before the start
    panel.get_by_role("button", name="Start").click()
    expect(panel.get_by_role("list", name="Phases of the start")).to_be_visible()
    assert opened.python("print(1 + 1)") == "2"  # the kernel is free during the start
    expect(state).to_contain_text("loading", timeout=120_000)
    log = panel.get_by_role("log")
    expect(log).to_contain_text("vLLM", timeout=60_000)
    expect(state).to_contain_text("ready", timeout=240_000)
    expect(log).to_contain_text("Application startup complete")
    (record,) = servers_of(lab)
    expect(panel.get_by_role("region", name="Address")).to_contain_text(f"{record['url']}/v1")
    opened.python("vectors = panel.server.embeddings().embed_documents(['a text'] * 5)")
    expect(panel.locator(".q3-tile").filter(has_text="Answered").locator("dd")).not_to_have_text("0", timeout=30_000)
    panel.get_by_role("tab", name="LangChain").click()
    expect(panel.get_by_role("tabpanel")).to_contain_text("Qwen3Embeddings(model=")
    key = opened.python("print(panel.server.api_key)")
    assert len(key) >= 32
    assert key not in page.content()

    panel.get_by_role("button", name="Stop").click()
    expect(state).to_contain_text("stopped", timeout=30_000)
    expect(panel.get_by_role("button", name="Start")).to_be_visible()
    assert servers_of(lab) == []
    assert until(lambda: is_gone(record["server_pid"]))


@pytest.mark.server
@pytest.mark.vllm
def test_a_restart_of_the_kernel_leaves_no_server(notebook, lab):
    opened = notebook(PANEL)
    panel = opened.page.get_by_role("region", name="Server panel")
    panel.get_by_role("button", name="Start").click()
    expect(panel.get_by_role("list", name="Phases of the start")).to_be_visible()
    assert until(lambda: any(record["server_pid"] for record in servers_of(lab)))
    (record,) = servers_of(lab)
    assert not is_gone(record["server_pid"])
    opened.restart_kernel()
    assert until(lambda: is_gone(record["server_pid"]) and is_gone(record["supervisor_pid"]))
    assert opened.python("from qwen3_integrations.serving import servers; print(servers())") == "()"
