"""What callers pass instead of lists of texts, documents or nodes: taken where it is clear, else refused with what to pass."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import numpy as np
import pyarrow
import pytest
from langchain_core.documents import Document
from llama_index.core.schema import Document as LlamaDocument
from llama_index.core.schema import NodeWithScore, TextNode

from qwen3_integrations import Embedder, FakeEngine, Reranker
from qwen3_integrations.langchain import Qwen3Embeddings
from qwen3_integrations.langchain import Qwen3Rerank as LangChainRerank
from qwen3_integrations.llama_index import Qwen3Embedding
from qwen3_integrations.llama_index import Qwen3Rerank as LlamaIndexRerank

EMBEDDER, RERANKER = Embedder(FakeEngine("embed")), Reranker(FakeEngine("rerank"))
LANGCHAIN, LLAMA_INDEX = LangChainRerank(engine=FakeEngine("rerank")), LlamaIndexRerank(engine=FakeEngine("rerank"))
NODE = TextNode(text="a file")
EXAMPLE = r"pass NodeWithScore\(node=TextNode\(text=...\)\)"


def _post(nodes):
    return LLAMA_INDEX.postprocess_nodes(nodes, query_str="a file")


def test_nodes_without_score_are_ranked():
    for given in ([NODE], [NodeWithScore(node=NODE)], (NODE,), iter([NODE])):
        (kept,) = _post(given)
        assert (kept.node, kept.score) == (NODE, pytest.approx(0.99))
    (kept,) = asyncio.run(LLAMA_INDEX.apostprocess_nodes([NODE], query_str="a file"))
    assert kept.score == pytest.approx(0.99)


@pytest.mark.parametrize(
    ("call", "given", "says"),
    [
        (_post, ["text"], rf"nodes\[0\] must be LlamaIndex's NodeWithScore, not str: {EXAMPLE}"),
        (_post, [NODE, {"text": "a"}], rf"nodes\[1\] must be LlamaIndex's NodeWithScore, not dict: {EXAMPLE}"),
        (_post, [None], r"nodes\[0\] must be LlamaIndex's NodeWithScore, not None"),
        (_post, [Document(page_content="a")], r"nodes\[0\] must be .*, not langchain_core's Document \(pass its page_content\)"),
        (_post, None, "nodes must be a list of NodeWithScore, not None"),
        (_post, NodeWithScore(node=NODE), r"nodes must be a list of NodeWithScore, not one NodeWithScore: pass \[node\]"),
        (lambda given: LANGCHAIN.compress_documents(given, "q"), None, "documents must be a list of Documents, not None"),
        (lambda given: LANGCHAIN.compress_documents(given, "q"), Document(page_content="a"), r"not one Document: pass \[document\]"),
        (
            lambda given: LANGCHAIN.compress_documents(given, "q"),
            [LlamaDocument(text="a")],
            r"not llama_index's Document \(pass its get_con",
        ),
        (lambda given: LANGCHAIN.compress_documents(given, "q"), [NodeWithScore(node=NODE)], "not llama_index's NodeWithScore"),
        (lambda given: LANGCHAIN.rerank(given, "q"), None, "documents must be a list of strings, Documents or mappings, not None"),
        (lambda given: LANGCHAIN.rerank(given, "q"), [LlamaDocument(text="a")], "or a mapping, not llama_index's Document"),
        (lambda given: RERANKER.rank("q", given), None, "documents must be a list of strings, not None"),
        (
            lambda given: RERANKER.rank("q", given),
            [Document(page_content="a")],
            r"documents\[0\] must be a string, not langchain_core's Doc",
        ),
        (EMBEDDER.embed_documents, None, "texts must be a list of strings, not None"),
        (EMBEDDER.embed_documents, "text", r"texts must be a list of strings, not one str: pass \[text\]"),
        (EMBEDDER.embed_documents, [LlamaDocument(text="a")], r"texts\[0\] must be a string, not llama_index's Document"),
        (lambda given: list(EMBEDDER.iter_documents(given)), None, "texts must be a list of strings, not None"),
        (RERANKER.score, ("a file", "files"), r"not one pair: pass \[\(query, document\)\]"),
        (RERANKER.score, ["a file", "files"], r"not one pair: pass \[\(query, document\)\]"),
        (RERANKER.score, "text", r"pairs must be a list of \(query, document\), not one str"),
        (RERANKER.score, None, r"pairs must be a list of \(query, document\), not None"),
    ],
)
def test_what_is_no_list_of_the_right_things_is_refused(call, given, says):
    with pytest.raises(TypeError, match=says):
        call(given)


def test_a_bare_pair_is_refused_without_blocking():
    with pytest.raises(TypeError, match="not one pair"):
        asyncio.run(RERANKER.ascore(("a file", "files")))


@pytest.mark.parametrize("made", [pyarrow.array, lambda texts: pyarrow.chunked_array([texts[:1], texts[1:]])])
def test_arrays_of_pyarrow_are_lists_of_texts(made):
    texts = ["a file", "a star", "a file"]
    given, rows = made(texts), EMBEDDER.embed_documents(texts)
    np.testing.assert_array_equal(EMBEDDER.embed_documents(given), rows)
    np.testing.assert_array_equal(asyncio.run(EMBEDDER.aembed_documents(given)), rows)
    np.testing.assert_array_equal(np.concatenate(list(EMBEDDER.iter_documents(given))), rows)
    assert Qwen3Embeddings(engine=FakeEngine("embed")).embed_documents(given) == rows.tolist()
    assert Qwen3Embedding(engine=FakeEngine("embed")).get_text_embedding_batch(given) == rows.tolist()
    assert [hit.text for hit in RERANKER.rank("a star", given)] == ["a star", "a file", "a file"]
    np.testing.assert_array_equal(RERANKER.score(zip(given, given, strict=True)), RERANKER.score(list(zip(texts, texts, strict=True))))
    with pytest.raises(TypeError, match=r"texts\[1\] must be a string, not None"):
        EMBEDDER.embed_documents(made(["a", None]))


def test_an_explorer_that_still_works_when_the_program_ends_is_silent():
    program = """
from qwen3_integrations import Embedder, open_engine
from qwen3_integrations.notebook import EmbeddingExplorer
texts = [f"text {number} about something " * 20 for number in range(3000)]
explorer = EmbeddingExplorer(Embedder(open_engine("embed", "qwen3-tiny-demo", backend="torch")), texts)
"""
    for pause in ("", "import time; time.sleep(0.5)"):
        ended = subprocess.run([sys.executable, "-c", program + pause], capture_output=True, text=True, timeout=120, check=False)
        assert (ended.returncode, ended.stderr) == (0, "")
