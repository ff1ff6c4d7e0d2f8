"""A widget that shows how a reranker moved documents: before and after, scores, another instruction, a second ranking."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import traitlets

from qwen3_integrations.analysis.metrics import kendall_tau
from qwen3_integrations.core.documents import first_equals, metadata_of, metadata_words, texts_of
from qwen3_integrations.core.prompts import INSTRUCTIONS
from qwen3_integrations.core.ranking_json import MIME_TYPE
from qwen3_integrations.core.reranker import Reranker
from qwen3_integrations.core.results import COUNTED_FROM_0, Ranking
from qwen3_integrations.core.tokenizer import checked_text
from qwen3_integrations.core.validation import fraction, optional_whole_number
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.notebook.export import inspection_html, page_html
from qwen3_integrations.notebook.inspection_json import inspection_json
from qwen3_integrations.notebook.inspector_views import (
    MOST_SHOWN,
    Labels,
    all_hits,
    document_view,
    first_of,
    listed_labels,
    measured,
    order_of,
    texts_in,
    view_of,
)
from qwen3_integrations.notebook.traits import UnitNumber, WholeNumber
from qwen3_integrations.notebook.widget import STATIC, Widget, assets

if TYPE_CHECKING:
    import pandas


class RankInspector(Widget):
    """A ranking before and after: inspect it, run it again with another query or instruction, compare it with another.

    In Python, documents are identified by their position in the order passed, from 0; the widget shows people places from 1. Of more than
    10,000 documents, the browser shows the first 10,000 of the new order, and says so; Python has all.

    Args:
        source: A `Ranking`; or a `Reranker`, or a `Qwen3Rerank` of LangChain or LlamaIndex, which then ranks immediately.
        query: The query, with a reranker.
        documents: Strings, LangChain documents or LlamaIndex nodes. With a `Ranking`: the ranked documents, in the
            order passed, so that their metadata can be shown.
        compare: A second ranking of the same documents, shown as A beside this one.
        labels: Relevance by position, or one value per document: 0 for irrelevant, larger for more relevant.
        reranker: The reranker for another run, where the source is a `Ranking`. Default: the one that made it, if it still exists.
        top_n: Most documents to keep; None for the ranking's own value.
        threshold: Smallest score to keep, in [0, 1]; None for the ranking's own value.
        k: Cut-off of nDCG and hit rate.
        presets: Instructions to choose from, by name.

    Attributes:
        ranking: The ranking; may be assigned, for the same documents.
        compare: The ranking beside it, or None; may be assigned.
        previous: The ranking before the last run; None before a second one.
        documents: The documents as passed, unchanged.
        instruction: The text in the instruction's box.
        threshold: Smallest score to keep, in [0, 1].
        top_n: Most documents kept; None for any number.
        selection: Positions of the selected documents.
        labels: One relevance per document, None where not judged; takes the same values as the argument.
        k: Cut-off of nDCG and hit rate.
        sort: Order of the rows: `new`, `old` or `score`; `reverse` reverses it.
        scale: Axis of the scores: `probability`, or `log_odds`, where 0.96 and 0.996 differ.

    Raises:
        ConfigError: For a threshold, `top_n`, `k`, labels or rankings that do not fit.
        TypeError: For a source or a document of another type.
        Qwen3Error: As in `Reranker.rank`, where the source is a reranker.
    """

    _esm, _css = assets("inspector")

    ranking = traitlets.Instance(Ranking)
    compare = traitlets.Instance(Ranking, allow_none=True)
    previous = traitlets.Instance(Ranking, allow_none=True)
    instruction = traitlets.Unicode("").tag(sync=True, exported=True)
    presets = traitlets.Dict().tag(sync=True, exported=True)
    threshold = UnitNumber(0.0).tag(sync=True, exported=True)
    top_n = WholeNumber(None, allow_none=True, note=", or None for all").tag(sync=True, exported=True)
    k = WholeNumber(10).tag(sync=True, exported=True)
    sort = traitlets.Enum(["new", "old", "score"], "new").tag(sync=True, exported=True)
    reverse = traitlets.Bool(False).tag(sync=True, exported=True)
    scale = traitlets.Enum(["probability", "log_odds"], "probability").tag(sync=True, exported=True)
    selection = traitlets.List(WholeNumber(0, least=0, of="selection")).tag(sync=True, exported=True)
    labels = traitlets.Union([traitlets.List(), traitlets.Dict()]).tag(sync=True, exported=True, to_json=lambda labels, _: _few(labels))

    # Set by Python, read by the browser.
    _documents: Any = traitlets.Union([traitlets.List(), traitlets.Dict()]).tag(sync=True, exported=True)
    _view = traitlets.Dict().tag(sync=True, exported=True)
    _other: Any = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True, exported=True)
    _previous = traitlets.Unicode(None, allow_none=True).tag(sync=True, exported=False)
    _metrics: traitlets.List[Any] = traitlets.List().tag(sync=True, exported=True)
    _progress = traitlets.Dict().tag(sync=True, exported=False)
    _can_run = traitlets.Bool(False).tag(sync=True, exported=False)
    _live = traitlets.Bool(False).tag(sync=True, exported=False)
    _note = traitlets.Unicode("").tag(sync=True, exported=False)

    def __init__(
        self,
        source: Ranking | Reranker | Any,
        query: str | None = None,
        documents: Sequence[Any] | None = None,
        *,
        compare: Ranking | None = None,
        labels: Labels | None = None,
        reranker: Reranker | Any = None,
        top_n: int | None = None,
        threshold: float | None = None,
        k: int = 10,
        presets: Mapping[str, str] = INSTRUCTIONS,
    ) -> None:
        top_n = optional_whole_number(top_n, "top_n", note=", or None for all")
        threshold = None if threshold is None else fraction(threshold, "threshold", zero=True, note=", or None for any score")
        if isinstance(source, Ranking):
            if query is not None:
                advice = "Pass RankInspector(ranking), or RankInspector(reranker, query, documents)"
                raise ConfigError("can't be combined with a ranking, which has its own", option="query", advice=advice)
            ranking, runs = source, source.reranker if reranker is None else reranker
        elif reranker is not None:
            reason = "can't be passed twice: the first argument is a reranker already"
            raise ConfigError(reason, option="reranker", advice="Leave reranker= out; it is for RankInspector(ranking)")
        else:
            if query is None or documents is None:
                advice = "Pass RankInspector(reranker, query, documents)"
                raise ConfigError("a reranker needs a query and documents", advice=advice)
            documents = list(documents)
            ranking, runs = _ranked(source, query, documents), source
        self._texts = texts_in(ranking)
        self.documents: tuple[Any, ...] = tuple(self._texts if documents is None else documents)
        if len(self.documents) != len(self._texts):
            raise ConfigError(f"are {len(self.documents)}, but the ranking has {len(self._texts)}", option="documents")
        self._reranker = None if runs is None else _core(runs)
        self._same = first_equals(self._texts)
        self._can_run, self._live = runs is not None, True
        if len(self._texts) <= MOST_SHOWN:
            self._documents = [self._document(index) for index in range(len(self._texts))]
        super().__init__(
            ranking=ranking,
            compare=compare,
            instruction=ranking.instruction,
            presets=dict(presets),
            threshold=(ranking.score_threshold or 0.0) if threshold is None else threshold,
            top_n=ranking.top_n if top_n is None else top_n,
            k=k,
            labels=listed_labels(labels, len(self._texts)),
        )

    @property
    def kept(self) -> list[int]:
        """Positions of the documents that threshold and `top_n` keep, best first."""
        passing = [hit.index for hit in all_hits(self.ranking) if hit.score >= self.threshold]
        return passing[: self.top_n]

    @property
    def tau(self) -> float | None:
        """Kendall's tau between `compare` and `ranking`, in [-1, 1]; None where nothing is compared."""
        return None if self.compare is None else kendall_tau(order_of(self.compare), order_of(self.ranking))

    def run_again(self, instruction: str | None = None, query: str | None = None) -> None:
        """Rank again in the background, as the button does; the present ranking becomes `previous`.

        Args:
            instruction: The instruction; None for the one in the box.
            query: The query; None for that of the present ranking.

        Raises:
            ConfigError: If there is no reranker.
            TypeError, InvalidText: For an instruction that is not a text.
        """
        if self._reranker is None:
            raise ConfigError("is missing, so the ranking can't be run again", option="reranker", advice="Pass reranker= to the inspector")
        used = self.instruction = checked_text(self.instruction if instruction is None else instruction, "instruction")
        asked = self.ranking.query if query is None else checked_text(query, "query")
        self._note, self._progress = "", {}
        work = self._reranker.arank(asked, self._texts, instruction=used, report=self._reporter())
        self._begin(f"Reranking {len(self._texts):,} documents", work, self._show)

    def cancel(self) -> None:
        """Cancel the running work; the present ranking stays."""
        if self.busy:
            self._cancel()
            self._note = "Cancelled: the previous ranking is kept"

    def to_dicts(self) -> list[dict[str, Any]]:
        """All documents, best first, as in `Ranking.to_dicts` and: kept, selected, duplicate_of, label, and metadata.

        With a ranking to compare: also `other_rank` and `other_score`. Ranks and positions count from 0; the widget's own from 1.
        """
        kept, selected = set(self.kept), set(self.selection)
        other = {} if self.compare is None else {hit.index: hit for hit in all_hits(self.compare)}
        return [
            {
                "rank": hit.rank,
                "index": hit.index,
                "score": hit.score,
                "moved": hit.moved,
                "truncated": hit.truncated,
                "kept": hit.index in kept,
                "selected": hit.index in selected,
                "duplicate_of": self._same[hit.index],
                "label": self.labels[hit.index],
                **({"other_rank": other[hit.index].rank, "other_score": other[hit.index].score} if other else {}),
                "document": hit.document,
                "metadata": metadata_of(self.documents[hit.index]),
            }
            for hit in all_hits(self.ranking)
        ]

    def to_pandas(self) -> pandas.DataFrame:
        """`to_dicts` as a data frame, one row per document; its ranks and indices count from 0, as the name above its columns says.

        Raises:
            MissingExtra: If pandas is not installed.
        """
        from qwen3_integrations.core.extras import require

        frame: pandas.DataFrame = require("pandas", "notebook").DataFrame(self.to_dicts())
        frame.columns.name = COUNTED_FROM_0
        return frame

    def to_html(self) -> str:
        """This inspector as a page of its own: it opens offline, sorts and compares; without a kernel it can't rank again."""
        script = f"{self._esm}\n{(STATIC / 'page.js').read_text(encoding='utf-8')}"
        return page_html(f"Ranking: {self.ranking.query}", script, self._css, self._page_state(), self._static_html(most=None))

    def to_json(self) -> str:
        """This inspector as the text of a `.ranking.json` file, which JupyterLab and Notebook 7 open without a kernel."""
        return json.dumps(self._json(whole=True), ensure_ascii=False, allow_nan=False, indent=1)

    def _saved_form(self) -> dict[str, Any]:
        return {MIME_TYPE: self._json(whole=False)}

    def _json(self, *, whole: bool) -> dict[str, Any]:
        state = self.get_state(self.trait_names(exported=True))
        return inspection_json(self.ranking, self.documents, self.labels, state, compare=self.compare, tau=self.tau, whole=whole)

    def __repr__(self) -> str:
        return f"RankInspector({self.ranking!r}, {len(self.kept)} kept)"

    def _static_html(self, most: int | None = 50) -> str:
        return inspection_html(
            self.ranking,
            kept=self.kept,
            same=self._same,
            labels=self.labels,
            compare=self.compare,
            tau=self.tau,
            metrics=self._metrics,
            k=self.k,
            most=most,
        )

    def _actions(self) -> Mapping[str, Callable[..., None]]:
        return {"run": self.run_again, "cancel": self.cancel, "compare": self._compare_with_previous}

    def _compare_with_previous(self, on: bool) -> None:
        self.compare = self.previous if on else None

    def _show(self, ranking: Ranking) -> None:
        before, beside_previous = self.ranking, self.compare is not None and self.compare is self.previous
        with self.hold_sync():
            self.previous, self.ranking = before, ranking
            if beside_previous:
                self.compare = before
            tokens = f", {ranking.usage.tokens:,} tokens" if ranking.usage.tokens else ""
            self._note = f"Ranked {len(self._texts):,} documents in {ranking.timing.total_s:.2f} s{tokens}"

    def _reporter(self) -> Callable[[int], None]:
        """Counts the documents of a run, and estimates the rest from the pace so far; shows at most ten steps a second."""
        began, total, done, shown_at = time.monotonic(), len(self._texts), 0, 0.0

        def report(count: int) -> None:
            nonlocal done, shown_at
            done += count
            now = time.monotonic()
            if now - shown_at >= 0.1:
                shown_at = now
                self._progress = {"done": done, "total": total, "left_s": round((now - began) * (total - done) / done, 1)}

        return report

    def _document(self, index: int) -> dict[str, Any]:
        return document_view(self._texts[index], self._same[index], metadata_words(self.documents[index]))

    @traitlets.observe("ranking", "compare", "previous")
    def _draw_rankings(self, _: Any) -> None:
        shown = first_of(self.ranking)
        with self.hold_trait_notifications():
            if shown is not None:
                self._documents = {str(index): self._document(index) for index in shown}
            self._view = view_of(self.ranking, shown)
            self._other = None if self.compare is None else view_of(self.compare, shown) | {"tau": self.tau}
        self._previous = None if self.previous is None else self.previous.instruction
        self._measure(None)

    @traitlets.observe("labels", "k")
    def _measure(self, _: Any) -> None:
        orders: dict[str, Sequence[int]] = {"Old": range(len(self._texts))}
        if self.compare is not None:
            orders["A"] = order_of(self.compare)
        self._metrics = measured(orders | {"New": order_of(self.ranking)}, self.labels, self.k)

    @traitlets.validate("labels")
    def _valid_labels(self, proposal: Any) -> list[float | None]:
        labels = proposal["value"]
        if isinstance(labels, dict):  # the browser's keys are strings
            labels = {int(at) if isinstance(at, str) and at.isdigit() else at: label for at, label in labels.items()}
        return listed_labels(labels, len(self._texts))

    @traitlets.validate("selection")
    def _valid_selection(self, proposal: Any) -> list[int]:
        unknown = [at for at in proposal["value"] if not 0 <= at < len(self._texts)]
        if unknown:
            raise ConfigError(f"contains document {unknown[0]!r}, but there are {len(self._texts)}, counted from 0", option="selection")
        return list(dict.fromkeys(proposal["value"]))

    @traitlets.validate("ranking", "compare")
    def _valid_ranking(self, proposal: Any) -> Ranking | None:
        ranking: Ranking | None = proposal["value"]
        if ranking is not None and texts_in(ranking) != self._texts:
            raise ConfigError("must be a ranking of the same documents, passed in the same order", option=proposal["trait"].name)
        return ranking


def _few(labels: Any) -> Any:
    """Labels for the browser: of very many documents only those that are judged, by position."""
    return {str(at): label for at, label in enumerate(labels) if label is not None} if len(labels) > MOST_SHOWN else labels


def _core(reranker: Any) -> Reranker:
    core = getattr(reranker, "_reranker", reranker)
    if not isinstance(core, Reranker):
        raise TypeError(f"the first argument must be a Ranking, a Reranker or a Qwen3Rerank, not {type(reranker).__name__}")
    return core


def _ranked(reranker: Any, query: str, documents: Sequence[Any]) -> Ranking:
    if isinstance(reranker, Reranker):
        return reranker.rank(query, texts_of(documents))
    texts = texts_of(documents, reranker)
    return _core(reranker).rank(query, texts, reranker.top_n, reranker.score_threshold, reranker.instruction)
