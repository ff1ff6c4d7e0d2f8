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
from tests.widgets.page import blocked

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(1200)]

TORCH = """
from qwen3_integrations import Embedder, FakeEngine, Reranker, open_engine
from qwen3_integrations.notebook import EmbeddingExplorer, ServerPanel
reranker = Reranker(open_engine("rerank", "qwen3-tiny-demo", backend="torch"))
documents = [
    "Remove a file or a directory from the disk.",
    "Copy data from one file to another file.",
    "<img src=x onerror=alert(1)> The weather in the north.",
    "Rename a file.",
]
"""
INSPECT = "inspector = reranker.rank('copy a file', documents).inspect(reranker=reranker)\ninspector"
EXPLORE = """
explorer = EmbeddingExplorer(Embedder(FakeEngine("embed")), documents)
explorer
"""
PANEL = """
panel = ServerPanel(task="embed", model="qwen3-tiny-demo", engine="vllm", dtype="float32", max_tokens=1024, enforce_eager=True)
panel
"""
MAGICS = [
    "%load_ext qwen3_integrations",
    "%%qwen3_rank copy a file --model qwen3-tiny-demo --backend fake\nCopy data.\nRemove data.",
    "%%qwen3_embed --model qwen3-tiny-demo --backend fake\none\ntwo",
    "%%qwen3_rank --topn 1\ntext",
]
CELLS = [TORCH, INSPECT, EXPLORE, PANEL, *MAGICS]
CLOSED = "Cannot send"
"""The error of Jupyter's own connection when a widget writes to a kernel that is just being restarted."""

THREADS = "import threading; print([thread.name for thread in threading.enumerate() if '{}' in thread.name])"


@pytest.fixture(scope="module")
def opened(lab, chromium):
    """One notebook in JupyterLab, on one kernel, whose cells have run; the tests use it in the order of this file."""
    context = chromium.new_context(viewport={"width": 1200, "height": 1000}, color_scheme="dark", reduced_motion="reduce")
    blocked(context, left := [])
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    made = lab.open(page, "widgets", CELLS)
    made.run_all()
    yield made
    made.shut_down_kernel()
    context.close()
    assert left == [], "requests left this machine"
    assert [error for error in errors if error != CLOSED] == [], "the page has errors"


@pytest.fixture
def page(opened):
    return opened.page


@pytest.fixture
def inspector(page):
    """The inspector of the second cell."""
    found = page.locator(".jp-Cell").nth(CELLS.index(INSPECT)).get_by_role("region", name="Rank inspector")
    found.scroll_into_view_if_needed()
    return found


@pytest.fixture
def panel(page):
    found = page.get_by_role("region", name="Server panel")
    found.scroll_into_view_if_needed()
    return found


def luminance(locator):
    """Of an element's background, from 0 (black) to 255."""
    colour = locator.evaluate("element => getComputedStyle(element).backgroundColor")
    red, green, blue = map(float, re.findall(r"[\d.]+", colour)[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def rows(inspector):
    return inspector.locator("[role=row][data-item]")


def test_an_inspector_works_in_jupyterlab(opened, page, inspector):
    expect(inspector.get_by_role("button", name="Run again")).to_be_visible()
    expect(rows(inspector)).to_have_count(4)
    expect(rows(inspector).first).to_contain_text("Copy data from one file")
    assert page.locator(".q3 img").count() == 0
    before = json.loads(opened.python("import json; print(json.dumps([hit.score for hit in inspector.ranking]))"))

    # from the browser: another instruction, run again
    instruction = "Find texts about <b>the weather</b>"
    inspector.get_by_label("Instruction", exact=True).fill(instruction)
    inspector.get_by_role("button", name="Run again").click()
    expect(inspector.get_by_role("button", name="Compare with previous")).to_be_visible()
    assert opened.python("print(inspector.ranking.instruction)") == instruction
    after = json.loads(opened.python("print(json.dumps([hit.score for hit in inspector.ranking]))"))
    assert after != before
    expect(rows(inspector).first).to_contain_text(f"{after[0]:.3f}")
    inspector.get_by_role("button", name="Compare with previous").click()
    expect(inspector.get_by_role("group", name="Comparison")).to_contain_text("Kendall tau")
    inspector.get_by_role("button", name="Stop comparing").click()

    # from the kernel: again with the first one
    opened.python("inspector.run_again(reranker.instruction)")
    expect(inspector.get_by_label("Instruction", exact=True)).to_have_value(re.compile("^Given a web search query"))
    expect(rows(inspector).first).to_contain_text(f"{before[0]:.3f}")

    # cut and selection, both ways
    inspector.get_by_role("slider", name="Threshold").fill("0.5")
    kept = json.loads(opened.python("print(inspector.kept)"))
    expect(inspector.get_by_role("status").filter(has_text=f"{len(kept)} of 4 kept")).to_be_visible()
    opened.python("inspector.threshold = 0.0; inspector.selection = [2]")
    expect(inspector.get_by_role("status").filter(has_text="4 of 4 kept")).to_be_visible()
    expect(inspector.locator("[role=row][data-item='2']")).to_have_attribute("aria-selected", "true")


def test_keys_in_a_widget_are_not_the_notebooks(page, inspector):
    rows(inspector).first.click()
    for key in ("ArrowDown", "Enter", "Escape", "ArrowUp"):
        page.keyboard.press(key)
    box = inspector.get_by_label("Instruction", exact=True)
    box.fill("")
    box.press_sequentially("dd aabb m 00")  # commands of a notebook that has lost the focus
    expect(box).to_have_value("dd aabb m 00")
    assert page.locator(".jp-Cell").count() == len(CELLS)
    expect(rows(inspector)).to_have_count(4)


def test_the_widgets_follow_jupyterlabs_theme_and_not_the_browsers(opened, page):
    widgets = [page.locator(f".q3-{name}").first for name in ("inspector", "explorer", "panel")]
    for widget in widgets:
        expect(widget).to_be_visible()
    assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert all(luminance(widget) > 240 for widget in widgets)
    assert all(luminance(each) > 200 for widget in widgets for each in widget.locator("textarea, input[type=text]").all())
    page.emulate_media(color_scheme="light")
    opened.theme("JupyterLab Dark")
    assert all(luminance(widget) < 60 for widget in widgets)
    assert all(luminance(each) < 90 for widget in widgets for each in widget.locator("textarea, input[type=text]").all())
    opened.theme("JupyterLab Light")


def test_magics_and_values_show_themselves(page):
    ranked, embedded, refused = (page.locator(".jp-Cell").nth(CELLS.index(cell)) for cell in MAGICS[1:])
    ranked.scroll_into_view_if_needed()
    expect(ranked.get_by_role("region", name="Rank inspector")).to_contain_text("Copy data.")
    expect(embedded.locator(".jp-OutputArea-output")).to_have_text(re.compile(r"^Vectors\(2 texts x .*\)\s*$"))
    words = r"^UsageError: unrecognized arguments: --topn\. %%qwen3_rank\? shows all arguments\s*$"
    expect(refused.locator(".jp-OutputArea-output")).to_have_text(re.compile(words))


def test_a_saved_notebook_reads_well_without_a_kernel(opened, lab, browser_page):
    """What JupyterLab itself saved, as a page: the widget's static form replaces the widget."""
    opened.command("docmanager:save")
    path = lab.root / opened.name
    saved = nbformat.read(path, as_version=4)
    output = saved.cells[CELLS.index(INSPECT)].outputs[0]
    assert {"text/html", "text/plain", "application/vnd.jupyter.widget-view+json"} <= output.data.keys()
    page = browser_page()
    page.set_content(exported(path))
    expect(page.get_by_role("cell", name="Copy data from one file to another file.").first).to_be_visible()
    expect(page.get_by_role("cell", name="<img src=x onerror=alert(1)> The weather in the north.").first).to_be_visible()
    assert page.locator("table img").count() == 0


def test_an_inspector_shows_errors_and_leaves_what_was_saved_when_it_is_closed(opened, page, inspector):
    opened.python("reranker.engine.close()")
    inspector.get_by_role("button", name="Run again").click()
    expect(inspector.get_by_role("alert").filter(has_text="is closed. Call open_engine again")).to_be_visible()
    cell = page.locator(".jp-Cell").nth(CELLS.index(INSPECT))
    expect(cell.locator(".jp-OutputArea-output[data-mime-type*='error'], .jp-RenderedText[data-mime-type*='stderr']")).to_have_count(0)

    opened.python("inspector.close()")
    expect(inspector.get_by_role("button", name="Run again")).to_have_count(0)
    expect(rows(inspector)).to_have_count(4)
    assert opened.python(THREADS.format("RankInspector")) == "[]"


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
def test_a_panel_starts_shows_and_stops_a_server(opened, page, panel, lab):
    state = panel.get_by_role("status").first
    expect(state).to_contain_text("stopped")
    memory = panel.get_by_role("region", name="Memory")
    expect(memory.get_by_text(re.compile(r"needs \d\.\d\d GiB of")).first).to_be_visible(timeout=30_000)  # before the start
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
def test_a_restart_of_the_kernel_leaves_no_server(opened, panel, lab):
    """The last test: it ends the objects of the others."""
    panel.get_by_role("button", name="Start").click()
    expect(panel.get_by_role("list", name="Phases of the start")).to_be_visible()
    assert until(lambda: any(record["server_pid"] for record in servers_of(lab)))
    (record,) = servers_of(lab)
    assert not is_gone(record["server_pid"])
    opened.restart_kernel()
    assert until(lambda: is_gone(record["server_pid"]) and is_gone(record["supervisor_pid"]))
    assert opened.python("from qwen3_integrations.serving import servers; print(servers())") == "()"
