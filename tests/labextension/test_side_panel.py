"""The side panel in JupyterLab and Notebook 7: servers are started, used and stopped with a real browser and without a kernel."""

from __future__ import annotations

import os
import re
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import expect

from tests.labextension.jupyter_server import command
from tests.labextension.test_server_extension import overview
from tests.waiting import until
from tests.widgets.hosts import THEMES, WIDTHS, wrong_texts

pytestmark = [pytest.mark.browser, pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(900)]

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
SHOW_S = 60_000


def side(page):
    return page.get_by_role("region", name="Qwen3 servers")


def violations(page, selector="#qwen3-servers"):
    """What axe finds in a part of the page: rule and element."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("(selector) => axe.run(selector, {resultTypes: ['violations']})", selector)["violations"]
    return [(one["id"], node["html"][:160]) for one in found for node in one["nodes"]]


def wrong_at_every_width(page):
    """Texts of the panel that lie over each other or are clipped, in both themes and at every width of the window."""
    found, size = {}, page.viewport_size
    for name, theme in THEMES.items():
        command(page, "apputils:change-theme", theme=theme)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 1000})
            if wrong := wrong_texts(page.locator("#qwen3-servers")):
                found[f"{name} {width}"] = wrong
    command(page, "apputils:change-theme", theme=THEMES["light"])
    page.set_viewport_size(size)
    return found


def run_cell(page, index=0):
    """Run a cell; the text of its outputs."""
    page.evaluate("(index) => { jupyterapp.shell.currentWidget.content.activeCellIndex = index; }", index)
    command(page, "notebook:run-cell")
    return page.evaluate(
        "(index) => jupyterapp.shell.currentWidget.content.widgets[index].model.outputs.toJSON().map(JSON.stringify).join('\\n')", index
    )


def fill(page, **fields):
    for label, value in fields.items():
        box = side(page).get_by_label(label.replace("_", " "), exact=True)
        box.fill(value)
        box.blur()


def start(page, *, more=""):
    """Start the small model's server with the form."""
    side(page).get_by_label("Engine", exact=True).select_option("vllm")  # the stand-in
    fill(page, Model="qwen3-tiny-demo", Longest_prompt="1024")
    if more:
        side(page).get_by_text("More options").click()
        fill(page, More_flags=more)
    button = side(page).get_by_role("button", name="Start", exact=True)
    expect(button).to_be_enabled()
    button.click()


def inserted_and_run(page, client, index=1):
    """Insert a client's code into an empty cell by the palette's command, and run it: the code and its output."""
    page.evaluate("(index) => { jupyterapp.shell.currentWidget.content.activeCellIndex = index; }", index)
    cell = f"jupyterapp.shell.currentWidget.content.widgets[{index}].model.sharedModel"
    page.evaluate(f"{cell}.source = ''")
    command(page, "qwen3:insert-code", client=client)
    output = run_cell(page, index)
    assert '"output_type":"error"' not in output, output
    return page.evaluate(f"{cell}.source") + output


@pytest.fixture(autouse=True)
def _no_servers_stay(jupyter):
    yield
    for one in overview(jupyter)["servers"]:
        jupyter.ask(f"qwen3/servers/{one['name']}", "DELETE")
    until(lambda: overview(jupyter)["servers"] == [])
    for one in overview(jupyter)["starts"]:
        jupyter.ask(f"qwen3/panels/{one['panel']}", "DELETE")


def test_a_server_is_started_used_and_stopped_in_jupyterlab(jupyter, pages, engine_python):
    jupyter.write("use", ["", "# a comment"], kernel="engine")
    page = pages(width=1500, height=1200)
    jupyter.open(page, "use.ipynb")
    command(page, "qwen3:open-servers")
    expect(side(page)).to_contain_text("No server runs on this machine")
    expect(side(page).get_by_role("list", name="Devices")).to_contain_text("this machine")
    assert violations(page) == []

    # the form: the active notebook's Python, and the memory plan
    side(page).get_by_role("button", name="New server").click()
    expect(side(page).get_by_label("Python", exact=True)).to_have_value(str(engine_python))
    fill(page, Longest_prompt="0")
    expect(side(page).get_by_text(re.compile("must be .*1"))).to_be_visible()
    assert violations(page) == []
    fill(page, Model="qwen3-tiny-demo", Longest_prompt="1024")
    expect(side(page).get_by_role("region", name="Memory")).to_contain_text("weights")
    photograph(page, "form")
    assert wrong_at_every_width(page) == {}

    start(page)
    expect(side(page).get_by_role("list", name="Phases of the start")).to_be_visible()
    expect(side(page).get_by_role("button", name="Copy key")).to_be_visible(timeout=SHOW_S)
    expect(side(page)).to_contain_text("ends with this Jupyter server")
    expect(side(page).get_by_role("log")).to_contain_text("Application startup complete")
    expect(side(page).get_by_role("region", name="Load")).to_contain_text("good")
    assert violations(page) == []
    photograph(page, "detail")
    assert wrong_at_every_width(page) == {}

    # the list, by keyboard
    page.keyboard.press("Escape")
    card = side(page).get_by_role("list", name="Servers").get_by_role("listitem")
    expect(card).to_contain_text("ready")
    expect(card).to_contain_text("ends with Jupyter")
    expect(side(page).get_by_role("button", name="New server")).to_be_focused()
    page.keyboard.press("Tab")
    expect(side(page).get_by_role("button", name="Open qwen3-tiny-demo")).to_be_focused()
    assert violations(page) == []
    photograph(page, "list")
    assert wrong_at_every_width(page) == {}
    expect(page.get_by_role("button", name=re.compile("Qwen3: 1 server"))).to_be_visible()

    # code for a cell, before and after a restart of the kernel
    page.evaluate("jupyterapp.shell.currentWidget.content.activeCellIndex = 0")
    side(page).get_by_role("button", name="Insert LangChain code for qwen3-tiny-demo").click()
    expect(side(page).get_by_role("status").filter(has_text="Inserted")).to_contain_text("cell 1 of use.ipynb")
    source = "jupyterapp.shell.currentWidget.content.widgets[{}].model.sharedModel.source"
    assert "Qwen3Embeddings(model=" in page.evaluate(source.format(0))
    page.evaluate("jupyterapp.shell.currentWidget.content.widgets[0].model.sharedModel.source += '\\nlen(embeddings.embed_query(\"x\"))'")
    assert '"text/plain":"160"' in run_cell(page)
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.wait_for_function("jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'", timeout=60_000)
    assert '"text/plain":"160"' in run_cell(page)
    for client, words in (("llama_index", "embed_model"), ("openai", "vector"), ("curl", "embedding")):
        assert words in inserted_and_run(page, client)

    side(page).get_by_role("button", name=re.compile("^Stop embed-")).click()
    expect(card).to_have_count(0, timeout=SHOW_S)
    expect(page.get_by_role("button", name=re.compile("Qwen3: 0 servers"))).to_be_visible()


def test_two_tabs_show_the_same_servers_and_a_failed_start_keeps_its_first_error(jupyter, pages):
    first, second = pages(dark=True, width=1300, height=1000), pages(width=1300, height=1000)
    for page, name in ((first, "tab"), (second, "other")):
        jupyter.write(name, [""], kernel="engine")
        jupyter.open(page, f"{name}.ipynb")
        command(page, "qwen3:open-servers")
    command(first, "apputils:change-theme", theme="JupyterLab Dark")
    command(first, "qwen3:new-server", task="embed")
    start(first, more="--fail")
    expect(side(first).get_by_role("alert").filter(has_text="First error")).to_contain_text("the engine was asked to fail", timeout=SHOW_S)
    assert violations(first) == []
    photograph(first, "failed-dark")
    assert wrong_at_every_width(first) == {}
    card = side(second).get_by_role("list", name="Servers").get_by_role("listitem")
    expect(card).to_contain_text("the engine was asked to fail")
    assert violations(second) == []
    side(second).get_by_role("button", name="Dismiss the failed start of qwen3-tiny-demo").click()
    expect(card).to_have_count(0)
    # the other tab's panel is closed: it says so, and shows the list
    expect(side(first).get_by_role("button", name="New server")).to_be_visible()
    command(first, "apputils:change-theme", theme="JupyterLab Light")


def test_in_notebook_7_the_panel_opens_by_command_and_starts_a_server(jupyter, pages):
    jupyter.write("seven", [""], kernel="engine")
    page = pages(width=1400, height=1100)
    jupyter.open(page, "seven.ipynb", "notebook7")
    command(page, "qwen3:open-servers")
    side(page).get_by_role("button", name="New server").click()
    start(page)
    expect(side(page).get_by_role("button", name="Copy key")).to_be_visible(timeout=SHOW_S)
    assert violations(page) == []
    photograph(page, "notebook7")
    side(page).get_by_role("button", name="← Servers").click()
    page.evaluate("jupyterapp.shell.currentWidget.content.activeCellIndex = 0")
    side(page).get_by_role("button", name="Insert openai code for qwen3-tiny-demo").click()
    expect(side(page).get_by_role("status").filter(has_text="Inserted")).to_be_visible()
    assert '"output_type":"error"' not in run_cell(page)


def test_the_places_of_the_extension_in_jupyterlab(jupyter, pages):
    page = pages(width=1300, height=900)
    page.goto(f"{jupyter.url}lab?token={jupyter.token}")
    page.wait_for_function("window.jupyterapp?.commands?.hasCommand('qwen3:open-servers')", timeout=60_000)
    page.locator(".jp-LauncherCard", has_text="Qwen3 servers").click()
    expect(side(page)).to_be_visible()
    listed = page.evaluate("jupyterapp.commands.listCommands().filter(name => name.startsWith('qwen3:'))")
    assert sorted(listed) == ["qwen3:insert-code", "qwen3:inspect-ranking", "qwen3:new-server", "qwen3:open-servers"]
    command(page, "apputils:activate-command-palette")
    page.locator(".lm-CommandPalette-input, .lm-CommandPalette input").first.fill("Qwen3")
    expect(page.locator(".lm-CommandPalette-item", has_text="New Qwen3 rerank server")).to_be_visible()
    page.keyboard.press("Escape")
    settings = jupyter.json("lab/api/settings/qwen3-integrations:plugin")
    assert settings["schema"]["properties"]["refreshSeconds"]["default"] == 3
    assert settings["schema"]["additionalProperties"] is False


def photograph(page, name):
    """Keep a picture for a person in the folder that QWEN3_TEST_PICTURES names."""
    if folder := os.environ.get("QWEN3_TEST_PICTURES"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))
