"""Errors carry fields, their message is made from them, and every caller gets an error of its own."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from qwen3_integrations import Embedder, FakeEngine, Reranker, open_engine
from qwen3_integrations.core.slicing import SLICE
from qwen3_integrations.core.tokenizer import checked_texts
from qwen3_integrations.engines import registry
from qwen3_integrations.engines.http.engine import HttpEngine
from qwen3_integrations.errors import (
    BadReply,
    ConfigError,
    EngineError,
    HandshakeFailed,
    InputError,
    InvalidText,
    PromptTooLong,
    Qwen3Error,
    RequestRefused,
    ServerError,
    ServerUnreachable,
    own_copy,
)
from qwen3_integrations.langchain import Qwen3Embeddings
from qwen3_integrations.llama_index import Qwen3Embedding

MANY = [f"text {number}" for number in range(2 * SLICE)]


def every_error(kind=Qwen3Error):
    return [kind, *(each for child in kind.__subclasses__() for each in every_error(child))]


def made(kind):
    words = {"url": "http://server", "status": 500} if issubclass(kind, ServerError) else {}
    words |= {"model": "m"} if issubclass(kind, HandshakeFailed) else {"index": 3}
    words |= {"tokens": 9, "max_tokens": 8} if issubclass(kind, PromptTooLong) else {}
    words |= {"option": "port"} if issubclass(kind, ConfigError) else {}
    words |= {"argument": "texts"} if issubclass(kind, InputError) and kind is not PromptTooLong else {}
    return kind("what happened", advice="What to do", **words)


@pytest.mark.parametrize("kind", every_error())
def test_errors_can_be_copied_and_pickled_with_all_fields(kind):
    """Worker processes send them back."""
    error = made(kind)
    error.add_note("a note")
    for twin in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error)), own_copy(error)):
        assert (type(twin), str(twin), twin.args, vars(twin)) == (type(error), str(error), error.args, vars(error))
        twin.add_note("only here")
        assert error.__notes__ == ["a note"]


@pytest.mark.parametrize("kind", every_error())
def test_an_index_is_moved_from_a_slice_to_the_call_and_the_message_with_it(kind):
    error = made(kind)
    moved = error.at(200)
    if kind is HandshakeFailed:  # about a server, and no text
        assert moved is error
        return
    assert (type(moved), moved.index, error.index) == (kind, 203, 3)
    assert (moved.reason, moved.advice) == (error.reason, error.advice)
    assert issubclass(kind, ConfigError) or ("203" in str(moved) and "203" not in str(error))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (EngineError("it failed"), "it failed"),
        (EngineError("it failed", advice="Try again"), "it failed. Try again"),
        (EngineError("it failed", index=0), "item 0 of this call: it failed"),
        (ConfigError("must be 1, not 2", option="port", advice="Set it to 1"), "port must be 1, not 2. Set it to 1"),
        (ConfigError("is unknown, did you mean 'port'?", option="prt", advice="The options are: port"),
         "prt is unknown, did you mean 'port'? The options are: port"),
        (InputError("is missing", argument="query"), "query is missing"),
        (InvalidText("contains U+D800", argument="texts", index=4), "texts[4] contains U+D800"),
        (HandshakeFailed("it scores backwards", url="http://s/score", model="m", advice="Use vLLM"),
         "http://s/score does not answer as m must: it scores backwards. Use vLLM. engine_options={'handshake': 'off'} skips this check"),
    ],
)  # fmt: skip
def test_a_message_says_what_happened_to_what_and_what_to_do(error, message):
    assert str(error) == message
    assert repr(error) == f"{type(error).__name__}({message!r})"


def test_fields_are_replaced_in_a_copy_that_keeps_cause_and_traceback():
    with pytest.raises(ConfigError) as caught:
        raise ConfigError("must be 1", option="port") from KeyError("x")
    flagged = caught.value.replace(option="--port")
    assert (str(flagged), str(caught.value)) == ("--port must be 1", "port must be 1")
    assert flagged.__cause__ is caught.value.__cause__
    assert traceback.extract_tb(flagged.__traceback__) == traceback.extract_tb(caught.value.__traceback__)
    with pytest.raises(TypeError, match="ConfigError has no field 'url'"):
        flagged.replace(url="http://x")


class Bad(FakeEngine):
    """Fails on one text, and says which one in the job."""

    def run(self, job):
        for position, prompt in enumerate(job.prompts):
            if "text 300" in prompt.text:
                raise EngineError("the prompt is bad", index=position) from KeyError("why")
        return super().run(job)

    async def arun(self, job):
        return self.run(job)


@pytest.mark.parametrize("texts", [MANY, ["text 300"], MANY[290:]], ids=["sliced", "alone", "in one slice"])
def test_the_index_of_an_engines_error_is_the_index_in_the_callers_list(texts):
    for call in (Embedder(Bad("embed")).embed_documents, lambda texts: asyncio.run(Embedder(Bad("embed")).aembed_documents(texts))):
        with pytest.raises(EngineError) as caught:
            call(texts)
        assert texts[caught.value.index] == "text 300"
        assert str(caught.value) == f"item {caught.value.index} of this call: the prompt is bad"
        assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("where", [0, 5, SLICE + 70])
def test_a_query_that_is_too_long_is_named_by_its_index(where):
    queries = [*MANY[:where], "long " * 400, *MANY[where:]]
    with pytest.raises(PromptTooLong) as caught:
        Embedder(FakeEngine("embed"), max_tokens=256).embed_queries(queries)
    assert caught.value.index == where
    pairs = [(query, "document") for query in queries]
    with pytest.raises(PromptTooLong) as caught:
        Reranker(FakeEngine("rerank"), max_tokens=256).score(pairs)
    assert caught.value.index == where


def test_an_error_of_a_single_text_has_no_index():
    with pytest.raises(PromptTooLong) as caught:
        Reranker(FakeEngine("rerank"), max_tokens=256).rank("long " * 400, MANY)
    assert (caught.value.index, str(caught.value)[:8]) == (None, "template")
    for component, name in ((Qwen3Embeddings, "embed_query"), (Qwen3Embedding, "get_query_embedding")):
        with component(engine=FakeEngine("embed"), max_tokens=64) as one:
            with pytest.raises(PromptTooLong) as caught:
                getattr(one, name)("long " * 400)
            assert caught.value.index is None
            with pytest.raises(InvalidText, match=r"^text contains the lone surrogate U\+D800 at character 0"):
                getattr(one, name)("\ud800")


def test_an_invalid_vector_is_named_by_its_index():
    class Zero(FakeEngine):
        def run(self, job):
            reply = super().run(job)
            for position, prompt in enumerate(job.prompts):
                if "text 300" in prompt.text:
                    reply.rows[position] = 0
            return reply

    with pytest.raises(BadReply, match=r"^item 300 of this call: the vector is zero or not finite") as caught:
        Embedder(Zero("embed")).embed_documents(MANY)
    assert caught.value.index == 300


def test_a_text_is_named_by_list_and_index():
    with pytest.raises(InvalidText) as caught:
        checked_texts(["fine", "\udc80"], "documents")
    assert (caught.value.argument, caught.value.index) == ("documents", 1)
    assert str(caught.value.at(256)).startswith("documents[257] contains the lone surrogate U+DC80")


def depth(error):
    return len(traceback.extract_tb(error.__traceback__))


def raised_in_many(call, callers=16):
    """The errors of many callers in threads of their own, all at once; their tracebacks must not be each other's."""
    together = threading.Barrier(callers)

    def one(_):
        together.wait()
        with pytest.raises(Qwen3Error) as caught:
            call()
        return caught.value

    with ThreadPoolExecutor(callers) as pool:
        errors = list(pool.map(one, range(callers)))
    assert len({id(error) for error in errors}) == callers
    assert len({(type(error), str(error)) for error in errors}) == 1
    return errors


def test_each_run_of_a_fake_engine_raises_its_own_error():
    error = RequestRefused("no", url="http://x", status=400)
    embedder = Embedder(FakeEngine("embed", error=error))
    depths = {depth(each) for _ in range(3) for each in raised_in_many(lambda: embedder.embed_documents(["a"]))}
    assert len(depths) == 1
    assert error.__traceback__ is None


def test_each_caller_gets_its_own_error_of_a_failed_handshake():
    engine = HttpEngine("embed", "m", base_url="http://127.0.0.1:9/v1", max_retries=0)
    embedder = Embedder(engine)
    try:
        for _ in range(3):
            errors = raised_in_many(lambda: embedder.embed_documents(["a"]))
            assert {type(error) for error in errors} == {ServerUnreachable}
            assert max(map(depth, errors)) < 40
    finally:
        engine.close()


def test_an_engine_that_can_not_be_opened_fails_each_caller_with_an_error_of_its_own(monkeypatch):
    began, together = threading.Event(), threading.Event()

    class Broken(FakeEngine):
        def __init__(self, task, model, *, dimensions=64):
            began.set()
            together.wait(10)
            raise EngineError("no device")

    monkeypatch.setattr(registry, "_maker", lambda backend: Broken)
    errors = []

    def one():
        with pytest.raises(EngineError) as caught:
            open_engine("embed", "a model that no other test has open", backend="fake")
        errors.append(caught.value)

    threads = [threading.Thread(target=one) for _ in range(8)]
    threads[0].start()
    began.wait(10)
    for thread in threads[1:]:
        thread.start()
    threading.Timer(0.2, together.set).start()
    for thread in threads:
        thread.join(10)
    assert len({id(error) for error in errors}) == 8
    assert {str(error) for error in errors} == {"no device"}
