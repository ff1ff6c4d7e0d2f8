"""Make the README's pictures of the widgets in JupyterLab: `python -m examples.make_screenshots [inspector|explorer|panel ...]`.

Cells of a notebook run in a real JupyterLab, in Debian's Chromium, as in the tests; a picture shows the cell with its output, in the
light or the dark theme. The values are real, of the bundled toy pair. Needs the test dependencies, Pillow, which makes the files small,
and vLLM for the panel, which starts a real server.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.widgets.conftest import CHROMIUM, FLAGS
from tests.widgets.jupyter import LabPage, jupyterlab
from tests.widgets.page import blocked

IMAGES = Path(__file__).parent.parent / "docs" / "images"
WIDTH, HEIGHT = 1180, 1500
"""The window: the widget is then about 1,000 pixels wide, and the cell is in view as a whole."""
SCALE = 1.5
MARGIN = 6
MOST_BYTES = 130_000
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}

TEXTS = """
import csv, json, os, random, shutil, statistics, tempfile, time
from qwen3_integrations import Embedder, Reranker, open_engine
from qwen3_integrations.notebook import EmbeddingExplorer, ServerPanel
os.environ["QWEN3_SERVERS_DIR"] = os.path.join(tempfile.gettempdir(), "servers")
modules = [csv, json, random, shutil, statistics, tempfile]
described = {
    f"{module.__name__}.{name}: {' '.join(function.__doc__.split())}": module.__name__
    for module in modules for name, function in sorted(vars(module).items())
    if callable(function) and not name.startswith("_") and function.__doc__
}
texts, labels = list(described), list(described.values())
"""
NEAREST = """
embedder = Embedder(open_engine("embed", "qwen3-tiny-demo"))
reranker = Reranker(open_engine("rerank", "qwen3-tiny-demo"))
nearest = (-(embedder.embed_documents(texts) @ embedder.embed_queries(["copy a file"])[0])).argsort()[:8]
documents = [texts[index] for index in nearest]
"""
QUIET = """
os.environ["PYTHONWARNINGS"] = "ignore"
"""
WORK = """
import threading
done = threading.Event()
def work():
    with panel.server.engine() as engine:
        embedder = Embedder(engine)
        while not done.wait(random.random()):
            embedder.embed_documents(random.sample(texts, random.randint(1, 60)))
working = threading.Thread(target=work)
working.start()
"""
WORK_S = 45


def explored(lab: LabPage) -> None:
    """Wait for the explorer's figures."""
    lab.python("explorer.wait(60)")
    lab.page.get_by_text("PCA:").wait_for()


def served(lab: LabPage) -> None:
    """Start the panel's server, and give it work."""
    lab.python("panel.start()")
    while (state := lab.python("print(panel.state)")) != "ready":
        if state in ("failed", "stopped"):
            raise RuntimeError(f"the panel is {state!r}: {lab.python('print(panel.first_error)')}")
        time.sleep(1)
    if said := lab.python(WORK):
        raise RuntimeError(said)
    time.sleep(WORK_S)


def nothing(_: LabPage) -> None:
    """The output is complete once the cell has run."""


WIDGETS: dict[str, tuple[str, str, Callable[[LabPage], None], str]] = {
    "inspector": (
        TEXTS + NEAREST,
        'ranking = reranker.rank("copy a file", documents)\nranking.inspect(threshold=0.5)',
        nothing,
        "",
    ),
    "explorer": (
        TEXTS + NEAREST,
        'explorer = EmbeddingExplorer(embedder, texts, labels=labels, query="copy a file")\nexplorer',
        explored,
        "",
    ),
    "panel": (
        TEXTS + QUIET,
        'panel = ServerPanel(task="embed", model="qwen3-tiny-demo", dtype="float32", max_tokens=1024, enforce_eager=True)\npanel',
        served,
        "done.set(); working.join(); panel.server.stop()",
    ),
}
"""For each widget: the cell before it, its own cell, what happens before the picture, and the code that ends it."""


def small_png(picture: bytes) -> bytes:
    """The same picture with a palette, which flat drawings do not suffer from."""
    out = io.BytesIO()
    # By coverage: other methods give the many greys of text all the room, and a small green light none.
    # At most 8 of 255 are lost.
    reduced = Image.open(io.BytesIO(picture)).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
    reduced.save(out, "PNG", optimize=True)
    return out.getvalue()


def photograph(page: Any, name: str) -> bytes:
    """The cell with a widget, and a little of the notebook around it."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(800)
    cell = page.locator(".jp-CodeCell", has=page.locator(f".q3-{name}"))
    cell.evaluate("(cell) => cell.scrollIntoView({ block: 'start' })")
    page.wait_for_timeout(300)
    box = cell.bounding_box()
    if box["y"] + box["height"] > HEIGHT - MARGIN:
        raise RuntimeError(f"the cell of the {name} is higher than the window: {box}")
    clip = {"x": box["x"] - MARGIN, "y": box["y"] - MARGIN, "width": box["width"] + 2 * MARGIN, "height": box["height"] + 2 * MARGIN}
    return small_png(page.screenshot(clip=clip))


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, jupyterlab(Path(folder)) as running, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=SCALE, reduced_motion="reduce")
        blocked(context, left := [])
        for name in sys.argv[1:] or WIDGETS:
            before, cell, prepared, after = WIDGETS[name]
            page = context.new_page()
            lab = running.open(page, name, [before, cell])
            if page.locator(".jp-SideBar.jp-mod-left .lm-mod-current").count():
                lab.command("application:toggle-left-area")
            try:
                lab.run_all()
                page.evaluate("jupyterapp.shell.currentWidget.content.activeCellIndex = 0")  # its frame and tools are not in the picture
                prepared(lab)
                for theme, title in THEMES.items():
                    lab.theme(title)
                    picture = photograph(page, name)
                    path = IMAGES / f"{name}-{theme}.png"
                    path.write_bytes(picture)
                    print(f"{path.name}: {len(picture):,} bytes")
                    if left or len(picture) > MOST_BYTES:
                        sys.exit(f"{path.name}: more than {MOST_BYTES:,} bytes, or requested {left}")
                lab.theme(THEMES["light"])
            finally:
                if after:
                    lab.python(after)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
