"""Saved rankings in JupyterLab and Notebook 7: files, and notebooks whose kernel has ended, by the inspector's own modules."""

from __future__ import annotations

import json

import nbformat
import pytest
from playwright.sync_api import expect

from qwen3_integrations import FakeEngine, Reranker
from qwen3_integrations.core.ranking_json import MIME_TYPE
from tests.labextension.jupyter_server import command

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

DOCUMENTS = ["Remove a file.", "Copy data from one file to another.", "<img src=x onerror=alert(1)> The weather.", "Rename a file."]


@pytest.fixture(scope="module")
def ranking():
    return Reranker(FakeEngine("rerank")).rank("copy a file", DOCUMENTS)


@pytest.fixture(scope="module")
def inspector(ranking):
    other = Reranker(FakeEngine("rerank")).rank("copy a file", DOCUMENTS, instruction="Find texts about the weather")
    made = ranking.inspect(compare=other, labels={1: 2, 3: 0}, threshold=0.2)
    made.selection = [2]
    yield made
    made.close()


def cell(shown):
    """A cell with the output that a notebook stores for a value."""
    bundle = shown._repr_mimebundle_()
    data = json.loads(json.dumps(bundle[0] if isinstance(bundle, tuple) else bundle, default=str))
    output = nbformat.v4.new_output("execute_result", data, execution_count=1, metadata={})
    return nbformat.v4.new_code_cell("shown", outputs=[output], execution_count=1)


def inspectors(page):
    return page.get_by_role("region", name="Rank inspector")


@pytest.mark.parametrize("app", ["lab", "notebook7"])
def test_an_untrusted_notebook_shows_its_rankings_without_a_kernel(jupyter, pages, ranking, inspector, app):
    jupyter.write(f"saved-{app}", [cell(ranking), cell(inspector)])
    page = pages(width=1300, height=1200)
    jupyter.open(page, f"saved-{app}.ipynb", app, kernel=False)
    shown = inspectors(page)
    expect(shown).to_have_count(2)
    plain, compared = shown.nth(0), shown.nth(1)
    expect(plain.locator("[role=row][data-item]")).to_have_count(4)
    expect(plain.locator("[role=row][data-item]").first).to_contain_text(ranking[0].document[:10])
    assert page.locator(".q3 img").count() == 0

    # it works: another order, a document opened, a limit
    plain.get_by_role("button", name="Old").first.click()
    expect(plain.locator("[role=row][data-item]").first).to_contain_text("Remove a file.")
    plain.get_by_role("button", name="Read document 1", exact=True).click()
    expect(plain.get_by_role("group", name="The text of document 1")).to_be_visible()
    plain.get_by_role("slider", name="Threshold").fill("1")
    expect(plain.get_by_role("status").filter(has_text="of 4 kept")).to_contain_text("0 of 4 kept")
    expect(plain.get_by_role("button", name="Run again")).to_have_count(0)

    # the state of the inspector: comparison, labels, limit, selection
    expect(compared.get_by_role("group", name="Comparison")).to_contain_text("Find texts about the weather")
    expect(compared.get_by_role("group", name="Comparison")).to_contain_text(f"{inspector.tau:.3f}")
    expect(compared.get_by_role("group", name="Metrics")).to_be_visible()
    expect(compared.get_by_role("status").filter(has_text="of 4 kept")).to_contain_text(f"{len(inspector.kept)} of 4 kept")
    expect(compared.locator("[role=row][data-item='2']")).to_have_attribute("aria-selected", "true")


def test_the_renderer_shows_what_the_exported_page_shows(jupyter, pages, inspector, tmp_path):
    (jupyter.root / "one.ranking.json").write_text(inspector.to_json(), encoding="utf-8")
    page = pages(width=1300, height=1000)
    jupyter.open(page, "one.ranking.json", kernel=False)
    page.evaluate("jupyterapp.shell.collapseLeft()")  # another test may have opened it, and a narrow inspector shows fewer columns
    expect(inspectors(page)).to_be_visible()
    (tmp_path / "page.html").write_text(inspector.to_html(), encoding="utf-8")
    exported = page.context.new_page()
    exported.errors = []
    exported.set_content(inspector.to_html())
    expect(inspectors(exported)).to_be_visible()
    words = "element => element.innerText.split(/\\s+/).join(' ')"
    assert inspectors(page).evaluate(words) == inspectors(exported).evaluate(words)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"version": 2, "query": "x", "hits": []}', "versions up to 1"),
        ('{"version": 1, "query": "x", "hits": [{"index": 0, "score": 0.5}]}', 'Hit 0 has no "index", "score" or "text"'),
        ("[1, 2", "can't be shown"),
        ('{"version": 1, "query": "x", "hits": []}', None),
    ],
)
def test_a_file_that_is_no_ranking_says_why(jupyter, pages, content, why):
    (jupyter.root / "other.ranking.json").write_text(content, encoding="utf-8")
    page = pages()
    jupyter.open(page, "other.ranking.json", kernel=False)
    if why is None:
        expect(inspectors(page)).to_contain_text("No documents were ranked")
    else:
        expect(page.get_by_role("alert").filter(has_text="can't be shown")).to_contain_text(why)


LIVE = f"""
from qwen3_integrations import FakeEngine, Reranker
reranker = Reranker(FakeEngine("rerank"))
inspector = reranker.rank("copy a file", {DOCUMENTS!r}).inspect(reranker=reranker)
inspector
"""


def test_the_live_widget_wins_while_its_model_is_alive(jupyter, pages):
    jupyter.write("live", [LIVE])
    page = pages(width=1300, height=1000)
    jupyter.open(page, "live.ipynb")
    command(page, "notebook:run-all-cells")
    expect(page.get_by_role("button", name="Run again")).to_be_visible()
    expect(inspectors(page)).to_have_count(1)
    page.get_by_role("button", name="Run again").click()
    expect(page.get_by_role("button", name="Compare with previous")).to_be_visible()

    # the page is loaded again: the kernel still has the model
    command(page, "docmanager:save")
    jupyter.open(page, "live.ipynb")
    expect(page.get_by_role("button", name="Run again")).to_be_visible()
    expect(inspectors(page)).to_have_count(1)

    # a new kernel does not know it: the saved ranking is shown
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.wait_for_function("!jupyterapp.shell.currentWidget.sessionContext.session?.kernel")
    jupyter.open(page, "live.ipynb")
    expect(inspectors(page)).to_have_count(1)
    expect(page.get_by_role("button", name="Run again")).to_have_count(0)
    expect(page.get_by_text("Error displaying widget")).to_have_count(0)
    assert MIME_TYPE in (jupyter.root / "live.ipynb").read_text()


@pytest.mark.parametrize(("app", "mode"), [("lab", "single-document"), ("lab", "multiple-document"), ("notebook7", None)])
def test_inspect_ranking_opens_the_saved_ranking_beside_the_notebook(jupyter, pages, ranking, inspector, app, mode):
    jupyter.write("beside", [cell(ranking), cell(inspector), "1"])
    page = pages(width=1500, height=1400)
    jupyter.open(page, "beside.ipynb", app)
    if mode:
        command(page, "application:set-mode", mode=mode)
    button, titles = page.get_by_role("button", name="Inspect ranking"), page.locator("[id^=qwen3-ranking-].jp-MainAreaWidget")
    for active, tabs in ((0, 1), (0, 1), (2, 2 if mode == "multiple-document" else 1)):  # the last one takes the place of the first
        page.evaluate("(active) => { jupyterapp.shell.widgets('main').next().value.content.activeCellIndex = active; }", active)
        if app == "lab":
            command(page, "docmanager:open", path="beside.ipynb")  # the notebook is the current document again
        button.click()
        expect(inspectors(page)).to_have_count(3)
        expect(titles).to_have_count(tabs)
    expect(inspectors(page).last.get_by_role("group", name="Comparison")).to_be_visible()
    notebook, beside = inspectors(page).first.bounding_box(), inspectors(page).last.bounding_box()
    assert beside["x"] > notebook["x"] + notebook["width"]
