"""Large calls in slices: the same results as in one slice, a bounded number of planned prompts, and errors with the index in the call."""

from __future__ import annotations

import asyncio
import itertools
import threading

import numpy as np
import pytest

from qwen3_integrations import Embedder, FakeEngine, Reranker, open_engine
from qwen3_integrations.core import slicing
from qwen3_integrations.core.pipeline import IN_FLIGHT
from qwen3_integrations.core.slicing import DEFAULT_SIZE, FIRST, SLICE, SLICE_CHARACTERS, SliceSize, slices
from qwen3_integrations.core.types import Reply
from qwen3_integrations.errors import BadReply, InvalidText, PromptTooLong, RequestRefused

TEXTS = [f"text number {number}" + " and more" * (number % 7) for number in range(2 * SLICE + 90)]
MANY = TEXTS * 9


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def call(request):
    """Calls a method of an object, or its async twin."""

    def called(owner, name, *args, **more):
        if request.param:
            return asyncio.run(getattr(owner, f"a{name}")(*args, **more))
        return getattr(owner, name)(*args, **more)

    return called


class Slow(FakeEngine):
    """Counts how many jobs it has at once, and refuses one prompt as a server does."""

    def __init__(self, task="embed", refused=None, cut=None, width=None):
        super().__init__(task)
        self.now = self.most = 0
        self.refused, self.cut, self.width = refused, cut, width

    async def arun(self, job):
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0.01)
            for position, prompt in enumerate(job.prompts):
                if prompt.body.text == self.refused:
                    raise RequestRefused("bad text", url="http://x", index=position, advice="Look at that text")
            reply = self.run(job)
            cut = {position for position, prompt in enumerate(job.prompts) if prompt.body.text == self.cut}
            rows = reply.rows[:, : self.width] if self.width and len(self.jobs) > 1 else reply.rows
            return Reply(rows, reply.tokens, frozenset(cut), 100 if cut else None)
        finally:
            self.now -= 1


class Watched:
    """A tokenizer that says what it is given."""

    def __init__(self, real, tell):
        self.real, self.tell = real, tell

    def __getattr__(self, name):
        return getattr(self.real, name)

    def encode(self, texts):
        self.tell(texts)
        return self.real.encode(texts)

    def encode_beginnings(self, texts, rooms):
        self.tell(texts)
        return self.real.encode_beginnings(texts, rooms)


def test_slices_give_the_same_vectors_usage_and_truncations(call, monkeypatch, caplog):
    with open_engine("embed", "qwen3-tiny-demo", backend="torch") as engine:
        sliced, whole = Embedder(engine, max_tokens=16), Embedder(engine, max_tokens=16)
        vectors = call(sliced, "embed_documents", TEXTS)
        queries = call(sliced, "embed_queries", [text[:20] for text in TEXTS], "")
        told = [record.message for record in caplog.records]
        monkeypatch.setattr(slicing, "DEFAULT_SIZE", SliceSize(most=len(TEXTS)))
        assert np.abs(vectors - whole.embed_documents(TEXTS)).max() < 1e-6
        assert np.abs(queries - whole.embed_queries([text[:20] for text in TEXTS], "")).max() < 1e-6
    assert sliced.usage == whole.usage
    assert sliced.usage.truncated > 0
    assert told == [f"{sliced.usage.truncated} of {len(TEXTS)} texts were truncated to 16 tokens"]


def test_pairs_are_scored_in_slices_and_share_their_prefix_in_each(call, monkeypatch):
    engine = FakeEngine("rerank")
    pairs = [(f"what is number {number // SLICE}", text) for number, text in enumerate(TEXTS)]
    scores = call(Reranker(engine), "score", pairs)
    assert [len(job.prompts) for job in engine.jobs] == [FIRST, 2 * FIRST, 4 * FIRST, SLICE, len(TEXTS) - 7 * FIRST - SLICE]
    assert all(
        len({id(prompt.prefix) for prompt in job.prompts}) == len({prompt.prefix.text for prompt in job.prompts}) for job in engine.jobs
    )
    monkeypatch.setattr(slicing, "DEFAULT_SIZE", SliceSize(most=len(TEXTS)))
    assert np.array_equal(scores, Reranker(FakeEngine("rerank")).score(pairs))


def test_an_item_that_is_not_a_string_is_refused_before_the_engine_runs(call):
    engine = FakeEngine("embed")
    for wrong, error in ((7, TypeError), ("\ud800", InvalidText)):
        with pytest.raises(error, match=rf"texts\[{len(MANY)}\]"):
            call(Embedder(engine), "embed_documents", [*MANY, wrong])
    assert not engine.jobs


@pytest.mark.parametrize("progress", [False, True])
def test_planned_slices_are_bounded(call, progress):
    engine, ahead = Slow(), []
    engine.tokenizer = Watched(engine.tokenizer, lambda texts: ahead.append(len(texts)))

    run = engine.run
    engine.run = lambda job: (ahead.append(-len(job.prompts)), run(job))[1]
    call(Embedder(engine), "embed_documents", MANY, progress=progress)
    alive = np.cumsum(ahead)
    assert alive[-1] == 0
    assert SLICE < alive.max() <= IN_FLIGHT * SLICE


class Together(FakeEngine):
    """Answers no job before so many are with it at once."""

    def __init__(self, task, count):
        super().__init__(task)
        self.count, self.now, self.most = count, 0, 0
        self.enough = None

    async def arun(self, job):
        self.enough = self.enough or asyncio.Event()
        self.now += 1
        self.most = max(self.most, self.now)
        if self.now == self.count:
            self.enough.set()
        await asyncio.wait_for(self.enough.wait(), 60)
        reply = self.run(job)
        self.now -= 1
        return reply


def test_several_slices_are_in_flight_and_no_more(call):
    engine = Together("embed", IN_FLIGHT)
    call(Embedder(engine), "embed_documents", MANY)
    assert engine.most == IN_FLIGHT
    assert sum(len(job.prompts) for job in engine.jobs) == len(MANY)
    assert len({id(job.fairness_key) for job in engine.jobs}) == 1  # one caller among the others
    assert {job.call_size for job in engine.jobs} == {len(MANY)}


def test_planning_does_not_block_the_event_loop():
    threads = set()
    engine = FakeEngine("embed")
    engine.tokenizer = Watched(engine.tokenizer, lambda texts: threads.add(threading.current_thread()))
    embedder = Embedder(engine)

    async def both():
        await embedder.aembed_documents(TEXTS)
        await embedder.aembed_documents([TEXTS[0] * 1000])
        assert threading.current_thread() not in threads
        await embedder.aembed_documents(["few and short"])  # a thread would cost more than it saves
        assert threading.current_thread() in threads

    asyncio.run(both())


def test_an_error_names_the_position_in_the_whole_call(call):
    where = SLICE + 44
    engine = Slow(refused=TEXTS[where])
    with pytest.raises(RequestRefused, match=f"^item {where} of this call: bad text. Look") as caught:
        call(Embedder(engine), "embed_documents", MANY)
    assert caught.value.index == where
    assert len(engine.jobs) < 2 * IN_FLIGHT  # the rest was not begun


def test_prompts_that_the_engine_cut_are_counted_in_the_whole_call(call, caplog):
    embedder = Embedder(Slow(cut=TEXTS[SLICE + 3]))
    call(embedder, "embed_documents", MANY)
    assert embedder.usage.truncated == 9
    assert [record.message for record in caplog.records] == [f"9 of {len(MANY)} texts were truncated to 100 tokens"]


def test_a_query_that_does_not_fit_ends_the_call(call):
    engine = FakeEngine("embed")
    with pytest.raises(PromptTooLong):
        call(Embedder(engine, max_tokens=40), "embed_queries", [*TEXTS, "long " * 100, *TEXTS])


def test_slices_of_different_widths_are_refused(call):
    with pytest.raises(BadReply, match=r"rows of shape \(32,\) came after rows of shape \(64,\)"):
        call(Embedder(Slow(width=32)), "embed_documents", MANY)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([], [(0, 0)]),
        ([0] * SLICE, [(0, SLICE)]),
        ([5] * (SLICE + 1), [(0, 32), (32, 96), (96, 224), (224, SLICE + 1)]),
        ([5] * 700, [(0, 32), (32, 96), (96, 224), (224, 480), (480, 700)]),
        ([SLICE_CHARACTERS] * 3, [(0, 1), (1, 2), (2, 3)]),
        ([3 * SLICE_CHARACTERS, 1, 1], [(0, 1), (1, 3)]),
    ],
)
def test_slices_are_bounded_in_prompts_and_in_characters(lengths, expected):
    ends = [0]
    for some in slices(lengths, lambda length: 1, lambda length: length, DEFAULT_SIZE, len(lengths)):
        ends.append(ends[-1] + len(some))
    assert list(itertools.pairwise(ends)) == expected
