"""`on_bad_text` and `preprocess`: what the model reads, what the caller gets back, and what is counted."""

from __future__ import annotations

import asyncio
import copy
import functools
import logging
import os
import pickle
import subprocess
import sys
import threading
import unicodedata

import numpy as np
import pytest
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode

from qwen3_integrations import Embedder, Reranker, langchain, llama_index, open_engine
from qwen3_integrations.core.preparation import identity_of, name_of, without_surrogates
from qwen3_integrations.engines.fake import FakeEngine
from qwen3_integrations.errors import ConfigError, InvalidText, PreprocessFailed

nfkc = functools.partial(unicodedata.normalize, "NFKC")
WIDE = "ｆｕｌｌ ｗｉｄｔｈ"
BAD = "caf\udce9 au lait"


def without_footer(text: str) -> str:
    """A function as users write it."""
    return text.partition("\n--\n")[0]


class Tidy:
    """A callable object."""

    def __call__(self, text: str) -> str:
        return text.strip()


@pytest.fixture(params=["fake", "torch"])
def backend(request) -> dict[str, object]:
    return {"backend": "fake"} if request.param == "fake" else {"backend": "torch", "device": "cpu", "dtype": "float32"}


def test_documents_are_changed_before_they_are_embedded_and_queries_are_not(backend):
    with open_engine("embed", "qwen3-tiny-demo", **backend) as engine:
        plain, changed = Embedder(engine), Embedder(engine, preprocess=nfkc)
        rows = changed.embed_documents([WIDE, "as it is"])
        np.testing.assert_allclose(rows, plain.embed_documents(["full width", "as it is"]), atol=1e-5)
        assert changed.usage.preprocessed == 1
        np.testing.assert_allclose(changed.embed_queries([WIDE]), plain.embed_queries([WIDE]), atol=1e-5)
        assert changed.usage.preprocessed == 1
        streamed = np.concatenate(list(changed.iter_documents(iter([WIDE, "as it is"]))))
        np.testing.assert_allclose(streamed, rows, atol=1e-5)
        assert changed.usage.preprocessed == 2


def test_hits_have_the_callers_own_documents(backend):
    documents = ["about geese\n--\nthe footer", "about cats", "geese\n--\nthe footer"]
    with open_engine("rerank", "qwen3-tiny-demo", **backend) as engine:
        plain, changed = Reranker(engine), Reranker(engine, preprocess=without_footer)
        ranking = changed.rank("geese", documents)
        expected = plain.rank("geese", list(map(without_footer, documents)))
        assert [hit.index for hit in ranking] == [hit.index for hit in expected]
        np.testing.assert_allclose([hit.score for hit in ranking], [hit.score for hit in expected], atol=1e-5)
        assert {hit.index: hit.document for hit in ranking} == dict(enumerate(documents))
        assert {hit.index for hit in ranking if hit.preprocessed} == {0, 2}
        assert ranking.usage.preprocessed == 2
        pairs = [("geese\n--\nx", document) for document in documents]  # the query keeps its own footer
        np.testing.assert_allclose(changed.score(pairs), plain.score([(q, without_footer(d)) for q, d in pairs]), atol=1e-5)


def test_the_budget_counts_what_is_left():
    embedder = Embedder(FakeEngine("embed"), max_tokens=20, preprocess=without_footer)
    embedder.embed_documents(["short\n--\n" + "footer " * 100])
    assert (embedder.usage.truncated, embedder.usage.preprocessed) == (0, 1)


def test_lone_surrogates_are_an_error_or_replaced(backend, caplog):
    with open_engine("embed", "qwen3-tiny-demo", **backend) as engine:
        with pytest.raises(InvalidText, match=r"texts\[1\] contains .*on_bad_text='replace'"):
            Embedder(engine).embed_documents(["fine", BAD])
        embedder = Embedder(engine, on_bad_text="replace")
        with caplog.at_level(logging.WARNING):
            rows = embedder.embed_documents(["fine", BAD])
        np.testing.assert_allclose(rows, embedder.embed_documents(["fine", "caf\ufffd au lait"]), atol=1e-5)
        assert embedder.usage.replaced == 1
        assert "lone surrogates in 1 of 2 texts were replaced" in caplog.text
        np.testing.assert_allclose(embedder.embed_queries([BAD]), embedder.embed_queries(["caf\ufffd au lait"]), atol=1e-5)
        assert next(embedder.iter_documents([BAD])).shape[0] == 1
        assert embedder.usage.replaced == 3


def test_a_ranking_tells_what_was_replaced(caplog):
    reranker = Reranker(FakeEngine("rerank"), on_bad_text="replace")
    ranking = reranker.rank("coffee", ["coffee", BAD])
    assert [(hit.document, hit.replaced) for hit in ranking] == [("coffee", False), (BAD, True)]
    assert ranking.usage.replaced == 1
    assert "1 of 2 pairs" in caplog.text
    assert reranker.rank(BAD, ["one", "two"]).usage.replaced == 2  # each prompt has the query
    assert reranker.score([(BAD, "x"), ("x", BAD), ("x", "y")]).shape == (3,)
    assert reranker.usage.replaced == 5
    with pytest.raises(InvalidText, match="query contains"):
        Reranker(FakeEngine("rerank")).rank(BAD, ["x"])
    with pytest.raises(TypeError, match=r"documents\[0\] must be a string"):
        reranker.rank("x", [3])


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("plain", "plain"),
        ("é 标题 😀", "é 标题 😀"),
        ("\ud800", "\ufffd"),
        ("a\udc00b\ud800", "a\ufffdb\ufffd"),
        ("\ud83d\ude00", "😀"),  # a pair is one character
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\ud83d\ud83d\ude00", "\ufffd😀"),
    ],
)
def test_each_lone_surrogate_becomes_one_character(text, valid):
    assert without_surrogates(text) == valid


def test_preprocess_gets_no_lone_surrogates_and_must_return_none():
    seen = []
    embedder = Embedder(FakeEngine("embed"), on_bad_text="replace", preprocess=lambda text: seen.append(text) or text + "\ud800")
    embedder.embed_documents([BAD, "fine"])
    assert seen == ["caf\ufffd au lait", "fine"]
    assert (embedder.usage.replaced, embedder.usage.preprocessed) == (2, 2)
    with pytest.raises(PreprocessFailed, match=r"texts\[0\] can't be preprocessed: .* lone surrogates"):
        Embedder(FakeEngine("embed"), preprocess=lambda text: text + "\ud800").embed_documents(["fine"])


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda text: None if text == "bad" else text, "returned None, not a string"),
        (lambda text: [text] if text == "bad" else text, "returned a list of 1, not a string"),
        (lambda text: text.encode() if text == "bad" else text, "returned bytes, not a string"),
        (lambda text: 1 / 0 if text == "bad" else text, "raised ZeroDivisionError: division by zero"),
        (lambda text: later(text) if text == "bad" else text, "returned coroutine, not a string"),
    ],
)
def test_a_function_that_fails_is_named_with_the_index(made, said):
    many = ["fine"] * 300 + ["bad"]
    embedder = Embedder(FakeEngine("embed"), preprocess=made)
    with pytest.raises(PreprocessFailed) as caught:
        embedder.embed_documents(many)
    assert said in str(caught.value)
    assert "<lambda>" in str(caught.value)
    assert (caught.value.index, caught.value.argument) == (300, "texts")
    with pytest.raises(PreprocessFailed) as caught:
        asyncio.run(embedder.aembed_documents(["bad"]))
    assert caught.value.index == 0
    with pytest.raises(PreprocessFailed, match=r"documents\[1\] can't be preprocessed"):
        Reranker(FakeEngine("rerank"), preprocess=made).rank("bad", ["fine", "bad"])
    got = []
    with pytest.raises(PreprocessFailed):
        got += embedder.iter_documents(iter(many))
    assert sum(map(len, got)) > 200  # the slices before it


async def later(text: str) -> str:
    return text


def test_what_is_no_function_is_refused_at_once():
    for wrong in ("clean", 3, later, functools.partial(later)):
        with pytest.raises(ConfigError, match="preprocess ") as caught:
            Embedder(FakeEngine("embed"), preprocess=wrong)
        assert caught.value.option == "preprocess"
    with pytest.raises(ConfigError, match="on_bad_text must be one of error, replace, not 'replce', did you mean 'replace'"):
        Reranker(FakeEngine("rerank"), on_bad_text="replce")
    Embedder(FakeEngine("embed"), preprocess=Tidy()).embed_documents([" x "])
    Embedder(FakeEngine("embed"), preprocess=str.strip).embed_documents([" x "])


def test_async_calls_never_run_the_function_on_the_event_loop():
    threads = []
    embedder = Embedder(FakeEngine("embed"), preprocess=lambda text: threads.append(threading.current_thread()) or text)
    reranker = Reranker(FakeEngine("rerank"), preprocess=lambda text: threads.append(threading.current_thread()) or text)

    async def calls() -> None:
        await embedder.aembed_documents(["one text"])
        await reranker.arank("one", ["text"])
        await reranker.ascore([("one", "text")])
        async for _ in embedder.aiter_documents(["one text"]):
            pass

    asyncio.run(calls())
    assert len(threads) == 4
    assert threading.main_thread() not in threads


def test_copies_and_pickles_keep_the_preparation():
    embedder = Embedder(open_engine("embed", "qwen3-tiny-demo", backend="fake"), on_bad_text="replace", preprocess=without_footer)
    for twin in (copy.copy(embedder), copy.deepcopy(embedder), pickle.loads(pickle.dumps(embedder))):
        assert (twin.on_bad_text, twin.preprocess) == ("replace", without_footer)
        twin.embed_documents(["a\n--\nb", BAD])
        assert (twin.usage.replaced, twin.usage.preprocessed) == (1, 1)
    for own, kind in ((lambda text: text, "a lambda"), (_local(), "a local function")):
        reranker = Reranker(open_engine("rerank", "qwen3-tiny-demo", backend="fake"), preprocess=own)
        with pytest.raises(ConfigError, match=f"preprocess .*can't be pickled: it is {kind}. Define the function with def"):
            pickle.dumps(reranker)
        assert copy.deepcopy(reranker).preprocess is own


def _local():
    def inner(text: str) -> str:
        return text

    return inner


def test_a_component_shows_its_preparation():
    embedder = Embedder(FakeEngine("embed"), on_bad_text="replace", preprocess=without_footer)
    embedder.embed_documents([BAD, "x\n--\ny"])
    assert f"on_bad_text='replace', preprocess={__name__}:without_footer" in repr(embedder)
    assert "1 with replaced surrogates, 1 preprocessed" in embedder._repr_html_()
    assert "without_footer" in embedder._repr_html_()
    assert "preprocess" not in repr(Embedder(FakeEngine("embed")))


def test_a_function_has_a_name_and_an_identity():
    assert name_of(without_footer) == f"{__name__}:without_footer"
    assert name_of(nfkc) == "unicodedata:normalize"
    assert name_of(str.strip) == "str.strip"
    assert name_of(Tidy()) == f"{__name__}:Tidy"

    def made(word: str, end: str):
        return lambda text, end=end: text.replace(word, "") + end

    functions = [made("a", ""), made("b", ""), made("a", "."), nfkc, functools.partial(unicodedata.normalize, "NFC"), Tidy(), str.strip]
    assert len({identity_of(each) for each in functions}) == len(functions)
    assert identity_of(made("a", "")) == identity_of(functions[0])


def test_an_identity_is_the_same_in_every_process(tmp_path):
    (tmp_path / "own.py").write_text("def tidy(text):\n    return text if text in {'a', 'b', 'cd', 'ef'} else text.strip()\n")
    code = "import own; from qwen3_integrations.core.preparation import identity_of; print(identity_of(own.tidy))"
    runs = [
        subprocess.run([sys.executable, "-c", code], env=_environment(tmp_path, seed), capture_output=True, check=True, text=True).stdout
        for seed in "12"
    ]
    assert runs[0] == runs[1]
    assert runs[0].startswith("own:tidy ")


def _environment(folder, seed: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}", "PYTHONHASHSEED": seed}


def _langchain_embeddings(**settings):
    made = langchain.Qwen3Embeddings(**settings)
    return made, made.embed_documents, made.embed_query


def _llama_index_embedding(**settings):
    made = llama_index.Qwen3Embedding(**settings)
    return made, made.get_text_embedding_batch, made.get_query_embedding


FAKE = {"model": "qwen3-tiny-demo", "backend": "fake"}


@pytest.mark.parametrize("adapter", [_langchain_embeddings, _llama_index_embedding])
def test_the_embeddings_of_both_frameworks_prepare_their_texts(adapter):
    _, plain_texts, plain_query = adapter(**FAKE)
    with pytest.raises(InvalidText):
        plain_texts([BAD])
    made, texts, query = adapter(**FAKE, on_bad_text="replace", preprocess=without_footer)
    assert texts([BAD, "a\n--\nb"]) == plain_texts(["caf\ufffd au lait", "a"])
    assert query(BAD) == plain_query("caf\ufffd au lait")
    assert query("a\n--\nb") == plain_query("a\n--\nb")
    assert (made.usage.replaced, made.usage.preprocessed) == (2, 1)
    assert "preprocess" not in made.model_dump()
    assert f"preprocess='{__name__}:without_footer'" in repr(made)
    twin = pickle.loads(pickle.dumps(made))
    assert (twin.on_bad_text, twin.preprocess, copy.deepcopy(made).preprocess) == ("replace", without_footer, without_footer)
    with pytest.raises(ConfigError, match="is a lambda"):
        pickle.dumps(adapter(**FAKE, preprocess=lambda text: text)[0])
    with pytest.raises(ConfigError, match="on_bad_text must be one of error, replace"):
        adapter(**FAKE, on_bad_text="ignore")
    with pytest.raises(ConfigError, match="preprocess must be a function from text to text"):
        adapter(**FAKE, preprocess="clean")


def test_langchains_documents_keep_their_own_text():
    own = [Document(page_content="cats"), Document(page_content="geese\n--\ncats"), Document(page_content=BAD)]
    reranker = langchain.Qwen3Rerank(**FAKE, on_bad_text="replace", preprocess=without_footer)
    ranked = reranker.compress_documents(own, "geese")
    assert {document.page_content for document in ranked} == {document.page_content for document in own}
    expected = langchain.Qwen3Rerank(**FAKE).compress_documents([Document(page_content="geese")], "geese")
    assert ranked[0].metadata["relevance_score"] == expected[0].metadata["relevance_score"]
    assert (reranker.usage.replaced, reranker.usage.preprocessed) == (1, 1)
    assert asyncio.run(reranker.acompress_documents(own, BAD))


def test_llama_indexs_nodes_keep_their_own_text():
    own = [NodeWithScore(node=TextNode(text=text)) for text in ("cats", "geese\n--\ncats", BAD)]
    reranker = llama_index.Qwen3Rerank(**FAKE, on_bad_text="replace", preprocess=without_footer)
    ranked = reranker.postprocess_nodes(own, query_str="geese")
    assert ranked[0].text == "geese\n--\ncats"
    assert (reranker.usage.replaced, reranker.usage.preprocessed) == (1, 1)
    assert len(asyncio.run(reranker.apostprocess_nodes(own, query_str=BAD))) == 3
