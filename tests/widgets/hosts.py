"""The hosts of widgets on this machine: JupyterLab, Notebook 7 and Voila, all from one Jupyter server; and checks of what a page shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import axe_playwright_python
import psutil
from playwright.sync_api import expect

from tests.widgets.jupyter import Lab, LabPage

HOSTS = ("jupyterlab", "notebook7", "voila")
WIDTHS = (600, 1000, 1600)
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")

FOREIGN = ("cdn.jsdelivr.net/npm/@fortawesome", "cdnjs.cloudflare.com")
"""What Voila's own template asks the network for: its icons, and scripts for diagrams. They are refused like everything else."""

TEXTS = """
(root) => {
    const box = root.getBoundingClientRect(), boxes = [], wrong = [];
    const visible = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true, contentVisibilityAuto: true })
        && !element.closest(".q3-hidden, [hidden], datalist, option, noscript");
    const cut = (rect, by) => ({ left: Math.max(rect.left, by.left), right: Math.min(rect.right, by.right),
        top: Math.max(rect.top, by.top), bottom: Math.min(rect.bottom, by.bottom) });
    const known = new Map();
    /** The elements around a text that clip or frame it, from the inside outwards; each is measured once. */
    const around = (element) => {
        if (!element || element === root) return [];
        if (!known.has(element)) {
            const style = getComputedStyle(element), clips = style.overflow !== "visible" && !(element instanceof SVGElement);
            const lines = [style.borderLeftWidth, style.borderRightWidth].map(parseFloat);
            const framed = style.display !== "inline" && Math.min(...lines) > 0;
            const scrolls = clips && /auto|scroll/.test(style.overflowX + style.overflowY);
            const shortens = scrolls || style.textOverflow === "ellipsis" || style.webkitLineClamp !== "none";
            const outer = around(element.parentElement);
            known.set(element, clips || framed ? [{ edge: element.getBoundingClientRect(), framed, clips, shortens }, ...outer] : outer);
        }
        return known.get(element);
    };
    const walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const node = walk.currentNode, text = node.textContent.trim(), parent = node.parentElement;
        if (!text || !visible(parent)) continue;
        const range = document.createRange();
        range.selectNodeContents(node);
        for (const raw of range.getClientRects()) {
            let rect = cut(raw, raw), shortened = false, gone = false;
            for (const { edge, framed, clips, shortens } of around(parent)) {
                if (framed && !shortened && (rect.right > edge.right + 0.5 || rect.left < edge.left - 0.5))
                    wrong.push(`outside its frame: ${text.slice(0, 40)}`);
                if (!clips) continue;
                const within = cut(rect, edge);
                shortened ||= shortens;
                const beyond = Math.max(rect.right - edge.right - 1.5, edge.left - rect.left - 1.5,
                    rect.bottom - edge.bottom - 3, edge.top - rect.top - 3);
                if (!shortened && beyond > 0) wrong.push(`clipped: ${text.slice(0, 40)}`);
                rect = within;
                if (rect.right - rect.left < 1 || rect.bottom - rect.top < 1) { gone = true; break; }
            }
            if (gone) continue;
            if (rect.right > box.right + 1 || rect.left < box.left - 1) wrong.push(`outside: ${text.slice(0, 40)}`);
            // A line box is taller than its letters.
            const trim = Math.min(3, (rect.bottom - rect.top) / 5);
            boxes.push({ text, node, left: rect.left + 0.5, right: rect.right - 0.5, top: rect.top + trim, bottom: rect.bottom - trim });
        }
    }
    for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
        const [a, b] = [boxes[i], boxes[j]];
        if (a.node === b.node) continue;
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left), down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (across > 1 && down > 1) wrong.push(`over each other: ${a.text.slice(0, 40)} | ${b.text.slice(0, 40)}`);
    }
    for (const input of root.querySelectorAll("input[type=text], input[type=search], input[type=number], select")) {
        const fits = input.scrollWidth <= input.clientWidth + 2;
        const isPath = input.value.startsWith("/"); // a path may have any length: its field scrolls
        if (visible(input) && input.value && !isPath && !fits && document.activeElement !== input)
            wrong.push(`clipped in its field: ${input.value}`);
    }
    for (const button of root.querySelectorAll("button")) {
        if (visible(button) && button.scrollWidth > button.clientWidth + 1 && getComputedStyle(button).textOverflow !== "ellipsis"
            && !button.querySelector(".q3-line, .q3-name, .q3-snippet")) wrong.push(`clipped button: ${button.textContent}`);
    }
    if (root.scrollWidth > root.clientWidth + 1) wrong.push(`wider than its box: ${root.scrollWidth} > ${root.clientWidth}`);
    return [...new Set(wrong)];
}
"""


class HostPage:
    """A notebook with widgets in one of the hosts. `page` is Playwright's; `python` runs code in its kernel, where the host can."""

    def __init__(self, host: str, lab: Lab, page: Any, name: str, cells: list[str]) -> None:
        self.host, self.lab, self.page, self.name, self.cells = host, lab, page, name, cells
        self._opened: LabPage | None = None
        self._theme = "light"
        self._load()

    def restart_kernel(self) -> None:
        """Restart the kernel; Voila has no command for this, there its process is killed, and the server starts another."""
        if self._opened is not None:
            self._opened.restart_kernel()
        else:
            self.end_kernel()

    def end_kernel(self) -> None:
        """Kill the kernel's process, as the system does when memory runs out."""
        if self._opened is not None:
            kernel = self.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.session.kernel.id")
        else:
            kernel = json.loads(self.page.locator("#jupyter-config-data").text_content())["kernelId"]
        (process,) = [each for each in psutil.process_iter(["cmdline"]) if any(kernel in word for word in each.info["cmdline"] or ())]
        process.kill()

    def _load(self) -> None:
        if self.host == "voila":
            self.lab.voila(self.page, self.name, self.cells, self._theme)
        else:
            self._opened = self.lab.open(self.page, self.name, self.cells, app=self.host)
            self._opened.run_all()

    def reopen(self) -> None:
        """Load the saved notebook as another day would: with a new kernel, and without running its cells."""
        self._opened = self.lab.open(self.page, self.name, None, app=self.host)

    @property
    def lab_page(self) -> LabPage:
        """The notebook as an application with a kernel; Voila shows only a page."""
        assert self._opened is not None
        return self._opened

    def widget(self, name: str, at: int = 0) -> Any:
        """The widget `inspector`, `explorer` or `panel`, in view; `at` is its number, where there are several."""
        found = self.page.locator(f".q3-{name}").nth(at)
        expect(found).to_be_visible(timeout=60_000)
        found.scroll_into_view_if_needed()
        return found

    def show(self, width: int, theme: str) -> None:
        """Give the window a width, and the host a theme."""
        self.page.set_viewport_size({"width": width, "height": 1000})
        if theme == self._theme:
            return
        self._theme = theme
        if self._opened is not None:
            self._opened.theme(THEMES[theme])
        else:
            self._load()


def wrong_texts(widget: Any) -> list[str]:
    """What is wrong with the texts that a widget shows: over each other, clipped, or outside of it."""
    widget.page.evaluate("async () => { for (let frame = 0; frame < 4; frame++) await new Promise(requestAnimationFrame); }")
    return widget.evaluate(TEXTS)


def violations(widget: Any) -> list[str]:
    """The violations of accessibility rules that axe finds in a widget."""
    page = widget.page
    if not page.evaluate("typeof window.axe === 'object'"):
        page.evaluate(f"(() => {{ const module = undefined, define = undefined; {AXE.read_text(encoding='utf-8')} }})()")
    # The order of headings belongs to the whole page: a widget can't know the headings that stand before it.
    settings = {"resultTypes": ["violations"], "rules": {"heading-order": {"enabled": False}}}
    found = widget.evaluate("(root, settings) => axe.run(root, settings)", settings)
    return [
        f"{each['id']}: {node['target']} {node['html'][:120]} {node.get('failureSummary', '')[:240]}"
        for each in found["violations"]
        for node in each["nodes"]
    ]
