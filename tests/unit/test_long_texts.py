"""A text many times the budget: its prompt is that of the whole text, but only a beginning of the text is encoded."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import numpy as np
import pytest

from qwen3_integrations import Embedder, Reranker, open_engine
from qwen3_integrations.core import long_texts
from qwen3_integrations.core.planning import document_prompts, rerank_prompts
from qwen3_integrations.core.tokenizer import Tokenizer
from qwen3_integrations.engines.fake import FakeEngine
from tests.models import TINY
from tests.texts import HOSTILE

SPEC = json.loads((TINY / "embedding" / "tokenizer.json").read_text(encoding="utf-8"))
TOKENIZER = Tokenizer(json.dumps(SPEC))

PIECES = [
    *HOSTILE,
    "北京是中国的首都",
    "ひらがな、",
    "한국어",
    "\u1112\u1161\u11ab",
    "e\u0301\u0323",
    "\u09c7\u09be",
    "👩‍👩‍👧‍👦",
    "ﬁ ﷺ",
    "'S 'll",
    "x_y-z",
    "\r\n\r\n",
    "\u2028",
    "\u00a0",
    "0123456789",
]


def reference(text: str, max_tokens: int, tokenizer: Tokenizer = TOKENIZER) -> np.ndarray:
    """The prompt's ids by the whole text's ids."""
    room = max_tokens - len(tokenizer.end_ids)
    return np.concatenate([tokenizer.encode([text])[0][:room], tokenizer.end_ids])


def check(text: str, max_tokens: int, tokenizer: Tokenizer = TOKENIZER) -> None:
    (prompt,) = document_prompts([text], tokenizer, max_tokens)
    assert np.array_equal(prompt.ids, reference(text, max_tokens, tokenizer))
    assert prompt.truncated == (len(tokenizer.encode([text])[0]) > max_tokens - len(tokenizer.end_ids))
    assert text.startswith(prompt.body.text)
    again = tokenizer.encode([prompt.body.text])[0]
    if prompt.literal:
        assert np.array_equal(again, prompt.body.ids)


def mixed(seed: int, length: int) -> str:
    """A text of pieces and of long runs of one piece."""
    chance = random.Random(seed)
    parts, size = [], 0
    while size < length:
        piece = chance.choice(PIECES)
        piece = piece if chance.random() < 0.5 else chance.choice(piece or " ")
        parts.append(piece * chance.choice([1, 1, 1, 2, 7, 300, 6000]))
        size += len(parts[-1])
    return "".join(parts)


@pytest.fixture
def near_limits(monkeypatch):
    """Distances so small that cuts fall everywhere: they must still be larger than what words depend on."""
    monkeypatch.setattr(long_texts, "AROUND_WORD", 80)
    monkeypatch.setattr(long_texts, "LONG_WORD", 256)


@pytest.mark.parametrize("seed", range(12))
def test_mixed_texts_have_the_prompts_of_the_whole(seed, near_limits):
    text = mixed(seed, 12_000)
    for max_tokens in (1, 2, 17, 64, 300, 1000):
        check(text[random.Random(seed).randrange(500) :], max_tokens)


@pytest.mark.parametrize("seed", [0])
def test_mixed_texts_with_the_usual_distances(seed):
    text = mixed(seed, 90_000)
    for max_tokens in (1, 40, 512, 2048):
        check(text, max_tokens)


RUNS = [
    "a",
    " ",
    "\n",
    "=",
    "é",
    "中",
    "1",
    "\u0301",
    "😀",
    "ab",
    " a",
    "a ",
    "\r\n",
    " \n",
    "ḍ\u0307",
    "\u1112\u1161",
    "'s",
    "-\n",
    "the",
    "\t",
]


@pytest.mark.parametrize("run", RUNS)
def test_long_runs_have_the_prompts_of_the_whole(run, near_limits):
    for before in ("", "x", "word "):
        for count in (4001, 4002, 4003):
            for after in ("", "b", " b", "\n", "\u0301"):
                check(before + run * count + after, 33)


@pytest.mark.parametrize("normalizer", [None, {"type": "NFKC"}, {"type": "NFD"}, {"type": "Lowercase"}])
def test_other_normalizers(normalizer, near_limits):
    tokenizer = Tokenizer(json.dumps(SPEC | {"normalizer": normalizer}), lower_case=normalizer is None)
    for seed in range(6):
        for max_tokens in (5, 90):
            check(mixed(seed, 9000), max_tokens, tokenizer)


def test_an_unknown_kind_of_tokenizer_reads_the_whole_text():
    normalizer = {"type": "Replace", "pattern": {"Regex": "end.*"}, "content": ""}
    assert not long_texts.is_local(SPEC | {"normalizer": normalizer})
    assert not long_texts.is_local(SPEC | {"pre_tokenizer": None})
    assert not long_texts.is_local(SPEC | {"model": SPEC["model"] | {"dropout": 0.1}})
    assert long_texts.is_local(SPEC)
    check("word " * 20_000, 10, Tokenizer(json.dumps(SPEC | {"normalizer": normalizer})))


def test_added_words_are_kept_whole(near_limits):
    word = {"id": 5120, "content": "<a word with blanks, 1 2 3>", "special": False, "lstrip": True, "rstrip": True}
    word |= {"single_word": False, "normalized": False}
    tokenizer = Tokenizer(json.dumps(SPEC | {"added_tokens": [*SPEC["added_tokens"], word]}))
    for shift in range(30):
        check("x" * shift + " ".join([word["content"]] * 500), 33, tokenizer)


def test_a_rerankers_documents_are_cut_the_same(near_limits):
    text = mixed(1, 20_000)
    (prompt,) = rerank_prompts([("query", text)], "Find it.", "\n", TOKENIZER, 200)
    room = 200 - len(prompt.prefix.ids) - len(prompt.suffix.ids)
    assert np.array_equal(prompt.body.ids, TOKENIZER.encode([f" {text}"])[0][:room])
    reranker = Reranker(FakeEngine("rerank"), max_tokens=200)
    ranking = reranker.rank("query", ["short", text, "short"])
    assert [hit.index for hit in ranking if hit.truncated] == [1]
    assert ranking.usage.truncated == 1


def test_vectors_are_those_of_the_whole_text(monkeypatch):
    texts = ["short", "The csv module reads tabular data. " * 2000, mixed(3, 60_000), "short"]
    with open_engine("embed", "qwen3-tiny-demo", backend="torch", device="cpu", dtype="float32") as engine:
        embedder = Embedder(engine, max_tokens=64)
        rows = embedder.embed_documents(texts)
        assert embedder.usage.truncated == 2
        monkeypatch.setattr(
            TOKENIZER.__class__, "encode_beginnings", lambda self, texts, _: list(zip(texts, self.encode(texts), strict=True))
        )
        assert np.array_equal(rows, Embedder(engine, max_tokens=64).embed_documents(texts))


MEASURE = """
import resource
from qwen3_integrations import Embedder
from qwen3_integrations.engines.fake import FakeEngine
embedder = Embedder(FakeEngine("embed"))
embedder.embed_documents(["word " * 40_000])
texts = [("The csv module reads data. " * 200_000)[:5_000_000], "a" * 5_000_000, " " * 5_000_000]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
embedder.embed_documents(texts)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, embedder.usage.truncated)
"""


def test_megabytes_of_text_take_little_memory():
    """The whole texts took 1,250 MiB."""
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True, timeout=300)
    mebibytes, truncated = map(int, done.stdout.split())
    assert mebibytes < 200
    assert truncated == 4
