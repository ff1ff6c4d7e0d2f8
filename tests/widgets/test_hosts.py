"""Every widget in JupyterLab, Notebook 7 and Voila: texts, accessibility, use, and what happens when the kernel goes.

Each host has one page and one kernel for all of these tests, which use them in the order of this file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.waiting import until
from tests.widgets.cells import EXPLORER, INSPECTOR, PANEL
from tests.widgets.hosts import HOSTS, THEMES, WIDTHS, violations, wrong_texts

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

TABS = ("Map", "Similarity", "Dimensions", "Health")


def photograph(widget, name):
    """A picture for people, in the folder that `QWEN3_TEST_PICTURES` names."""
    if folder := os.environ.get("QWEN3_TEST_PICTURES"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        widget.screenshot(path=f"{folder}/{name}.png")


def states(host):
    """Every state of every widget: its name, and the widget in it."""
    inspector = host.widget("inspector")
    label = inspector.get_by_role("button", name="Label relevance")
    expect(label).to_be_visible(timeout=60_000)  # a saved ranking, without this button, is shown until the widget is there
    yield "inspector", inspector
    label.click()
    first = inspector.locator("[role=row][data-item]").first
    first.press("1")
    first.press("Enter")
    yield "inspector-labelled", inspector
    first.press("Enter")
    first.press("Delete")
    label.click()
    yield "inspector-alone", host.widget("inspector", 1)
    explorer = host.widget("explorer")
    for tab in TABS:
        explorer.get_by_role("tab", name=tab).click()
        yield f"explorer-{tab.lower()}", explorer
    explorer.get_by_role("tab", name="Map").click()
    panel = host.widget("panel")
    expect(panel.get_by_text("MiB").or_(panel.get_by_text("GiB")).first).to_be_visible(timeout=30_000)
    yield "panel", panel
    ready = host.widget("panel", 1)
    expect(ready.get_by_text("1,234,567")).to_be_visible()
    yield "panel-ready", ready


@pytest.fixture(scope="module")
def faults(host):
    """What is wrong with each state, in both themes: its texts at every width, and its accessibility."""
    found = {"texts": {}, "axe": {}}
    for theme in THEMES:
        host.show(WIDTHS[-1], theme)
        for name, widget in states(host):
            for width in WIDTHS:
                host.show(width, theme)
                photograph(widget, f"{host.host}-{name}-{width}-{theme}")
                if wrong := wrong_texts(widget):
                    found["texts"][f"{name} {width} {theme}"] = wrong
            if wrong := violations(widget):
                found["axe"][f"{name} {theme}"] = wrong
    host.show(1000, "light")
    return found


def test_no_text_lies_over_another_or_is_clipped(faults):
    assert faults["texts"] == {}


def test_axe_finds_no_violation(faults):
    assert faults["axe"] == {}


def test_a_ranking_whose_reranker_is_gone_says_what_to_paste(host):
    alone = host.widget("inspector", 1)
    expect(alone.get_by_role("button", name="Run again")).to_be_disabled()
    expect(alone.get_by_text("ranking.inspect(reranker=reranker)")).to_be_visible()


def test_partly_judged_documents_are_measured_both_ways(host):
    alone = host.widget("inspector", 1)
    metrics = alone.get_by_role("group", name="Metrics")
    expect(metrics).to_contain_text("3 of 12 judged")
    if not metrics.get_by_text("Judged@10").is_visible():
        metrics.locator("summary").click()
    expect(metrics.get_by_text("Judged@10")).to_be_visible()
    expect(metrics.get_by_text("Unjudged left out")).to_be_visible()


def test_documents_are_searched_and_close_scores_spread_on_the_log_odds_axis(host):
    inspector = host.widget("inspector")
    search, axis = inspector.get_by_label("Search documents"), inspector.get_by_label("Score axis")
    search.fill("weather")
    expect(inspector.get_by_text(re.compile(r"^\d+ of 24$"))).to_be_visible()
    first = inspector.locator("[role=row][data-item]").first
    expect(first.locator("mark").first).to_have_text("weather")
    search.fill("")
    axis.select_option("log-odds")
    expect(first).to_contain_text(re.compile(r"[+−]\d\.\d\d"))
    axis.select_option("0 to 1")


def test_another_query_is_ranked_and_compared(host):
    inspector = host.widget("inspector")
    query = inspector.get_by_label("Query", exact=True)
    if not query.is_visible():
        inspector.get_by_text("Query and instruction").click()
    query.fill("the weather in the north")
    inspector.get_by_role("button", name="Run again").click()
    expect(inspector.get_by_role("heading", level=3)).to_have_text("the weather in the north")
    inspector.get_by_role("button", name="Compare with previous").click()
    expect(inspector.get_by_role("group", name="Comparison")).to_contain_text("Kendall tau")
    inspector.get_by_role("button", name="Stop comparing").click()
    expect(inspector.get_by_role("group", name="Comparison")).to_have_count(0)


def test_the_map_zooms_with_wheel_and_keys_and_names_its_clusters(host):
    explorer = host.widget("explorer")
    explorer.get_by_role("tab", name="Map").click()
    stage, zoom = explorer.get_by_role("application"), explorer.get_by_role("button", name="Show the whole map")
    expect(zoom).to_have_text("100 %")
    stage.press("+")  # in a notebook's own keys: nothing; `0` twice restarts the kernel
    expect(zoom).not_to_have_text("100 %")
    stage.press("0")
    expect(zoom).to_have_text("100 %")
    stage.hover()
    host.page.mouse.wheel(0, -150)
    expect(zoom).not_to_have_text("100 %")
    stage.press("0")
    explorer.get_by_label("Colour").select_option("Clusters")
    expect(explorer.locator(".q3-names span").first).to_be_attached()
    explorer.get_by_label("Colour").select_option(index=0)


def test_the_first_row_is_near_the_top_at_600_px(host):
    host.show(600, "light")
    inspector = host.widget("inspector")
    top = inspector.bounding_box()["y"]
    assert inspector.locator("[role=row][data-item]").first.bounding_box()["y"] - top < 480
    host.show(1000, "light")


KERNELS = pytest.mark.parametrize("host", HOSTS[:2], indirect=True)
"""The hosts in which a person runs cells."""


@KERNELS
def test_running_cells_again_leaves_no_thread(host):
    count = "import threading; print(threading.active_count())"
    run = f"{INSPECTOR}{EXPLORER}{PANEL}panel.close()"
    host.lab_page.python(run)
    before = host.lab_page.python(count)
    for _ in range(2):
        host.lab_page.python(run)
    assert until(lambda: int(host.lab_page.python(count)) <= int(before))


def test_widgets_say_that_their_kernel_was_restarted(host):
    inspector, explorer, panel = host.widget("inspector"), host.widget("explorer"), host.widget("panel")
    expect(explorer.get_by_role("tab", name="Map")).to_be_visible()
    host.restart_kernel()
    for widget in (inspector, explorer, panel):
        notice = widget.get_by_role("alert").first
        expect(notice).to_contain_text("Run the cell again to go on", timeout=30_000)  # Voila asks for the kernels every 10 s
        assert violations(widget) == []
        assert wrong_texts(widget) == []
        photograph(widget, f"{host.host}-ended-{widget.get_attribute('class').split()[1]}")
    live = "button:not([inert], [inert] *), input:not([inert], [inert] *)"
    assert inspector.locator(live).filter(has_text="Run again").count() == inspector.locator(live).filter(has_text="Label").count() == 0
    assert panel.locator(live).count() == 0  # nothing is offered: no start, and no server to attach to
    assert explorer.get_by_label("Query", exact=True).evaluate("field => field.closest('[inert]') !== null")
    explorer.get_by_role("tab", name="Health").click()
    expect(explorer.get_by_text("1.000, all of unit length")).to_be_visible()
    inspector.get_by_role("button", name="Old").click()
    expect(inspector.locator("[role=row][data-item]").first).to_be_visible()


@KERNELS
def test_a_reopened_notebook_shows_what_was_saved_until_its_cells_run(host):
    host.lab_page.command("docmanager:save")
    host.lab_page.shut_down_kernel()
    host.reopen()
    page = host.page
    page.locator(".q3-inspector").first.scroll_into_view_if_needed()
    expect(page.locator(".q3-inspector")).to_have_count(2)
    expect(page.get_by_role("button", name="Label relevance")).to_have_count(0)
    for words in ("26 of 64 dimensions", "stopped", "ready"):  # the explorer's table and those of both panels
        expect(page.locator(".q3-either table, .q3-either .jp-RenderedHTMLCommon").filter(has_text=words).first).to_be_visible()
    expect(page.locator(".q3-explorer, .q3-panel")).to_have_count(0)
    expect(page.get_by_text("Error displaying widget")).to_have_count(0)
    expect(page.get_by_text("Loading widget")).to_have_count(0)
    photograph(page, f"{host.host}-reopened")
    host.lab_page.run_all()
    expect(host.widget("inspector").get_by_role("button", name="Label relevance")).to_be_visible()
    host.widget("explorer")
    host.widget("panel", 1)


def test_the_checks_find_faults(browser_page):
    page = browser_page()
    page.set_content(
        "<main lang=en><dl><div><dt>a</dt><dd>b</dd><svg></svg></div></dl><p style='margin:0'>one</p><p style='margin:-20px 0 0'>two</p>"
        "<div style='width:20px;overflow:hidden;white-space:nowrap'>a long line</div>"
        "<div style='width:20px;border:1px solid'>1,234,567</div></main>"
    )
    root = page.locator("main")
    assert wrong_texts(root) == ["clipped: a long line", "outside its frame: 1,234,567", "over each other: one | two"]
    assert [each.partition(":")[0] for each in violations(root)] == ["definition-list"]
