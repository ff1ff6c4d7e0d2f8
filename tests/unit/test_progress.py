"""Progress bars: the same answer in slices, and what the bar tells."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from qwen3_integrations import Embedder, FakeEngine, open_engine, progress
from qwen3_integrations.errors import RequestRefused

TEXTS = [f"text number {number}" + " and more" * (number % 7) for number in range(2 * progress.SLICE + 90)]


@pytest.fixture
def embedder():
    with open_engine("embed", "qwen3-tiny-demo", backend="torch") as engine:
        yield Embedder(engine, max_tokens=16)


@pytest.fixture
def at_once(monkeypatch):
    """Bars that do not wait for half a second."""
    monkeypatch.setattr(progress, "DELAY_S", 0)


async def test_slices_give_the_same_vectors_usage_and_truncations(embedder):
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


class Slow(FakeEngine):
    """Counts how many jobs it has at once, and refuses one prompt as a server does."""

    def __init__(self, refused=None):
        super().__init__("embed")
        self.now = self.most = 0
        self.refused = refused

    async def arun(self, job):
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0.01)
            for position, prompt in enumerate(job.prompts):
                if prompt.body.text == self.refused:
                    raise RequestRefused(f"bad text: item {position} of this call. Look at that text", url="http://x", index=position)
            return self.run(job)
        finally:
            self.now -= 1


def test_several_slices_are_on_their_way_and_no_more():
    engine = Slow()
    Embedder(engine).embed_documents(TEXTS * 4, progress=True)
    assert engine.most == progress.IN_FLIGHT
    assert sum(len(job.prompts) for job in engine.jobs) == len(TEXTS) * 4


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_error_names_the_position_in_the_whole_call(asynchronous):
    where = progress.SLICE + 44
    engine = Slow(refused=TEXTS[where])
    embedder = Embedder(engine)
    embed = (lambda *args, **more: asyncio.run(embedder.aembed_documents(*args, **more))) if asynchronous else embedder.embed_documents
    with pytest.raises(RequestRefused, match=f"bad text: item {where} of this call. Look") as caught:
        embed(TEXTS * 9, progress=True)
    assert caught.value.index == where
    assert len(engine.jobs) < 2 * progress.IN_FLIGHT  # the rest was not begun


def test_a_bar_of_a_start_tells_phase_and_share(capfd):
    from qwen3_integrations.serving import Progress

    with progress.start_bar() as tell:
        tell(Progress("downloading", 1.0, "1 MB of 4 MB", 0.25))
        tell(Progress("loading", 2.0))
        tell(Progress("ready", 3.0))
    shown = capfd.readouterr().err
    assert "downloading 25%" in shown
    assert shown.index("loading ") < shown.index("ready ")
