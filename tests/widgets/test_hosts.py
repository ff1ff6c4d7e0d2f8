"""Every widget in JupyterLab, Notebook 7 and Voila: the texts, the accessibility, and what happens when the kernel goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.widgets.hosts import THEMES, WIDTHS, violations, wrong_texts

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
    yield "inspector", inspector
    label = inspector.get_by_role("button", name="Label relevance")
    label.click()
    first = inspector.locator("[role=row][data-item]").first
    first.press("1")
    first.press("Enter")
    yield "inspector-labelled", inspector
    first.press("Enter")
    first.press("Delete")
    label.click()
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


def faults(host, check, widths=WIDTHS):
    """Run a check on every state at every width in both themes."""
    found = {}
    for theme in THEMES:
        host.show(1000, theme)
        for name, widget in states(host):
            for width in widths:
                host.show(width, theme)
                photograph(widget, f"{host.host}-{name}-{width}-{theme}")
                if wrong := check(widget):
                    found[f"{name} {width} {theme}"] = wrong
    host.show(1000, "light")
    return found


def test_no_text_lies_over_another_or_is_clipped(host):
    assert faults(host, wrong_texts) == {}


def test_axe_finds_no_violation(host):
    assert faults(host, violations, widths=(1000,)) == {}


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


def test_the_checks_find_faults(browser_page):
    page = browser_page()
    page.set_content(
        "<main lang=en><dl><div><dt>a</dt><dd>b</dd><svg></svg></div></dl><p style='margin:0'>one</p><p style='margin:-20px 0 0'>two</p>"
        "<div style='width:20px;overflow:hidden;white-space:nowrap'>a long line</div></main>"
    )
    root = page.locator("main")
    assert wrong_texts(root) == ["clipped: a long line", "over each other: one | two"]
    assert [each.partition(":")[0] for each in violations(root)] == ["definition-list"]
