"""Progress bars: the same answer with and without, and the text of the bar."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3_integrations import Embedder, open_engine
from qwen3_integrations.core import progress
from qwen3_integrations.core.slicing import SLICE
from qwen3_integrations.serving import start_bar

TEXTS = [f"text number {number}" + " and more" * (number % 7) for number in range(2 * SLICE + 90)]


@pytest.fixture
def embedder():
    with open_engine("embed", "qwen3-tiny-demo", backend="torch") as engine:
        yield Embedder(engine, max_tokens=16)


@pytest.fixture
def at_once(monkeypatch):
    """Bars that do not wait for half a second."""
    monkeypatch.setattr(progress, "DELAY_S", 0)


async def test_a_bar_changes_no_vectors_usage_or_truncations(embedder):
    whole = embedder.embed_documents(TEXTS)
    once = embedder.usage
    assert np.abs(embedder.embed_documents(TEXTS, progress=True) - whole).max() < 1e-6
    assert np.abs(await embedder.aembed_documents(TEXTS, progress=True) - whole).max() < 1e-6
    assert embedder.usage == once + once + once
    assert once.truncated > 0
    assert embedder.embed_documents([], progress=True).shape == (0, whole.shape[1])


def test_the_bar_counts_texts(embedder, at_once, capfd):
    embedder.embed_documents(TEXTS, progress=True)
    shown = capfd.readouterr().err
    assert f"{len(TEXTS)}/{len(TEXTS)}" in shown
    assert "texts/s" in shown
    assert "\x1b" not in shown


async def test_a_quick_call_shows_no_bar(embedder, capfd):
    embedder.embed_documents(TEXTS[:3], progress=True)
    await embedder.aembed_documents(TEXTS[:3], progress=True)
    assert capfd.readouterr().err == ""


def test_the_bar_of_a_start_shows_phase_and_share(capfd):
    from qwen3_integrations.serving import Progress

    with start_bar() as tell:
        tell(Progress("downloading", 1.0, "1 MB of 4 MB", 0.25))
        tell(Progress("loading", 2.0))
        tell(Progress("ready", 3.0))
    shown = capfd.readouterr().err
    assert "downloading 25%" in shown
    assert shown.index("loading ") < shown.index("ready ")
