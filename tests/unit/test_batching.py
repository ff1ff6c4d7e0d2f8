"""Callers share requests, and nothing of one becomes another's: on a stand-in for the request alone, which can be made to fail."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from qwen3_integrations.core.types import Prefix, Prompt, PromptPart
from qwen3_integrations.engines.http.batching import Batcher
from qwen3_integrations.engines.http.dialects import Answer
from qwen3_integrations.errors import BadReply, EngineError, RequestRefused, ServerFailed, ServerTimeout

REFUSED = RequestRefused("no", url="http://server", status=400)
HARMLESS = " word"
"""What is sent to find out whether a text, or the server, is at fault."""
BROKEN = ServerFailed("broken", url="http://server", status=500)


def prompt(text):
    return Prompt(Prefix(""), PromptPart(text), PromptPart(""))


class Server:
    """Answers each text with its number; fails as it is told, and remembers what it was asked."""

    def __init__(self, fails=None, error=REFUSED):
        self.fails, self.error, self.asked, self.open = fails, error, [], asyncio.Event()
        self.open.set()

    async def __call__(self, prompts):
        texts = [one.text for one in prompts]
        self.asked.append(texts)
        await asyncio.sleep(0)
        await self.open.wait()
        if self.fails and any(self.fails(text) for text in texts):
            raise self.error
        return Answer(np.asarray([[0.0 if text == HARMLESS else float(text)] for text in texts], dtype=np.float32), len(texts))


def make(server, concurrency=4, size=16):
    return Batcher(server, concurrency, size)


async def calls(batcher, *lists, kind=None):
    """Each list sent by a caller of its own, all at once; answers or errors."""
    sent = [batcher.send([prompt(text) for text in texts], kind, object()) for texts in lists]
    return await asyncio.wait_for(asyncio.gather(*sent, return_exceptions=True), 10)


def numbers(answer):
    return answer.rows[:, 0].tolist()


@pytest.mark.parametrize("concurrency", [1, 2, 4])
async def test_every_caller_gets_its_own(concurrency):
    server = Server()
    answers = await calls(make(server, concurrency), *[[str(number)] for number in range(64)])
    assert [numbers(answer) for answer in answers] == [[float(number)] for number in range(64)]
    assert sum(answer.tokens for answer in answers) == 64
    assert len(server.asked) <= 64 // 8 + 2 * concurrency


@pytest.mark.parametrize("concurrency", [1, 2, 8])
async def test_one_bad_text_is_found_and_is_its_callers_alone(concurrency):
    server = Server(lambda text: text == "13")
    results = await calls(make(server, concurrency), *[[str(number)] for number in range(64)])
    for number, result in enumerate(results):
        if number == 13:
            assert (type(result), result.index, result.reason) == (RequestRefused, 0, REFUSED.reason)
        else:
            assert numbers(result) == [float(number)]
    assert len(server.asked) <= 64 // 8 + 2 * concurrency + 2 * 7


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_in_a_list_the_bad_text_is_named_by_its_position(concurrency):
    server = Server(lambda text: text == "9")
    bad, good = await calls(make(server, concurrency), [str(number) for number in range(16)], ["20", "21"])
    assert (type(bad), bad.index, str(bad)) == (RequestRefused, 9, "item 9 of this call: no")
    assert numbers(good) == [20.0, 21.0]


async def test_a_call_after_another_is_served_with_a_single_place():
    """A worker that ends must not block the next one."""
    batcher = make(Server(lambda text: text == "1"), concurrency=1)
    for _ in range(50):
        first, second = await calls(batcher, ["0"], ["1"])
        assert numbers(first) == [0.0]
        assert isinstance(second, RequestRefused)


@pytest.mark.parametrize("error", [BROKEN, BadReply("wrong")])
async def test_a_500_or_nonsense_for_one_text_fails_its_caller_alone(error):
    server = Server(lambda text: text == "3", error)
    results = await calls(make(server, concurrency=1), *[[str(number)] for number in range(8)])
    assert [isinstance(result, type(error)) for result in results] == [number == 3 for number in range(8)]
    assert len(server.asked) <= 2 + 2 * 3 + 2  # a harmless text before the search, and after it


async def test_a_broken_server_is_not_asked_over_and_over():
    server = Server(lambda text: True, BROKEN)
    results = await calls(make(server, concurrency=1), *[[str(number)] for number in range(16)])
    assert all(isinstance(result, ServerFailed) for result in results)
    assert len(server.asked) <= 1 + 3


async def test_errors_are_each_callers_own():
    timeout = ServerTimeout("late", url="http://server")
    results = await calls(make(Server(lambda text: True, timeout), concurrency=1), *[[str(number)] for number in range(8)])
    assert len({id(result) for result in results}) == 8
    assert {type(result) for result in results} == {ServerTimeout}
    assert all(result.url == "http://server" and str(result) == "late" for result in results)
    assert timeout not in [cause for result in results for cause in (result.__cause__, result.__context__)]


async def test_an_error_about_one_vector_is_about_it_in_its_callers_list():
    """All vectors of a request are read together; only one caller's list holds the bad one."""
    server = Server()

    async def ask(prompts):
        answer = await server(prompts)
        if (texts := [one.text for one in prompts]).count("5"):
            raise BadReply("the server's vector is not finite", index=texts.index("5"))
        return answer

    first, second, third = await calls(make(ask, concurrency=1), ["0", "1", "2"], ["3", "4", "5", "6"], ["7"])
    assert (numbers(first), numbers(third)) == ([0, 1, 2], [7])
    assert (type(second), second.index) == (BadReply, 2)
    assert server.asked[0] == list("01234567")


async def test_an_error_about_one_vector_says_nothing_of_other_callers_lists():
    wrong = BadReply("the server's vector is not finite", index=1)  # whatever is asked: the server is broken
    results = await calls(make(Server(lambda text: True, wrong), concurrency=1), ["0"], ["1"], ["2", "3"], ["4"])
    assert {type(result) for result in results} == {BadReply}
    assert [result.index for result in results] == [None, 0, None, None]


class Uncopyable(Exception):
    """As many libraries' exceptions: it can't be made from its `args`."""

    def __init__(self, *, code):
        super().__init__(f"code {code}")


async def test_an_error_that_can_not_be_copied_is_the_cause_of_each_callers_own():
    odd = Uncopyable(code=7)
    results = await calls(make(Server(lambda text: True, odd)), ["1"], ["2"])
    assert {type(result) for result in results} == {EngineError}
    assert len({id(result) for result in results}) == 2
    assert all(result.__cause__ is odd and str(result) == "Uncopyable: code 7" for result in results)


async def test_an_error_that_nobody_foresaw_reaches_the_callers():
    results = await calls(make(Server(lambda text: True, ZeroDivisionError("odd"))), ["1"], ["2"])
    assert {type(result) for result in results} == {ZeroDivisionError}


async def test_a_query_does_not_wait_behind_a_corpus():
    server = Server()
    batcher = make(server, concurrency=2, size=16)
    job = object()
    corpus = [batcher.send([prompt(str(number))] * 16, None, job) for number in range(100)]
    waiting = [asyncio.ensure_future(call) for call in corpus]
    await asyncio.sleep(0)
    assert numbers(await batcher.send([prompt("777")], None, object())) == [777.0]
    assert next(at for at, texts in enumerate(server.asked) if "777" in texts) <= 4
    await asyncio.gather(*waiting)


async def test_full_jobs_take_turns_beside_small_ones():
    server = Server()
    batcher = make(server, concurrency=1, size=16)
    server.open.clear()
    jobs = {name: object() for name in ("1", "2", "3")}
    waiting = [
        asyncio.ensure_future(batcher.send([prompt(name)] * size, None, jobs[name]))
        for _ in range(4)
        for name, size in (("1", 16), ("2", 16), ("3", 2))
    ]
    await asyncio.sleep(0)
    server.open.set()
    await asyncio.gather(*waiting)
    order = [texts[0] for texts in server.asked if len(texts) == 16 and len(set(texts)) == 1]
    assert order[:4] in (["1", "2", "1", "2"], ["2", "1", "2", "1"])


async def test_kinds_do_not_share_a_request():
    server = Server()
    batcher = make(server, concurrency=1)
    sent = [batcher.send([prompt(str(number))], number % 3, object()) for number in range(30)]
    await asyncio.gather(*sent)
    assert all(len({int(text) % 3 for text in texts}) == 1 for texts in server.asked)


async def test_many_kinds_are_no_burden():
    """As many steps for each, however many wait: `next_load` looks at one kind and at so many jobs."""
    batcher = make(Server(), concurrency=8)
    results = await asyncio.gather(*(batcher.send([prompt("1")], number, object()) for number in range(5000)))
    assert len(results) == 5000
    assert not batcher._queue._kinds
    assert batcher._queue.prompts == 0


async def test_a_caller_that_leaves_takes_its_texts_along():
    server = Server()
    batcher = make(server, concurrency=1)
    server.open.clear()
    tasks = [asyncio.ensure_future(batcher.send([prompt(str(number))], None, object())) for number in range(12)]
    for _ in range(3):
        await asyncio.sleep(0)
    for task in tasks[1::2]:
        task.cancel()
    server.open.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [bool(number % 2) for number in range(12)]
    assert server.asked[1:] == []  # the first request had them all
    (answer,) = await calls(batcher, ["20"])
    assert numbers(answer) == [20.0]
    assert batcher._queue.prompts == 0


async def test_a_request_ends_with_the_last_who_waits_for_it():
    server = Server()
    batcher = make(server, concurrency=1)
    server.open.clear()
    tasks = [asyncio.ensure_future(batcher.send([prompt("1")], None, object())) for _ in range(2)]
    for _ in range(3):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    server.open.set()
    (answer,) = await calls(batcher, ["5"])
    assert numbers(answer) == [5.0]


async def test_a_request_that_is_cancelled_by_itself_leaves_nobody_waiting():
    async def ask(prompts):
        raise asyncio.CancelledError

    (result,) = await calls(Batcher(ask, 1, 16), ["1"])
    assert isinstance(result, BaseException)


async def test_a_caller_that_leaves_the_queue_is_not_sent():
    server = Server()
    batcher = make(server, concurrency=1, size=4)
    server.open.clear()
    tasks = [asyncio.ensure_future(batcher.send([prompt(str(number))], None, object())) for number in range(12)]
    for _ in range(3):
        await asyncio.sleep(0)
    tasks[11].cancel()
    server.open.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(int(text) for texts in server.asked for text in texts) == list(range(11))
