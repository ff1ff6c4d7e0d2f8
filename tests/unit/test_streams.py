"""Streams through the pipeline: any iterable in, slices out in order, in flat memory; what is in flight is bounded and can be cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import gc
import itertools
import threading

import numpy as np
import pytest

from qwen3_integrations import Embedder, FakeEngine, Reranker
from qwen3_integrations.core.pipeline import IN_FLIGHT, arun_slices, run_slices
from qwen3_integrations.core.planned import Plan, Work
from qwen3_integrations.core.planning import document_prompts
from qwen3_integrations.core.slicing import FIRST, SLICE, SliceSize
from qwen3_integrations.core.types import Prompt, Reply
from qwen3_integrations.errors import EngineError, InvalidText, RequestRefused

MOST = IN_FLIGHT * SLICE
"""Planned prompts alive at once, at most."""

TEXTS = [f"text number {number}" for number in range(1000)]


def prompts_alive() -> int:
    return sum(type(thing) is Prompt for thing in gc.get_objects())


class Counting(FakeEngine):
    """Keeps no jobs, and notes how many prompts are alive; answers with one number for each prompt."""

    def __init__(self, task="embed", every=1):
        super().__init__(task)
        self.every, self.sizes, self.alive = every, [], 0
        self.before = prompts_alive()

    def run(self, job):
        if len(self.sizes) % self.every == 0:
            self.alive = max(self.alive, prompts_alive() - self.before)
        begin = sum(self.sizes)
        self.sizes.append(len(job.prompts))
        numbers = np.arange(begin, begin + len(job.prompts), dtype=np.float32)
        rows = np.full(len(numbers), 0.5, np.float32) if self.task == "rerank" else np.stack([np.cos(numbers), np.sin(numbers)], axis=1)
        return Reply(rows, (1,) * len(numbers))


class Stuck(FakeEngine):
    """Answers the first job once there is a second; all but the first wait until they are cancelled."""

    def __init__(self):
        super().__init__("embed")
        self.begun, self.cancelled = 0, 0
        self.second = None

    async def arun(self, job):
        self.second = self.second or asyncio.Event()
        self.begun += 1
        if self.begun == 1:
            await self.second.wait()
        else:
            self.second.set()
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return self.run(job)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def stream(request):
    """All arrays of a stream, by the sync or the async method."""

    def streamed(embedder, texts):
        if not request.param:
            return list(embedder.iter_documents(texts))

        async def collected():
            return [rows async for rows in embedder.aiter_documents(texts)]

        return asyncio.run(collected())

    return streamed


def test_a_stream_gives_the_rows_of_embed_documents_in_order(stream):
    embedder, whole = Embedder(FakeEngine("embed"), max_tokens=4), Embedder(FakeEngine("embed"), max_tokens=4)
    parts = stream(embedder, (text for text in TEXTS))
    assert [len(part) for part in parts] == [FIRST, 2 * FIRST, 4 * FIRST, SLICE, SLICE, SLICE, 1000 - 7 * FIRST - 3 * SLICE]
    assert np.array_equal(np.concatenate(parts), whole.embed_documents(TEXTS))
    assert embedder.usage == whole.usage
    assert embedder.usage.truncated > 0


@pytest.mark.parametrize("texts", [[], ["one"], TEXTS[:FIRST], TEXTS[: FIRST + 1]], ids=len)
@pytest.mark.parametrize("kind", [list, iter, tuple])
def test_short_streams(stream, texts, kind):
    parts = stream(Embedder(FakeEngine("embed")), kind(texts))
    assert sum(map(len, parts)) == len(texts)
    if texts:
        assert np.array_equal(np.concatenate(parts), Embedder(FakeEngine("embed")).embed_documents(texts))


def test_cut_texts_of_a_stream_are_logged_once(stream, caplog):
    stream(Embedder(FakeEngine("embed"), max_tokens=4), iter(TEXTS))
    (said,) = [record.message for record in caplog.records]
    assert said.endswith("of 1000 texts were truncated to 4 tokens")


def test_a_hundred_thousand_texts_stream_in_flat_memory(stream, request):
    engine = Counting(every=25)
    drawn = 0

    def texts():
        nonlocal drawn
        for drawn in range(1, 100_001):
            assert drawn - sum(engine.sizes) <= MOST
            yield f"text {drawn}"

    total = 0
    if request.node.callspec.params["stream"]:  # rows are not kept here either

        async def count():
            return sum([len(rows) async for rows in Embedder(engine).aiter_documents(texts())])

        total = asyncio.run(count())
    else:
        total = sum(len(rows) for rows in Embedder(engine).iter_documents(texts()))
    assert total == drawn == 100_000
    assert 0 < engine.alive <= MOST


def test_a_slow_consumer_bounds_the_producer():
    drawn = 0

    def endless():
        nonlocal drawn
        for drawn in itertools.count(1):
            yield f"text {drawn}"

    with contextlib.closing(Embedder(Counting()).iter_documents(endless())) as parts:
        taken = 0
        for part in itertools.islice(parts, 12):
            assert drawn - taken <= MOST
            taken += len(part)


async def test_a_slow_async_consumer_bounds_the_producer():
    drawn = 0

    def endless():
        nonlocal drawn
        for drawn in itertools.count(1):
            yield f"text {drawn}"

    taken = 0
    async with contextlib.aclosing(Embedder(Counting()).aiter_documents(endless())) as parts:
        async for part in parts:
            await asyncio.sleep(0.01)
            assert drawn - taken <= MOST
            taken += len(part)
            if taken > MOST:
                break


def test_the_first_job_arrives_before_the_last_document_is_planned():
    planned = []

    class Watched(Counting):
        def run(self, job):
            planned.append((self.encoded, len(job.prompts)))
            return super().run(job)

    for task in ("embed", "rerank"):
        engine = Watched(task)
        engine.encoded, real = 0, engine.tokenizer

        class Tokens:
            def __getattr__(self, name, real=real):
                return getattr(real, name)

            def encode(self, texts, engine=engine, real=real):
                engine.encoded += len(texts)
                return real.encode(texts)

        engine.tokenizer = Tokens()
        planned.clear()
        texts = TEXTS * 6
        Embedder(engine).embed_documents(texts) if task == "embed" else Reranker(engine).rank("number", texts)
        assert planned[0][1] == FIRST
        assert planned[0][0] <= MOST < len(texts)
        assert engine.alive <= MOST


@pytest.mark.parametrize("method", ["rank", "arank"])
async def test_ranking_many_documents_plans_no_more_than_the_engine_can_use(method):
    engine = Counting("rerank")
    ranking = getattr(Reranker(engine), method)("number", TEXTS * 6)
    ranking = await ranking if method == "arank" else ranking
    assert len(ranking) == sum(engine.sizes) == 6000
    assert engine.sizes[:3] == [FIRST, 2 * FIRST, 4 * FIRST]
    assert 0 < engine.alive <= MOST
    assert ranking.timing.plan_s > 0
    assert ranking.timing.run_s > 0


def test_slices_of_a_ranking_are_those_of_one_job():
    engine = FakeEngine("rerank")
    ranking = Reranker(engine, max_tokens=100).rank("text number 7", TEXTS)
    assert len(engine.jobs) > 1
    assert len({id(prompt.prefix) for job in engine.jobs for prompt in job.prompts}) == 1
    scores = Reranker(FakeEngine("rerank"), max_tokens=100).score([("text number 7", text) for text in TEXTS])
    assert [hit.score for hit in sorted(ranking, key=lambda hit: hit.index)] == scores.tolist()
    assert [hit.document for hit in sorted(ranking, key=lambda hit: hit.index)] == TEXTS


def test_pairs_of_one_query_share_their_prefix_across_slices_and_old_queries_are_forgotten():
    engine = FakeEngine("rerank")
    Reranker(engine).score([(f"query {number // 500}", text) for number, text in enumerate(TEXTS)])
    prefixes = {id(prompt.prefix): prompt.prefix.query for job in engine.jobs for prompt in job.prompts}
    assert sorted(prefixes.values()) == ["query 0", "query 1"]


def test_a_bad_text_is_named_after_the_rows_before_it_were_given():
    for bad, error in ((7, TypeError), ("\ud800", InvalidText)):
        rows = []
        with pytest.raises(error, match=r"texts\[700\]"):
            rows.extend(Embedder(FakeEngine("embed")).iter_documents(itertools.chain(TEXTS[:700], [bad], TEXTS)))
        assert np.array_equal(np.concatenate(rows), Embedder(FakeEngine("embed")).embed_documents(TEXTS[:700]))


async def test_a_bad_text_is_named_in_an_async_stream_too():
    sizes = []

    async def collect():
        async for part in Embedder(FakeEngine("embed")).aiter_documents(itertools.chain(TEXTS[:700], ["\ud800"])):
            sizes.append(len(part))  # noqa: PERF401  those before the error count

    with pytest.raises(InvalidText, match=r"texts\[700\]"):
        await collect()
    assert sum(sizes) == 700


@pytest.mark.parametrize("wrong", ["one text", b"bytes"])
def test_a_bare_text_is_refused_at_once(wrong):
    embedder = Embedder(FakeEngine("embed"))
    for method in (embedder.iter_documents, embedder.aiter_documents):
        with pytest.raises(TypeError, match=r"texts must be a list of strings, not one (str|bytes): pass \[text\]"):
            method(wrong)
        with pytest.raises(TypeError, match="texts must be a list of strings, not int"):
            method(7)


def test_an_error_of_the_engine_names_the_position_in_the_stream(stream):
    class Refusing(FakeEngine):
        async def arun(self, job):
            for position, prompt in enumerate(job.prompts):
                if prompt.body.text == TEXTS[777]:
                    raise RequestRefused(f"bad text: item {position} of this call", url="http://x", index=position)
            return self.run(job)

    with pytest.raises(RequestRefused, match="item 777 of this call") as caught:
        stream(Embedder(Refusing("embed")), iter(TEXTS))
    assert caught.value.index == 777


def test_an_error_of_the_source_comes_through_as_it_is(stream):
    def source():
        yield from TEXTS[:50]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        stream(Embedder(FakeEngine("embed")), source())


def test_jobs_of_a_stream_are_one_caller_of_unknown_size(stream):
    engine = FakeEngine("embed")
    stream(Embedder(engine), iter(TEXTS))
    assert len({id(job.fairness_key) for job in engine.jobs}) == 1
    assert {job.call_size for job in engine.jobs} == {None}


def test_texts_are_drawn_in_the_callers_thread():
    """A database's cursor may be used only there."""
    threads = set()

    def texts():
        for text in TEXTS:
            threads.add(threading.current_thread())
            yield text

    list(Embedder(FakeEngine("embed")).iter_documents(texts()))
    assert threads == {threading.current_thread()}


def test_a_call_of_one_slice_needs_no_thread():
    here = []

    class Noting(FakeEngine):
        def run(self, job):
            here.append((threading.current_thread(), threading.active_count()))
            return super().run(job)

    count = threading.active_count()
    Embedder(Noting("embed")).embed_documents(TEXTS[:SLICE])
    Reranker(Noting("rerank")).rank("number", TEXTS[:SLICE])
    assert here == [(threading.current_thread(), count)] * 2


@pytest.mark.parametrize("end", ["close", "forget", "fail"])
def test_ending_a_stream_early_cancels_what_is_in_flight(end):
    engine, before = Stuck(), set(threading.enumerate())
    parts = Embedder(engine).iter_documents(TEXTS[number % 1000] for number in itertools.count())
    assert len(next(parts)) == FIRST
    if end == "close":
        parts.close()
    elif end == "fail":
        with pytest.raises(ZeroDivisionError):
            parts.throw(ZeroDivisionError())
    del parts
    gc.collect()
    assert engine.begun > 1
    assert engine.cancelled == engine.begun - 1
    assert set(threading.enumerate()) <= before
    assert len(Embedder(FakeEngine("embed")).embed_documents(TEXTS)) == len(TEXTS)


async def until(true):
    for _ in range(2000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never became true")


@pytest.mark.parametrize("end", ["close", "forget", "cancel"])
async def test_ending_an_async_stream_early_cancels_what_is_in_flight(end):
    engine = Stuck()
    before = asyncio.all_tasks()
    parts = Embedder(engine).aiter_documents(TEXTS[number % 1000] for number in itertools.count())
    assert len(await anext(parts)) == FIRST
    if end == "close":
        await parts.aclose()
    elif end == "cancel":
        waiting = asyncio.create_task(anext(parts))
        await until(lambda: engine.begun > 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    del parts
    gc.collect()
    await until(lambda: engine.cancelled == engine.begun - 1 and asyncio.all_tasks() <= before)


def test_what_fails_in_the_consumer_cancels_the_call():
    """A progress bar that breaks leaves no thread behind."""
    engine, before = Stuck(), set(threading.enumerate())
    embedder = Embedder(engine)
    work = embedder._documents(lambda text: text)
    from qwen3_integrations.core.call_result import run_call

    def broken(count):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_call(engine, work, TEXTS, broken)
    assert engine.cancelled == engine.begun - 1
    assert set(threading.enumerate()) <= before


def test_a_failure_is_raised_in_order_and_ends_the_planning():
    class Failing(FakeEngine):
        async def arun(self, job):
            if job.prompts[0].body.text != TEXTS[0]:
                raise EngineError("out of order")
            return self.run(job)

    rows = []
    with pytest.raises(EngineError, match="out of order"):
        rows.extend(Embedder(Failing("embed")).iter_documents(iter(TEXTS)))
    assert [len(part) for part in rows] == [FIRST]


def test_texts_that_are_more_than_strings_keep_their_value():
    class Colour(str, enum.Enum):  # noqa: UP042  its str() is not its value
        RED = "red"

    engine = FakeEngine("embed")
    (rows,) = Embedder(engine).iter_documents(iter([Colour.RED]))
    assert np.array_equal(rows, Embedder(engine).embed_documents(["red"]))


# One item, several prompts.


def passages(text):
    return [text[at : at + 8] for at in range(0, len(text), 8)] or [""]


def passage_work(engine, max_tokens=100):
    """The mean of the vectors of a text's passages: n prompts and n rows for an item, one row in the result."""

    def plan(texts):
        split = [passages(text) for text in texts]
        prompts = document_prompts([part for parts in split for part in parts], engine.tokenizer, max_tokens)
        return Plan(prompts, tuple(map(len, split)))

    def finish(rows, plan, begin):
        assert len(rows) == len(plan.prompts)
        ends = np.cumsum(plan.counts)
        return np.stack([part.mean(axis=0) for part in np.split(rows, ends[:-1])])

    return Work("embed", max_tokens, plan, finish, len, lambda text: len(passages(text)))


def run_passages(engine, texts, run_async, max_tokens=100, size=None):
    work = passage_work(engine, max_tokens)
    if not run_async:
        return list(run_slices(engine, work, texts, size))

    async def collected():
        return [part async for part in arun_slices(engine, work, texts, size)]

    return asyncio.run(collected())


LONG = ["word " * (number % 50) for number in range(300)]


@pytest.mark.parametrize("run_async", [False, True])
@pytest.mark.parametrize("kind", [list, iter])
def test_an_item_may_become_several_prompts_and_several_rows_one_result(run_async, kind):
    engine = FakeEngine("embed")
    parts = run_passages(engine, kind(LONG), run_async)
    assert [text for part in parts for text in part.items] == LONG
    expected = [FakeEngine("embed").run(one).rows.mean(axis=0) for one in map(job_of, LONG)]
    assert np.allclose(np.concatenate([part.rows for part in parts]), expected, atol=1e-5)
    assert max(len(job.prompts) for job in engine.jobs) <= SLICE  # prompts are counted, not items
    assert sum(part.usage.prompts for part in parts) == sum(len(passages(text)) for text in LONG)
    sizes = {job.call_size for job in engine.jobs}
    assert sizes == ({None} if kind is iter else {sum(len(passages(text)) for text in LONG)})


def job_of(text):
    from qwen3_integrations.core.types import Job

    return Job("embed", document_prompts(passages(text), FakeEngine("embed").tokenizer, 100), 100)


@pytest.mark.parametrize("run_async", [False, True])
def test_an_error_and_a_cut_name_the_item_and_not_the_prompt(run_async):
    class Refusing(FakeEngine):
        def run(self, job):
            for position, prompt in enumerate(job.prompts):
                if prompt.body.text == "refused!":
                    raise RequestRefused(f"item {position} of this call", url="http://x", index=position)
            return super().run(job)

    texts = ["12345678" * 5] * 40 + ["12345678" * 3 + "refused!"] + ["12345678"] * 9
    for kind in (list, iter):
        with pytest.raises(RequestRefused, match="item 40 of this call") as caught:
            run_passages(Refusing("embed"), kind(texts), run_async)
        assert caught.value.index == 40
    parts = run_passages(
        FakeEngine("embed"), iter([*["a"] * 70, "a" * 8 + "wide 中文字汉"]), run_async, max_tokens=4, size=SliceSize(first=8)
    )
    assert sorted(at for part in parts for at in part.truncated) == [70]
