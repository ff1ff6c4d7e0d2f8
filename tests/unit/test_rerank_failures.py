"""`on_error` and `deadline_s`: what both frameworks return when reranking fails or takes too long."""

from __future__ import annotations

import asyncio
import logging

import pytest
from langchain_core.documents import Document
from langchain_core.tracers.base import BaseTracer
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode

from qwen3_integrations import FakeEngine
from qwen3_integrations.engines.wrapper import EngineWrapper
from qwen3_integrations.errors import ConfigError, DeadlineExceeded, EngineError, PromptTooLong, ServerUnreachable
from qwen3_integrations.langchain import Qwen3Rerank, RerankingRetriever
from qwen3_integrations.llama_index import Qwen3Rerank as LlamaRerank

QUERY = "red planet"
TEXTS = ["cats purr", "the planet venus", "the red planet is mars"]
DEAD = {"base_url": "http://127.0.0.1:9", "engine_options": {"max_retries": 0}}


class Failing(EngineWrapper):
    """Raises `error` while there is one; otherwise waits for `seconds` before each call."""

    def __init__(self, error: Exception | None = None, seconds: float = 0.0) -> None:
        super().__init__(FakeEngine("rerank"))
        self.error, self.seconds, self.cancelled = error, seconds, False

    async def arun(self, job):
        if self.error:
            raise self.error
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return await self.engine.arun(job)

    def run(self, job):
        if self.error:
            raise self.error
        return self.engine.run(job)


def documents():
    return [Document(text, metadata={"score": 0.9 - at / 10}) for at, text in enumerate(TEXTS)]


def nodes():
    return [NodeWithScore(node=TextNode(text=text), score=0.9 - at / 10) for at, text in enumerate(TEXTS)]


def langchain(rerank, query=QUERY):
    found = rerank.compress_documents(documents(), query)
    return [one.page_content for one in found], [one.metadata for one in found]


def alangchain(rerank, query=QUERY):
    found = asyncio.run(rerank.acompress_documents(documents(), query))
    return [one.page_content for one in found], [one.metadata for one in found]


def llama_index(rerank, query=QUERY):
    found = rerank.postprocess_nodes(nodes(), query_str=query)
    return [one.text for one in found], [one.metadata for one in found]


def allama_index(rerank, query=QUERY):
    found = asyncio.run(rerank.apostprocess_nodes(nodes(), query_str=query))
    return [one.text for one in found], [one.metadata for one in found]


CALLS = [(Qwen3Rerank, langchain), (Qwen3Rerank, alangchain), (LlamaRerank, llama_index), (LlamaRerank, allama_index)]
each_call = pytest.mark.parametrize(("kind", "call"), CALLS, ids=[call.__name__ for _, call in CALLS])


@each_call
def test_a_server_that_is_away_keeps_the_order_and_every_result_says_so(kind, call, caplog):
    with kind(**DEAD, on_error="keep_order", top_n=2) as rerank, caplog.at_level(logging.WARNING):
        texts, metadata = call(rerank)
    assert texts == TEXTS[:2]
    assert [one["rerank_error"].startswith("ServerUnreachable: ") for one in metadata] == [True, True]
    assert not any("relevance_score" in one for one in metadata)
    assert "reranking failed, so 3 documents keep the retriever's order: ServerUnreachable" in caplog.text


@each_call
def test_by_default_the_error_is_raised(kind, call):
    with kind(**DEAD) as rerank, pytest.raises(ServerUnreachable):
        call(rerank)


@each_call
def test_a_deadline_is_an_error_or_keeps_the_order(kind, call):
    engine = Failing(seconds=60)
    with pytest.raises(DeadlineExceeded, match=r"did not finish within the deadline of 0.05 s\. Pass fewer") as raised:
        call(kind(engine=engine, deadline_s=0.05))
    assert isinstance(raised.value, TimeoutError)
    assert engine.cancelled
    texts, metadata = call(kind(engine=engine, deadline_s=0.05, on_error="keep_order"))
    assert texts == TEXTS
    assert all(one["rerank_error"].startswith("DeadlineExceeded: ") for one in metadata)


@each_call
def test_a_call_within_its_deadline_is_reranked(kind, call):
    texts, metadata = call(kind(engine=Failing(), deadline_s=60, on_error="keep_order", top_n=1))
    assert texts == [TEXTS[2]]
    assert "rerank_error" not in metadata[0]


@each_call
def test_a_timeout_of_the_engine_is_no_deadline(kind, call):
    with pytest.raises(TimeoutError) as raised:
        call(kind(engine=Failing(error=TimeoutError("the engine's own")), deadline_s=60))
    assert not isinstance(raised.value, DeadlineExceeded)


@each_call
def test_a_wrong_query_is_an_error_in_any_case(kind, call):
    rerank = kind(engine=FakeEngine("rerank"), on_error="keep_order", max_tokens=200)
    with pytest.raises(PromptTooLong):
        call(rerank, "word " * 400)


@each_call
def test_a_fault_of_the_program_is_not_hidden(kind, call):
    with pytest.raises(ZeroDivisionError):
        call(kind(engine=Failing(error=ZeroDivisionError("a bug")), on_error="keep_order"))


@each_call
def test_the_component_recovers_with_its_engine(kind, call):
    engine = Failing(error=EngineError("no memory"))
    rerank = kind(engine=engine, on_error="keep_order", top_n=1)
    assert call(rerank)[0] == TEXTS[:1]
    engine.error = None
    assert call(rerank)[0] == [TEXTS[2]]


@each_call
def test_the_retrieval_score_stays(kind, call):
    rerank = kind(engine=Failing(error=EngineError("no memory")), on_error="keep_order", keep_retrieval_score=True)
    assert [round(one["retrieval_score"], 1) for one in call(rerank)[1]] == [0.9, 0.8, 0.7]


def test_llama_index_keeps_scores_and_the_model_does_not_read_the_mark():
    before = nodes()
    found = LlamaRerank(engine=Failing(error=EngineError("no memory")), on_error="keep_order").postprocess_nodes(before, query_str=QUERY)
    assert [one.score for one in found] == [one.score for one in before]
    assert "rerank_error" not in found[0].node.get_content(metadata_mode=MetadataMode.LLM)
    assert "rerank_error" not in before[0].metadata


def test_the_trace_of_langchain_has_the_error():
    runs = []

    class Tracer(BaseTracer):
        def _persist_run(self, run):
            runs.append(run)

    rerank = Qwen3Rerank(engine=Failing(error=EngineError("no memory")), on_error="keep_order", top_n=1)
    rerank.compress_documents(documents(), QUERY, callbacks=[Tracer()])
    metadata = runs[0].extra["metadata"]
    assert (metadata["rerank_error"], metadata["top_n"], metadata["model"]) == ("EngineError: no memory", 1, rerank.model)


def test_positions_alone_have_no_place_for_the_mark():
    rerank = Qwen3Rerank(engine=Failing(error=EngineError("no memory")), on_error="keep_order")
    with pytest.raises(EngineError, match="no memory"):
        rerank.rerank(TEXTS, QUERY)


def test_a_retriever_returns_what_it_fetched():
    from langchain_core.retrievers import BaseRetriever

    class Fixed(BaseRetriever):
        def _get_relevant_documents(self, query, *, run_manager):
            return documents()

    rerank = Qwen3Rerank(engine=Failing(error=EngineError("no memory")), on_error="keep_order", top_n=2)
    found = RerankingRetriever(retriever=Fixed(), reranker=rerank).invoke(QUERY)
    assert [one.page_content for one in found] == TEXTS[:2]


@pytest.mark.parametrize("kind", [Qwen3Rerank, LlamaRerank])
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"on_error": "ignore"}, "on_error must be one of raise, keep_order, not 'ignore'"),
        ({"on_error": "keep_ordr"}, "did you mean 'keep_order'"),
        ({"on_error": None}, "on_error must be one of"),
        ({"deadline_s": 0}, "deadline_s must be a number of seconds greater than 0, not 0"),
        ({"deadline_s": "1"}, "deadline_s must be"),
        ({"deadline_s": True}, "deadline_s must be"),
    ],
)
def test_wrong_settings(kind, settings, words):
    engine = FakeEngine("rerank")
    with pytest.raises(ConfigError, match=words):
        kind(engine=engine, **settings)
    rerank = kind(engine=engine)
    ((name, value),) = settings.items()
    with pytest.raises(ConfigError, match=words):
        setattr(rerank, name, value)


@pytest.mark.parametrize("kind", [Qwen3Rerank, LlamaRerank])
def test_both_settings_show_and_are_copied(kind):
    rerank = kind(model="qwen3-tiny-demo", backend="fake", on_error="keep_order", deadline_s=2)
    assert "on_error='keep_order', deadline_s=2.0" in repr(rerank)
    assert (rerank.model_copy().on_error, rerank.model_copy().deadline_s) == ("keep_order", 2.0)
    assert "on_error" not in repr(kind(backend="fake"))
