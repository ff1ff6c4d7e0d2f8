"""The explorer without a browser: arguments, computed values, the values that Python reads, and the static form."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

pytest.importorskip("anywidget")

from qwen3_integrations import Embedder, FakeEngine
from qwen3_integrations.analysis.vectors import matryoshka_widths
from qwen3_integrations.errors import ConfigError, InputError, InvalidText, MissingExtra, PromptTooLong, ServerUnreachable
from qwen3_integrations.notebook import EmbeddingExplorer

TEXTS = ["a red apple", "a green apple", "a red car", "the capital of China", "the capital of France", "red"]
HOSTILE = "<script>alert(1)</script> & <img src=x onerror=alert(1)>"


class Gated(FakeEngine):
    """Answers as many runs as the test allows."""

    def __init__(self, runs=0, **settings):
        super().__init__("embed", **settings)
        self.runs, self.waiting, self.cancelled = runs, threading.Event(), threading.Event()

    async def arun(self, job):
        while len(self.jobs) >= self.runs:
            self.waiting.set()
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return self.run(job)


@pytest.fixture
def explorer():
    """Makes explorers, and closes them."""
    made = []

    def make(*arguments, **settings):
        made.append(EmbeddingExplorer(*arguments, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


def embedder(engine=None, **settings):
    return Embedder(engine or FakeEngine("embed"), **settings)


def rows(count, width=48, seed=0):
    scale = 1 / np.sqrt(1 + np.arange(width))
    return (np.random.default_rng(seed).standard_normal((count, width)) * scale + 0.1).astype(np.float32)


def named(count):
    return [f"text {number}" for number in range(count)]


def finished(widget):
    """Waits for the background work and for the state after it."""
    widget.wait(30)
    until(lambda: not widget.busy)
    return widget


def until(true):
    for _ in range(1000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never became true")


def send_message(widget, **message):
    """A message from the browser."""
    widget._handle_custom_msg(message, [])


def cosine(left, right):
    return float(left @ right / (np.linalg.norm(left) * np.linalg.norm(right)))


def nearest(vectors, index, k=10):
    others = [other for other in range(len(vectors)) if other != index]
    return sorted(others, key=lambda other: -cosine(vectors[index], vectors[other]))[:k]


# What goes in.


def test_texts_are_embedded_as_they_stand_and_measured(explorer):
    engine = FakeEngine("embed")
    widget = finished(explorer(embedder(engine), TEXTS))
    assert [prompt.body.text for prompt in engine.jobs[0].prompts] == TEXTS
    np.testing.assert_allclose(widget.vectors, embedder().embed_documents(TEXTS), atol=1e-6)
    assert widget.ready
    assert widget.error == ""
    assert widget.health.norms == pytest.approx((1, 1, 1))
    assert list(widget.recall) == list(matryoshka_widths(64))
    assert widget.recall[64] == 1.0
    assert widget.duplicates == ()
    assert widget.dimensions == 64


def test_vectors_need_no_embedder_and_are_kept_as_they_are(explorer):
    vectors = 3 * rows(30)
    widget = finished(explorer(vectors=vectors.tolist(), texts=named(30)))
    np.testing.assert_array_equal(widget.vectors, vectors)
    norms = np.linalg.norm(vectors, axis=1)
    assert widget.health.norms == pytest.approx((norms.min(), np.median(norms), norms.max()), rel=1e-5)


@pytest.mark.parametrize("framework", ["langchain", "llama_index"])
def test_a_frameworks_component_embeds_with_its_instruction_of_the_moment(explorer, framework):
    module = pytest.importorskip(f"qwen3_integrations.{framework}")
    engine = FakeEngine("embed")
    component = {"langchain": "Qwen3Embeddings", "llama_index": "Qwen3Embedding"}[framework]
    component = getattr(module, component)(engine=engine, instruction="Find fruit")
    widget = finished(explorer(component, TEXTS))
    component.instruction = "Find cars"
    send_message(widget, do="query", text="vehicle")
    finished(widget)
    (prompt,) = engine.jobs[-1].prompts
    assert (prompt.prefix.query, prompt.prefix.instruction) == ("vehicle", "Find cars")


def test_documents_of_frameworks_are_read(explorer):
    documents = pytest.importorskip("langchain_core.documents")
    widget = explorer(vectors=np.eye(2), texts=[documents.Document("one"), "two"])
    assert widget.texts == ["one", "two"]


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({}, ConfigError, "texts are missing"),
        ({"texts": TEXTS}, ConfigError, "embedder"),
        ({"embedder": object(), "texts": TEXTS}, ConfigError, "embedder must be an Embedder, .*not object"),
        ({"vectors": np.eye(5), "texts": TEXTS}, InputError, "6 texts, but 5 vectors"),
        ({"vectors": np.eye(6)[0], "texts": TEXTS}, InputError, "shape"),
        ({"vectors": [["a"]] * 6, "texts": TEXTS}, InputError, "numbers"),
        ({"vectors": np.eye(6), "texts": TEXTS, "labels": ["a"]}, InputError, "1 labels"),
        ({"vectors": np.eye(6), "texts": TEXTS, "query": "red"}, ConfigError, "query needs an embedder"),
        ({"vectors": np.eye(6), "texts": TEXTS, "widths": [7]}, ConfigError, "from 1 to 6, not 7"),
        ({"vectors": np.eye(6), "texts": TEXTS, "widths": [True]}, ConfigError, "whole number"),
        ({"vectors": np.eye(6), "texts": TEXTS, "dimensions": 0.5}, ConfigError, "whole number"),
        ({"vectors": np.eye(6), "texts": TEXTS, "duplicates_above": 1.5}, ConfigError, "duplicates_above must be a number in"),
        ({"vectors": np.eye(6), "texts": TEXTS, "clusters": 9}, ConfigError, "clusters must be a whole number from 1 to 8"),
        ({"vectors": np.eye(6), "texts": TEXTS, "colour_by": "labels"}, ConfigError, "Pass labels="),
        ({"vectors": np.eye(6), "texts": TEXTS, "selection": [6]}, InputError, "selection contains 6"),
        ({"vectors": np.eye(6), "texts": TEXTS, "focused": -1}, InputError, "focused must be a whole number of at least 0"),
        ({"vectors": np.eye(1), "texts": "red"}, TypeError, "list of strings"),
        ({"vectors": np.eye(1), "texts": [1]}, TypeError, r"\[0\]"),
        ({"vectors": np.eye(1), "texts": ["\ud800"]}, InvalidText, "surrogate"),
        ({"vectors": np.eye(1), "texts": ["a"], "colour": "red"}, TypeError, "colour"),
    ],
)
def test_invalid_arguments_are_refused_immediately(settings, error, said):
    with pytest.raises(error, match=said):
        EmbeddingExplorer(**settings)


# In the background.


def test_embedding_does_not_block_the_kernel_and_shows_progress(explorer):
    engine = Gated(runs=1)
    widget = explorer(embedder(engine), named(300))
    assert engine.waiting.wait(10)
    until(lambda: widget.busy == "Embedding: 256 of 300 texts")
    assert not widget.ready
    assert widget.vectors is None
    assert widget.health is None
    engine.runs = 2
    finished(widget)
    assert widget.ready
    assert len(widget.vectors) == 300


def test_cancelled_embedding_continues_where_it_stopped(explorer):
    engine = Gated(runs=1)
    widget = explorer(embedder(engine), named(300))
    assert engine.waiting.wait(10)
    until(lambda: widget.busy.startswith("Embedding: 256"))
    send_message(widget, do="cancel")
    assert engine.cancelled.wait(10)
    until(lambda: not widget.busy)
    widget.wait()  # at once: nothing runs
    assert not widget.ready
    assert widget.error == ""
    engine.runs = 9
    send_message(widget, do="go")
    finished(widget)
    assert widget.ready
    assert [len(job.prompts) for job in engine.jobs] == [256, 44]
    np.testing.assert_allclose(widget.vectors, embedder().embed_documents(named(300)), atol=1e-6)


def test_a_failure_is_shown_and_raised_by_wait_and_may_be_tried_again(explorer):
    engine = FakeEngine("embed", error=ServerUnreachable("nobody listens at http://127.0.0.1:9", url="http://127.0.0.1:9"))
    widget = explorer(embedder(engine), TEXTS)
    with pytest.raises(ServerUnreachable):
        widget.wait(10)
    until(lambda: not widget.busy)
    assert "nobody listens" in widget.error
    assert not widget.ready
    engine._error = None
    send_message(widget, do="go")
    finished(widget)
    assert widget.ready
    assert widget.error == ""


def test_widths_that_the_model_lacks_are_an_error_once_they_are_known(explorer):
    widget = explorer(embedder(), TEXTS, widths=[100])
    with pytest.raises(ConfigError, match="from 1 to 64, not 100"):
        widget.wait(10)


def test_closing_ends_the_thread_in_the_middle_of_work():
    engine = Gated()
    before = set(threading.enumerate())
    widget = EmbeddingExplorer(embedder(engine), TEXTS)
    assert engine.waiting.wait(10)
    widget.close()
    widget.close()
    assert engine.cancelled.is_set()
    assert set(threading.enumerate()) <= before


# What a person does.


def test_a_query_is_embedded_with_the_instruction_and_its_nearest_texts_are_listed(explorer):
    engine = FakeEngine("embed")
    widget = finished(explorer(embedder(engine, instruction="Find fruit"), TEXTS, focused=2))
    send_message(widget, do="query", text="  red apple ")
    finished(widget)
    (prompt,) = engine.jobs[-1].prompts
    assert (prompt.prefix.query, prompt.prefix.instruction) == ("red apple", "Find fruit")
    assert widget.query == "red apple"
    assert widget.focused is None
    vector = embedder(instruction="Find fruit").embed_queries(["red apple"])[0]
    cosines = widget.vectors @ vector
    shown = widget._nearest
    assert [row["index"] for row in shown["rows"]] == np.argsort(-cosines).tolist()
    assert [row["cosine"] for row in shown["rows"]] == pytest.approx(np.sort(cosines)[::-1], abs=1e-6)
    assert (shown["of"], shown["text"]) == (None, "red apple")
    assert len(widget._asked["point"]) == 2
    np.testing.assert_allclose(widget.to_pandas().query_cosine, cosines, atol=1e-6)
    send_message(widget, do="query", text="red apple")  # the same query again: the instruction may have changed
    finished(widget)
    assert len(engine.jobs) == 3
    send_message(widget, do="query", text="")
    assert widget._asked == {}
    assert widget._nearest["rows"] == []
    assert "query_cosine" not in widget.to_pandas()


def test_a_late_answer_is_not_used_for_the_next_query(explorer):
    """The previous query is answered while the next one is set."""
    widget = finished(explorer(embedder(), TEXTS, focused=1))
    late = embedder().embed_queries(["another"])[0]

    def answer_late(_):
        widget._survey.query_vector, widget._survey.query_of = late, ("another", widget._survey.instruction)

    widget.observe(answer_late, "focused")
    widget.query = "red apple"
    finished(widget)
    np.testing.assert_allclose(widget._survey.query_vector, embedder().embed_queries(["red apple"])[0], atol=1e-6)
    assert widget._nearest["text"] == "red apple"


def test_a_query_may_be_given_from_the_start_with_vectors(explorer):
    engine = FakeEngine("embed")
    widget = finished(explorer(embedder(engine), TEXTS, vectors=rows(6, 64), query="capital"))
    (job,) = engine.jobs  # only that of the query
    cosines = [cosine(vector, engine.run(job).rows[0]) for vector in rows(6, 64)]
    assert [row["index"] for row in widget._nearest["rows"]] == np.argsort(-np.array(cosines)).tolist()


def test_a_query_that_fails_does_not_stop_the_rest(explorer):
    widget = explorer(embedder(max_tokens=40), TEXTS, query="word " * 60)
    with pytest.raises(PromptTooLong):
        widget.wait(10)
    until(lambda: not widget.busy)
    assert "Shorten the query" in widget.error
    assert widget.ready
    assert widget.recall


def test_a_query_of_another_width_is_refused(explorer):
    widget = explorer(embedder(), TEXTS, vectors=rows(6), query="red")
    with pytest.raises(ConfigError, match="64 dimensions, but those of the texts have 48"):
        widget.wait(10)


def test_a_query_without_an_embedder_is_refused_under_the_widget(explorer):
    widget = finished(explorer(vectors=rows(6), texts=TEXTS))
    send_message(widget, do="query", text="red")
    assert "query needs an embedder" in widget.error
    assert widget.query == ""


def test_the_focused_text_shows_what_a_smaller_width_keeps_loses_and_gains(explorer):
    vectors = rows(60)
    widget = finished(explorer(vectors=vectors, texts=named(60), dimensions=4, focused=7))
    full, cut = nearest(vectors, 7), nearest(vectors[:, :4], 7)
    shown = {fate: [row["index"] for row in widget._nearest["rows"] if row["fate"] == fate] for fate in ("kept", "lost", "gained")}
    assert shown == {
        "kept": [index for index in full if index in cut],
        "lost": [index for index in full if index not in cut],
        "gained": [index for index in cut if index not in full],
    }
    assert all(shown.values())
    assert (widget._nearest["kept"], widget._nearest["k"]) == (len(shown["kept"]), 10)
    for row in widget._nearest["rows"]:
        assert row["cosine"] == pytest.approx(cosine(vectors[7], vectors[row["index"]]), abs=1e-4)
        assert row["cut"] == pytest.approx(cosine(vectors[7, :4], vectors[row["index"], :4]), abs=1e-4)
    widget.set_state({"dimensions": 48})
    assert [row["index"] for row in widget._nearest["rows"]] == full
    assert {row["fate"] for row in widget._nearest["rows"]} == {"kept"}


def test_recall_is_measured_at_the_requested_widths(explorer):
    vectors = rows(40)
    widget = finished(explorer(vectors=vectors, texts=named(40), widths=[3, 12], dimensions=5))
    assert list(widget.recall) == [3, 5, 12, 48]
    assert widget.recall[5] == pytest.approx(
        np.mean([len(set(nearest(vectors, i)) & set(nearest(vectors[:, :5], i))) / 10 for i in range(40)])
    )
    assert widget._recall == {"widths": [3, 5, 12, 48], "recall": [round(v, 6) for v in widget.recall.values()], "k": 10, "asked": 40}
    with pytest.raises(ConfigError, match="measured at 3, 5, 12, 48"):
        widget.dimensions = 4


def test_a_selection_comes_from_the_browser_and_from_python(explorer):
    widget = finished(explorer(vectors=rows(6), texts=TEXTS, selection=[5, 1, 1]))
    assert widget.selection == [1, 5]
    widget.set_state({"selection": [4, 2, 0]})
    assert widget.selection == [0, 2, 4]
    assert widget.to_pandas().selected.tolist() == [True, False, True, False, True, False]
    with pytest.raises(InputError, match="indices go from 0 to 5"):
        widget.selection = [9]
    assert widget.selection == [0, 2, 4]


def test_the_heat_map_shows_the_selection_or_else_texts_that_represent_all(explorer):
    vectors = rows(80)
    vectors[:40] = vectors[40] + 0.001 * vectors[:40]  # many of one kind: they need few representatives
    widget = finished(explorer(vectors=vectors, texts=named(80)))
    shown = widget._heat["indices"]
    assert len(set(shown)) == 60
    assert set(range(41, 80)) <= set(shown)
    assert (widget._heat["of"], widget._heat["chosen"]) == (80, False)
    assert widget.compared == tuple(shown)
    widget.selection = [3]  # a heat map needs two texts
    assert widget._heat["indices"] == shown
    assert not widget._heat["chosen"]
    widget.selection = [41, 70, 71]
    chosen = widget._heat["indices"]
    assert (sorted(chosen), widget._heat["chosen"]) == ([41, 70, 71], True)
    plain = [[cosine(vectors[i], vectors[j]) for j in chosen] for i in chosen]
    np.testing.assert_allclose(widget._heat["values"], plain, atol=1e-4)
    widget.selection = list(range(75))
    assert len(widget._heat["indices"]) == 60
    assert set(widget._heat["indices"]) <= set(range(75))
    assert (widget._heat["of"], widget._heat["chosen"]) == (75, True)


def test_the_heat_map_puts_similar_texts_side_by_side(explorer):
    corners = np.eye(3, 8)
    vectors = corners[[0, 1, 2, 0, 1, 2, 0]] + 0.05 * rows(7, 8)
    widget = finished(explorer(vectors=vectors, texts=named(7), selection=[0, 1, 2, 3, 4, 5, 6]))
    kinds = [index % 3 for index in widget.compared]
    assert sorted(widget.compared) == list(range(7))
    assert sum(left != right for left, right in itertools.pairwise(kinds)) == 2


def test_clusters_are_named_by_their_words(explorer):
    vectors, kinds = np.eye(3, 8)[np.arange(60) % 3] + 0.1 * rows(60, 8), ("apple orchard", "motor car", "<b>violin</b> music")
    vectors[30] = np.nan
    texts = [f"the {kinds[at % 3]} {at}" for at in range(60)]
    widget = finished(explorer(vectors=vectors, texts=texts))
    assert [(set(each.name.split(", ")), each.indices) for each in widget.clusters] == [
        ({"motor", "car"}, tuple(range(1, 60, 3))),
        ({"violin", "music"}, tuple(range(2, 60, 3))),
        ({"apple", "orchard"}, tuple(at for at in range(0, 60, 3) if at != 30)),
    ]
    assert widget._clusters["sizes"] == [20, 20, 19]
    assert widget._clusters["of"][:3] == [2, 0, 1]
    assert widget._clusters["of"][30] == -1
    assert widget.colour_by == "clusters"
    frame = widget.to_pandas()
    assert frame.cluster[1] == widget.clusters[0].name
    assert frame.cluster.isna().tolist() == [at == 30 for at in range(60)]
    assert "Clusters, by typical words" in widget._static_html()
    two = finished(explorer(vectors=vectors, texts=texts, labels=range(60), clusters=2))
    assert len(two.clusters) == 2
    assert two.colour_by == "labels"
    two.colour_by = "clusters"


def test_few_texts_have_no_clusters(explorer):
    widget = finished(explorer(embedder(), TEXTS))
    assert widget.clusters == ()
    assert widget._clusters == {}
    assert "cluster" not in widget.to_pandas()
    assert "Clusters" not in widget._static_html()
    with pytest.raises(ConfigError, match="colour_by is 'labels', but there are none"):
        widget.colour_by = "labels"


def test_search_reads_whole_texts_in_any_case(explorer):
    texts = ["x" * 500 + " Straße", "nothing", "STRASSE"]
    widget = finished(explorer(vectors=np.eye(3), texts=texts))
    widget.set_state({"search": " strasse"})
    assert widget.matches == (0, 2)
    assert widget.to_pandas().match.tolist() == [True, False, True]
    widget.search = ""
    assert widget.matches == ()


def test_groups_are_labels_and_the_rare_ones_are_together(explorer):
    widget = explorer(vectors=rows(6), texts=TEXTS, labels=["b", "a", "b", 3, "a", "b"])
    assert widget._groups == {"names": ["b", "a", "3"], "sizes": [3, 2, 1], "of": [0, 1, 0, 2, 1, 0]}
    many = explorer(vectors=rows(20), texts=named(20), labels=[0, *range(9), *range(9), 8])
    assert many._groups["names"] == ["0", "1", "2", "3", "4", "5", "8", "others"]
    assert many._groups["sizes"] == [3, 2, 2, 2, 2, 2, 3, 4]
    assert many.to_pandas().label.tolist()[8:10] == ["7", "8"]


# What is wrong with vectors.


def test_rows_without_a_direction_are_named_and_left_out(explorer):
    vectors = rows(30)
    vectors[4, 2], vectors[9], vectors[11] = np.nan, np.inf, 0
    widget = finished(explorer(vectors=vectors, texts=named(30), focused=4, selection=[4, 5, 6]))
    assert widget.health.non_finite == (4, 9)
    assert widget.health.zero == (11,)
    points = widget._map["points"]
    assert [index for index, point in enumerate(points) if point is None] == [4, 9, 11]
    assert sorted(widget._heat["indices"]) == [5, 6]
    assert (widget._nearest["sound"], widget._nearest["rows"]) == (False, [])
    widget.focused = 5
    assert widget._nearest["sound"]
    assert not {4, 9, 11} & {row["index"] for row in widget._nearest["rows"]}
    frame = widget.to_pandas()
    assert np.flatnonzero(np.isnan(frame.x)).tolist() == [4, 9, 11]
    np.testing.assert_allclose(frame.x.drop([4, 9, 11]), [point[0] for point in points if point], atol=1e-4)
    assert widget._health["nonFinite"] == {"count": 2, "first": [4, 9]}
    json.dumps({name: getattr(widget, name) for name in ("_map", "_health", "_heat", "_nearest", "_recall")}, allow_nan=False)


def test_near_duplicates_are_listed_with_their_cosines_and_equal_texts_marked(explorer):
    vectors = rows(30)
    vectors[20], vectors[25] = vectors[3], vectors[8] + 0.01 * vectors[9]
    vectors[5] = np.nan  # excluded texts do not change the numbers of others
    texts = named(30)
    texts[20] = texts[3]
    widget = finished(explorer(vectors=vectors, texts=texts, duplicates_above=0.99))
    assert [pair[:2] for pair in widget.duplicates] == [(3, 20), (8, 25)]
    assert widget.duplicates[1][2] == pytest.approx(cosine(vectors[8], vectors[25]), abs=1e-6)
    shown = widget._health["pairs"]
    assert shown["above"] == 2
    assert [(pair["first"], pair["second"], pair["equal"]) for pair in shown["best"]] == [(3, 20, True), (8, 25, False)]
    alone = finished(explorer(vectors=rows(30), texts=named(30)))
    assert alone.duplicates == ()
    assert len(alone._health["pairs"]["best"]) == 5  # the nearest pairs, because there are no duplicates


def test_variance_is_shown_in_bars(explorer):
    vectors = rows(50, 300)
    vectors[:, 7] *= 100
    vectors[:, 5] = 0.1
    widget = finished(explorer(vectors=vectors, texts=named(50)))
    shown = widget._health["variance"]
    assert len(shown["bars"]) == 128
    assert shown["top"][0] == 7
    assert shown["top"][1] > 0.9
    assert shown["cumulated"][-1] == pytest.approx(1)
    widths = np.diff(shown["edges"])
    assert shown["bars"] @ widths == pytest.approx(vectors.astype(np.float64).var(axis=0).sum(), rel=1e-6)
    assert widget._health["constant"]["first"] == [5]


@pytest.mark.parametrize("settings", [{"embedder": None}, {"vectors": []}, {"vectors": np.empty((0, 8))}])
def test_an_explorer_without_texts_shows_a_message(explorer, settings):
    if "embedder" in settings:
        settings = {"embedder": embedder()}
    widget = explorer(texts=[], **settings)
    widget.wait()
    assert widget.ready
    assert "no texts" in widget._static_html()
    assert widget._facts["count"] == 0
    assert len(widget.to_pandas()) == 0


def test_one_text_works(explorer):
    widget = finished(explorer(embedder(), ["alone"], focused=0, query="alone?"))
    assert widget.ready
    assert widget._map["points"] == [[0, 0]]
    assert set(widget.recall.values()) == {1.0}
    assert widget._recall["k"] == 0
    assert widget.duplicates == ()
    assert [row["index"] for row in widget._nearest["rows"]] == []
    assert "1 of 64 dimensions" in widget._static_html()


# What leaves.


def test_vectors_stay_in_python(explorer):
    widget = finished(explorer(vectors=rows(500, 1024), texts=named(500), query=""))
    widget.focused, widget.selection = 3, list(range(100))
    state = {name: value for name, value in widget.get_state().items() if name not in ("_esm", "_css", "layout")}
    assert len(json.dumps(state)) < 100_000  # the vectors alone are half a million numbers


def test_all_texts_as_a_data_frame(explorer, monkeypatch):
    widget = finished(explorer(vectors=rows(6), texts=TEXTS, labels="aabbcc"))
    frame = widget.to_pandas()
    assert list(frame.columns) == ["number", "text", "label", "x", "y", "norm", "match", "selected"]
    assert frame.columns.name == "index from 0, number from 1"
    assert (frame.number == frame.index + 1).all()
    assert frame.text.tolist() == TEXTS
    np.testing.assert_allclose(frame[["x", "y"]], widget._map["points"], atol=1e-4)
    np.testing.assert_allclose(frame.norm, np.linalg.norm(widget.vectors, axis=1), rtol=1e-6)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match="notebook"):
        widget.to_pandas()


def test_the_static_form_reads_without_scripts_and_trusts_no_text(explorer):
    vectors = rows(30)
    vectors[4], vectors[20] = np.nan, vectors[3]
    texts = named(30)
    texts[3] = HOSTILE
    widget = explorer(vectors=vectors, texts=texts)
    shown = widget._repr_mimebundle_()
    shown = (shown[0] if isinstance(shown, tuple) else shown)["text/html"]
    assert widget.ready  # the static form waits for so few vectors
    assert "30 of 48 dimensions" in shown
    assert "1 text: 5" in shown  # people count from 1
    assert "1 pair" in shown
    assert "<td>48</td><td>1.000</td>" in shown
    assert "██████████" in shown
    assert "<td>1.000</td><td style='text-align:left'>4: &lt;script&gt;alert(1)&lt;/script&gt; &amp; &lt;img" in shown
    assert "<script" not in shown
    assert "<img" not in shown


def test_the_static_form_shows_that_there_are_no_vectors_yet(explorer, monkeypatch):
    monkeypatch.setattr("qwen3_integrations.notebook.explorer.PATIENCE_S", 0.05)
    widget = explorer(embedder(Gated()), TEXTS)
    assert "6 texts, no vectors yet" in widget._static_html()


def test_the_survey_is_complete_without_a_widget():
    code = """
import sys
sys.modules["anywidget"] = sys.modules["ipywidgets"] = None
import asyncio
import numpy as np
from qwen3_integrations.analysis.corpus import Survey
async def main():
    survey = Survey(None, ["one", "two", "three"], np.eye(3), None, None, None, 0.98)
    await survey.open(print)
    await survey.compare(print)
    return survey._repr_html_()
assert "3 of 3 dimensions" in asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_several_slices_are_in_flight_while_a_corpus_is_embedded(explorer):
    class Together(FakeEngine):
        """Answers only when four jobs are in flight."""

        now, enough = 0, None

        async def arun(self, job):
            self.enough = self.enough or asyncio.Event()
            self.now += 1
            if self.now == 4:
                self.enough.set()
            await self.enough.wait()
            return self.run(job)

    widget = finished(explorer(embedder(Together("embed")), named(1000)))
    assert widget.ready
    np.testing.assert_allclose(widget.vectors, embedder().embed_documents(named(1000)), atol=1e-6)
