"""A real browser for the widgets' tests. Every request that leaves this machine is refused and fails the test."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.widgets.cells import CELLS
from tests.widgets.hosts import FOREIGN, HOSTS, HostPage
from tests.widgets.jupyter import jupyterlab
from tests.widgets.page import Page, blocked

CHROMIUM = "/usr/bin/chromium"
"""Debian's; Playwright's own download is not used."""

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
]


@pytest.fixture(scope="package")  # while it is open, an event loop runs in this thread: no async test of another package would work
def chromium():
    if not shutil.which(CHROMIUM):
        if os.environ.get("CI"):
            pytest.fail(f"{CHROMIUM} is missing: apt-get install chromium")
        pytest.skip(f"{CHROMIUM} is missing: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def lab(tmp_path_factory):
    """The one Jupyter server of these tests."""
    with jupyterlab(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture(scope="package", params=HOSTS)
def host(request, chromium, lab):
    """A notebook with every widget in JupyterLab, Notebook 7 and Voila: one page and one kernel a host for many tests."""
    context = chromium.new_context(viewport={"width": 1000, "height": 1000}, reduced_motion="reduce")
    blocked(context, left := [])
    yield HostPage(request.param, lab, context.new_page(), f"host-{request.param}", CELLS)
    context.close()
    assert [url for url in left if not any(each in url for each in FOREIGN)] == [], "requests left this machine"


@pytest.fixture
def browser_page(chromium):
    """Opens browser pages: (dark browser?, width) -> Playwright's page, which can only reach this machine."""
    contexts, left = [], []

    def opened(*, dark=False, width=1000, height=900):
        context = chromium.new_context(
            color_scheme="dark" if dark else "light", viewport={"width": width, "height": height}, reduced_motion="reduce"
        )
        contexts.append(context)
        blocked(context, left)
        page = context.new_page()
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
        return page

    yield opened
    errors = [error for context in contexts for page in context.pages for error in page.errors]
    for context in contexts:
        context.close()
    assert left == [], "requests left this machine"
    assert errors == [], "the page has errors"


@pytest.fixture
def bare(browser_page):
    """(widget's name, state, theme) -> its real module and styles in an empty page, with a replacement for the model."""

    def mounted(name, state, *, theme="light", dark=False, width=1000, height=900):
        return Page(browser_page(dark=dark, width=width, height=height), name, state, theme)

    return mounted
