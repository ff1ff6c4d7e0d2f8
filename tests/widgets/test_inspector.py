"""The inspector without a browser: arguments, messages, the values that Python reads, and the static form."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import pickle
import re
import subprocess
import sys
import threading
import time
from math import log2
from types import SimpleNamespace

import pytest
import traitlets

from qwen3_integrations import INSTRUCTIONS, Embedder, FakeEngine, Reranker
from qwen3_integrations.core.results import Hit, Ranking, Timing, Usage
from qwen3_integrations.errors import ConfigError, EngineClosed, InputError, MissingExtra, ServerUnreachable
from qwen3_integrations.notebook import EmbeddingExplorer, RankInspector
from tests.waiting import until

pytest.importorskip("anywidget")

QUERY = "sort a list"
DOCUMENTS = ["no match", "<b>bold</b> & sort", "sort a list", "a list", "no  match "]
SCORES = {"no match": 0.25, "<b>bold</b> & sort": 0.5, "sort a list": 1.0, "a list": 0.75, "no  match ": 0.125}
OTHER = {"no match": 0.5, "<b>bold</b> & sort": 0.25, "sort a list": 0.75, "a list": 1.0, "no  match ": 0.125}


def reranker(scores=SCORES, **settings) -> Reranker:
    return Reranker(FakeEngine("rerank", score=lambda query, document: scores[document]), **settings)


def other_for(wanted: str, scores=SCORES, other=OTHER) -> Reranker:
    """A reranker with other scores for the instruction `wanted`."""

    class Engine(FakeEngine):
        def _score_of(self, prompt):
            return (other if prompt.prefix.instruction == wanted else scores)[prompt.body.text[1:]]

    return Reranker(Engine("rerank"))


class Waiting(FakeEngine):
    """Answers the first run; later runs never end."""

    def __init__(self):
        super().__init__("rerank", score=lambda query, document: SCORES[document])
        self.started, self.cancelled = threading.Event(), threading.Event()

    async def arun(self, job):
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@pytest.fixture
def inspector():
    """(arguments) -> an inspector that is closed after the test."""
    made = []

    def make(*words, **settings):
        made.append(RankInspector(*words, **settings))
        return made[-1]

    yield make
    for widget in made:
        widget.close()


def send(widget, what, **words):
    widget._handle_custom_msg({"do": what, **words}, [])


def wait_until_idle(widget):
    """Wait until nothing runs."""
    until = time.monotonic() + 30
    while widget.busy:
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_ranking_inspects_itself(inspector):
    ranking = reranker().rank(QUERY, DOCUMENTS, top_n=3, score_threshold=0.3)
    widget = ranking.inspect()
    assert widget.ranking is ranking
    assert (widget.top_n, widget.threshold) == (3, 0.3)
    assert widget.kept == [2, 3, 1]
    assert widget._view["order"] == [2, 3, 1, 0, 4]
    assert widget._view["scores"] == [0.25, 0.5, 1.0, 0.75, 0.125]
    assert widget._can_run is False
    assert ranking.inspect(threshold=0.6, top_n=1).kept == [2]
    assert widget.presets == dict(INSTRUCTIONS)
    assert repr(widget) == f"RankInspector({ranking!r}, 3 kept)"


def test_a_reranker_ranks_at_once(inspector):
    widget = inspector(reranker(instruction="Find sorting"), QUERY, iter(DOCUMENTS))
    assert widget.ranking.query == QUERY
    assert widget.instruction == "Find sorting"
    assert widget.documents == tuple(DOCUMENTS)
    assert widget.kept == [2, 3, 1, 0, 4]
    assert widget._can_run is True


def test_langchain_documents_keep_their_metadata(inspector):
    pytest.importorskip("langchain_core")
    from langchain_core.documents import Document

    from qwen3_integrations.langchain import Qwen3Rerank

    documents = [Document(text, metadata={"page": page, "long": "x" * 500}) for page, text in enumerate(DOCUMENTS)]
    component = Qwen3Rerank(engine=reranker().engine, top_n=2, score_threshold=0.1, instruction="Find sorting")
    widget = inspector(component, QUERY, documents)
    assert widget.documents == tuple(documents)
    assert widget.ranking.instruction == "Find sorting"
    assert widget.kept == [2, 3]
    assert [row["metadata"]["page"] for row in widget.to_dicts()] == [2, 3, 1, 0, 4]
    assert widget._documents[1]["about"]["page"] == "1"
    assert len(widget._documents[1]["about"]["long"]) == 200
    send(widget, "run", instruction="Find lists")
    wait_until_idle(widget)
    assert widget.ranking.instruction == "Find lists"

    titled = Qwen3Rerank(engine=FakeEngine("rerank"), document_text="page")
    assert inspector(titled, QUERY, documents).ranking[0].document == "2\nsort a list"


def test_llama_index_nodes_are_read_as_the_component_reads_them(inspector):
    pytest.importorskip("llama_index.core")
    from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode

    from qwen3_integrations.llama_index import Qwen3Rerank

    nodes = [TextNode(text=text, metadata={"page": page}) for page, text in enumerate(DOCUMENTS)]
    plain = inspector(reranker(), QUERY, nodes)
    assert plain.kept == [2, 3, 1, 0, 4]
    scored = [NodeWithScore(node=node, score=0.5) for node in nodes]
    component = Qwen3Rerank(engine=FakeEngine("rerank"))
    for listed in (nodes, scored):
        widget = inspector(component, QUERY, listed)
        assert widget.ranking[0].document == "page: 2\n\nsort a list"
        assert widget.to_dicts()[0]["metadata"] == {"page": 2}
    bare = Qwen3Rerank(engine=reranker().engine, metadata_mode=MetadataMode.NONE)
    assert inspector(bare, QUERY, scored).ranking[0].document == "sort a list"


def test_documents_may_join_a_ranking(inspector):
    pages = [SimpleNamespace(metadata={"source": "a.html"}) for _ in DOCUMENTS]
    widget = inspector(reranker().rank(QUERY, DOCUMENTS), documents=pages, reranker=reranker())
    assert widget.to_dicts()[0]["metadata"] == {"source": "a.html"}
    assert widget._can_run is True


def test_the_cut_follows_threshold_and_top_n(inspector):
    widget = inspector(reranker(), QUERY, DOCUMENTS)
    widget.threshold = 0.5
    assert widget.kept == [2, 3, 1]
    widget.top_n = 2
    assert widget.kept == [2, 3]
    for wrong in ({"threshold": 1.5}, {"top_n": 0}, {"k": 0}, {"selection": [5]}):
        name, value = next(iter(wrong.items()))
        with pytest.raises(ConfigError, match=f"^{name} (must be a|contains)"):
            setattr(widget, name, value)
    assert (widget.threshold, widget.top_n) == (0.5, 2)


def test_duplicates_and_truncated_documents_are_marked(inspector):
    engine = FakeEngine("rerank")
    widget = inspector(Reranker(engine, max_tokens=120), QUERY, ["list " * 200, "one", " one\n", "two"])
    assert [about["same"] for about in widget._documents] == [None, None, 1, None]
    assert widget._view["truncated"] == [0]
    static = widget._repr_mimebundle_()[0]["text/html"]
    assert static.count("<i>(truncated)</i>") == 1
    assert static.count("<i>(duplicate of old 2)</i>") == 1


def test_run_again_works_in_the_background_and_keeps_the_ranking_before(inspector):
    widget = inspector(other_for("Find lists"), QUERY, DOCUMENTS)
    first = widget.ranking
    threads = []
    widget.observe(lambda change: threads.append(threading.current_thread()), "ranking")
    send(widget, "run", instruction="Find lists")
    wait_until_idle(widget)
    assert widget.error == ""
    assert threads != [threading.current_thread()]
    assert len(threads) == 1
    assert widget.ranking.instruction == widget.instruction == "Find lists"
    assert widget.kept == [3, 2, 0, 1, 4]
    assert widget.previous is first
    assert widget.compare is None
    assert re.fullmatch(r"Ranked 5 documents in \d+\.\d\d s, [\d,]+ tokens", widget._note)

    send(widget, "compare", on=True)
    assert widget.compare is first
    assert widget.tau == pytest.approx(1 - 2 * 2 / 10)  # [2 3 1 0 4] against [3 2 0 1 4]: two of ten pairs are swapped
    assert widget._other["order"] == [2, 3, 1, 0, 4]

    second = widget.ranking
    widget.run_again("Find sorting")
    wait_until_idle(widget)
    assert widget.previous is widget.compare is second  # the comparison moves too
    send(widget, "compare", on=False)
    assert widget.compare is None
    assert widget._other is None


def test_cancel_really_cancels(inspector):
    engine = Waiting()
    widget = inspector(Reranker(engine), QUERY, DOCUMENTS)
    before = widget.ranking
    send(widget, "run", instruction="Find lists")
    assert engine.started.wait(10)
    assert widget.busy == "Reranking 5 documents"
    send(widget, "cancel")
    assert engine.cancelled.wait(10)
    assert widget.busy == widget.error == ""
    assert widget._note == "Cancelled: the previous ranking is kept"
    assert widget.ranking is before


def test_closing_ends_the_run_and_its_thread(inspector):
    engine = Waiting()
    widget = inspector(Reranker(engine), QUERY, DOCUMENTS)
    widget.run_again()
    assert engine.started.wait(10)
    widget.close()
    assert engine.cancelled.is_set()
    assert not [thread for thread in threading.enumerate() if "RankInspector" in thread.name]


def test_an_error_is_shown_under_the_widget(inspector):
    refused = ServerUnreachable("http://127.0.0.1:9 refused the connection", url="http://127.0.0.1:9")
    ranking = reranker().rank(QUERY, DOCUMENTS)
    widget = inspector(ranking, reranker=Reranker(FakeEngine("rerank", error=refused)))
    send(widget, "run", instruction="Find lists")
    wait_until_idle(widget)
    assert widget.error == "http://127.0.0.1:9 refused the connection"
    assert widget.ranking is ranking
    send(widget, "run", instruction="lone \ud800")
    assert "instruction" in widget.error
    with pytest.raises(InputError):
        widget.run_again("lone \ud800")

    send(ranking.inspect(), "run", instruction="")  # no button does this
    with pytest.raises(ConfigError, match="reranker="):
        ranking.inspect().run_again()


def test_labels_give_measures_of_all_orders(inspector):
    compare = reranker(OTHER).rank(QUERY, DOCUMENTS)
    widget = inspector(reranker(), QUERY, DOCUMENTS, compare=compare, labels={2: 2, 1: 1, 0: 0}, k=2)
    assert widget.labels == [0, 1, 2, None, None]
    ideal = 2 + 1 / log2(3)
    figures = lambda ndcg, mrr: {"ndcg": pytest.approx(ndcg), "mrr": mrr, "hit_rate": 1.0}  # noqa: E731
    judged = lambda count: {"judged": count, "seen": 2}  # noqa: E731
    assert widget._metrics == [
        {"order": "Old", **figures((1 / log2(3)) / ideal, 1 / 2), **judged(2), "condensed": figures((1 / log2(3)) / ideal, 1 / 2)},
        {"order": "A", **figures((2 / log2(3)) / ideal, 1 / 2), **judged(1), "condensed": figures(2 / ideal, 1.0)},
        {"order": "New", **figures(2 / ideal, 1.0), **judged(1), "condensed": figures(1.0, 1.0)},
    ]
    widget.labels = [None, None, None, 1, None]  # as the browser sends it
    widget.k = 1
    assert [one["hit_rate"] for one in widget._metrics] == [0, 1, 0]
    widget.labels = {4: 0}
    assert widget._metrics == []


def test_all_documents_can_be_dropped(inspector):
    compare = reranker(OTHER).rank(QUERY, DOCUMENTS)
    widget = inspector(reranker(), QUERY, DOCUMENTS, compare=compare, labels={2: 1}, threshold=0.5)
    widget.selection = [2, 4, 2]
    assert widget.selection == [2, 4]
    rows = widget.to_dicts()
    assert rows[0] == {
        "rank": 0,
        "index": 2,
        "score": 1.0,
        "moved": 2,
        "truncated": False,
        "kept": True,
        "selected": True,
        "duplicate_of": None,
        "label": 1,
        "other_rank": 1,
        "other_score": 0.75,
        "document": "sort a list",
        "metadata": {},
    }
    assert [row["duplicate_of"] for row in rows] == [None, None, None, None, 0]
    frame = widget.to_pandas()
    assert list(frame.columns) == list(rows[0])
    assert frame["kept"].tolist() == [True, True, True, False, False]


def test_the_static_form_is_a_plain_table(inspector):
    widget = inspector(reranker(), QUERY, DOCUMENTS[:3], labels={2: 1}, threshold=0.5, compare=reranker(OTHER).rank(QUERY, DOCUMENTS[:3]))
    static = widget._repr_mimebundle_()[0]["text/html"]
    seconds = f"{widget.ranking.timing.total_s:.2f}"
    assert static.startswith("<div class='mathjax_ignore tex2jax_ignore'>")
    static = static.replace(" class='mathjax_ignore tex2jax_ignore'", "")
    # As attributes here, to be read; styles in truth, since JupyterLab's own would win over attributes.
    for side in ("left", "right"):
        assert f" align='{side}'" not in static
        static = static.replace(f"style='text-align:{side};padding:2px 8px'", f"align='{side}'")
    assert static == (
        "<div><p><b>sort a list</b><br>Given a web search query, retrieve relevant passages that answer the query"
        f"<br>fake, 2 of 3 documents kept, {widget.ranking.usage.tokens} tokens, {seconds} s"
        "<br>A: fake, Given a web search query, retrieve relevant passages that answer the query; Kendall's tau 0.333</p>"
        "<table><thead><tr>"
        + "".join(
            f"<th scope='col' align='left'>{name}</th>"
            for name in ("new", "old", "from\u00a0A", "score", "0 to 1", "A", "A\u00a0score", "relevance", "document")
        )
        + "</tr></thead><tbody>"
        "<tr><td align='right'>1</td><td align='right'>3</td><td align='left'>=\u00a0same</td><td align='right'>1.000</td>"
        "<td align='left'><code>██████████</code></td><td align='right'>1</td><td align='right'>0.750</td><td align='right'>1</td>"
        "<td align='left'>sort a list</td></tr>"
        "<tr><td align='right'>2</td><td align='right'>2</td><td align='left'>▲\u00a0up\u00a01</td><td align='right'>0.500</td>"
        "<td align='left'><code>█████░░░░░</code></td><td align='right'>3</td><td align='right'>0.250</td><td align='right'>–</td>"
        "<td align='left'>&lt;b&gt;bold&lt;/b&gt; &amp; sort</td></tr>"
        "<tr><td align='right'>3</td><td align='right'>1</td><td align='left'>▼\u00a0down\u00a01</td><td align='right'>0.250</td>"
        "<td align='left'><code>██░░░░░░░░</code></td><td align='right'>2</td><td align='right'>0.500</td><td align='right'>–</td>"
        "<td align='left'><i>(dropped)</i> no match</td></tr>"
        "</tbody></table>"
        "<table><thead><tr><td colspan='2'></td><th scope='colgroup' colspan='3' align='left'>unjudged = irrelevant</th>"
        "<th scope='colgroup' colspan='3' align='left'>unjudged left out</th></tr><tr>"
        + "".join(
            f"<th scope='col' align='right'>{name}</th>"
            for name in ("", "judged@10", "nDCG@10", "MRR", "hit rate@10", "nDCG@10", "MRR", "hit rate@10")
        )
        + "</tr>"
        "</thead><tbody>"
        "<tr><th scope='row' align='left'>Old</th><td align='right'>1 of 3</td>"
        "<td align='right'>0.500</td><td align='right'>0.333</td><td align='right'>1.000</td>"
        "<td align='right'>1.000</td><td align='right'>1.000</td><td align='right'>1.000</td></tr>"
        "<tr><th scope='row' align='left'>A</th><td align='right'>1 of 3</td>"
        "<td align='right'>1.000</td><td align='right'>1.000</td><td align='right'>1.000</td>"
        "<td align='right'>1.000</td><td align='right'>1.000</td><td align='right'>1.000</td></tr>"
        "<tr><th scope='row' align='left'>New</th><td align='right'>1 of 3</td>"
        "<td align='right'>1.000</td><td align='right'>1.000</td><td align='right'>1.000</td>"
        "<td align='right'>1.000</td><td align='right'>1.000</td><td align='right'>1.000</td></tr>"
        "</tbody></table></div>"
    )


def test_the_static_form_of_a_long_ranking_is_short(inspector):
    widget = inspector(Reranker(FakeEngine("rerank")), QUERY, [f"document {number} " + "words " * 500 for number in range(200)])
    static = widget._repr_mimebundle_()[0]["text/html"]
    assert static.count("<tr>") == 51
    assert "and 150 more documents" in static
    assert len(static) < 50_000


def state_of(page):
    return json.loads(re.search(r"id='state'>(.*?)</script>", page, re.DOTALL)[1])


def test_a_tag_of_a_trait_decides_whether_a_page_contains_it(inspector):
    class Annotated(RankInspector):
        colour = traitlets.Unicode("red").tag(sync=True, exported=True)
        pressed = traitlets.Bool(False).tag(sync=True, exported=False)
        here_alone = traitlets.Int(1).tag(sync=True)

    widget = Annotated(reranker().rank(QUERY, DOCUMENTS), reranker=reranker())
    try:
        widget.colour, widget.pressed, widget.error = "blue", True, "something went wrong"
        state = state_of(widget.to_html())
    finally:
        widget.close()
    assert (state["colour"], state["pressed"]) == ("blue", False)
    assert "here_alone" not in state
    assert (state["error"], state["busy"], state["_note"], state["_can_run"], state["_live"], state["_previous"]) == (
        "",
        "",
        "",
        False,
        False,
        None,
    )


def test_every_trait_that_the_browser_reads_has_the_tag_exported(inspector):
    widget = inspector(reranker().rank(QUERY, DOCUMENTS))
    read = set(re.findall(r'model\.[gs]et\("(\w+)"', widget._esm))
    assert read
    assert read <= set(state_of(widget.to_html())) == set(widget.trait_names(exported=lambda tag: tag is not None))


def test_the_page_holds_everything_and_asks_for_nothing(inspector):
    hostile = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<!-- <script>"]
    page = inspector(Reranker(FakeEngine("rerank")), "</title><script>alert(1)</script>", hostile).to_html()
    assert page.startswith("<!doctype html>")
    assert page.count("<script") == page.count("</script>") == 2  # the data and the module
    assert "<img" not in page
    assert "<!--" not in page
    assert "default-src 'none'" in page
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(", page)


@pytest.mark.parametrize(
    ("words", "settings", "error", "said"),
    [
        (("reranker",), {}, ConfigError, "needs a query and documents"),
        (("reranker", QUERY), {}, ConfigError, "needs a query and documents"),
        (("reranker", QUERY, DOCUMENTS), {"reranker": "reranker"}, ConfigError, "reranker can't be passed twice"),
        (("reranker", QUERY, [*DOCUMENTS, 1]), {}, TypeError, r"documents\[5\] is int"),
        (("ranking", QUERY), {}, ConfigError, "query can't be combined with a ranking"),
        (("ranking",), {"documents": DOCUMENTS[:2]}, ConfigError, "documents are 2, but the ranking has 5"),
        (("ranking",), {"reranker": 1}, TypeError, "not int"),
        (("ranking",), {"compare": "fewer"}, ConfigError, "same documents"),
        (("ranking",), {"labels": {5: 1}}, ConfigError, "document 5"),
        (("ranking",), {"labels": {-1: 1}}, ConfigError, "document -1"),
        (("ranking",), {"labels": [1]}, ConfigError, "labels are 1, but there are 5"),
        (("ranking",), {"labels": {0: -1}}, ConfigError, r"labels\[0\]"),
        (("ranking",), {"labels": {0: float("nan")}}, ConfigError, r"labels\[0\]"),
        (("ranking",), {"threshold": 2}, ConfigError, "^threshold must be a number"),
        (("ranking",), {"top_n": 0}, ConfigError, "top_n"),
        (("ranking",), {"k": 0}, ConfigError, "k must"),
        (("ranking",), {"colour": "red"}, TypeError, "colour"),
        ((1, QUERY, DOCUMENTS), {}, TypeError, "not int"),
    ],
)
def test_values_that_do_not_fit_are_refused(words, settings, error, said):
    made = {"reranker": reranker(), "ranking": reranker().rank(QUERY, DOCUMENTS), "fewer": reranker().rank(QUERY, DOCUMENTS[:2])}
    named = {name: made.get(value, value) if isinstance(value, str) else value for name, value in settings.items()}
    with pytest.raises(error, match=said):
        RankInspector(*(made.get(word, word) if isinstance(word, str) else word for word in words), **named)


def test_another_ranking_of_the_same_documents_may_be_assigned(inspector):
    widget = inspector(reranker().rank(QUERY, DOCUMENTS))
    widget.compare = reranker(OTHER).rank("another query", DOCUMENTS)
    assert widget._other["query"] == "another query"
    with pytest.raises(ConfigError, match="same documents"):
        widget.ranking = reranker().rank(QUERY, DOCUMENTS[::-1])
    with pytest.raises(traitlets.TraitError):
        widget.sort = "moved"


def test_no_documents_are_a_ranking_too(inspector):
    widget = inspector(reranker(), QUERY, [])
    assert widget.kept == []
    assert widget.to_dicts() == []
    assert "0 of 0 documents" in widget._static_html()


def test_a_missing_anywidget_is_named_with_its_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(MissingExtra, match=r"pip install 'qwen3-integrations\[notebook\]'"):
        reranker().rank(QUERY, DOCUMENTS).inspect()


def test_the_html_of_a_ranking_needs_no_widgets():
    code = "import sys, qwen3_integrations.notebook.export\nprint(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"anywidget", "ipywidgets", "traitlets", "numpy"} & set(loaded)


# Actions while work is in progress


def test_a_refused_value_is_reset_in_the_browser_and_reported(inspector):
    widget = inspector(reranker(), QUERY, DOCUMENTS)
    for name, value, before in (("threshold", 5.0, 0.0), ("top_n", 0, None), ("selection", [99], []), ("k", 0, 10), ("labels", [1], None)):
        kept = getattr(widget, name)
        assert before is None or kept == before
        widget.error = ""
        widget.set_state({name: value})
        assert getattr(widget, name) == kept, name
        assert widget.error, name
    assert len(widget.to_dicts()) == len(DOCUMENTS)
    widget.set_state({"threshold": 0.5})
    assert widget.threshold == 0.5


def test_a_run_that_starts_while_another_ends_stays_busy_and_can_be_cancelled(inspector):
    engine = Waiting()
    widget = inspector(Reranker(engine), QUERY, DOCUMENTS)
    engine.arun, waiting = engine.__class__.__mro__[1].arun.__get__(engine), engine.arun
    begun = threading.Event()

    def again(_):
        if not begun.is_set():
            begun.set()
            engine.arun = waiting
            widget.run_again("another")

    widget.observe(again, "_view")
    widget.run_again("one")
    assert begun.wait(5)
    assert engine.started.wait(5)
    assert widget.busy
    widget.cancel()
    assert engine.cancelled.wait(5)
    assert widget.busy == ""


def test_a_closed_inspector_runs_nothing_again(inspector):
    widget = inspector(reranker(), QUERY, DOCUMENTS)
    widget.close()
    before = threading.active_count()
    with pytest.raises(EngineClosed, match=r"is closed\. Make a new one"):
        widget.run_again()
    assert threading.active_count() == before


def test_labels_may_be_numbers_of_any_kind(inspector):
    import numpy as np

    widget = inspector(reranker(), QUERY, DOCUMENTS, labels=np.array([1, 0, 0, 2, 0]))
    assert list(widget.labels) == [1, 0, 0, 2, 0]


def test_a_ranking_remembers_its_reranker_weakly():
    reranker = Reranker(FakeEngine("rerank"))
    ranking = reranker.rank("q", ["a", "b"])
    assert ranking.reranker is reranker
    widget = ranking.inspect()
    assert widget._can_run
    widget.close()
    for copied in (pickle.loads(pickle.dumps(ranking)), copy.deepcopy(ranking)):
        assert copied == ranking
        assert copied.reranker is None
    del reranker, widget
    gc.collect()
    assert ranking.reranker is None
    widget = ranking.inspect()
    assert not widget._can_run
    with pytest.raises(ConfigError, match="Pass reranker= to the inspector"):
        widget.run_again()
    widget.close()


def test_another_reranker_can_be_passed():
    first, second = Reranker(FakeEngine("rerank")), Reranker(FakeEngine("rerank"), instruction="Other")
    widget = first.rank("q", ["a", "b"]).inspect(reranker=second)
    assert widget._reranker is second
    widget.close()


def test_widgets_without_work_have_no_thread():
    names = lambda: [each.name for each in threading.enumerate() if "RankInspector" in each.name or "EmbeddingExplorer" in each.name]  # noqa: E731
    widgets = []
    for _ in range(3):
        inspector = RankInspector(Reranker(FakeEngine("rerank")), "q", ["a", "b"])
        inspector.run_again("Other")
        explorer = EmbeddingExplorer(Embedder(FakeEngine("embed")), ["a", "b", "c"])
        explorer.wait()
        widgets += [inspector, explorer]
    assert until(lambda: not names())
    widgets[0].run_again("And again")  # it still works
    assert until(lambda: widgets[0].ranking.instruction == "And again")
    for widget in widgets:
        widget.close()


def test_measures_of_few_judged_documents_say_so(inspector):
    """3 of 1,000 are judged, none of them among the old first ten: unjudged documents count as irrelevant, or are left out."""
    documents = [f"document {number}" for number in range(1000)]
    scores = {text: (1.0 if number in (500, 501, 502) else 0.25) for number, text in enumerate(documents)}
    widget = inspector(reranker(scores), QUERY, documents, labels={500: 1, 501: 1, 502: 0})
    old, new = widget._metrics
    assert (old["ndcg"], old["judged"], old["seen"], old["condensed"]["ndcg"]) == (0, 0, 10, 1.0)
    assert (new["ndcg"], new["judged"], new["condensed"]["ndcg"]) == (1.0, 3, 1.0)
    static = widget._repr_mimebundle_()[0]["text/html"]
    assert "judged@10" in static
    assert "0 of 10" in static
    widget.labels = [1] * 1000
    assert [one["condensed"] for one in widget._metrics] == [None, None]  # there is nothing to leave out
    assert "left out" not in widget._repr_mimebundle_()[0]["text/html"]


def test_a_million_documents_send_the_first_ten_thousand(inspector):
    count = 200_000
    documents = [f"document {number}" for number in range(count)]
    hits = tuple(Hit(count - 1 - rank, rank, 1 - rank / count, documents[count - 1 - rank]) for rank in range(count))
    ranking = Ranking("q", "i", "m", hits, (), Usage(count), Timing(0, 1))
    widget = ranking.inspect(compare=ranking, labels={5: 1})
    state = json.dumps({name: value for name, value in widget.get_state().items() if not name.startswith(("_esm", "_css"))}, default=str)
    assert len(state) < 4_000_000
    assert len(widget._documents) == len(widget._view["order"]) == 10_000
    assert widget._view["total"] == count
    assert widget._view["rank"][str(count - 1)] == 0
    assert widget.labels[5] == 1
    assert widget.get_state("labels") == {"labels": {"5": 1}}
    widget.set_state({"labels": {"5": 1, "199999": 2}})  # as the browser sends it
    assert (widget.labels[5], widget.labels[199_999], widget.error) == (1, 2, "")
    assert len(widget.to_dicts()) == count
    widget.close()


def test_a_very_long_document_is_sent_in_part(inspector):
    widget = inspector(Reranker(FakeEngine("rerank")), QUERY, ["x" * 50_000])
    (document,) = widget._documents
    assert (len(document["text"]), document["length"]) == (20_000, 50_000)


def test_another_query_and_the_progress_of_its_run(inspector):
    widget = inspector(Reranker(FakeEngine("rerank")), QUERY, [f"document {number}" for number in range(3000)])
    steps = []
    widget.observe(lambda change: steps.append(change.new), "_progress")
    send(widget, "run", instruction="Other", query="another")
    assert until(lambda: not widget.busy)
    assert (widget.ranking.query, widget.ranking.instruction) == ("another", "Other")
    assert widget._view["query"] == "another"
    assert steps[0]["total"] == 3000
    assert 0 < steps[0]["done"] <= 3000
    assert steps[0]["left_s"] >= 0
    widget.run_again()
    assert until(lambda: not widget.busy)
    assert widget.ranking.query == "another"
    send(widget, "run", instruction="Other", query=7)
    assert "query" in widget.error


def test_a_frame_says_where_it_counts_from(inspector):
    widget = inspector(reranker(), QUERY, DOCUMENTS)
    assert widget.to_pandas().columns.name == widget.ranking.to_pandas().columns.name == "ranks and indices from 0"


def test_tables_have_room_between_their_columns(inspector):
    """marimo styles no tables."""
    widget = inspector(reranker(), QUERY, DOCUMENTS)
    for static in (widget._static_html(), widget.ranking._repr_html_(), Reranker(FakeEngine("rerank"))._repr_html_()):
        cells = re.findall(r"<t[dh](?=[ >])(?! colspan)[^>]*>", static)
        assert all("padding:2px 8px" in cell for cell in cells), static
