"""Engines and components show themselves as tables, without secrets, and with whatever text in them as text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from qwen3_integrations import Embedder, Reranker, open_engine
from qwen3_integrations.core.html import facts_table


class Cells(HTMLParser):
    """The rows of a table as name -> value, and every tag that was seen."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.tags = [], set()
        self.feed(text)
        self.rows = dict(zip(self.texts[1::2], self.texts[2::2], strict=True))

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def engines():
    with (
        open_engine("embed", "qwen3-tiny-demo", backend="torch") as embed,
        open_engine("rerank", "qwen3-tiny-demo", backend="torch") as rank,
    ):
        yield embed, rank


def test_an_embedder_and_a_reranker_tell_what_they_are_and_did(engines):
    embedder = Embedder(engines[0], dimensions=64, max_tokens=8)
    embedder.embed_documents(["a text", "a longer text that does not fit the budget"])
    cells = Cells(embedder._repr_html_())
    assert cells.texts[0] == "Embedder"
    assert (
        cells.rows
        | {
            "model": "qwen3-tiny-demo",
            "task": "embed",
            "backend": "torch",
            "where": "cpu, float32",
            "width": "160",
            "dimensions": "64",
            "budget": "8 tokens",
            "instruction": embedder.instruction,
        }
        == cells.rows
    )
    assert re.fullmatch(r"2 prompts, \d+ tokens, 1 truncated", cells.rows["so far"])

    reranker = Reranker(engines[1], instruction="<script>alert(1)</script>")
    cells = Cells(reranker._repr_html_())
    assert cells.rows["instruction"] == reranker.instruction
    assert cells.rows["so far"] == "0 prompts, 0 tokens"
    assert "width" not in cells.rows
    assert cells.tags == {"table", "caption", "b", "tbody", "tr", "th", "td"}


def test_an_engine_tells_where_it_computes_and_no_secret():
    url = "http://user:word@127.0.0.1:9/v1"
    with open_engine("embed", "<b>x", base_url=url, handshake="off") as engine:
        cells = Cells(engine._repr_html_())
        assert cells.rows == {"model": "<b>x", "task": "embed", "backend": "http", "where": "http://127.0.0.1:9"}
    assert Cells(engine._repr_html_()).texts[0] == "Closed engine"
    with open_engine("embed", "x", base_url="http://127.0.0.1:9", api_key="sk-word", handshake="off") as engine:
        assert "word" not in engine._repr_html_()


def test_components_of_both_frameworks(engines):
    from qwen3_integrations import langchain, llama_index

    for module, embedding in ((langchain, langchain.Qwen3Embeddings), (llama_index, llama_index.Qwen3Embedding)):
        component = embedding(engine=engines[0], dimensions=32)
        cells = Cells(component._repr_html_())
        assert cells.texts[0] == embedding.__name__
        assert (cells.rows["dimensions"], cells.rows["so far"]) == ("32", "0 prompts, 0 tokens")
        ranker = module.Qwen3Rerank(engine=engines[1], top_n=3)
        cells = Cells(ranker._repr_html_())
        assert (cells.texts[0], cells.rows["top_n"]) == ("Qwen3Rerank", "3")
        assert "score_threshold" not in cells.rows


def test_facts_are_text():
    cells = Cells(facts_table("<i>title", {"<name>": "<img src=x onerror=alert(1)>", "none": None, "zero": 0}))
    assert cells.texts == ["<i>title", "<name>", "<img src=x onerror=alert(1)>", "zero", "0"]
    assert "img" not in cells.tags
