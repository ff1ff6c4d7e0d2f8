"""Times of frames while a person uses a widget with many documents, in JupyterLab and a real Chromium."""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench import Workbench

COUNTS = (1_000, 10_000)
STEPS = 150
"""Turns of the wheel, or moves of the pointer, in each repeat."""
FOLDER = Path(__file__).parent.parent
ROOT = FOLDER.parent.parent
CELL = "import sys\nsys.path[:0] = {folders}\nfrom rows.frames import {name}\n{name}({count})"
WORDS = ("copy", "file", "disk", "weather", "north", "sort", "list", "number", "read", "apple", "orchard", "car", "road")
RECORD = """
() => {
    const times = [];
    let last = null, over = false;
    const frame = (now) => { if (last !== null) times.push(now - last); last = now; if (!over) requestAnimationFrame(frame); };
    requestAnimationFrame(frame);
    window.frames_ended = () => { over = true; return times; };
}
"""


def frames(bench: Workbench) -> None:
    """Measure the inspector with a comparison and labels, and the explorer with clusters, each at two sizes, in JupyterLab.

    A frame's time is that between two animation frames of the page, while the wheel turns and the pointer moves without a pause. With
    nothing to do, Chromium has a frame in 16.7 ms.
    """
    sides: list[dict[str, Any]] = []
    with notebooks() as opened:
        for count in (bench.count(each, each // 50) for each in COUNTS):
            for name, use in (("inspector", use_inspector), ("explorer", use_explorer)):
                page = opened(name, count)
                times = [measured(page, use, bench.count(STEPS, 5)) for _ in range(bench.repeats)]
                sides.append(side(f"{name}, {count:,}", times))
                page.close()
    bench.write("frames", sides, device="cpu", unit="ms")


def side(name: str, times: list[list[float]]) -> dict[str, Any]:
    """The figures of one widget: 95 % of the frames take at most `value`; the median of the repeats.

    Args:
        name: Its name.
        times: Milliseconds of each frame, one list a repeat.
    """
    tails = [p95(each) for each in times]
    middle = statistics.median(time for each in times for time in each)
    facts = {"frames": sum(map(len, times)), "median": middle, "longest": max(map(max, times)), "repeats": tails}
    return {"name": name, "value": statistics.median(tails), "unit": "ms"} | facts


def p95(times: list[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(times, n=20, method="inclusive")[-1]


@contextmanager
def notebooks() -> Iterator[Callable[[str, int], Any]]:
    """Opens a notebook with a widget in a real JupyterLab: (name, number of documents) -> the page, with the widget in view."""
    sys.path.insert(0, str(ROOT))
    from playwright.sync_api import sync_playwright

    from tests.widgets.conftest import CHROMIUM, FLAGS
    from tests.widgets.jupyter import jupyterlab

    with tempfile.TemporaryDirectory() as folder, jupyterlab(Path(folder)) as lab, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)

        def opened(name: str, count: int) -> Any:
            page = chromium.new_page(viewport={"width": 1400, "height": 1100})
            notebook = lab.open(page, f"{name}-{count}", [CELL.format(folders=[str(ROOT), str(FOLDER)], name=name, count=count)])
            notebook.run_all()
            widget = page.locator(f".q3-{name}")
            widget.wait_for(timeout=120_000)
            widget.scroll_into_view_if_needed()
            return page

        yield opened
        chromium.close()


def measured(page: Any, use: Callable[[Any, int], None], steps: int) -> list[float]:
    """Milliseconds of each frame while a widget is used."""
    page.evaluate(RECORD)
    use(page, steps)
    times: list[float] = page.evaluate("frames_ended()")
    return times


def documents(count: int) -> list[str]:
    """Texts of 4 to 60 words, the same in every run."""
    chance = random.Random(0)
    return [f"{number} {' '.join(chance.choices(WORDS, k=chance.randint(4, 60)))}" for number in range(count)]


def inspector(count: int) -> Any:
    """An inspector with a second ranking in another order, a third of its documents labelled."""
    from qwen3_integrations import FakeEngine, Reranker
    from qwen3_integrations.notebook import RankInspector

    def share(words: set[str]) -> Callable[[str, str], float]:
        return lambda _, document: sum(word in words for word in document.split()) / len(document.split())

    reranker = Reranker(FakeEngine("rerank", score=share({"copy", "file", "disk"})))
    other = Reranker(FakeEngine("rerank", score=share({"weather", "north", "file"}))).rank("copy a file", documents(count))
    labels = {index: float(index % 4 == 0) for index in range(0, count, 3)}
    return RankInspector(reranker, "copy a file", documents(count), compare=other, labels=labels, threshold=0.2)


def explorer(count: int) -> Any:
    """An explorer with labels, clusters and their names, and a tenth of its texts selected."""
    import numpy as np

    from qwen3_integrations.notebook import EmbeddingExplorer

    chance = np.random.default_rng(0)
    topics = chance.integers(0, 8, count)
    vectors = (chance.standard_normal((8, 64))[topics] + 0.8 * chance.standard_normal((count, 64))).astype(np.float32)
    widget = EmbeddingExplorer(vectors=vectors, texts=documents(count), labels=topics.tolist(), selection=list(range(0, count, 10)))
    widget.wait()
    return widget


def use_inspector(page: Any, steps: int) -> None:
    """Scroll through the list, and point at rows."""
    label = page.get_by_role("button", name="Label relevance")
    if label.get_attribute("aria-pressed") != "true":
        label.click()
    box = page.locator(".q3-scroller").bounding_box()
    middle = box["x"] + box["width"] / 2
    page.mouse.move(middle, box["y"] + 200)
    for step in range(steps):
        page.mouse.wheel(0, 240 if step < steps // 2 else -240)
    for step in range(steps):
        page.mouse.move(middle, box["y"] + 60 + (37 * step) % int(box["height"] - 100))


def use_explorer(page: Any, steps: int) -> None:
    """Zoom in and out with the wheel, pan with keys, and point at texts."""
    page.locator(".q3-stage").focus()
    box = page.locator(".q3-stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    for step in range(steps):
        page.mouse.wheel(0, -30 if step < steps // 2 else 30)
    page.keyboard.press("+")
    for step in range(steps):
        page.keyboard.press(("Shift+ArrowLeft", "Shift+ArrowUp", "Shift+ArrowRight", "Shift+ArrowDown")[step // 4 % 4])
    page.keyboard.press("0")
    for step in range(steps):
        page.mouse.move(x - 200 + (41 * step) % 400, y - 150 + (23 * step) % 300)
