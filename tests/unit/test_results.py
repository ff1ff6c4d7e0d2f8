"""A ranking as HTML and as plain data."""

from __future__ import annotations

from dataclasses import replace

import numpy
import pandas
import pytest

from qwen3_integrations import FakeEngine, Ranking, Reranker, Usage
from qwen3_integrations.errors import ConfigError, MissingExtra

DOCUMENTS = ["no match", "<b>bold</b> & sort", "sort a list", ""]
SCORES = {"no match": 0.25, "<b>bold</b> & sort": 0.5, "sort a list": 1.0, "": 0.25}


@pytest.fixture
def ranking() -> Ranking:
    engine = FakeEngine("rerank", score=lambda query, document: SCORES[document])
    return Reranker(engine).rank("<sort> a list", DOCUMENTS, score_threshold=0.3, instruction="Find & rank")


def test_hits_have_their_old_and_new_positions(ranking):
    assert [(hit.index, hit.rank, hit.score, hit.moved) for hit in ranking] == [(2, 0, 1.0, 2), (1, 1, 0.5, 0)]
    assert [(hit.index, hit.rank, hit.moved) for hit in ranking.dropped] == [(0, 2, -2), (3, 3, 0)]
    assert len(ranking) == 2
    assert ranking[0].document == "sort a list"
    assert ranking.usage.prompts == 4
    assert ranking.timing.total_s == ranking.timing.plan_s + ranking.timing.run_s > 0


def test_a_ranking_as_dictionaries_and_as_a_data_frame(ranking):
    rows = ranking.to_dicts()
    assert rows[0] == {"rank": 0, "index": 2, "score": 1.0, "moved": 2, "truncated": False, "document": "sort a list"}
    frame = ranking.to_pandas()
    assert frame.to_dict("records") == rows
    empty = Reranker(FakeEngine("rerank")).rank("query", []).to_pandas()
    assert list(empty.columns) == list(frame.columns)


def test_a_missing_extra_is_named_with_its_pip_line(ranking, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"pip install 'qwen3-integrations\[notebook\]'"):
        ranking.to_pandas()


def test_the_html_of_a_ranking_escapes_its_texts(ranking):
    shown = ranking._repr_html_()
    assert "&lt;sort&gt; a list" in shown
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; sort" in shown
    assert "<b>bold" not in shown
    assert "Find &amp; rank" in shown
    assert "2 of 4 documents" in shown
    assert "up 2" in shown
    assert "same" in shown
    assert "██████████" in shown
    assert repr(ranking) == "Ranking('<sort> a list', 2 of 4 documents, best 1.000, model='fake')"


def test_usage_adds_up():
    assert Usage(1, 10, 1) + Usage(2, 20, 0) == Usage(3, 30, 1)


@pytest.mark.parametrize(
    ("cut", "said"),
    [
        ({"top_n": 0}, "top_n"),
        ({"top_n": True}, "top_n"),
        ({"top_n": 1.5}, "top_n"),
        ({"score_threshold": -0.1}, r"\[0, 1\]"),
        ({"score_threshold": 1.1}, r"\[0, 1\]"),
        ({"score_threshold": float("nan")}, r"\[0, 1\]"),
        ({"score_threshold": "0.5"}, r"score_threshold must be a number in \[0, 1\], or None for any score, not '0.5'"),
        ({"score_threshold": True}, "score_threshold must be a number"),
        ({"score_threshold": [0.5]}, "score_threshold must be a number"),
        ({"top_n": "3"}, "top_n must be a whole number of at least 1, or None for all, not '3'"),
    ],
)
def test_cuts_outside_their_range_are_refused(cut, said):
    with pytest.raises(ConfigError, match=said):
        Reranker(FakeEngine("rerank")).rank("query", DOCUMENTS, **cut)


@pytest.mark.parametrize("threshold", [0.3, numpy.float32(0.3), numpy.float64(0.3)])
def test_a_threshold_may_be_any_real_number(threshold):
    engine = FakeEngine("rerank", score=lambda query, document: SCORES[document])
    assert len(Reranker(engine).rank("query", DOCUMENTS, score_threshold=threshold)) == 2


@pytest.mark.parametrize("bad", [7, None, "qd", b"qd", ("q",), ("q", "d", "e"), {"q": 1, "d": 2}, {"q", "d"}, numpy.array("q")])
async def test_an_item_that_is_not_a_pair_is_refused_with_its_index(bad):
    reranker = Reranker(FakeEngine("rerank"))
    with pytest.raises(TypeError, match=r"pairs\[1\] must be \(query, document\), not "):
        reranker.score([("q", "d"), bad])
    with pytest.raises(TypeError, match=r"pairs\[1\] must be \(query, document\), not "):
        await reranker.ascore([("q", "d"), bad])


async def test_pairs_may_be_tuples_lists_or_rows_of_an_array():
    reranker = Reranker(FakeEngine("rerank"))
    expected = reranker.score([("sort", "sort a list"), ("sort", "")]).tolist()
    for pairs in ([["sort", "sort a list"], ["sort", ""]], numpy.array([["sort", "sort a list"], ["sort", ""]])):
        assert reranker.score(pairs).tolist() == expected
        assert (await reranker.ascore(pairs)).tolist() == expected


@pytest.mark.parametrize("make", [list, tuple, iter, lambda texts: pandas.Series(texts, index=[30, 20, 10, 0])])
def test_documents_may_be_any_iterable_and_keep_its_order(make):
    """A data frame's column is indexed by its labels, not by position."""
    ranking = Reranker(FakeEngine("rerank")).rank("sort a list", make(DOCUMENTS))
    assert [DOCUMENTS[hit.index] for hit in ranking] == [hit.document for hit in ranking]
    assert ranking[0].document == "sort a list"


async def test_the_async_twin_takes_any_iterable_too():
    ranking = await Reranker(FakeEngine("rerank")).arank("sort a list", iter(DOCUMENTS))
    assert [DOCUMENTS[hit.index] for hit in ranking] == [hit.document for hit in ranking]


def test_tokens_are_shown_where_they_are_known(ranking):
    assert f"{ranking.usage.tokens:,} tokens" in ranking._repr_html_()
    assert "tokens" not in replace(ranking, usage=Usage(prompts=4))._repr_html_()


def test_dollar_signs_are_not_rendered_as_formulas():
    """A notebook would set what stands between two dollar signs as one."""
    assert (
        "<table class='mathjax_ignore tex2jax_ignore'>" in Reranker(FakeEngine("rerank")).rank("price", ["was $5, now $10"])._repr_html_()
    )
