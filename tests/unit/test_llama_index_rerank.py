"""`Qwen3Rerank` in LlamaIndex: nodes, events, query engines and workflows."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import pytest
from llama_index.core import MockEmbedding, VectorStoreIndex
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import MockLLM
from llama_index.core.schema import ImageNode, MetadataMode, NodeWithScore, QueryBundle, TextNode
from llama_index.core.workflow import Context, Event, StartEvent, StopEvent, Workflow, step

from qwen3_integrations import FakeEngine, Reranker, open_engine
from qwen3_integrations.errors import BadReply, ConfigError, InputError, InvalidText
from qwen3_integrations.llama_index import Qwen3Embedding, Qwen3Rerank
from tests.texts import HOSTILE

QUERY = "red planet"
KEY = "sk-do-not-show-me"


def nodes():
    return [
        NodeWithScore(node=TextNode(text="cats purr", id_="cats", metadata={"title": "Cats"}), score=0.9),
        NodeWithScore(node=TextNode(text="the planet venus", id_="venus", metadata={"tags": ["a"]}), score=0.8),
        NodeWithScore(node=TextNode(text="the red planet is mars", id_="mars"), score=None),
    ]


def ids(found):
    return [node.node_id for node in found]


@pytest.fixture
def engine():
    return FakeEngine("rerank")


@pytest.fixture
def rerank(engine):
    return Qwen3Rerank(engine=engine)


@pytest.fixture
def events(monkeypatch):
    """Every instrumentation event while the test runs."""
    events = []

    class Handler(BaseEventHandler):
        def handle(self, event, **kwargs):
            events.append(event)

    monkeypatch.setattr(get_dispatcher(), "event_handlers", [Handler()])
    return events


def bodies(engine):
    return [prompt.body.text[1:] for prompt in engine.jobs[-1].prompts]


def test_the_model_reads_the_official_template(engine, rerank):
    rerank.postprocess_nodes([NodeWithScore(node=TextNode(text="mars"))], query_str=QUERY)
    instruction = "Given a web search query, retrieve relevant passages that answer the query"
    (prompt,) = engine.jobs[-1].prompts
    assert prompt.text.endswith(
        f"<|im_start|>user\n<Instruct>: {instruction}\n<Query>: red planet\n<Document>: mars<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


def test_texts_are_not_changed(engine, rerank):
    rerank.postprocess_nodes([NodeWithScore(node=TextNode(text=text)) for text in HOSTILE], query_str=QUERY)
    assert bodies(engine) == HOSTILE
    assert len(engine.jobs) == 1


def test_new_nodes_with_scores_best_first(rerank):
    given = nodes()
    before, members = deepcopy(given), list(given)
    result = rerank.postprocess_nodes(given, query_str=QUERY)
    assert ids(result) == ["mars", "venus", "cats"]
    texts = ["title: Cats\n\ncats purr", "tags: ['a']\n\nthe planet venus", "the red planet is mars"]
    ranking = Reranker(FakeEngine("rerank")).rank(QUERY, texts)
    assert [node.score for node in result] == [hit.score for hit in ranking]
    assert given == before
    assert all(now is then for now, then in zip(given, members, strict=True))
    assert not {id(node) for node in result} & {id(node) for node in given}
    assert result[0].node is given[2].node  # not copied, because it is not changed and may be large


def test_the_query_in_every_form(rerank):
    expected = ids(rerank.postprocess_nodes(nodes(), query_str=QUERY))
    assert ids(rerank.postprocess_nodes(nodes(), QueryBundle(QUERY))) == expected
    assert ids(rerank.postprocess_nodes(nodes(), QUERY)) == expected
    assert ids(rerank.postprocess_nodes(nodes(), QueryBundle(QUERY, custom_embedding_strs=["cats"]))) == expected


@pytest.mark.parametrize("given", [nodes(), []], ids=["nodes", "none"])
async def test_no_query_is_refused(rerank, given):
    with pytest.raises(InputError, match=r"query is missing: Qwen3Rerank ranks by a query. Pass query_str"):
        rerank.postprocess_nodes(given)
    with pytest.raises(InputError, match=r"query is missing: Qwen3Rerank ranks by a query. Pass query_str"):
        await rerank.apostprocess_nodes(given)


async def test_bad_input(rerank):
    with pytest.raises(TypeError, match="query must be a string, not int"):
        rerank.postprocess_nodes(nodes(), QueryBundle(5))
    broken = [*nodes(), NodeWithScore(node=TextNode(text="\udc80"))]
    with pytest.raises(InvalidText, match=r"documents\[3\]"):
        rerank.postprocess_nodes(broken, query_str=QUERY)
    with pytest.raises(InvalidText, match=r"documents\[3\]"):
        await rerank.apostprocess_nodes(broken, query_str=QUERY)


def test_cuts(rerank):
    rerank.top_n = 2
    assert ids(rerank.postprocess_nodes(nodes(), query_str=QUERY)) == ["mars", "venus"]
    rerank.score_threshold = 0.9
    assert ids(rerank.postprocess_nodes(nodes(), query_str=QUERY)) == ["mars"]
    rerank.score_threshold = 1.0
    assert rerank.postprocess_nodes(nodes(), query_str=QUERY) == []


def test_equal_scores_keep_their_order(rerank):
    same = [NodeWithScore(node=TextNode(text="same", id_=str(number)), score=number / 20) for number in range(20)]
    assert ids(rerank.postprocess_nodes(same, query_str=QUERY)) == ids(same)


async def test_keep_retrieval_score(engine):
    rerank = Qwen3Rerank(engine=engine, keep_retrieval_score=True)
    given = nodes()
    before = deepcopy(given)
    result = rerank.postprocess_nodes(given, query_str=QUERY)
    assert {node.node_id: node.metadata["retrieval_score"] for node in result} == {"cats": 0.9, "venus": 0.8, "mars": None}
    assert result[1].metadata["tags"] == ["a"]
    assert given == before
    assert await rerank.apostprocess_nodes(given, query_str=QUERY) == result


def test_the_kept_score_is_read_by_no_model(engine):
    rerank = Qwen3Rerank(engine=engine, keep_retrieval_score=True)
    once = rerank.postprocess_nodes(nodes(), query_str=QUERY)
    first = bodies(engine)
    rerank.postprocess_nodes(once, query_str=QUERY)
    assert sorted(bodies(engine)) == sorted(first)
    assert all("retrieval_score" not in node.get_content(metadata_mode=MetadataMode.LLM) for node in once)


@pytest.mark.parametrize(
    ("mode", "read"),
    [
        (MetadataMode.NONE, "mars"),
        (MetadataMode.EMBED, "a: 1\nfor_embed: 3\n\nmars"),
        ("llm", "a: 1\nfor_llm: 2\n\nmars"),
        (MetadataMode.ALL, "a: 1\nfor_llm: 2\nfor_embed: 3\n\nmars"),
    ],
)
def test_metadata_mode_selects_what_the_model_reads(engine, mode, read):
    node = TextNode(
        text="mars",
        metadata={"a": 1, "for_llm": 2, "for_embed": 3},
        excluded_embed_metadata_keys=["for_llm"],
        excluded_llm_metadata_keys=["for_embed"],
    )
    Qwen3Rerank(engine=engine, metadata_mode=mode).postprocess_nodes([NodeWithScore(node=node)], query_str=QUERY)
    assert bodies(engine) == [read]
    assert Qwen3Rerank(engine=engine).metadata_mode is MetadataMode.EMBED
    with pytest.raises(ConfigError, match="metadata_mode"):
        Qwen3Rerank(engine=engine, metadata_mode="everything")


def test_nodes_without_text_get_a_score(rerank):
    result = rerank.postprocess_nodes([NodeWithScore(node=ImageNode(image="aGk="))], query_str=QUERY)
    assert 0 <= result[0].score <= 1


async def test_async_calls_give_the_same_answers(rerank):
    rerank.top_n, rerank.score_threshold = 7, 0.005
    given = [NodeWithScore(node=TextNode(text=text)) for text in HOSTILE]
    for query in ("red planet", "word", "北京", "<|im_end|>"):
        assert await rerank.apostprocess_nodes(given, query_str=query) == rerank.postprocess_nodes(given, query_str=query)
    assert await rerank.apostprocess_nodes([], query_str=QUERY) == rerank.postprocess_nodes([], query_str=QUERY) == []


async def test_many_callers_at_once(rerank):
    queries = [f"planet {number}" for number in range(64)]
    given = [NodeWithScore(node=TextNode(text=f"planet {number}")) for number in range(0, 64, 3)]
    alone = [rerank.postprocess_nodes(given, query_str=query) for query in queries]
    with ThreadPoolExecutor(64) as pool:
        assert list(pool.map(lambda query: rerank.postprocess_nodes(given, query_str=query), queries)) == alone
    assert await asyncio.gather(*(rerank.apostprocess_nodes(given, query_str=query) for query in queries)) == alone


async def test_async_calls_are_native(rerank, monkeypatch):
    monkeypatch.setattr(Reranker, "rank", None)
    assert len(await rerank.apostprocess_nodes(nodes(), query_str=QUERY)) == 3


@pytest.mark.parametrize("given", [nodes(), []], ids=["nodes", "none"])
async def test_events_for_start_and_end(events, given):
    rerank = Qwen3Rerank(backend="fake", model="some-name", api_key=KEY, top_n=2)
    sync = rerank.postprocess_nodes(given, query_str=QUERY)
    assert [event.class_name() for event in events] == ["ReRankStartEvent", "ReRankEndEvent"]
    start, end = events
    assert (start.query, start.nodes, start.top_n, start.model_name) == (QUERY, given, 2, "some-name")
    assert end.nodes == sync
    events.clear()
    assert await rerank.apostprocess_nodes(given, query_str=QUERY) == sync
    assert [event.class_name() for event in events] == ["ReRankStartEvent", "ReRankEndEvent"]
    assert events[1].nodes == sync
    assert KEY not in str([event.model_dump() for event in events])


def test_without_top_n_the_event_has_the_number_of_nodes(rerank, events):
    rerank.postprocess_nodes(nodes(), query_str=QUERY)
    assert events[0].top_n == 3


@pytest.mark.parametrize("given", [nodes(), []], ids=["nodes", "none"])
async def test_the_callback_manager_gets_an_event(engine, given):
    debug = LlamaDebugHandler(print_trace_on_end=False)
    rerank = Qwen3Rerank(engine=engine, top_n=2, callback_manager=CallbackManager([debug]))
    results = [rerank.postprocess_nodes(given, query_str=QUERY), await rerank.apostprocess_nodes(given, query_str=QUERY)]
    pairs = debug.get_event_pairs(CBEventType.RERANKING)
    assert len(pairs) == 2
    for (start, end), result in zip(pairs, results, strict=True):
        assert start.payload == {
            EventPayload.NODES: given,
            EventPayload.MODEL_NAME: "fake",
            EventPayload.QUERY_STR: QUERY,
            EventPayload.TOP_K: 2,
        }
        assert end.payload == {EventPayload.NODES: result}


async def test_a_failure_is_raised_unchanged(events):
    rerank = Qwen3Rerank(engine=FakeEngine("rerank", error=BadReply("no such thing")))
    with pytest.raises(BadReply):
        rerank.postprocess_nodes(nodes(), query_str=QUERY)
    with pytest.raises(BadReply):
        await rerank.apostprocess_nodes(nodes(), query_str=QUERY)
    assert "ReRankEndEvent" not in [event.class_name() for event in events]


def test_to_dict_and_back():
    own = {"top_n": 2, "score_threshold": 0.1, "metadata_mode": MetadataMode.LLM, "keep_retrieval_score": True}
    rerank = Qwen3Rerank(backend="fake", api_key=KEY, **own)
    as_dict, as_json = rerank.to_dict(), rerank.to_json()
    assert KEY not in str(as_dict) + as_json
    assert not {"api_key", "engine", "callback_manager"} & as_dict.keys()
    assert json.loads(as_json)["class_name"] == rerank.class_name() == "Qwen3Rerank"
    for again in (Qwen3Rerank.from_dict(as_dict), Qwen3Rerank.from_json(as_json)):
        assert again.to_dict() == as_dict
        assert again.postprocess_nodes(nodes(), query_str=QUERY) == rerank.postprocess_nodes(nodes(), query_str=QUERY)


async def test_in_a_query_engine(rerank):
    rerank.top_n = 1
    index = VectorStoreIndex([node.node for node in nodes()], embed_model=MockEmbedding(embed_dim=8))
    engine = index.as_query_engine(llm=MockLLM(), similarity_top_k=3, node_postprocessors=[rerank])
    answer = engine.query(QUERY)
    assert ids(answer.source_nodes) == ["mars"]
    assert answer.source_nodes[0].score == pytest.approx(0.99)
    assert ids((await engine.aquery(QUERY)).source_nodes) == ["mars"]


class Retrieved(Event):
    nodes: list[NodeWithScore]


class Search(Workflow):
    """Retrieve, then rerank."""

    def __init__(self, retriever, rerank, **settings):
        super().__init__(**settings)
        self.retriever, self.rerank = retriever, rerank

    @step
    async def retrieve(self, ctx: Context, ev: StartEvent) -> Retrieved:
        await ctx.store.set("query", ev.query)
        return Retrieved(nodes=await self.retriever.aretrieve(ev.query))

    @step
    async def sort(self, ctx: Context, ev: Retrieved) -> StopEvent:
        return StopEvent(result=await self.rerank.apostprocess_nodes(ev.nodes, query_str=await ctx.store.get("query")))


async def test_in_a_workflow_with_real_models():
    with (
        open_engine("embed", "qwen3-tiny-demo", backend="torch") as embed,
        open_engine("rerank", "qwen3-tiny-demo", backend="torch") as score,
    ):
        index = VectorStoreIndex([node.node for node in nodes()], embed_model=Qwen3Embedding(engine=embed))
        workflow = Search(index.as_retriever(similarity_top_k=3), Qwen3Rerank(engine=score), timeout=120)
        first, second = await asyncio.gather(workflow.run(query=QUERY), workflow.run(query="cats"))
        for query, found in ((QUERY, first), ("cats", second)):
            texts = [node.get_content(metadata_mode=MetadataMode.EMBED) for node in found]
            expected = Reranker(score).rank(query, texts)
            assert [node.score for node in found] == pytest.approx([hit.score for hit in expected], abs=1e-5)
            assert sorted(ids(found)) == ["cats", "mars", "venus"]


async def test_an_argument_that_would_be_dropped_is_refused(engine, rerank):
    for name in ("nonsense", "top_n", "score_threshold"):
        with pytest.raises(TypeError, match=name):
            rerank.postprocess_nodes(nodes(), query_str=QUERY, **{name: 1})
        with pytest.raises(TypeError, match=name):
            await rerank.apostprocess_nodes(nodes(), query_str=QUERY, **{name: 1})
    assert not engine.jobs
