"""The streaming run: order, texts in flight, constant memory, and the line of an error."""

from __future__ import annotations

import asyncio
import io
import itertools
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from qwen3_integrations.bulk.run import embed_records
from qwen3_integrations.bulk.sources import InputFormat, Lines
from qwen3_integrations.core.embedder import Embedder
from qwen3_integrations.core.pipeline import IN_FLIGHT
from qwen3_integrations.engines.fake import FakeEngine
from qwen3_integrations.errors import EngineError, InputError, PromptTooLong, RequestRefused


class Kept:
    """A target that stores all rows."""

    def __init__(self, most: float = float("inf")) -> None:
        self.rows = 0
        self.texts: list[str] = []
        self.vectors: list[np.ndarray] = []
        self.width: int | None = None
        self.most = most

    def resume(self, lines):
        return iter(lines)

    def match(self, made_by):
        self.made_by = made_by()

    def write(self, records, vectors, mark):
        self.rows += len(records)
        self.texts += [record.text for record in records]
        self.vectors.append(vectors)
        if self.rows >= self.most:
            raise RuntimeError("enough")

    def finish(self, width):
        self.width = width


def lines_of(texts, kind=InputFormat.TEXT) -> Lines:
    return Lines(io.BytesIO("".join(f"{text}\n" for text in texts).encode()), "in.txt", kind)


def run(engine, lines: Lines, target: Kept, **settings):
    return embed_records(Embedder(engine, max_tokens=settings.pop("max_tokens", 8192)), lines, target.resume(lines), target, **settings)


TEXTS = [f"text number {number} of the list" for number in range(103)]


@pytest.mark.parametrize("chunk", [1, 10, 103, 1000])
@pytest.mark.parametrize("queries", [False, True])
def test_rows_are_the_embedders_own_in_the_order_of_the_lines(chunk, queries):
    target = Kept()
    summary = run(FakeEngine("embed"), lines_of(TEXTS), target, chunk=chunk, queries=queries)
    embedder = Embedder(FakeEngine("embed"))
    expected = embedder.embed_queries(TEXTS) if queries else embedder.embed_documents(TEXTS)
    assert target.texts == TEXTS
    assert np.array_equal(np.concatenate(target.vectors), expected)
    assert (summary.rows, summary.dimensions, target.width) == (103, 64, 64)
    assert summary.tokens == embedder.usage.tokens


class Gathering(FakeEngine):
    """Waits for `IN_FLIGHT` jobs, and then answers the last one first."""

    def __init__(self) -> None:
        super().__init__("embed")
        self.waiting: list[asyncio.Event] = []

    async def arun(self, job):
        mine = asyncio.Event()
        self.waiting.append(mine)
        if len(self.waiting) == IN_FLIGHT:
            together, self.waiting = self.waiting, []
            for event in reversed(together):
                event.set()
                await asyncio.sleep(0.01)
        await asyncio.wait_for(mine.wait(), 20)
        return self.run(job)


def test_the_engine_has_several_chunks_at_once_and_order_stays():
    target = Kept()
    texts = TEXTS[: IN_FLIGHT * 10]
    run(Gathering(), lines_of(texts), target, chunk=5)
    assert target.texts == texts
    assert np.array_equal(np.concatenate(target.vectors), Embedder(FakeEngine("embed")).embed_documents(texts))


def test_an_endless_input_is_read_only_as_far_as_the_texts_in_flight():
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        for taken in itertools.count(1):  # noqa: B007
            yield b"text\n"

    lines = Lines(endless(), "in.txt", InputFormat.TEXT)
    with pytest.raises(RuntimeError, match="enough"):
        run(FakeEngine("embed"), lines, Kept(most=1000), chunk=10)
    assert 1000 <= taken <= 1000 + IN_FLIGHT * 10


class Forgetting(FakeEngine):
    """Keeps no jobs, which the fake engine does for tests."""

    def run(self, job):
        reply = super().run(job)
        self.jobs.clear()
        return reply


class Counted(Kept):
    """Keeps no rows."""

    def write(self, records, vectors, mark):
        self.rows += len(records)


def test_memory_does_not_grow_with_the_input():
    def peak(count: int) -> int:
        lines = Lines((b"a short text number %d\n" % number for number in range(count)), "in.txt", InputFormat.TEXT)
        target = Counted()
        tracemalloc.start()
        try:
            run(Forgetting("embed"), lines, target, chunk=64)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            assert target.rows == count

    peak(500)  # for objects that are made once: tokenizer, directions
    assert peak(20_000) < 3 * peak(4000)  # not 5 times; how many of the places in flight are full at the peak varies


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_rows_before_a_bad_line_are_written(chunk):
    good = [f'{{"text": "{number}"}}' for number in range(10)]
    target = Kept()
    with pytest.raises(InputError, match=r"in\.txt, line 11: is not JSON"):
        run(FakeEngine("embed"), lines_of([*good, "bad", *good], InputFormat.JSONL), target, chunk=chunk)
    assert target.texts == [str(number) for number in range(10)]
    assert target.width is None


def test_a_query_that_is_too_long_is_named_by_its_line():
    texts = [*TEXTS[:20], "long " * 100, *TEXTS[20:]]
    target = Kept()
    with pytest.raises(PromptTooLong, match=r"^in\.txt, line 21: template, instruction and query take") as caught:
        run(FakeEngine("embed"), lines_of(texts), target, chunk=8, queries=True, max_tokens=60)
    assert caught.value.max_tokens == 60
    assert target.texts == texts[:16]


def test_a_text_that_a_server_refuses_is_named_by_its_line():
    class Refusing(FakeEngine):
        def run(self, job):
            for index, prompt in enumerate(job.prompts):
                if prompt.body.text == TEXTS[42]:
                    raise RequestRefused("refused", url="http://x", status=400, index=index)
            return super().run(job)

    target = Kept()
    with pytest.raises(RequestRefused, match=r"^in\.txt, line 43: refused"):
        run(Refusing("embed"), lines_of(TEXTS), target, chunk=10)
    assert target.texts == TEXTS[:40]


def test_a_failing_engine_leaves_no_gap():
    class Failing(FakeEngine):
        def run(self, job):
            if TEXTS[30] in [prompt.body.text for prompt in job.prompts]:
                raise EngineError("out of order")
            return super().run(job)

    target = Kept()
    with pytest.raises(EngineError, match="out of order"):
        run(Failing("embed"), lines_of(TEXTS), target, chunk=10)
    assert target.texts == TEXTS[:30]


def test_nothing_to_do_still_has_a_width():
    target = Kept()
    summary = run(FakeEngine("embed", dimensions=48), lines_of([]), target)
    assert (summary.rows, target.width) == (0, 48)


def test_cut_texts_are_counted_for_this_run_alone():
    embedder = Embedder(FakeEngine("embed"), max_tokens=5)
    embedder.embed_documents(["long " * 20])
    lines, target = lines_of([*TEXTS[:3], "a"]), Kept()
    assert embed_records(embedder, lines, target.resume(lines), target).truncated == 3
