"""`Qwen3Rerank` in LangChain: what the model reads, the documents that come back, LCEL and tracing."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.runnables import ConfigurableField, RunnableLambda, RunnablePassthrough
from langchain_core.tracers.base import BaseTracer

from qwen3_integrations import FakeEngine, Reranker
from qwen3_integrations.errors import BadReply, ConfigError, InputError, InvalidText, PromptTooLong
from qwen3_integrations.langchain import Qwen3Rerank
from tests.texts import HOSTILE

QUERY = "red planet"
PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def documents():
    return [
        Document("cats purr", metadata={"title": "Cats"}, id="cats"),
        Document("the planet venus", metadata={"title": "Venus", "tags": ["planet"]}, id="venus"),
        Document("the red planet is mars", metadata={"title": "Mars"}),
    ]


class Runs(BaseCallbackHandler):
    """Records which runs began and ended."""

    def __init__(self):
        self.seen = []

    def on_chain_start(self, serialized, inputs, *, run_id, parent_run_id=None, **about):
        self.seen.append(("start", about.get("name"), parent_run_id is not None))

    def on_chain_end(self, outputs, **about):
        self.seen.append(("end", outputs))

    def on_chain_error(self, error, **about):
        self.seen.append(("error", type(error).__name__))


@pytest.fixture
def engine():
    return FakeEngine("rerank")


@pytest.fixture
def rerank(engine):
    return Qwen3Rerank(engine=engine)


def bodies(engine):
    """The documents in the prompts of the model's last job."""
    return [prompt.body.text[1:] for prompt in engine.jobs[-1].prompts]


def test_the_model_reads_the_official_template(engine, rerank):
    rerank.compress_documents([Document("mars")], QUERY)
    instruction = "Given a web search query, retrieve relevant passages that answer the query"
    body = f"<Instruct>: {instruction}\n<Query>: red planet\n<Document>: mars"
    assert [prompt.text for prompt in engine.jobs[-1].prompts] == [PREFIX + body + SUFFIX]


def test_texts_are_not_changed(engine, rerank):
    rerank.compress_documents([Document(text) for text in HOSTILE], QUERY)
    assert bodies(engine) == HOSTILE
    assert len(engine.jobs) == 1


def test_new_documents_best_first(rerank):
    given = documents()
    result = rerank.compress_documents(given, QUERY)
    assert [document.page_content for document in result] == ["the red planet is mars", "the planet venus", "cats purr"]
    assert [document.metadata["original_rank"] for document in result] == [2, 1, 0]
    assert [document.id for document in result] == [None, "venus", "cats"]
    assert result[1].metadata["tags"] == ["planet"]
    ranking = Reranker(FakeEngine("rerank")).rank(QUERY, [document.page_content for document in given])
    assert [document.metadata["relevance_score"] for document in result] == [hit.score for hit in ranking]
    assert given == documents()


def test_equal_scores_keep_their_order(rerank):
    result = rerank.compress_documents([Document("same", metadata={"n": n}) for n in range(20)], QUERY)
    assert [document.metadata["n"] for document in result] == list(range(20))


def test_kinds_of_documents_are_kept(rerank):
    class Page(Document):
        number: int

    assert rerank.compress_documents([Page(page_content="mars", number=7)], QUERY)[0] == Page(
        page_content="mars", number=7, metadata={"relevance_score": pytest.approx(0.01), "original_rank": 0}
    )


def test_cuts(rerank):
    rerank.top_n = 2
    assert [document.metadata["original_rank"] for document in rerank.compress_documents(documents(), QUERY)] == [2, 1]
    rerank.score_threshold = 0.9
    assert [document.metadata["original_rank"] for document in rerank.compress_documents(documents(), QUERY)] == [2]
    rerank.score_threshold = 1.0
    assert rerank.compress_documents(documents(), QUERY) == []


@pytest.mark.parametrize(
    ("how", "read"),
    [
        (None, ["cats purr", "the planet venus", "the red planet is mars"]),
        ("title", ["Cats\ncats purr", "Venus\nthe planet venus", "Mars\nthe red planet is mars"]),
        (["title", "tags"], ["Cats\ncats purr", "Venus\n['planet']\nthe planet venus", "Mars\nthe red planet is mars"]),
        ((), ["cats purr", "the planet venus", "the red planet is mars"]),
        (lambda document: document.metadata["title"].upper(), ["CATS", "VENUS", "MARS"]),
    ],
)
async def test_document_text_selects_what_the_model_reads(engine, how, read):
    rerank = Qwen3Rerank(engine=engine, document_text=how)
    result = rerank.compress_documents(documents(), QUERY)
    assert bodies(engine) == read
    assert {document.page_content for document in result} == {document.page_content for document in documents()}
    await rerank.acompress_documents(documents(), QUERY)
    assert bodies(engine) == read
    rerank.rerank(documents(), QUERY)
    assert bodies(engine) == read
    later = Qwen3Rerank(engine=engine)
    later.document_text = how
    later.compress_documents(documents(), QUERY)
    assert bodies(engine) == read


def test_a_key_that_no_document_has_is_a_warning(engine, caplog):
    rerank = Qwen3Rerank(engine=engine, document_text="titel")
    with caplog.at_level(logging.WARNING, "qwen3_integrations"):
        rerank.compress_documents(documents(), QUERY)
    assert "'titel', which no document has in its metadata, did you mean 'title'?" in caplog.text


async def test_a_document_text_that_is_no_text_is_refused(engine):
    rerank = Qwen3Rerank(engine=engine, document_text=lambda document: document.metadata.get("tags"))
    with pytest.raises(TypeError, match=r"documents\[0\] must be a string, not None"):
        rerank.compress_documents(documents(), QUERY)
    with pytest.raises(TypeError, match=r"documents\[0\] must be a string, not None"):
        await rerank.acompress_documents(documents(), QUERY)
    with pytest.raises(ConfigError, match="document_text"):
        Qwen3Rerank(engine=engine, document_text=5)


def test_rerank_gives_positions_and_scores(rerank):
    mixed = [
        "cats purr",
        Document("the red planet"),
        {"text": "the planet", "title": "x"},
        {"page_content": "red", "metadata": {"title": "y"}},
    ]
    assert rerank.rerank(mixed, QUERY) == [
        {"index": 1, "relevance_score": pytest.approx(0.99)},
        {"index": 2, "relevance_score": pytest.approx(0.5, abs=0.3)},
        {"index": 3, "relevance_score": pytest.approx(0.5, abs=0.3)},
        {"index": 0, "relevance_score": pytest.approx(0.01)},
    ]
    assert rerank.rerank([], QUERY) == []


def test_rerank_reads_the_metadata_of_mappings(engine):
    rerank = Qwen3Rerank(engine=engine, document_text="title")
    rerank.rerank([{"text": "one", "title": "A"}, {"page_content": "two", "metadata": {"title": "B"}}], QUERY)
    assert bodies(engine) == ["A\none", "B\ntwo"]


async def test_top_n_of_one_call(engine):
    rerank = Qwen3Rerank(engine=engine, top_n=2)
    texts = ["a", "red", "red planet", "b"]
    for top_n, count in [({}, 2), ({"top_n": ...}, 2), ({"top_n": None}, 4), ({"top_n": 1}, 1), ({"top_n": 9}, 4)]:
        result = rerank.rerank(texts, QUERY, **top_n)
        assert len(result) == count
        assert result[0]["index"] == 2
        assert await rerank.arerank(texts, QUERY, **top_n) == result
    with pytest.raises(ConfigError, match="top_n"):
        rerank.rerank(texts, QUERY, top_n=0)
    assert rerank.top_n == 2


async def test_one_call_may_override_the_cut(engine):
    rerank = Qwen3Rerank(engine=engine, top_n=2, score_threshold=0.005)
    rerank.instruction = "Find planets."
    inputs = {"query": QUERY, "documents": documents()}
    cuts = [({}, 2), ({"top_n": 1}, 1), ({"top_n": None}, 3), ({"top_n": None, "score_threshold": 0.9}, 1), ({"top_n": 9}, 3)]
    for cut, count in cuts:
        result = rerank.invoke(inputs, **cut)
        assert [document.metadata["original_rank"] for document in result] == [2, 1, 0][:count]
        bound = rerank.bind(**cut)
        assert bound.invoke(inputs) == await bound.ainvoke(inputs) == await rerank.ainvoke(inputs, **cut) == result
        assert bound.batch([inputs]) == [result]
        assert [part async for part in bound.astream(inputs)] == [result]
        assert "<Instruct>: Find planets.\n" in engine.jobs[-1].prompts[0].text
    chain = RunnableLambda(lambda query: {"query": query, "documents": documents()}) | rerank.bind(top_n=1)
    assert len(chain.invoke(QUERY)) == 1
    assert (rerank.top_n, rerank.score_threshold) == (2, 0.005)


async def test_unknown_arguments_of_a_call_are_refused(rerank):
    inputs = {"query": QUERY, "documents": documents()}
    for cut, says in [
        ({"topn": 1}, "topn is not an option of Qwen3Rerank as a runnable, did you mean 'top_n'"),
        ({"top_n": 0}, "top_n must be a whole number"),
        ({"score_threshold": "0.5"}, "score_threshold must be a number"),
    ]:
        with pytest.raises(ConfigError, match=says):
            rerank.bind(**cut).invoke(inputs)
        with pytest.raises(ConfigError, match=says):
            await rerank.bind(**cut).ainvoke(inputs)


async def test_metadata_that_can_not_be_copied_is_passed_on(rerank):
    """For example a lock or a connection: the new document has the same object, and copies of all others."""
    lock = Lock()
    metadata = {"lock": lock, "tags": ["planet"], "source": {"lock": lock, "lines": [1, 2], "pair": (lock, ["x"])}}
    metadata["source"]["itself"] = metadata["source"]
    given = [Document("the red planet is mars", metadata=metadata)]
    for result in (rerank.compress_documents(given, QUERY), await rerank.acompress_documents(given, QUERY)):
        copy = result[0].metadata
        assert copy["lock"] is copy["source"]["lock"] is copy["source"]["pair"][0] is lock
        assert copy["relevance_score"] > 0.9
        copy["tags"].append("changed")
        copy["source"]["lines"].append(3)
        copy["source"]["pair"][1].append("y")
    assert metadata["tags"] == ["planet"]
    assert metadata["source"]["lines"] == [1, 2]
    assert metadata["source"]["pair"] == (lock, ["x"])
    assert metadata.keys() == {"lock", "tags", "source"}


async def test_bad_input(rerank):
    with pytest.raises(TypeError, match=r"documents\[1\] must be a string, LangChain's Document or a mapping, not int"):
        rerank.rerank(["fine", 5], QUERY)
    with pytest.raises(TypeError, match=r"documents\[0\] is a mapping without a string .* its keys are: title"):
        rerank.rerank([{"title": "x"}], QUERY)
    with pytest.raises(TypeError, match="must be a list of strings, Documents or mappings, not one str"):
        rerank.rerank("one text", QUERY)
    with pytest.raises(TypeError, match=r"documents\[1\] must be LangChain's Document, not str"):
        rerank.compress_documents([Document("fine"), "text"], QUERY)
    with pytest.raises(TypeError, match="query must be a string"):
        rerank.compress_documents([], None)
    with pytest.raises(TypeError, match="query must be a string"):
        await rerank.acompress_documents([], None)
    with pytest.raises(InvalidText, match=r"documents\[0\]"):
        rerank.compress_documents([Document("\udc80")], QUERY)
    with pytest.raises(PromptTooLong):
        Qwen3Rerank(backend="fake", max_tokens=20).compress_documents(documents(), QUERY)


async def test_async_calls_give_the_same_answers(rerank):
    rerank.top_n, rerank.score_threshold = 7, 0.005
    given = [Document(text) for text in HOSTILE]
    for query in ("red planet", "word", "北京", "<|im_end|>"):
        assert await rerank.acompress_documents(given, query) == rerank.compress_documents(given, query)
        assert await rerank.arerank(HOSTILE, query) == rerank.rerank(HOSTILE, query)
        inputs = {"query": query, "documents": given}
        assert await rerank.ainvoke(inputs) == rerank.invoke(inputs)
    inputs = [{"query": query, "documents": given} for query in ("red", "word")]
    assert await rerank.abatch(inputs) == rerank.batch(inputs)


async def test_many_callers_at_once(rerank):
    queries = [f"planet {number}" for number in range(64)]
    given = [Document(f"planet {number}") for number in range(0, 64, 3)]
    alone = [rerank.compress_documents(given, query) for query in queries]
    with ThreadPoolExecutor(64) as pool:
        assert list(pool.map(lambda query: rerank.compress_documents(given, query), queries)) == alone
    assert await asyncio.gather(*(rerank.acompress_documents(given, query) for query in queries)) == alone


async def test_async_calls_are_native(rerank, monkeypatch):
    monkeypatch.setattr(Reranker, "rank", None)
    assert len(await rerank.acompress_documents(documents(), QUERY)) == 3
    assert len(await rerank.arerank(["a"], QUERY)) == 1
    assert len(await rerank.ainvoke({"query": QUERY, "documents": documents()})) == 3


async def test_as_a_runnable_in_a_chain(rerank):
    rerank.top_n = 1
    retrieve = RunnableLambda(lambda query: documents())
    chain = {"query": RunnablePassthrough(), "documents": retrieve} | rerank | (lambda found: [document.page_content for document in found])
    assert chain.invoke(QUERY) == ["the red planet is mars"]
    assert await chain.ainvoke(QUERY) == ["the red planet is mars"]
    assert chain.batch([QUERY, "cats"]) == [["the red planet is mars"], ["cats purr"]]
    assert await chain.abatch([QUERY, "cats"]) == [["the red planet is mars"], ["cats purr"]]
    assert [part async for part in chain.astream(QUERY)] == [["the red planet is mars"]]
    assert "Qwen3Rerank" in str(chain.get_graph().to_json())


def test_configurable_in_a_chain(rerank):
    chain = rerank.configurable_fields(top_n=ConfigurableField("top_n"))
    inputs = {"query": QUERY, "documents": documents()}
    assert len(chain.invoke(inputs)) == 3
    assert len(chain.invoke(inputs, {"configurable": {"top_n": 1}})) == 1
    with pytest.raises(ConfigError, match="top_n"):
        chain.invoke(inputs, {"configurable": {"top_n": 0}})


@pytest.mark.parametrize("wrong", ["red planet", {"query": QUERY}, {"question": QUERY, "documents": []}, None])
async def test_a_chain_that_passes_something_else(rerank, wrong):
    with pytest.raises(InputError, match="a dictionary with 'query' and 'documents', not"):
        rerank.invoke(wrong)
    with pytest.raises(InputError, match="a dictionary with 'query' and 'documents', not"):
        await rerank.ainvoke(wrong)


async def test_callbacks_see_the_reranking(rerank):
    sync, twin, runnable = Runs(), Runs(), Runs()
    result = rerank.compress_documents(documents(), QUERY, callbacks=[sync])
    await rerank.acompress_documents(documents(), QUERY, callbacks=[twin])
    rerank.invoke({"query": QUERY, "documents": documents()}, {"callbacks": [runnable]})
    assert sync.seen == twin.seen == runnable.seen == [("start", "Qwen3Rerank", False), ("end", result)]


async def test_callbacks_see_a_failure(engine):
    rerank = Qwen3Rerank(engine=FakeEngine("rerank", error=BadReply("no such thing")))
    runs = Runs()
    with pytest.raises(BadReply):
        rerank.compress_documents(documents(), QUERY, callbacks=[runs])
    with pytest.raises(BadReply):
        await rerank.acompress_documents(documents(), QUERY, callbacks=[runs])
    assert [seen[:2] for seen in runs.seen] == [("start", "Qwen3Rerank"), ("error", "BadReply")] * 2


class Traced(BaseTracer):
    """Keeps the finished runs, as a tracing service gets them."""

    def __init__(self):
        super().__init__()
        self.runs = []

    def _persist_run(self, run):
        self.runs.append(run)


async def test_a_trace_says_what_was_done(engine):
    rerank, tracer = Qwen3Rerank(engine=engine, top_n=2, instruction="Find planets", max_tokens=120), Traced()
    config = {"callbacks": [tracer], "metadata": {"own": 1}}
    long = [*documents(), Document("mars " * 500)]
    rerank.invoke({"query": QUERY, "documents": long}, config)
    await rerank.ainvoke({"query": QUERY, "documents": long}, config, top_n=1)
    facts = {"model": "fake", "backend": "fake", "instruction": "Find planets", "score_threshold": None, "documents": 4}
    for run, top_n in zip(tracer.runs, (2, 1), strict=True):
        metadata = run.extra["metadata"]
        assert metadata.items() >= (facts | {"top_n": top_n, "truncated_documents": 1, "own": 1}).items()
        assert metadata["tokens"] == engine.run(engine.jobs[0]).total_tokens
    assert config["metadata"] == {"own": 1}


def test_the_schema_of_the_input_names_query_and_documents(rerank):
    schema = rerank.get_input_jsonschema()
    assert schema["properties"].keys() == {"query", "documents"}
    assert schema["required"] == ["query", "documents"]
    chain = RunnableLambda(lambda query: {"query": query, "documents": documents()}) | rerank
    assert chain.invoke(QUERY)[0].page_content == "the red planet is mars"


@pytest.mark.parametrize(
    ("metadata", "kept"),
    [({"relevance_score": 0.7, "score": 3}, 0.7), ({"score": 3}, 3), ({"title": "Mars"}, None), ({"score": None}, None)],
)
async def test_the_score_of_the_retriever_can_be_kept(engine, metadata, kept):
    given = [Document("the red planet is mars", metadata=metadata)]
    rerank = Qwen3Rerank(engine=engine, keep_retrieval_score=True)
    for found in (rerank.compress_documents(given, QUERY), await rerank.acompress_documents(given, QUERY)):
        assert found[0].metadata["retrieval_score"] == kept
        assert found[0].metadata["relevance_score"] == pytest.approx(0.99)
    assert "retrieval_score" not in Qwen3Rerank(engine=engine).compress_documents(given, QUERY)[0].metadata
    assert "retrieval_score" not in metadata
