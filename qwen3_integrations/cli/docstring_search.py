"""Retrieval and reranking on real texts: the docstrings of the standard library."""

from __future__ import annotations

import ast
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qwen3_integrations.cli.output import console
from qwen3_integrations.core.embedder import Embedder
from qwen3_integrations.core.prompts import INSTRUCTIONS
from qwen3_integrations.core.reranker import Reranker
from qwen3_integrations.core.results import Ranking, moved_in_words
from qwen3_integrations.core.tokenizer import checked_text
from qwen3_integrations.core.types import Task
from qwen3_integrations.engines.registry import open_engine
from qwen3_integrations.engines.sharing import SharedEngine
from qwen3_integrations.models.catalog import DEFAULT_MODELS, TINY

LEAST_CHARACTERS = 40
"""Shorter docstrings are not indexed: they have too little content for a search."""

MAX_TOKENS = 512
"""Token budget of a text: enough for all but the longest docstrings, and fast on a CPU."""


_Named = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_LEFT_OUT = {"site-packages", "dist-packages", "idlelib", "lib2to3", "distutils"}


@dataclass(frozen=True, slots=True)
class DocString:
    """A text of the corpus: its qualified name and its content."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Demo:
    """The results of the demo.

    Attributes:
        names: Qualified names of the ranked documents, in the retriever's order.
        similarities: Their cosines to the query, in the same order.
        ranking: The reranker's ranking of them.
        corpus_size: Number of indexed texts.
        collect_s, embed_s, retrieve_s: Seconds for reading the sources, embedding them, and embedding the query and finding the nearest.
        engines: The reprs of the two engines.
        toy: True when one of the bundled toy models was used.
    """

    names: tuple[str, ...]
    similarities: tuple[float, ...]
    ranking: Ranking
    corpus_size: int
    collect_s: float
    embed_s: float
    retrieve_s: float
    engines: tuple[str, str]
    toy: bool


def collect_docstrings(most: int | None = None) -> list[DocString]:
    """Docstrings of the installed standard library, read from its sources without importing anything.

    Args:
        most: The largest number of texts; None for all, several thousand.
    """
    root = Path(sysconfig.get_path("stdlib"))
    found: dict[str, DocString] = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[0] in _LEFT_OUT or {"test", "tests"} & set(parts) or any(part.startswith("_") for part in parts if part != "__init__"):
            continue
        module = ".".join(part for part in parts if part != "__init__")
        for docstring in _docstrings_of(path, module):
            found.setdefault(docstring.text, docstring)
            if len(found) == most:
                return list(found.values())
    return list(found.values())


def _docstrings_of(path: Path, module: str) -> Iterator[DocString]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError):  # some files of the library have invalid syntax on purpose
        return
    todo: list[tuple[ast.AST, str]] = [(tree, module)]
    while todo:
        node, name = todo.pop()
        if isinstance(node, ast.Module | _Named):
            text = ast.get_docstring(node) or ""
            if len(text) >= LEAST_CHARACTERS:
                yield DocString(name, f"{name}: {text}")
            todo += [
                (child, f"{name}.{child.name}")
                for child in ast.iter_child_nodes(node)
                if isinstance(child, _Named) and not child.name.startswith("_")
            ]


def run_demo(
    query: str,
    *,
    model: str | None = None,
    reranker: str | None = None,
    base_url: str | None = None,
    reranker_url: str | None = None,
    instruction: str | None = None,
    retrieve: int = 20,
    most_texts: int | None = None,
) -> Demo:
    """Index, retrieve and rerank; the arguments are those of `qwen3-integrations demo`.

    Args:
        query: The query.
        model, reranker: Names or folders; None for the real 0.6B model if a server's address is given, otherwise for the bundled toy.
        base_url, reranker_url: Servers' addresses. Addresses in the environment are used for named models, not for the toy.
        instruction: The task instruction; None for the preset `documentation`.
        retrieve: How many texts to retrieve and rerank.
        most_texts: The largest number of texts to index; None for all.

    Raises:
        InvalidText, PromptTooLong: For a query that can't be read, before any text is embedded.
        Qwen3Error: If a model or a server can't be used.
    """
    checked_text(query, "query")
    used_instruction = instruction or INSTRUCTIONS["documentation"]
    with _opened("embed", model, base_url) as embed_engine, _opened("rerank", reranker, reranker_url) as rerank_engine:
        embedder = Embedder(embed_engine, instruction=used_instruction, max_tokens=MAX_TOKENS)
        ranker = Reranker(rerank_engine, instruction=used_instruction, max_tokens=2 * MAX_TOKENS)
        begin = time.perf_counter()
        query_vector = embedder.embed_queries([query])[
            0
        ]  # first, so that a query that is too long fails before thousands of texts are embedded
        start = time.perf_counter()
        corpus = collect_docstrings(most_texts)
        collected = time.perf_counter()
        vectors = embedder.embed_documents([docstring.text for docstring in corpus])
        embedded = time.perf_counter()
        similarities = vectors @ query_vector
        nearest = np.argsort(-similarities, kind="stable")[:retrieve]
        retrieved = time.perf_counter()
        ranking = ranker.rank(query, [corpus[index].text for index in nearest])
        return Demo(
            names=tuple(corpus[index].name for index in nearest),
            similarities=tuple(float(similarities[index]) for index in nearest),
            ranking=ranking,
            corpus_size=len(corpus),
            collect_s=collected - start,
            embed_s=embedded - collected,
            retrieve_s=start - begin + retrieved - embedded,
            engines=(repr(embed_engine), repr(rerank_engine)),
            toy=TINY in (embed_engine.model, rerank_engine.model),
        )


def _opened(task: Task, model: str | None, base_url: str | None) -> SharedEngine:
    """The engine for one of the two tasks. The toy always runs on torch in this process, whatever the environment names."""
    name = model or (DEFAULT_MODELS[task] if base_url else TINY)
    return open_engine(task, name, base_url=base_url, backend="torch" if name == TINY and not base_url else "auto")


def show_demo(demo: Demo, most: int) -> None:
    """Print a table of the `most` best hits before and after reranking, with scores and timings."""
    from rich.table import Table
    from rich.text import Text

    out = console()
    ranking = demo.ranking
    out.print(Text(f"query: {ranking.query}"))
    out.print(Text(f"{demo.corpus_size:,} docstrings of Python's standard library, {len(ranking)} retrieved and reranked\n"))
    table = Table(expand=True)
    for heading in ("before", "cosine", "after", "moved", "score"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("document", ratio=1, no_wrap=True, overflow="ellipsis")
    for hit in ranking.hits[:most]:
        table.add_row(
            str(hit.index + 1),
            f"{demo.similarities[hit.index]:.3f}",
            str(hit.rank + 1),
            moved_in_words(hit.moved),
            f"{hit.score:.3f}",
            Text(" ".join(hit.document.split())[:200]),
        )
    out.print(table)
    out.print(
        Text(
            f"read {demo.collect_s:.2f} s, embed {demo.embed_s:.2f} s ({demo.corpus_size / demo.embed_s:,.0f} texts/s), "
            f"retrieve {demo.retrieve_s:.3f} s, rerank {ranking.timing.total_s:.2f} s ({ranking.usage.tokens:,} tokens)\n"
            f"{demo.engines[0]}\n{demo.engines[1]}"
        )
    )
    if demo.toy:
        real = f"--model {DEFAULT_MODELS['embed']} --reranker {DEFAULT_MODELS['rerank']}"
        out.print(Text(f"{TINY} is a toy that shows how it works; use the real models: {real}"))
