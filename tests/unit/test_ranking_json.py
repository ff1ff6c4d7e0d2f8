"""Rankings as JSON: the MIME bundle of notebooks and the text of files, held to the published schema."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

import qwen3_integrations
from qwen3_integrations import FakeEngine, Reranker
from qwen3_integrations.core.ranking_json import MIME_TYPE, MOST_CHARACTERS, MOST_HITS
from qwen3_integrations.notebook import RankInspector

SCHEMA = json.loads((Path(qwen3_integrations.__file__).parent / "core" / "ranking.schema.json").read_text(encoding="utf-8"))
DOCUMENTS = ["Remove a file.", "Copy data from one file to another.", "The weather.", "Rename a file."]


def checked(value):
    """A value that went through JSON and fits the schema."""
    plain = json.loads(json.dumps(value, allow_nan=False))
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(plain, SCHEMA, jsonschema.Draft202012Validator)
    return plain


@pytest.fixture(scope="module")
def reranker():
    return Reranker(FakeEngine("rerank"))


@pytest.fixture
def inspector(reranker):
    ranking = reranker.rank("copy a file", DOCUMENTS, top_n=3)
    other = reranker.rank("copy a file", DOCUMENTS, instruction="Find texts about the weather")
    made = RankInspector(ranking, compare=other, labels={1: 2, 3: 0}, threshold=0.25, k=3)
    made.selection = [2]
    yield made
    made.close()


def test_a_ranking_shows_the_inspector_beside_its_table(reranker):
    ranking = reranker.rank("copy a file", DOCUMENTS, top_n=2, score_threshold=0.1)
    bundle = ranking._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", MIME_TYPE}
    assert bundle["text/html"] == ranking._repr_html_()
    value = checked(bundle[MIME_TYPE])
    assert [hit["index"] for hit in value["hits"]] == [hit.index for hit in (*ranking.hits, *ranking.dropped)]
    assert [hit["score"] for hit in value["hits"]] == [hit.score for hit in (*ranking.hits, *ranking.dropped)]
    assert (value["top_n"], value["score_threshold"], value["total"]) == (2, 0.1, 4)


def test_a_file_has_everything_and_a_notebook_the_beginning(reranker):
    texts = [f"document {at}" for at in range(MOST_HITS + 5)]
    texts[3] = "x" * (MOST_CHARACTERS + 1)
    ranking = reranker.rank("a", texts)
    shown, whole = checked(ranking._repr_mimebundle_()[MIME_TYPE]), checked(json.loads(ranking.to_json()))
    assert (len(shown["hits"]), shown["total"]) == (MOST_HITS, MOST_HITS + 5)
    assert len(whole["hits"]) == MOST_HITS + 5
    assert max(len(hit["text"]) for hit in shown["hits"]) <= MOST_CHARACTERS
    assert {hit["index"]: hit["text"] for hit in whole["hits"]} == dict(enumerate(texts))


def test_where_only_the_best_are_listed_the_other_ranking_has_its_ranks(reranker):
    texts = [f"document {at}" for at in range(MOST_HITS + 5)]
    ranking, other = reranker.rank("a", texts), reranker.rank("a", texts, instruction="Find the weather")
    inspector = RankInspector(ranking, compare=other)
    bundle = inspector._repr_mimebundle_()
    value = checked((bundle[0] if isinstance(bundle, tuple) else bundle)[MIME_TYPE])
    inspector.close()
    ranks = {hit.index: hit.rank for hit in other}
    assert len(value["compare"]["hits"]) == MOST_HITS
    assert all(hit["rank"] == ranks[hit["index"]] for hit in value["compare"]["hits"])


def test_an_inspector_saves_its_comparison_labels_limits_and_view(inspector):
    bundle = inspector._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert {"application/vnd.jupyter.widget-view+json", "text/html", MIME_TYPE} <= set(data)
    value = checked(data[MIME_TYPE])
    assert (value["top_n"], value["score_threshold"]) == (3, 0.25)
    assert {hit["index"]: hit.get("label") for hit in value["hits"]} == {0: None, 1: 2, 2: None, 3: 0}
    assert [hit["index"] for hit in value["compare"]["hits"]] == [hit.index for hit in inspector.compare]
    assert not any("rank" in hit for hit in value["compare"]["hits"])
    assert value["compare"]["kendall_tau"] == inspector.tau
    assert value["view"]["selection"] == [2]
    assert value["view"]["k"] == 3
    assert value["view"]["_metrics"]
    assert checked(json.loads(inspector.to_json())) == value


def test_an_empty_ranking_and_texts_of_any_kind_are_saved(reranker):
    assert checked(reranker.rank("nothing", [])._repr_mimebundle_()[MIME_TYPE])["hits"] == []
    odd = ["", "</script>", "\u2028 🙂", "line\nline"]
    assert {hit["text"] for hit in checked(json.loads(reranker.rank("q", odd).to_json()))["hits"]} == set(odd)


def test_the_documented_example_fits_the_schema():
    page = (Path(__file__).parents[2] / "docs" / "ranking-format.md").read_text(encoding="utf-8")
    checked(json.loads(page.partition("```json\n")[2].partition("\n```")[0]))
