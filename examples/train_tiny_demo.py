"""Train `qwen3-tiny-demo` from scratch: a tiny Qwen3 embedding model and its reranker.

    python examples/train_tiny_demo.py --out qwen3_integrations/tiny --seed 0

Data
    Only text that comes with the running Python: docstrings and comments of the standard library, the
    docstrings of its C modules, the language reference in `pydoc_data.topics`, IDLE's help and news, and
    the licence file. This text is (c) Python Software Foundation and contributors, under the PSF License
    Agreement (https://docs.python.org/3/license.html). Nothing is downloaded, and no retrieval benchmark
    is used. Another Python version has other text, and gives slightly different weights.

Recipe
    1. `collect_passages` cuts the text into passages of up to 90 words, each with a heading.
    2. `train_tokenizer` trains a byte-level BPE of 5,094 entries with Qwen's split pattern, and adds Qwen3's
       26 added tokens.
    3. `initial_token_vectors` makes token vectors from a truncated SVD of the tokens' co-occurrence matrix
       and from their character n-grams. Spellings that differ only in case or a leading space start almost equal.
    4. `train_embedder`: queries are written from a passage (`QueryWriter`: some of its words in another order
       or form, a crop of a sentence, its heading, put into question forms), and each must find its passage
       among all passages of the batch (InfoNCE, temperature 0.05, at several Matryoshka widths).
    5. `train_reranker`: starts from the embedder's token vectors, with attention heads initialised to match
       words (`initialise_matching`; 120 steps without this initialisation learned nothing). Each query comes
       with its passage, hard negatives found by BM25, and a random negative. The loss is the cross-entropy on
       yes and no, plus a list-wise loss in each group, plus auxiliary losses on probes (`MatchProbes`), which
       are discarded after the training.
    6. `write_embedder` and `write_reranker` write the file layouts of Qwen3-Embedding and Qwen3-Reranker,
       with weights in bfloat16.

    All prompts are the official ones; half of them have the default instruction.

The number of steps is computed from `--minutes` and does not depend on the clock: 192 steps of the embedder and 252
of the reranker by default. `--minutes` is an estimate for two idle cores. The run that made the shipped weights
(Python 3.11, two cores at 2.5 GHz, which other programs used too) took 33.7 minutes in all. All random numbers are
seeded. Two runs gave the same tokenizer byte for byte; whether the weights are equal to the bit was not tested.

Needs torch, transformers, tokenizers and safetensors.
"""

from __future__ import annotations

import argparse
import ast
import bisect
import html.parser
import importlib
import importlib.machinery
import importlib.util
import inspect
import json
import math
import random
import re
import shutil
import sys
import sysconfig
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import save_file
from tokenizers import (
    AddedToken,
    Encoding,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import Qwen3Config, Qwen3ForCausalLM

# --- the model -------------------------------------------------------------------------------------------

HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, MLP = 160, 3, 4, 2, 32, 256
VOCABULARY = 5120
MATRYOSHKA_WIDTHS = (160, 64, 32)

END = "<|endoftext|>"
SPECIAL_TOKENS = (  # noqa: SIM905
    "<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> "
    "<|box_end|> <|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> "
    "<|video_pad|>"
).split()
PLAIN_ADDED_TOKENS = (  # noqa: SIM905
    "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> "
    "<|file_sep|> <tool_response> </tool_response> <think> </think>"
).split()
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"
)

# --- the official prompts --------------------------------------------------------------------------------

DEFAULT_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
OTHER_INSTRUCTIONS = (
    "Given a question, retrieve passages that answer the question",
    "Given a search query, find the documents that are relevant to it",
    "Retrieve the section of the manual that answers the question of a user",
    "Find the description of the function that does what the user asks for",
    "Given a title, retrieve the text that belongs to it",
    "Given a sentence, retrieve text on the same subject",
    "Given a scientific question, retrieve abstracts that answer it",
    "Given a claim, find documents that support it",
    "Given a query, retrieve relevant code documentation",
    "Retrieve text that is similar in meaning",
)
RERANK_PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the "
    'Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
RERANK_SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
RERANK_TEMPLATE = (  # makes the prompt of a pair for sentence-transformers, as the template of the published rerankers does
    '{%- set instruction = messages | selectattr("role", "eq", "system") | map(attribute="content") | first '
    f'| default("{DEFAULT_INSTRUCTION}") -%}}\n'
    '{%- set query_text = messages | selectattr("role", "eq", "query") | map(attribute="content") | first -%}\n'
    '{%- set document_text = messages | selectattr("role", "eq", "document") | map(attribute="content") | first -%}\n'
    f"{RERANK_PREFIX}<Instruct>: {{{{ instruction }}}}\n<Query>: {{{{ query_text }}}}\n<Document>: {{{{ document_text }}}}{RERANK_SUFFIX}\n"
)

# --- the training ----------------------------------------------------------------------------------------

EMBEDDER_SHARE = 0.4  # of the minutes; the rest is the reranker's
EMBEDDER_STEPS_PER_MINUTE = 80.0
RERANKER_STEPS_PER_MINUTE = 70.0
EMBEDDER_BATCH = 128
RERANKER_QUERIES = 24
GROUP = 4  # documents per query: the relevant one, two hard negatives, a random one
TEMPERATURE = 0.05
MAX_TOKENS = 320

_STOP_WORDS = (  # noqa: SIM905
    "a about above after all also an and any are as at be been but by can could do does each for from get "
    "had has have he how i if in into is it its just like may more most my new no not of on one only or "
    "other our out over same see should so some such than that the their them then there these they this "
    "those to two up us use used uses using was we were what when where which while who why will with "
    "would you your"
).split()
STOP_WORDS = frozenset(_STOP_WORDS)
QUESTION_FORMS = (
    "{}?",
    "How do I {}?",
    "how to {}",
    "How can I {}?",
    "What is {}?",
    "what is the {}",
    "What does {} do?",
    "What happens when {}?",
    "Why does {}?",
    "When is {} used?",
    "Can I {}?",
    "Which {}?",
    "Where is {}?",
    "How are {}?",
    "explain {}",
    "find {}",
    "I want to {}",
    "Is there a way to {}?",
    "what are the {} .",
    "is it possible to {} .",
    "has anyone {} .",
)
GLUE_WORDS = "a the of in with for to and on from my this that is are by when it an".split()  # noqa: SIM905
WORD = re.compile(r"[A-Za-z][A-Za-z']*[A-Za-z]|[A-Za-z]")
SENTENCE_END = re.compile(r"(?<=[.!?:;])\s+(?=[A-Z\"'(<*`])")


@dataclass(frozen=True)
class Passage:
    """A piece of text, with its heading and its source."""

    heading: str
    sentences: tuple[str, ...]
    group: str

    @property
    def text(self) -> str:
        """The sentences as one string."""
        return " ".join(self.sentences)


# =========================================================================================================
# Text
# =========================================================================================================


def words_of(identifier: str) -> str:
    """Split an identifier such as `urllib.parse_qs` or `HTTPServer` into words."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[._]+", " ", identifier)
    return " ".join(spaced.split())


def is_prose(text: str) -> bool:
    """Whether a paragraph reads as sentences, and not as code, a table or a line of dashes."""
    letters = sum(c.isalpha() or c == " " for c in text)
    return len(text.split()) >= 6 and letters >= 0.82 * len(text) and ">>>" not in text


def cut(heading: str, text: str, group: str, max_words: int = 90) -> Iterator[Passage]:
    """Cut free text into passages of whole sentences."""
    taken: list[str] = []
    length = 0
    for paragraph in re.split(r"\n\s*\n", text):
        flat = " ".join(paragraph.split())
        if not is_prose(flat):
            continue
        for sentence in SENTENCE_END.split(flat):
            words = sentence.split()
            for start in range(0, len(words), max_words):
                part = words[start : start + max_words]
                if length + len(part) > max_words:
                    yield Passage(heading, tuple(taken), group)
                    taken, length = [], 0
                taken.append(" ".join(part))
                length += len(part)
    if length >= 6:
        yield Passage(heading, tuple(taken), group)


def source_passages(library: Path) -> Iterator[Passage]:
    """Docstrings and comments of the standard library's Python files, including its tests if they are installed."""
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).with_suffix("").parts
        if {"site-packages", "dist-packages", "ensurepip"} & set(parts):
            continue
        try:
            source = path.read_text("utf-8")
            tree = ast.parse(source)
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue  # some files of the tests have invalid syntax on purpose
        name = words_of(".".join(p for p in parts if p != "__init__"))
        group = ".".join(parts[:2])
        yield from docstring_passages(tree, name, group)
        for block in re.finditer(r"(?m)(?:^[ \t]*#[^\n]*\n){2,}", source):
            comment = re.sub(r"(?m)^[ \t]*#+ ?", "", block.group())
            yield from cut(name, comment, group)


DOCUMENTED = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def docstring_passages(tree: ast.Module, name: str, group: str) -> Iterator[Passage]:
    """Docstrings of a module, its classes and functions, with the words of their names as headings."""
    stack: list[tuple[ast.AST, str]] = [(tree, name)]
    while stack:
        node, heading = stack.pop()
        if isinstance(node, ast.Module | DOCUMENTED):
            yield from cut(heading, ast.get_docstring(node) or "", group)
        inside = [c for c in ast.iter_child_nodes(node) if isinstance(c, DOCUMENTED)]
        owner = name.rpartition(" ")[2]
        stack.extend((child, f"{owner} {words_of(child.name)}".strip()) for child in inside)


def doc_of(item: object) -> str:
    """A docstring; empty if there is none. Some types have a descriptor in its place."""
    doc = getattr(item, "__doc__", None)
    return doc if isinstance(doc, str) else ""


def extension_passages() -> Iterator[Passage]:
    """Docstrings of the built-in types and the extension modules, which are written in C."""
    for name in sorted(sys.stdlib_module_names):
        if re.search(r"test|^xx|tkinter|winapi|^_?curses|antigravity", name):
            continue
        try:
            loader = getattr(importlib.util.find_spec(name), "loader", None)
            built_in = loader is importlib.machinery.BuiltinImporter
            if not built_in and not isinstance(loader, importlib.machinery.ExtensionFileLoader):
                continue
            module = importlib.import_module(name)
        except (ImportError, ValueError):
            continue
        title = words_of(name)
        yield from cut(title, doc_of(module), name)
        for item_name, item in sorted(vars(module).items()):
            if not inspect.isclass(item) and not inspect.isbuiltin(item):
                continue
            yield from cut(f"{title} {words_of(item_name)}", doc_of(item), name)
            for member_name, member in sorted(vars(item).items()) if inspect.isclass(item) else ():
                if not member_name.startswith("__"):
                    yield from cut(f"{words_of(item_name)} {words_of(member_name)}", doc_of(member), name)


class _TextOnly(html.parser.HTMLParser):
    """Collects the text of an HTML page, with an empty line between blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_starttag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"p", "dd", "dt", "h1", "h2", "h3", "h4", "li", "div"}:
            self.parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        self.parts.append(data)


def manual_passages(library: Path) -> Iterator[Passage]:
    """The language reference, IDLE's help and news, and the licence."""
    from pydoc_data.topics import topics

    for key, text in sorted(topics.items()):
        title, _, body = text.partition("\n")
        yield from cut(f"{key} {title}", body, "topics")
    for name in (
        "idlelib/help.html",
        "idlelib/NEWS.txt",
        "idlelib/News3.txt",
        "idlelib/README.txt",
        "LICENSE.txt",
    ):
        path = library / name
        if path.exists():
            text = path.read_text("utf-8", errors="ignore")
            if path.suffix == ".html":
                page = _TextOnly()
                page.feed(text)
                text = "".join(page.parts)
            yield from cut(words_of(path.stem), text, "manual")


def collect_passages() -> list[Passage]:
    """All passages in a fixed order, without duplicates."""
    library = Path(sysconfig.get_paths()["stdlib"])
    found: dict[str, Passage] = {}
    for source in (manual_passages(library), source_passages(library), extension_passages()):
        for passage in source:
            found.setdefault(passage.text, passage)
    return list(found.values())


# =========================================================================================================
# Queries and lexical search
# =========================================================================================================


def stem(word: str) -> str:
    """A simple stem: `sorting`, `sorted` and `sorts` have the same one."""
    word = word.lower()
    for suffix in (
        "ations",
        "ation",
        "ingly",
        "edly",
        "ings",
        "ing",
        "ies",
        "ied",
        "ers",
        "ed",
        "es",
        "er",
        "ly",
        "s",
        "e",
    ):
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            word = word[: -len(suffix)]
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiouls":
        word = word[:-1]
    return word[:-1] if word.endswith(("y", "i")) and len(word) > 3 else word


def stems(text: str) -> list[str]:
    """Stems of the content words of a text."""
    return [stem(word) for word in WORD.findall(text) if word.lower() not in STOP_WORDS]


class LexicalIndex:
    """BM25 over the passages' stems: weights for the query writer, hard negatives for the reranker."""

    def __init__(self, texts: Sequence[str], k1: float = 1.2, b: float = 0.75) -> None:
        counts = [Counter(stems(text)) for text in texts]
        lengths = np.array([sum(c.values()) for c in counts], np.float32)
        postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for row, count in enumerate(counts):
            for term, n in count.items():
                postings[term].append((row, n))
        norm = k1 * (1 - b + b * lengths / lengths.mean())
        self.size = len(texts)
        self.idf = {t: math.log(1 + (self.size - len(p) + 0.5) / (len(p) + 0.5)) for t, p in postings.items()}
        self.postings: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for term, entries in postings.items():
            rows, n = np.array(entries, np.int64).T
            self.postings[term] = rows, (self.idf[term] * n * (k1 + 1) / (n + norm[rows])).astype(np.float32)

    def scores(self, query: str) -> np.ndarray:
        """BM25 of every passage for a query."""
        total = np.zeros(self.size, np.float32)
        for term in dict.fromkeys(stems(query)):
            if term in self.postings:
                rows, weights = self.postings[term]
                total[rows] += weights
        return total

    def hard_negatives(self, query: str, row: int, n: int, rng: random.Random) -> list[int]:
        """Passages that match a query well, but with a clearly lower score than the passage from which it was written."""
        scores = self.scores(query)
        limit = 0.75 * scores[row]
        scores[row] = 0
        best = np.argpartition(-scores, 40)[:40]
        best = sorted(best[(scores[best] > 0) & (scores[best] < limit)].tolist(), key=lambda r: (-scores[r], r))
        chosen = rng.sample(best, min(n, len(best)))
        return chosen + [rng.randrange(self.size) for _ in range(n - len(chosen))]


class QueryWriter:
    """Writes a query for a passage, and a variant of the passage as its document."""

    def __init__(self, passages: Sequence[Passage], index: LexicalIndex) -> None:
        self.passages = passages
        self.index = index
        seen: dict[str, Counter[str]] = defaultdict(Counter)
        for passage in passages:
            for word in WORD.findall(passage.text):
                seen[stem(word)][word.lower()] += 1
        self.forms = {s: [w for w, n in c.most_common(6) if n > 1] for s, c in seen.items()}

    def pair(self, row: int, rng: random.Random) -> tuple[str, str]:
        """A query and a document for the passage at `row`."""
        passage = self.passages[row]
        kind = rng.random()
        if kind < 0.5:
            return self._keywords(passage, rng), self.document(row, rng)
        if kind < 0.6:
            return self._wrap(passage.heading.lower() if rng.random() < 0.5 else passage.heading, rng), self.document(row, rng)
        if kind < 0.7 and len(passage.sentences) > 1:
            return self._wrap(self._crop(passage.sentences[0], rng), rng), self.document(row, rng, without=0)
        at = rng.randrange(len(passage.sentences))
        hide = at if len(passage.sentences) > 1 and rng.random() < 0.4 else None
        return self._wrap(self._crop(passage.sentences[at], rng), rng), self.document(row, rng, without=hide)

    def document(self, row: int, rng: random.Random, without: int | None = None) -> str:
        """The passage; sometimes with its heading, with a neighbour before or after it, or in lower case."""
        passage = self.passages[row]
        text = " ".join(s for i, s in enumerate(passage.sentences) if i != without)
        if rng.random() < 0.15:
            text = f"{passage.heading}. {text}"
        chance = rng.random()
        if chance < 0.2:  # longer texts, of which only a part is relevant
            first = max(0, row - (1 if chance < 0.15 else 3))
            others = " ".join(p.text for p in self.passages[first:row])
            text = f"{others} {text}" if rng.random() < 0.5 else f"{text} {others}"
        return text.lower() if rng.random() < 0.15 else text

    def _keywords(self, passage: Passage, rng: random.Random) -> str:
        """Some of the passage's words, preferably rare ones, some of them in another form."""
        words = [w for w in WORD.findall(passage.text) if len(w) > 2 and w.lower() not in STOP_WORDS]
        unique = list({stem(w): (i, w) for i, w in enumerate(words)}.values())
        if len(unique) < 2:
            return self._wrap(passage.heading, rng)
        n = min(len(unique), rng.choice((1, 2, 2, 3, 3, 4, 5, 6, 8)))
        # Weighted sampling without replacement: the n smallest of exponentially distributed numbers.
        weight = {w: self.index.idf.get(stem(w), 1.0) for _, w in unique}
        chosen = sorted(unique, key=lambda iw: rng.expovariate(1.0) / weight[iw[1]])[:n]
        chosen = sorted(chosen) if rng.random() < 0.5 else chosen
        out: list[str] = []
        for _, word in chosen:
            if rng.random() < 0.4:
                out.append(rng.choice(GLUE_WORDS))
            forms = self.forms.get(stem(word), [])
            out.append(rng.choice(forms) if forms and rng.random() < 0.4 else word)
        text = " ".join(out)
        return self._wrap(text.lower() if rng.random() < 0.7 else text, rng)

    def _crop(self, sentence: str, rng: random.Random) -> str:
        """Consecutive words of a sentence, with a few words dropped."""
        words = sentence.split()
        n = min(len(words), rng.randint(3, 14))
        start = rng.randint(0, len(words) - n)
        kept = [w for w in words[start : start + n] if rng.random() > 0.15] or words[start : start + n]
        return " ".join(kept).strip(".,;:").lower() if rng.random() < 0.6 else " ".join(kept)

    @staticmethod
    def _wrap(text: str, rng: random.Random) -> str:
        """The text unchanged, or in the form of a question."""
        return rng.choice(QUESTION_FORMS).format(text) if rng.random() < 0.6 else text


def pick_instruction(rng: random.Random) -> str:
    """Choose an instruction: the default one with probability 1/2, otherwise another one."""
    return DEFAULT_INSTRUCTION if rng.random() < 0.5 else rng.choice(OTHER_INSTRUCTIONS)


def pick_rows(groups: Sequence[Sequence[int]], n: int, rng: random.Random) -> list[int]:
    """Choose `n` different passages: half from a few modules, so that similar passages compete, and half from all."""
    rows: dict[int, None] = {}
    while len(rows) < n // 2:
        group = rng.choice(groups)
        rows.update(dict.fromkeys(rng.sample(group, min(len(group), 16))))
    total = sum(len(g) for g in groups)
    while len(rows) < n:
        rows[rng.randrange(total)] = None
    return list(rows)[:n]


# =========================================================================================================
# Tokenizer and prompts
# =========================================================================================================


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Byte-level BPE with Qwen's split pattern and Qwen3's added tokens. It appends no end token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    added = len(SPECIAL_TOKENS) + len(PLAIN_ADDED_TOKENS)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - added,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    template = re.sub(r"<[|/]?\w+\|?>", " ", RERANK_PREFIX + RERANK_SUFFIX)
    template += f"<Instruct>: {DEFAULT_INSTRUCTION}\n<Query>: \n<Document>: Instruct: \nQuery: yes\nno\n"
    tokenizer.train_from_iterator([*texts, *[template] * 300, *["yes\n", "no\n"] * 300], trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in PLAIN_ADDED_TOKENS])
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise SystemExit(f"the vocabulary has {tokenizer.get_vocab_size()} entries instead of {VOCABULARY}: too little text was found")
    return tokenizer


def query_prompt(instruction: str, query: str) -> str:
    """The official query prompt of Qwen3-Embedding: no space after `Query:`."""
    return f"Instruct: {instruction}\nQuery:{query}"


def pair_prefix(instruction: str, query: str) -> str:
    """The text before the document in the user turn of Qwen3-Reranker."""
    return f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: "


def canonical_tokens(tokenizer: Tokenizer) -> torch.Tensor:
    """For each token id, a number that is equal for all spellings of a word (case, leading space).

    Punctuation, digits, single letters and stop words have -1.
    """
    numbers: dict[str, int] = {}
    table = torch.full((VOCABULARY,), -1, dtype=torch.long)
    for token in range(VOCABULARY - len(SPECIAL_TOKENS) - len(PLAIN_ADDED_TOKENS)):
        text = tokenizer.decode([token]).strip().lower()
        if text.isalpha() and text not in STOP_WORDS and len(text) > 1:
            table[token] = numbers.setdefault(text, len(numbers))
    return table


# =========================================================================================================
# Models
# =========================================================================================================


def model_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """`config.json` of both models."""
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": tokenizer.token_to_id(END),
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "head_dim": HEAD_DIM,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": MLP,
        "max_position_embeddings": 32768,
        "max_window_layers": LAYERS,
        "model_type": "qwen3",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": VOCABULARY,
    }


def initial_token_vectors(tokenizer: Tokenizer, texts: Sequence[str], seed: int) -> torch.Tensor:
    """Token vectors from co-occurrence (SVD of the shifted PPMI matrix) and from character n-grams.

    Returns:
        Shape (vocabulary, hidden), rows of norm 1.
    """
    spelling = [tokenizer.decode([t], skip_special_tokens=False).strip().lower() for t in range(VOCABULARY)]
    ids: dict[str, int] = {}
    canonical = np.array([ids.setdefault(s, len(ids)) for s in spelling])
    size = len(ids)
    counts = np.zeros(size * size, np.float32)
    streams = [canonical[np.array(e.ids, np.int64)] for e in tokenizer.encode_batch(list(texts)) if e.ids]
    stream = np.concatenate([np.append(s, -1) for s in streams])
    for gap in range(1, 7):
        left, right = stream[:-gap], stream[gap:]
        ok = (left >= 0) & (right >= 0)
        counts += np.bincount(left[ok] * size + right[ok], minlength=size * size).astype(np.float32) / gap
    matrix = torch.from_numpy(counts.reshape(size, size))
    matrix = matrix + matrix.T
    total, rows = matrix.sum(), matrix.sum(1).clamp_min(1.0)
    smooth = rows**0.75
    ppmi = torch.log((matrix * smooth.sum() / (rows[:, None] * smooth[None, :])).clamp_min(1e-9)).clamp_min(0.0)
    ppmi = ppmi * (total > 0)
    left_vectors, values, _ = torch.svd_lowrank(ppmi, q=HIDDEN, niter=4)
    context = F.normalize(left_vectors * values.sqrt(), dim=1)

    generator = torch.Generator().manual_seed(seed)
    grams: dict[str, int] = {}
    members: list[list[int]] = []
    for text in ids:
        framed = f"<{text}>"
        parts = {framed[i : i + n] for n in (3, 4) for i in range(len(framed) - n + 1)} | {framed}
        members.append([grams.setdefault(p, len(grams)) for p in sorted(parts)])
    gram_vectors = torch.randn(len(grams), HIDDEN, generator=generator)
    letters = F.normalize(torch.stack([gram_vectors[m].mean(0) for m in members]), dim=1)
    own = F.normalize(torch.randn(size, HIDDEN, generator=generator), dim=1)
    vectors = (0.6 * context + 0.6 * letters + 0.3 * own)[torch.from_numpy(canonical)]
    vectors = vectors + 0.1 * F.normalize(torch.randn(VOCABULARY, HIDDEN, generator=generator), dim=1)
    return F.normalize(vectors, dim=1)


def new_model(config: dict[str, Any], token_vectors: torch.Tensor) -> Qwen3ForCausalLM:
    """A Qwen3 model with the given token vectors and small random layers."""
    model = Qwen3ForCausalLM(Qwen3Config(**config))
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(token_vectors)
        for layer in model.model.layers:
            for name, parameter in layer.named_parameters():
                if parameter.dim() == 2:
                    parameter.normal_(0.0, parameter.shape[1] ** -0.5)
                    if name.endswith(("o_proj.weight", "down_proj.weight")):
                        parameter.mul_(0.15)
    return model.float()


def whitening(vectors: torch.Tensor, rows: int) -> torch.Tensor:
    """A random projection, shape (rows, width), after which all directions of the vectors have similar variance."""
    values, directions = torch.linalg.eigh(torch.cov(vectors.T))
    white = directions * (values + 0.1 * values.mean()).rsqrt()
    return torch.randn(rows, len(values)) @ white.T * (values.mean() / len(values)).sqrt() * 0.9


# Dimensions of the reranker's hidden states that are initialised as flags.
ONE, QUERY_MARK, DOCUMENT_MARK, REST, AFTER_QUERY, AFTER_DOCUMENT, FOUND, ANSWER = range(8)
FLAGS = 8
# Dimensions of a head with the lowest rotary frequencies: their dot products hardly depend on the distance.
SLOWEST, SECOND_SLOWEST = HEAD_DIM // 2 - 1, HEAD_DIM // 2 - 2
SLOW = [d for d in range(HEAD_DIM) if HEAD_DIM * 3 // 16 <= d % (HEAD_DIM // 2) < SECOND_SLOWEST]


@dataclass(frozen=True)
class HeadGroup:
    """Views of the weights of a layer's first group of heads.

    Shapes: queries (heads, dim, hidden), keys and values (dim, hidden), output (hidden, heads, dim).
    """

    queries: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    output: torch.Tensor


def first_group(layer: Any) -> HeadGroup:
    """The first group of heads of a layer: they share keys and values."""
    attention = layer.self_attn
    per_group = HEADS // KV_HEADS
    return HeadGroup(
        attention.q_proj.weight.view(KV_HEADS, per_group, HEAD_DIM, HIDDEN)[0],
        attention.k_proj.weight.view(KV_HEADS, HEAD_DIM, HIDDEN)[0],
        attention.v_proj.weight.view(KV_HEADS, HEAD_DIM, HIDDEN)[0],
        attention.o_proj.weight.view(HIDDEN, KV_HEADS, per_group, HEAD_DIM)[:, 0],
    )


@torch.no_grad()
def initialise_matching(model: Qwen3ForCausalLM, tokenizer: Tokenizer) -> None:
    """Initialise the reranker so that it matches words; a short training does not learn this from random weights.

    Eight dimensions of the token vectors become flags, and one group of heads in each layer reads and writes
    them. The other output weights of a layer start at zero. All weights are trained afterwards.
    """
    table = model.model.embed_tokens.weight
    table[:, :FLAGS] = 0.0
    table[:, ONE] = 0.3
    for text, flag in (("<Query", QUERY_MARK), ("<Document", DOCUMENT_MARK), ("<|im_start|>", REST)):
        table[tokenizer.token_to_id(text), flag] = 0.6
    yes, no = tokenizer.token_to_id("yes"), tokenizer.token_to_id("no")
    table[no] = table[yes]
    table[yes, ANSWER], table[no, ANSWER] = 0.2, -0.2
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    first, second, third = model.model.layers
    initialise_segments(first)
    initialise_search(second, table)
    initialise_answer(third)


def initialise_segments(layer: Any) -> None:
    """Attend to the marks before query and document, so that each token has a flag for the part it is in."""
    group = first_group(layer)
    group.queries.mul_(0.1)[:, SLOWEST, ONE] += 1.0
    group.keys.mul_(0.1)[SLOWEST, [QUERY_MARK, DOCUMENT_MARK]] += 3.0
    group.keys[SECOND_SLOWEST, ONE] += 1.0
    group.values[:2] = 0.0
    group.values[0, QUERY_MARK] = group.values[1, DOCUMENT_MARK] = 1.0
    group.output[AFTER_QUERY, :, 0] = group.output[AFTER_DOCUMENT, :, 1] = 0.04
    layer.self_attn.q_norm.weight.fill_(1.5)


def initialise_search(layer: Any, table: torch.Tensor) -> None:
    """Attend to the most similar token of the query; without one, to `<|im_start|>`."""
    group = first_group(layer)
    same = torch.zeros(len(SLOW), HIDDEN)
    same[:, FLAGS:] = whitening(table[:, FLAGS:], len(SLOW))
    same[:, ONE] = -same @ table.mean(0) / 0.3
    group.queries.mul_(0.05)[:, SLOW] += same
    group.queries[:, SLOWEST, ONE] += 1.0
    group.keys.mul_(0.05)[SLOW] += same
    group.keys[SLOWEST, AFTER_QUERY] += 0.25
    group.keys[SLOWEST, AFTER_DOCUMENT] -= 1.5
    group.keys[SLOWEST, REST] += 4.0
    group.values[0] = 0.0
    group.values[0, AFTER_QUERY] = 1.0
    group.output[FOUND, :, 0] = 0.2
    layer.self_attn.q_norm.weight.fill_(1.7)
    layer.self_attn.k_norm.weight.fill_(1.7)


def initialise_answer(layer: Any) -> None:
    """Attend to the document: the last token gets the share of the document's tokens that occur in the query."""
    group = first_group(layer)
    group.queries.mul_(0.1)[:, SLOWEST, ONE] += 1.0
    group.keys.mul_(0.1)[SLOWEST, AFTER_DOCUMENT] += 1.0
    group.keys[SECOND_SLOWEST, ONE] += 0.5
    group.values[0] = 0.0
    group.values[0, FOUND], group.values[0, ONE] = 1.0, -2.0
    group.output[ANSWER, :, 0] = 0.2


def pad(rows: Sequence[Sequence[int]], filler: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids padded on the right, and the position of each row's last token.

    A causal model needs no mask for padding on the right.
    """
    last = torch.tensor([len(r) - 1 for r in rows])
    width = int(last.max()) + 1
    return torch.tensor([[*r, *[filler] * (width - len(r))] for r in rows]), last


def by_length(rows: Sequence[Sequence[int]], size: int = 32) -> tuple[list[list[int]], torch.Tensor]:
    """Chunks of rows of similar length, to reduce padding, and the permutation that restores the original order."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(order))
    return [order[start : start + size] for start in range(0, len(order), size)], back


def embed(model: Qwen3ForCausalLM, rows: Sequence[Sequence[int]], filler: int) -> torch.Tensor:
    """Hidden states of the last tokens, not normalised."""
    chunks, back = by_length(rows)
    parts = []
    for chunk in chunks:
        ids, last = pad([rows[i] for i in chunk], filler)
        states = model.model(input_ids=ids, use_cache=False).last_hidden_state
        parts.append(states[torch.arange(len(ids)), last])
    return torch.cat(parts)[back]


# =========================================================================================================
# Training
# =========================================================================================================


def optimizer_for(parameters: Iterable[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices only."""
    parameters = list(parameters)
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": 0.02},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
        ],
        lr=lr,
        betas=(0.9, 0.98),
    )


def run_steps(
    name: str,
    parameters: Iterable[torch.nn.Parameter],
    lr: float,
    steps: int,
    loss_of: Callable[[], dict[str, torch.Tensor]],
) -> None:
    """Minimise the sum of the losses of each step; the learning rate has a warm-up and a cosine decay."""
    parameters = list(parameters)
    optimizer = optimizer_for(parameters, lr)
    warmup = max(1, steps // 20)
    started = time.perf_counter()
    means: Counter[str] = Counter()
    every = max(1, min(50, steps // 8))
    for step in range(1, steps + 1):
        done = (step - warmup) / max(1, steps - warmup)
        rate = step / warmup if step <= warmup else 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = lr * rate
        losses = loss_of()
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        means.update({k: float(v.detach()) for k, v in losses.items()})
        if step % every == 0:
            shown = "  ".join(f"{k} {v / every:.3f}" for k, v in means.items())
            print(f"{name} {step}/{steps}  {time.perf_counter() - started:.0f} s  {shown}", flush=True)
            means.clear()


@dataclass(frozen=True)
class Material:
    """The data of both trainings."""

    passages: list[Passage]
    groups: list[list[int]]
    index: LexicalIndex
    writer: QueryWriter
    tokenizer: Tokenizer

    @property
    def end(self) -> int:
        """The id of `<|endoftext|>`, which is also used for padding."""
        return self.tokenizer.token_to_id(END)


def train_embedder(model: Qwen3ForCausalLM, material: Material, steps: int, lr: float, rng: random.Random) -> None:
    """Contrastive training: each query must find its passage among those of the batch, and each passage its query."""

    def encode(texts: list[str]) -> list[list[int]]:
        batch = material.tokenizer.encode_batch(texts, add_special_tokens=False)
        return [[*e.ids[: MAX_TOKENS - 1], material.end] for e in batch]

    def loss_of() -> dict[str, torch.Tensor]:
        rows = pick_rows(material.groups, EMBEDDER_BATCH, rng)
        pairs = [material.writer.pair(row, rng) for row in rows]
        queries = embed(model, encode([query_prompt(pick_instruction(rng), q) for q, _ in pairs]), material.end)
        documents = embed(model, encode([d for _, d in pairs]), material.end)
        target = torch.arange(len(rows))
        losses = {}
        for width in MATRYOSHKA_WIDTHS:
            logits = F.normalize(queries[:, :width], dim=1) @ F.normalize(documents[:, :width], dim=1).T / TEMPERATURE
            both = F.cross_entropy(logits, target) + 0.5 * F.cross_entropy(logits.T, target)
            losses[f"at {width}"] = both if width == HIDDEN else 0.3 * both
        return losses

    run_steps("embedder", model.model.parameters(), lr, steps, loss_of)


@dataclass(frozen=True)
class RerankBatch:
    """Prompts of a step; in each group, the relevant document is the first."""

    rows: list[list[int]]
    query_spans: list[tuple[int, int]]
    document_spans: list[tuple[int, int]]


def rerank_batch(material: Material, rng: random.Random) -> RerankBatch:
    """Queries, each with its passage, hard negatives and a random passage."""
    tokenizer = material.tokenizer
    prefixes, documents, lengths = [], [], []
    for row in pick_rows(material.groups, RERANKER_QUERIES, rng):
        query, document = material.writer.pair(row, rng)
        others = [
            *material.index.hard_negatives(query, row, GROUP - 2, rng),
            rng.randrange(material.index.size),
        ]
        prefixes += [pair_prefix(pick_instruction(rng), query)] * GROUP
        lengths += [len(query)] * GROUP
        documents += [document, *(material.writer.document(r, rng) for r in others)]
    prefix = tokenizer.encode(RERANK_PREFIX, add_special_tokens=False).ids
    suffix = tokenizer.encode(RERANK_SUFFIX, add_special_tokens=False).ids
    texts = [before + document for before, document in zip(prefixes, documents, strict=True)]
    bodies: list[Encoding] = tokenizer.encode_batch(texts, add_special_tokens=False)
    batch = RerankBatch([], [], [])
    for body, before, length in zip(bodies, prefixes, lengths, strict=True):
        ids = body.ids[:MAX_TOKENS]
        ends = [stop for _, stop in body.offsets[:MAX_TOKENS]]
        query_stop = len(before) - len("\n<Document>: ")
        at = [len(prefix) + bisect.bisect_right(ends, c) for c in (query_stop - length, query_stop, len(before))]
        batch.rows.append([*prefix, *ids, *suffix])
        batch.query_spans.append((at[0], at[1]))
        batch.document_spans.append((at[2], len(prefix) + len(ids)))
    return batch


def span_mask(spans: Sequence[tuple[int, int]], width: int) -> torch.Tensor:
    """True between start and stop of each row."""
    starts, stops = torch.tensor(spans).T
    position = torch.arange(width)
    return (position >= starts[:, None]) & (position < stops[:, None])


class MatchProbes(torch.nn.Module):
    """Auxiliary losses of the reranker: linear probes on its hidden states, which are discarded after the training.

    The first layer should show whether a token is part of the query. The second layer should show whether a token of
    the document occurs in the query. The last layer should show which share of the query was found.
    """

    def __init__(self, canonical: torch.Tensor) -> None:
        super().__init__()
        self.canonical = canonical
        self.segment, self.match, self.cover = (torch.nn.Linear(HIDDEN, 1) for _ in range(3))

    def forward(
        self,
        ids: torch.Tensor,
        in_query: torch.Tensor,
        in_document: torch.Tensor,
        states: tuple[torch.Tensor, ...],
        last: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Losses of one padded batch."""
        kind = self.canonical[ids]
        of_query = in_query & (kind >= 0)
        of_document = in_document & (kind >= 0)
        same = (kind[:, :, None] == kind[:, None, :]) & of_query[:, :, None] & of_document[:, None, :]
        found = same.any(1)[of_document].float()
        covered = same.any(2).float().sum(1) / of_query.sum(1).clamp_min(1)
        inside = in_query | in_document
        loss = F.binary_cross_entropy_with_logits
        four = torch.tensor(4.0)
        return {
            "segment": 0.3 * loss(self.segment(states[1]).squeeze(-1)[inside], in_query[inside].float(), pos_weight=four),
            "match": loss(self.match(states[2]).squeeze(-1)[of_document], found, pos_weight=four),
            "cover": loss(self.cover(last).squeeze(-1), covered),
        }


def train_reranker(model: Qwen3ForCausalLM, material: Material, steps: int, lr: float, rng: random.Random) -> None:
    """Train on yes or no for each pair, on the order within each group, and on the auxiliary losses."""
    answer_ids = [material.tokenizer.token_to_id("yes"), material.tokenizer.token_to_id("no")]
    probes = MatchProbes(canonical_tokens(material.tokenizer))
    label = (torch.arange(RERANKER_QUERIES * GROUP) % GROUP == 0).float()

    def loss_of() -> dict[str, torch.Tensor]:
        batch = rerank_batch(material, rng)
        chunks, back = by_length(batch.rows)
        margins: list[torch.Tensor] = []
        losses: dict[str, torch.Tensor] = {}
        for chunk in chunks:
            ids, ends = pad([batch.rows[i] for i in chunk], material.end)
            out = model.model(input_ids=ids, use_cache=False, output_hidden_states=True)
            last = out.last_hidden_state[torch.arange(len(chunk)), ends]
            yes, no = (last @ model.lm_head.weight[answer_ids].T).T
            margins.append(yes - no)
            in_query = span_mask([batch.query_spans[i] for i in chunk], ids.shape[1])
            in_document = span_mask([batch.document_spans[i] for i in chunk], ids.shape[1])
            for name, value in probes(ids, in_query, in_document, out.hidden_states, last).items():
                losses[name] = losses.get(name, 0.0) + value / len(chunks)
        margin = torch.cat(margins)[back]
        losses["yes/no"] = F.binary_cross_entropy_with_logits(margin, label, pos_weight=torch.tensor(GROUP - 1.0))
        losses["list"] = F.cross_entropy(margin.view(-1, GROUP), torch.zeros(RERANKER_QUERIES, dtype=torch.long))
        return losses

    run_steps("reranker", [*model.parameters(), *probes.parameters()], lr, steps, loss_of)


# =========================================================================================================
# Files
# =========================================================================================================


def write_json(path: Path, value: object) -> None:
    """Write JSON with a final newline; the folder is created if necessary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", "utf-8")


def write_model(
    folder: Path, tokenizer: Tokenizer, config: dict[str, Any], weights: dict[str, torch.Tensor], chat_template: str = CHAT_TEMPLATE
) -> None:
    """Write the files that both models have."""
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": False,
            "add_prefix_space": False,
            "bos_token": None,
            "chat_template": chat_template,
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|im_end|>",
            "errors": "replace",
            "model_max_length": 131072,
            "pad_token": END,
            "split_special_tokens": False,
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": None,
        },
    )
    write_json(folder / "config.json", config)
    tensors = {k: v.detach().to(torch.bfloat16).contiguous() for k, v in weights.items()}
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})


def write_embedder(folder: Path, tokenizer: Tokenizer, config: dict[str, Any], model: Qwen3ForCausalLM) -> None:
    """Write the layout of Qwen3-Embedding: keys without prefix, an end token, the files of sentence-transformers."""
    appending = Tokenizer.from_str(tokenizer.to_str())
    template = processors.TemplateProcessing(
        single=f"$A {END}", pair=f"$A {END} $B {END}", special_tokens=[(END, tokenizer.token_to_id(END))]
    )
    appending.post_processor = processors.Sequence([tokenizer.post_processor, template])
    write_model(folder, appending, config, dict(model.model.state_dict()))
    kinds = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    write_json(
        folder / "modules.json",
        [{"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"} for i, (path, kind) in enumerate(kinds)],
    )
    modes = (
        "cls_token",
        "mean_tokens",
        "max_tokens",
        "mean_sqrt_len_tokens",
        "weightedmean_tokens",
        "lasttoken",
    )
    write_json(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": HIDDEN,
            **{f"pooling_mode_{mode}": mode == "lasttoken" for mode in modes},
            "include_prompt": True,
        },
    )
    (folder / "2_Normalize").mkdir()
    write_json(
        folder / "config_sentence_transformers.json",
        {
            "prompts": {"query": query_prompt(DEFAULT_INSTRUCTION, ""), "document": ""},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    )


def write_reranker(folder: Path, tokenizer: Tokenizer, config: dict[str, Any], model: Qwen3ForCausalLM) -> None:
    """Write the layout of Qwen3-Reranker: keys with the prefix `model.`, tied output head, the files of sentence-transformers."""
    weights = {k: v for k, v in model.state_dict().items() if k != "lm_head.weight"}
    write_model(folder, tokenizer, config, weights, RERANK_TEMPLATE)
    write_cross_encoder(folder, tokenizer)


def write_cross_encoder(folder: Path, tokenizer: Tokenizer) -> None:
    """Write what the published rerankers have for sentence-transformers.

    Two fields differ: the score is a probability (they give a logit), and the weights are loaded in float32, as this package does on a CPU.
    """
    kinds = (("", "base.modules.transformer.Transformer"), ("1_LogitScore", "cross_encoder.modules.logit_score.LogitScore"))
    write_json(
        folder / "modules.json",
        [{"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.{kind}"} for i, (path, kind) in enumerate(kinds)],
    )
    ids = {"true_token_id": tokenizer.token_to_id("yes"), "false_token_id": tokenizer.token_to_id("no")}
    write_json(folder / "1_LogitScore" / "config.json", ids | {"module_input_name": "causal_logits"})
    logits = {"method": "forward", "method_output_name": "logits"}
    write_json(
        folder / "sentence_bert_config.json",
        {
            "transformer_task": "text-generation",
            "modality_config": {"text": logits, "message": logits | {"format": "flat"}},
            "module_output_name": "causal_logits",
            "model_kwargs": {"dtype": "float32"},
        },
    )
    write_json(
        folder / "config_sentence_transformers.json",
        {
            "activation_fn": "torch.nn.modules.activation.Sigmoid",
            "default_prompt_name": "query",
            "model_type": "CrossEncoder",
            "prompts": {"query": DEFAULT_INSTRUCTION},
        },
    )


def install(target: Path, write: Callable[[Path], None]) -> None:
    """Write into a temporary folder, then move each file to its final place."""
    target.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".tiny-", dir=target.parent))
    try:
        write(scratch / "new")
        for path in sorted((scratch / "new").rglob("*")):
            place = target / path.relative_to(scratch / "new")
            if path.is_dir():
                place.mkdir(exist_ok=True)
            else:
                path.chmod(0o644)
                path.replace(place)
    finally:
        shutil.rmtree(scratch)


def gather(started: float) -> Material:
    """Collect the text, train the tokenizer and index the passages."""
    passages = collect_passages()
    texts = [p.text for p in passages]
    megabytes = sum(map(len, texts)) / 1e6
    print(f"{len(passages)} passages, {megabytes:.1f} MB  {time.perf_counter() - started:.0f} s", flush=True)
    by_group: dict[str, list[int]] = defaultdict(list)
    for row, passage in enumerate(passages):
        by_group[passage.group].append(row)
    index = LexicalIndex(texts)
    tokenizer = train_tokenizer([f"{p.heading}\n{p.text}" for p in passages])
    print(f"index, tokenizer  {time.perf_counter() - started:.0f} s", flush=True)
    return Material(passages, list(by_group.values()), index, QueryWriter(passages, index), tokenizer)


def main() -> None:
    """Train and write the pair."""
    parser = argparse.ArgumentParser(description="Train qwen3-tiny-demo from the text that comes with Python.")
    parser.add_argument("--out", type=Path, required=True, help="the folder in which embedding/ and reranker/ are written")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=6.0, help="planned minutes of training on two idle cores")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    started = time.perf_counter()
    torch.set_num_threads(options.threads)
    material = gather(started)
    tokenizer, config = material.tokenizer, model_config(material.tokenizer)
    torch.manual_seed(options.seed)
    vectors = initial_token_vectors(tokenizer, [p.text for p in material.passages], options.seed)
    embedder = new_model(config, vectors)
    print(f"token vectors  {time.perf_counter() - started:.0f} s", flush=True)

    steps = max(1, round(options.minutes * EMBEDDER_SHARE * EMBEDDER_STEPS_PER_MINUTE))
    train_embedder(embedder, material, steps, 2e-3, random.Random(options.seed))
    install(options.out / "embedding", lambda folder: write_embedder(folder, tokenizer, config, embedder))

    torch.manual_seed(options.seed)
    reranker = new_model(config, embedder.model.embed_tokens.weight)
    initialise_matching(reranker, tokenizer)
    steps = max(1, round(options.minutes * (1 - EMBEDDER_SHARE) * RERANKER_STEPS_PER_MINUTE))
    train_reranker(reranker, material, steps, 1e-3, random.Random(options.seed + 1))
    install(options.out / "reranker", lambda folder: write_reranker(folder, tokenizer, config, reranker))
    size = sum(p.stat().st_size for p in options.out.rglob("*") if p.is_file())
    print(f"wrote {options.out}: {size / 1e6:.2f} MB in {(time.perf_counter() - started) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
