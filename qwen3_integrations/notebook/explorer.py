"""A widget that shows a corpus of embeddings: map, heat map, recall by width, health of the vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, wait
from typing import TYPE_CHECKING, Any

import traitlets
from numpy.typing import ArrayLike

from qwen3_integrations.analysis.clusters import Cluster
from qwen3_integrations.analysis.corpus import Survey
from qwen3_integrations.analysis.tables import clipped
from qwen3_integrations.analysis.vectors import Health
from qwen3_integrations.core.types import Rows
from qwen3_integrations.errors import ConfigError, InputError, Qwen3Error
from qwen3_integrations.notebook.explorer_views import (
    MOST_READ,
    clusters_view,
    groups_view,
    health_view,
    heat_view,
    map_view,
    nearest_view,
    point_view,
    recall_view,
)
from qwen3_integrations.notebook.traits import WholeNumber
from qwen3_integrations.notebook.widget import Widget, assets

if TYPE_CHECKING:
    import pandas

PATIENCE_S = 0.3
"""How long the static form waits for figures in progress: enough for some thousand vectors."""


_SENT_AT_ONCE = ("_esm", "_css", "_texts", "_groups")
"""Traits that never change after the constructor."""


class EmbeddingExplorer(Widget):
    """Explore embeddings: which texts are near each other, what a smaller width costs, and which vectors are wrong.

    Everything is computed in the background. The vectors stay in Python; the browser gets the points of a plane and the figures.
    Python can read the same: `selection`, `clusters`, `compared`, `health`, `recall`, `duplicates`, `to_pandas()`, once `wait()` has
    returned. In Python, texts are identified by their index, from 0; the widget counts texts and dimensions from 1.

        EmbeddingExplorer(embedder, texts)
        EmbeddingExplorer(vectors=array, texts=texts, labels=topics)

    Args:
        embedder: An `Embedder`, `Qwen3Embeddings` (LangChain) or `Qwen3Embedding` (LlamaIndex). It embeds queries, and
            the texts unless `vectors` are passed.
        texts: Strings, LangChain documents or LlamaIndex nodes.
        vectors: Their embeddings, shape (texts, dimensions), of any length. Rows that are zero or not finite are listed under
            health and excluded from the rest.
        labels: A group for each text, shown as colour and shape.
        clusters: Number of clusters, from 1 to 8. Default: chosen from 2 to 8 by the silhouette. The clusters are named by words of
            their texts; fewer than 10 texts have none.
        colour_by: `labels` or `clusters`: what colour and shape show. Default: the labels, if there are any.
        query: A query, embedded with the embedder's instruction; its nearest texts are shown.
        widths: Dimensions to compare, each from 1 to the vectors' own, which is always among them.
        dimensions: The first width to show. Default: the vectors' own.
        duplicates_above: Smallest cosine of a near-duplicate, in (0, 1].
        selection: Indices of the selected texts.
        focused: The text whose neighbours are shown.
        search: Texts that contain this are highlighted.
        view: `map`, `similarity`, `dimensions` or `health`.

    Attributes:
        ready: True when everything is computed.

    Raises:
        ConfigError: Without embedder and vectors, or for an embedder or a width that can't be used.
        InputError: For vectors of another shape or count, or a selection outside the texts.
        TypeError, InvalidText: For items that are not texts.
    """

    _esm, _css = assets("explorer")

    ready = traitlets.Bool(False, read_only=True).tag(sync=True)
    focused: Any = WholeNumber(None, allow_none=True, least=0, note=", or None", of_call=True).tag(sync=True)
    selection: Any = traitlets.List(WholeNumber(0, least=0, of="selection", of_call=True)).tag(sync=True)
    dimensions: Any = WholeNumber(0, least=0).tag(sync=True)
    query = traitlets.Unicode("").tag(sync=True)
    search = traitlets.Unicode("").tag(sync=True)
    colour_by = traitlets.Enum(["labels", "clusters"], "clusters").tag(sync=True)
    view = traitlets.Enum(["map", "similarity", "dimensions", "health"], "map").tag(sync=True)

    _facts: Any = traitlets.Dict().tag(sync=True)
    _texts: Any = traitlets.List().tag(sync=True)
    _groups: Any = traitlets.Dict().tag(sync=True)
    _clusters: Any = traitlets.Dict().tag(sync=True)
    _map: Any = traitlets.Dict().tag(sync=True)
    _asked: Any = traitlets.Dict().tag(sync=True)
    _nearest: Any = traitlets.Dict().tag(sync=True)
    _found: Any = traitlets.List().tag(sync=True)
    _heat: Any = traitlets.Dict().tag(sync=True)
    _recall: Any = traitlets.Dict().tag(sync=True)
    _health: Any = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        embedder: Any = None,
        texts: Sequence[Any] | None = None,
        *,
        vectors: ArrayLike | None = None,
        labels: Sequence[Any] | None = None,
        clusters: int | None = None,
        colour_by: str | None = None,
        query: str = "",
        widths: Sequence[int] | None = None,
        dimensions: int | None = None,
        duplicates_above: float = 0.98,
        selection: Sequence[int] = (),
        focused: int | None = None,
        search: str = "",
        view: str = "map",
    ) -> None:
        self._last: Future[None] | None = None
        self._survey = Survey(embedder, texts, vectors, labels, widths, dimensions, duplicates_above, clusters)
        if colour_by is None:
            colour_by = "clusters" if self._survey.labels is None else "labels"
        self._folded = [text.casefold() for text in self.texts]
        super().__init__(selection=list(selection), focused=focused, query=query, search=search, view=view, colour_by=colour_by)
        self._texts = [clipped(text) for text in self.texts]
        self._groups = groups_view(self._survey.labels or [])
        self._show_facts()
        if self.texts:
            self._go()
        else:
            self.set_trait("ready", True)

    @property
    def texts(self) -> list[str]:
        """The texts, in the order in which they were passed."""
        return self._survey.texts

    @property
    def vectors(self) -> Rows | None:
        """Their vectors, float32, shape (texts, dimensions); None while they are being embedded."""
        return self._survey.space.rows if self._survey.space else None

    @property
    def health(self) -> Health | None:
        """Properties of the vectors; None until it is computed."""
        return self._survey.space.health if self._survey.space else None

    @property
    def clusters(self) -> tuple[Cluster, ...]:
        """Clusters of the texts, the largest first, named by their words; empty until they are found, and for fewer than 10 texts."""
        return self._survey.clusters

    @property
    def compared(self) -> tuple[int, ...]:
        """Indices of the texts in the heat map, in its order: the selected ones, or all; of more than 60, as many that represent them."""
        return tuple(self._heat.get("indices", ()))

    @property
    def recall(self) -> dict[int, float]:
        """Width -> recall@10: the share of the 10 nearest neighbours that this width keeps, in [0, 1]; empty until it is computed."""
        return dict(self._survey.recall)

    @property
    def duplicates(self) -> tuple[tuple[int, int, float], ...]:
        """(text, later text, cosine) of near-duplicates, most similar first, at most 200; empty until they are computed."""
        pairs = self._survey.pairs
        return pairs.best[: pairs.above] if pairs else ()

    @property
    def matches(self) -> tuple[int, ...]:
        """Indices of the texts that contain the search text, in any case; empty without a search."""
        return tuple(self._found)

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait for the background work; returns immediately if it was cancelled.

        Args:
            timeout_s: Longest wait; None for no limit.

        Raises:
            TimeoutError: If it takes longer.
            Qwen3Error: The error of the work.
        """
        if self._last is not None:
            try:
                self._last.result(timeout_s)
            except CancelledError:
                return

    def to_pandas(self) -> pandas.DataFrame:
        """All texts as a data frame; `frame[frame.selected]` is the selection.

        Returns:
            A row for each text, with the columns `number` (from 1, as the widget counts; the frame's index counts from 0, as `selection`
            does, and the frame says so above its columns), `text`, `label` (where there are labels), `cluster` (the name of its cluster,
            where there are clusters), `x` and `y` in the map, `norm`, `match`, `selected`, and `query_cosine` (where there is a query).
            Values that are not computed yet, or do not exist, are NaN.

        Raises:
            MissingExtra: If pandas is not installed.
        """
        return self._survey.to_pandas(self.matches, self.selection)

    # Actions of the browser.

    def _actions(self) -> Mapping[str, Callable[..., None]]:
        return {"go": self._go, "cancel": self._cancel, "query": self._ask, "state": self._send_again}

    def _send_again(self) -> None:
        """Send a view what it may have lost while it was being made: all that changes after the constructor."""
        self.send_state([name for name in self.keys if name not in _SENT_AT_ONCE])

    def _ask(self, text: str) -> None:
        """Set the query. The same query is embedded again, since the embedder's instruction may have changed."""
        if text == self.query:
            self._take_query()
        else:
            self.query = text

    @traitlets.validate("selection")
    def _valid_selection(self, proposal: Any) -> list[int]:
        wrong = [index for index in proposal.value if not 0 <= index < len(self.texts)]
        if wrong:
            raise InputError(f"contains {wrong[0]}, but indices go from 0 to {len(self.texts) - 1}", argument="selection")
        return sorted(set(proposal.value))

    @traitlets.validate("focused")
    def _valid_focus(self, proposal: Any) -> int | None:
        index: int | None = proposal.value
        if index is not None and not 0 <= index < len(self.texts):
            raise InputError(f"is {index}, but indices go from 0 to {len(self.texts) - 1}", argument="focused")
        return index

    @traitlets.validate("colour_by")
    def _valid_colour(self, proposal: Any) -> str:
        if proposal.value == "labels" and self._survey.labels is None:
            raise ConfigError("is 'labels', but there are none", option="colour_by", advice="Pass labels=, a group for each text")
        return str(proposal.value)

    @traitlets.validate("dimensions")
    def _valid_dimensions(self, proposal: Any) -> int:
        width: int = proposal.value
        if width and width not in self._survey.widths:
            measured = ", ".join(map(str, self._survey.widths))
            raise ConfigError(
                f"is {width}, but recall is measured at {measured}", option="dimensions", advice="Pass other widths as widths="
            )
        return width

    @traitlets.validate("query")
    def _valid_query(self, proposal: Any) -> str:
        query: str = proposal.value.strip()
        if query and self._survey.embedder is None:
            raise ConfigError("needs an embedder", option="query", advice="Pass one: EmbeddingExplorer(embedder, texts, vectors=array)")
        return query

    @traitlets.observe("query")
    def _take_query(self, _: Any = None) -> None:
        self._survey.query_vector = self._survey.query_of = None
        self._asked = {}
        if not self._facts:  # the constructor has not finished
            return
        self.focused = None
        self._show_nearest()
        if self.query:
            self._go()

    # Background work. A step whose result exists is skipped, so that cancelled work continues where it stopped.

    def _go(self) -> None:
        self._last = self._begin("Starting", self._work(), lambda _: None)

    async def _work(self) -> None:
        survey, failed = self._survey, None
        if survey.space is None:
            await survey.open(self._say)
            self._show_facts()
            self.dimensions = survey.dimensions
            self._show_heat()
            self._show_health()
            self._show_nearest()
        if survey.plane is None:
            await survey.draw(self._say)
            self._show_map()
        if survey.cluster_of is None:
            await survey.divide(self._say)
            self._clusters = clusters_view(survey)
        if self.query and not self._is_asked:
            try:
                await survey.ask(self.query, self._say)
            except Qwen3Error as error:  # the other steps do not need it
                self._fail(error)
                failed = error
            self._show_query()
        if not survey.recall:
            await survey.compare(self._say)
            self._recall = recall_view(survey)
        if survey.pairs is None:
            await survey.pair(self._say)
            self._show_health()
        self.set_trait("ready", True)
        if failed:
            raise failed

    @property
    def _is_asked(self) -> bool:
        """Whether the stored vector belongs to the present query: the vector of an earlier one may arrive late."""
        return bool(self.query) and self._survey.query_of == (self.query, self._survey.instruction)

    def _say(self, what: str) -> None:
        self.busy = what

    # State for the browser.

    def _show_facts(self) -> None:
        survey = self._survey
        self._facts = {
            "count": len(self.texts),
            "widths": list(survey.widths) if survey.space else [],
            "model": survey.embedder.engine.model if survey.embedder else "",
            "instruction": survey.query_words,
            "asks": survey.embedder is not None,
        }

    @traitlets.observe("focused", "dimensions")
    def _show_nearest(self, _: Any = None) -> None:
        survey, index = self._survey, self.focused
        if survey.space is None or not self.dimensions:
            return
        if index is None:
            near = nearest_view(survey.near_query(self.dimensions) if self._is_asked else ())
            self._nearest = near | {"of": None, "text": self.query if self._is_asked else ""}
        else:
            has_direction = survey.space.place(index) is not None
            near = nearest_view(survey.near_text(index, self.dimensions))
            self._nearest = near | {"of": index, "text": self.texts[index][:MOST_READ], "sound": has_direction}

    @traitlets.observe("selection")
    def _show_heat(self, _: Any = None) -> None:
        if self._survey.space is not None:
            self._heat = heat_view(self._survey, self.selection)

    @traitlets.observe("search")
    def _show_found(self, _: Any = None) -> None:
        wanted = self.search.casefold().strip()
        self._found = [index for index, text in enumerate(self._folded) if wanted in text] if wanted else []

    def _show_map(self) -> None:
        if self._survey.space is not None and self._survey.plane is not None:
            self._map = map_view(self._survey.space, self._survey.plane)

    def _show_query(self) -> None:
        vector, plane = self._survey.query_vector if self._is_asked else None, self._survey.plane
        if vector is not None and plane is not None:
            self._asked = {"text": self.query, "point": point_view(plane, vector[None])[0]}
        self._show_nearest()

    def _show_health(self) -> None:
        if self._survey.space is not None:
            self._health = health_view(self._survey.space, self._survey.pairs, self._survey.above, self.texts)

    def __repr__(self) -> str:
        return f"EmbeddingExplorer({len(self.texts):,} texts, dimensions={self.dimensions})"

    def _static_html(self) -> str:
        if self._running is not None:
            wait([self._running], PATIENCE_S)
        return self._survey._repr_html_()
