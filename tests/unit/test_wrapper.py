"""Wrappers are engines: they pass on what an engine is, and one method sees every job."""

from __future__ import annotations

import asyncio
import copy
import pickle
import re
import threading
from pathlib import Path

import numpy as np
import pytest

from qwen3_integrations import Embedder, FakeEngine, Reranker, open_engine
from qwen3_integrations.core.types import Job
from qwen3_integrations.engines import Capabilities, Engine, EngineWrapper, Reply, SharedEngine
from qwen3_integrations.errors import ConfigError, EngineClosed, EngineError, ServerFailed

PAGE = Path(__file__).parents[2] / "docs" / "wrappers.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def documented(name: str):
    """A class that the page shows."""
    code = next(block for block in blocks("python") if f"class {name}(" in block)
    scope: dict[str, object] = {}
    exec(compile(code, str(PAGE), "exec"), scope)
    return scope[name]


@pytest.fixture(params=["sync", "async"])
def embed(request):
    """Embeds with the sync or the async call."""
    if request.param == "sync":
        return lambda embedder, texts: embedder.embed_documents(texts)
    return lambda embedder, texts: asyncio.run(embedder.aembed_documents(texts))


def test_the_page_s_code_runs():
    code = blocks("python")
    assert len(code) == 3
    for block in code:
        exec(compile(block, str(PAGE), "exec"), {})


def test_the_page_and_the_docstring_show_the_same_wrapper_and_it_has_ten_lines():
    def lines(text):
        found = text[text.index("class TimedEngine") :].split("return reply")[0].splitlines()
        return [line.strip() for line in found if line.strip()]

    assert lines(EngineWrapper.__doc__) == lines(blocks("python")[0])
    assert len(lines(EngineWrapper.__doc__)) + 1 <= 10


def test_a_users_wrapper_gets_sync_and_async_jobs(embed):
    engine = documented("TimedEngine")(FakeEngine("embed"))
    assert isinstance(engine, Engine)
    expected = Embedder(FakeEngine("embed")).embed_documents(["one", "two"])
    assert np.array_equal(embed(Embedder(engine), ["one", "two"]), expected)
    assert len(engine.seconds) == 1
    assert engine.jobs[0].prompts[1].body.text == "two"


def test_the_documented_retry(embed, monkeypatch):
    pauses = []
    monkeypatch.setattr("time.sleep", pauses.append)

    class Flaky(FakeEngine):
        def run(self, job):
            if len(pauses) < 2:
                raise ServerFailed("down", url="http://x", status=503)
            return super().run(job)

    assert embed(Embedder(documented("PatientEngine")(Flaky("embed"))), ["one"]).shape == (1, 64)
    assert pauses == [0.1, 1.0]


def test_further_attributes_of_an_engine_pass_through_several_wrappers():
    inner = FakeEngine("embed")
    inner.where, inner.memory = "nowhere", 7
    outer = EngineWrapper(EngineWrapper(inner))
    assert outer.jobs is inner.jobs
    assert (outer.where, outer.memory) == ("nowhere", 7)
    assert {"jobs", "memory", "run", "around"} <= set(dir(outer))
    assert repr(outer) == "EngineWrapper(EngineWrapper(FakeEngine('embed')))"
    assert "nowhere" in outer._repr_html_()
    for name in ("nothing", "_closed", "__len__"):
        with pytest.raises(AttributeError, match=name):
            getattr(outer, name)


def test_an_opened_engine_has_all_attributes_of_its_engine():
    with open_engine("rerank", "qwen3-tiny-demo", backend="fake") as engine:
        assert isinstance(engine, SharedEngine)
        Reranker(engine).rank("query", ["document"])
        assert len(engine.jobs) == 1
    with open_engine("embed", "qwen3-tiny-demo", backend="torch", device="cpu") as engine:
        assert (engine.device, engine.dtype, engine.memory) == ("cpu", "float32", None)
        assert engine.where == "cpu, float32"


def test_a_job_may_be_answered_without_the_engine_and_split(embed):
    class Halves(EngineWrapper):
        def around(self, job):
            if len(job.prompts) < 2:
                return (yield job)
            first = yield Job(job.task, job.prompts[:1], job.max_tokens)
            rest = yield Job(job.task, job.prompts[1:], job.max_tokens)
            return Reply(np.concatenate([first.rows, rest.rows]), first.tokens + rest.tokens)

    class Remembering(EngineWrapper):
        def __init__(self, engine):
            super().__init__(engine)
            self.kept = {}

        def around(self, job):
            key = tuple(prompt.text for prompt in job.prompts)
            if key not in self.kept:
                self.kept[key] = yield job
            return self.kept[key]

    engine = Remembering(Halves(FakeEngine("embed")))
    embedder = Embedder(engine)
    first, again = embed(embedder, ["one", "two", "three"]), embed(embedder, ["one", "two", "three"])
    assert np.array_equal(first, again)
    assert np.array_equal(first, Embedder(FakeEngine("embed")).embed_documents(["one", "two", "three"]))
    assert [len(job.prompts) for job in engine.jobs] == [1, 2]
    assert embedder.usage.tokens == 2 * sum(sum(reply.tokens) for reply in engine.kept.values())


def test_work_that_blocks_leaves_the_event_loop():
    threads = []

    class Blocking(EngineWrapper):
        def around(self, job):
            found = yield lambda: threads.append(threading.current_thread()) or "found"
            assert found == "found"
            return (yield job)

    Embedder(Blocking(FakeEngine("embed"))).embed_documents(["one"])
    asyncio.run(Embedder(Blocking(FakeEngine("embed"))).aembed_documents(["one"]))
    assert threads[0] is threading.main_thread()
    assert threads[1] is not threading.main_thread()


def test_an_error_and_a_cancellation_are_raised_at_the_yield(embed):
    seen = []

    class Noting(EngineWrapper):
        def around(self, job):
            try:
                return (yield job)
            except BaseException as error:
                seen.append(type(error))
                raise
            finally:
                seen.append("done")

    with pytest.raises(EngineError, match="broken"):
        embed(Embedder(Noting(FakeEngine("embed", error=EngineError("broken")))), ["one"])
    assert seen == [EngineError, "done"]

    class Hanging(FakeEngine):
        async def arun(self, job):
            await asyncio.sleep(60)

    async def cancelled():
        task = asyncio.create_task(Embedder(Noting(Hanging("embed"))).aembed_documents(["one"]))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert seen[2:] == [asyncio.CancelledError, "done"]


def test_a_wrapper_without_reply_or_yield_is_refused():
    class Forgetful(EngineWrapper):
        def around(self, job):
            yield job

    class Plain(EngineWrapper):
        def around(self, job):
            return self.engine.run(job)

    with pytest.raises(TypeError, match="end it with `return reply`"):
        Embedder(Forgetful(FakeEngine("embed"))).embed_documents(["one"])
    with pytest.raises(TypeError, match="use `reply = yield job`"):
        Embedder(Plain(FakeEngine("embed"))).embed_documents(["one"])


def test_closing_a_wrapper_closes_its_engine():
    inner = FakeEngine("embed")
    with EngineWrapper(inner) as engine:
        pass
    engine.close()
    with pytest.raises(EngineClosed):
        inner.run(Job("embed", (), 1))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_is_one_more_user_of_the_same_engine(copied):
    first = open_engine("embed", "qwen3-tiny-demo", backend="fake", dimensions=56)
    second, third = copied(first), copied(EngineWrapper(first))
    assert second is not first
    assert second.engine is first.engine is third.engine.engine
    first.close()
    assert Embedder(second).embed_documents(["text"]).shape == (1, 56)
    second.close()
    assert Embedder(third).embed_documents(["text"]).shape == (1, 56)
    third.close()
    with pytest.raises(EngineClosed):
        third.engine.engine.run(Job("embed", (), 1))
    with pytest.raises(EngineClosed):
        copied(first)


def test_pickling_a_wrapper_is_refused():
    with pytest.raises(ConfigError, match=r"EngineWrapper\(FakeEngine\('embed'\)\) can't be pickled"):
        pickle.dumps(EngineWrapper(FakeEngine("embed")))


def test_a_wrapper_passes_capabilities_and_fingerprint_on():
    class Able(FakeEngine):
        capabilities = Capabilities(gradients=True, devices=2)

    engine = Able("embed")
    assert EngineWrapper(engine).capabilities is engine.capabilities
    assert EngineWrapper(engine).fingerprint() == engine.fingerprint()


def test_components_take_a_wrapper():
    langchain = pytest.importorskip("qwen3_integrations.langchain")
    engine = EngineWrapper(FakeEngine("embed"))
    assert len(langchain.Qwen3Embeddings(engine=engine).embed_query("text")) == 64
    assert len(engine.jobs) == 1
