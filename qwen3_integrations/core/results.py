"""The results of a call: usage, timing, hits, and the ranking."""

from __future__ import annotations

import html
import json
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

from qwen3_integrations.core.ranking_json import MIME_TYPE, ranking_json
from qwen3_integrations.core.table_cells import CELL, CELL_RIGHT

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True)
class Usage:
    """Amount of work. Usages can be added.

    Attributes:
        prompts: Number of prompts.
        tokens: Number of prompt tokens, templates included, as the engine counted them; 0 if a server does not report it.
        truncated: Number of prompts whose document was cut to the budget.
        replaced: Number of items with lone surrogates that were replaced by U+FFFD; an item is a text, or a pair of query and document.
        preprocessed: Number of documents that the caller's `preprocess` changed.
    """

    prompts: int = 0
    tokens: int = 0
    truncated: int = 0
    replaced: int = 0
    preprocessed: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompts + other.prompts,
            self.tokens + other.tokens,
            self.truncated + other.truncated,
            self.replaced + other.replaced,
            self.preprocessed + other.preprocessed,
        )


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall-clock seconds of one call.

    Attributes:
        plan_s: Time until the engine gets its first prompts: checks, templates, tokenising and cutting of the first slice.
        run_s: Time from then to the last row: the engine, including its queue. Later slices are planned during this time.
    """

    plan_s: float
    run_s: float

    @property
    def total_s(self) -> float:
        """The sum of both, in seconds."""
        return self.plan_s + self.run_s


@dataclass(frozen=True, slots=True)
class Hit:
    """One ranked document.

    Attributes:
        index: Position in the list that the caller passed, from 0.
        rank: Position by score, from 0; documents with equal scores keep their order.
        score: The model's probability of "yes", in [0, 1].
        document: The text as the caller passed it.
        truncated: True if the model read only the beginning.
        replaced: True if the model read U+FFFD for lone surrogates in the document or the query.
        preprocessed: True if `preprocess` changed what the model read.
    """

    index: int
    rank: int
    score: float
    document: str
    truncated: bool = False
    replaced: bool = False
    preprocessed: bool = False

    @property
    def text(self) -> str:
        """The same as `document`."""
        return self.document

    @property
    def moved(self) -> int:
        """Number of places gained by reranking; negative for a loss."""
        return self.index - self.rank


@dataclass(frozen=True, slots=True)
class Ranking:
    """Documents in order of relevance to a query. Iteration, indexing and `len` use `hits`.

    Attributes:
        query: The query as the caller passed it.
        instruction: The instruction of the prompts.
        model: The reranker's name.
        hits: The kept documents, best first.
        dropped: The documents below `score_threshold` or after the first `top_n`, best first.
        usage: Prompts, tokens and truncations of this call.
        timing: Seconds of this call.
        top_n: The wanted maximum number of hits; None for all.
        score_threshold: The wanted least score of a hit, in [0, 1]; None for any score.
    """

    query: str
    instruction: str
    model: str
    hits: tuple[Hit, ...]
    dropped: tuple[Hit, ...]
    usage: Usage
    timing: Timing
    top_n: int | None = None
    score_threshold: float | None = None
    _reranker: weakref.ref[Any] | None = field(default=None, repr=False, compare=False)

    @property
    def reranker(self) -> Any:
        """The `Reranker` that made this ranking, while something else keeps it; None for a copy from another process.

        A ranking alone does not keep a model in memory.
        """
        return None if self._reranker is None else self._reranker()

    def __getstate__(self) -> list[Any]:
        """All fields but the reranker, which stays in its process."""
        return [None if each.name == "_reranker" else getattr(self, each.name) for each in fields(self)]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __getitem__(self, rank: int) -> Hit:
        return self.hits[rank]

    def to_dicts(self) -> list[dict[str, Any]]:
        """The hits as plain dictionaries: rank, index, score, moved, truncated, document."""
        return [
            {
                "rank": hit.rank,
                "index": hit.index,
                "score": hit.score,
                "moved": hit.moved,
                "truncated": hit.truncated,
                "document": hit.document,
            }
            for hit in self.hits
        ]

    def to_pandas(self) -> pandas.DataFrame:
        """The hits as a data frame with the columns of `to_dicts`, one row a hit.

        The columns `rank` and `index` count from 0, as everything in Python does, and the frame says so above its columns; tables and
        widgets for people count from 1.

        Raises:
            MissingExtra: If pandas is not installed.
        """
        from qwen3_integrations.core.extras import require

        columns = ["rank", "index", "score", "moved", "truncated", "document"]
        frame: pandas.DataFrame = require("pandas", "notebook").DataFrame(self.to_dicts(), columns=columns)
        frame.columns.name = COUNTED_FROM_0
        return frame

    def to_json(self) -> str:
        """The ranking as the text of a file named `NAME.ranking.json`; it has all documents, whole.

        JupyterLab and Notebook 7 open such a file as an inspector, without a kernel. docs/ranking-format.md describes the format.
        """
        return json.dumps(ranking_json(self), ensure_ascii=False, allow_nan=False, indent=1)

    def inspect(
        self,
        *,
        compare: Ranking | None = None,
        labels: Mapping[int, float] | Sequence[float | None] | None = None,
        documents: Sequence[Any] | None = None,
        reranker: Any = None,
        top_n: int | None = None,
        threshold: float | None = None,
    ) -> Any:
        """Show this ranking as a widget in a notebook: scores, moves and metrics; optionally rerank with another instruction.

        Args:
            compare: A second ranking of the same documents.
            labels: Relevance by position in the passed documents, or one value for each document.
            documents: The ranked documents, if they have metadata to show.
            reranker: The reranker that runs with another instruction. Default: the one that made this ranking, if it still exists.
            top_n, threshold: First values of the two limits; by default those of this ranking.

        Returns:
            A widget; see `RankInspector`.

        Raises:
            MissingExtra: If anywidget is not installed.
            ConfigError: For arguments that do not fit this ranking.
        """
        from qwen3_integrations.core.extras import require

        require("anywidget", "notebook")

        reranker = self.reranker if reranker is None else reranker
        inspector = import_module("qwen3_integrations.notebook").RankInspector
        return inspector(self, documents=documents, compare=compare, labels=labels, reranker=reranker, top_n=top_n, threshold=threshold)

    def __repr__(self) -> str:
        best = f", best {self.hits[0].score:.3f}" if self.hits else ""
        total = len(self.hits) + len(self.dropped)
        return f"Ranking({_clip(self.query, 60)!r}, {len(self.hits)} of {total} documents{best}, model={self.model!r})"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {"text/plain": repr(self), "text/html": self._repr_html_(), MIME_TYPE: ranking_json(self, whole=False)}

    def _repr_html_(self) -> str:
        rows = "".join(_row(hit) for hit in self.hits)
        total = len(self.hits) + len(self.dropped)
        tokens = f", {self.usage.tokens:,} tokens" if self.usage.tokens else ""  # some servers do not report them
        cut = f", {self.usage.truncated} truncated" if self.usage.truncated else ""
        return (
            f"<table class='{NO_FORMULAS}'><caption style='text-align:left'>"
            f"<b>{html.escape(self.query)}</b><br>{html.escape(self.instruction)}<br>"
            f"{html.escape(self.model)}: {len(self.hits)} of {total} documents{tokens}{cut}, "
            f"{self.timing.total_s:.2f} s</caption>"
            f"<thead><tr><th scope='col' {CELL_RIGHT}>rank</th><th scope='col' {CELL}>moved</th><th scope='col' {CELL_RIGHT}>score</th>"
            f"<th scope='col' {CELL}>0 to 1</th><th scope='col' {CELL}>document</th></tr></thead><tbody>{rows}</tbody></table>"
        )


COUNTED_FROM_0 = "ranks and indices from 0"
"""The name above the columns of data frames."""

NO_FORMULAS = "mathjax_ignore tex2jax_ignore"
"""HTML classes that switch formulas off in a notebook, because dollar signs in documents are prices. Source: MathJax' documentation."""


def moved_in_words(moved: int) -> str:
    """`up 3`, `down 1` or `same`."""
    return f"up {moved}" if moved > 0 else f"down {-moved}" if moved < 0 else "same"


def text_bar(score: float, width: int = 10) -> str:
    """A score in [0, 1] as a bar of block characters, `width` of them."""
    full = round(score * width)
    return "█" * full + "░" * (width - full)


def _row(hit: Hit) -> str:
    mark = " <i>(truncated)</i>" if hit.truncated else ""
    return (
        f"<tr><td {CELL_RIGHT}>{hit.rank + 1}</td><td {CELL}>{moved_in_words(hit.moved)}</td><td {CELL_RIGHT}>{hit.score:.3f}</td>"
        f"<td {CELL}><code>{text_bar(hit.score)}</code></td>"
        f"<td {CELL}>{html.escape(_clip(hit.document, 240))}{mark}</td></tr>"
    )


def _clip(text: str, length: int) -> str:
    line = " ".join(text[: 4 * length].split())
    return line if len(line) <= length else line[: length - 1] + "…"
