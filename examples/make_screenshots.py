"""Make the README's pictures of the widgets, light and dark: `python -m examples.make_screenshots [inspector|explorer|panel ...]`.

Real widgets with real values of the bundled toy pair, drawn by Debian's Chromium as in the tests. Needs the test dependencies, Pillow,
which makes the files small, and vLLM for the panel, which starts a real server.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from qwen3_integrations import Embedder, Reranker, open_engine
from qwen3_integrations.notebook import EmbeddingExplorer, RankInspector, ServerPanel
from qwen3_integrations.serving.records import FOLDER_VARIABLE
from tests.widgets.conftest import CHROMIUM, FLAGS
from tests.widgets.page import Page, blocked

IMAGES = Path(__file__).parent.parent / "docs" / "images"
TOY = "qwen3-tiny-demo"
WIDTH = 1000
MOST_BYTES = 120_000
TEXTS = {
    f"{module.__name__}.{name}: {' '.join(function.__doc__.split())}": module.__name__
    for module in (csv, json, random, shutil, statistics, tempfile)
    for name, function in sorted(vars(module).items())
    if callable(function) and not name.startswith("_") and function.__doc__
}
LEFT_OUT = ("_esm", "_css", "_dom_classes", "_model_", "_view_", "_anywidget", "layout", "tabbable", "tooltip", "comm")


def state_of(widget: Any) -> dict[str, Any]:
    """What the browser is sent of a widget."""
    return {name: getattr(widget, name) for name in widget.keys if not name.startswith(LEFT_OUT)}


@contextmanager
def inspector() -> Iterator[Any]:
    with open_engine("embed", TOY) as embed_engine, open_engine("rerank", TOY) as rerank_engine:
        embedder, query, texts = Embedder(embed_engine), "copy a file", list(TEXTS)
        nearest = (-(embedder.embed_documents(texts) @ embedder.embed_queries([query])[0])).argsort()[:8]
        yield RankInspector(Reranker(rerank_engine), query, [texts[index] for index in nearest], threshold=0.5)


@contextmanager
def explorer() -> Iterator[Any]:
    with open_engine("embed", TOY) as engine:
        widget = EmbeddingExplorer(Embedder(engine), list(TEXTS), labels=list(TEXTS.values()), query="copy a file")
        widget.wait()
        yield widget


@contextmanager
def panel() -> Iterator[Any]:
    """On a real server, after some work."""
    quiet = {"PYTHONWARNINGS": "ignore"}
    widget = ServerPanel(task="embed", model=TOY, dtype="float32", max_tokens=1024, enforce_eager=True, env=quiet)
    tell = widget._handle_custom_msg
    tell({"do": "show", "view": "picture"}, [])
    widget.start()
    try:
        while widget.state != "ready":
            if widget.state == "failed":
                raise RuntimeError(widget.first_error)
            time.sleep(0.2)
        with widget.server.engine() as engine:
            embedder, end = Embedder(engine), time.monotonic() + 40
            while time.monotonic() < end:
                embedder.embed_documents(random.sample(list(TEXTS), random.randint(1, 60)))
                time.sleep(random.random())
        yield widget
    finally:
        widget.server.stop()


WIDGETS: dict[str, Callable[[], Any]] = {"inspector": inspector, "explorer": explorer, "panel": panel}


def small_png(picture: bytes) -> bytes:
    """The same picture with a palette, which flat drawings do not suffer from."""
    out = io.BytesIO()
    # By coverage: other methods give the many greys of text all the room, and a small green light none.
    # At most 8 of 255 are lost.
    reduced = Image.open(io.BytesIO(picture)).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
    reduced.save(out, "PNG", optimize=True)
    return out.getvalue()


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    os.environ[FOLDER_VARIABLE] = str(Path(tempfile.gettempdir()) / "servers")  # a picture shows where the log is
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name in sys.argv[1:] or WIDGETS:
            with WIDGETS[name]() as widget:
                state = json.loads(json.dumps(state_of(widget))) | {"busy": ""}
                widget.close()
            for theme in ("light", "dark"):
                context = browser.new_context(viewport={"width": WIDTH, "height": 900}, device_scale_factor=1.5, reduced_motion="reduce")
                blocked(context, left := [])
                page = Page(context.new_page(), name, state, theme).page
                page.wait_for_timeout(300)
                picture = small_png(page.locator("#root > .q3").screenshot())
                path = IMAGES / f"{name}-{theme}.png"
                path.write_bytes(picture)
                print(f"{path.name}: {len(picture):,} bytes")
                if left or len(picture) > MOST_BYTES:
                    sys.exit(f"{path.name}: more than {MOST_BYTES:,} bytes, or requested {left}")
                context.close()
        browser.close()


if __name__ == "__main__":
    main()
