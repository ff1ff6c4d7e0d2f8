"""A survey of a corpus: its texts, their vectors, and the results of each step of the analysis. Needs no browser."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from qwen3_integrations.analysis.clusters import MOST_CLUSTERS, Cluster, divided, representatives
from qwen3_integrations.analysis.neighbours import NEIGHBOURS, Neighbour, Space
from qwen3_integrations.analysis.tables import clusters_table, health_table, pairs_table, recall_table
from qwen3_integrations.analysis.vectors import (
    Indices,
    Pairs,
    Projection,
    closest_pairs,
    matrix,
    matryoshka_widths,
    principal_plane,
    recall_of_widths,
)
from qwen3_integrations.analysis.words import group_names
from qwen3_integrations.core.documents import texts_of
from qwen3_integrations.core.embedder import Embedder
from qwen3_integrations.core.slicing import SLICE, SliceSize
from qwen3_integrations.core.tokenizer import checked_texts
from qwen3_integrations.core.types import Rows
from qwen3_integrations.core.validation import fraction, optional_whole_number, whole_number
from qwen3_integrations.errors import ConfigError, InputError

if TYPE_CHECKING:
    import pandas

T = TypeVar("T")
Say = Callable[[str], None]

SLICES = SliceSize(first=SLICE)
"""Progress is shown after every `SLICE` texts, from the first slice on."""

MOST_QUERIES = 1000
"""Number of texts to measure recall with in a larger corpus: the standard error is then below 0.01."""

MOST_PAIRS = 200
"""Number of nearest pairs to keep; all near-duplicates are counted."""

COUNTED_FROM_0 = "index from 0, number from 1"
"""The name above the columns of data frames."""


class Survey:
    """Texts and what is known of their vectors.

    Each coroutine computes one result, reports its work through `say`, and may be cancelled. Embedding continues where it stopped.

    Args:
        embedder: An `Embedder`, or a LangChain or LlamaIndex component of this package; None if only `vectors` are given.
        texts: Strings, LangChain documents or LlamaIndex nodes.
        vectors: Their vectors, shape (texts, dimensions); None to embed them.
        labels: A group for each text.
        widths: Dimensions to compare; None for `matryoshka_widths`. The vectors' own width is always included.
        dimensions: The first width to show; it is compared too.
        above: The smallest cosine of a near-duplicate, in (0, 1].
        clusters: Number of clusters, from 1 to 8; None to choose it.

    Attributes:
        space: The vectors; None until `open`.
        plane: Their map; None until `draw`.
        cluster_of: The cluster of each text, -1 for none; None until `divide`.
        cluster_names: Names of the clusters, of words of their texts; empty until `divide`, and for fewer than 10 texts.
        recall: Width -> recall@10 against the full width, in [0, 1]; empty until `compare`.
        pairs: The nearest pairs; None until `pair`.
        query_vector: Vector of the last query, of unit length; None without a query.
        query_of: That query and its instruction.

    Raises:
        ConfigError, InputError, TypeError: As `EmbeddingExplorer`.
    """

    def __init__(
        self,
        embedder: Any,
        texts: Sequence[Any] | None,
        vectors: ArrayLike | None,
        labels: Sequence[Any] | None,
        widths: Sequence[int] | None,
        dimensions: int | None,
        above: float,
        clusters: int | None = None,
    ) -> None:
        if texts is None:
            advice = "Pass them: EmbeddingExplorer(embedder, texts) or EmbeddingExplorer(vectors=array, texts=texts)"
            raise ConfigError("are missing", option="texts", advice=advice)
        if embedder is None and vectors is None:
            raise ConfigError("is missing", option="embedder", advice="Pass one, or the vectors of the texts as vectors=")
        above = fraction(above, "duplicates_above")
        self.texts = checked_texts(texts if isinstance(texts, str) else texts_of(list(texts)))
        self.labels = None if labels is None else [str(label) for label in labels]
        self.above = above
        self.embedder = None if embedder is None else _embedder_of(embedder)
        self._component = embedder
        self._rows = None if vectors is None else matrix(vectors)
        for what, values in (("labels", self.labels), ("vectors", self._rows)):
            if values is not None and len(values) != len(self.texts):
                raise InputError(f"there are {len(self.texts)} texts, but {len(values)} {what}", advice="Pass one for each text")
        self._batches: list[Rows] = []
        self._wanted_clusters = optional_whole_number(clusters, "clusters", 1, MOST_CLUSTERS, note=", or None to choose it")
        self._typical: list[int] | None = None
        self.widths = tuple(whole_number(each, "widths") for each in (() if widths is None else widths))
        self.dimensions = optional_whole_number(dimensions, "dimensions")
        if self._rows is not None and len(self._rows):
            self._set_widths(self._rows.shape[1])
        self.space: Space | None = None
        self.plane: Projection | None = None
        self.cluster_of: Indices | None = None
        self.cluster_names: tuple[str, ...] = ()
        self.recall: dict[int, float] = {}
        self.pairs: Pairs | None = None
        self.query_vector: Rows | None = None
        self.query_of: tuple[str, str | None] | None = None

    @property
    def instruction(self) -> str | None:
        """The instruction for queries; None for the prompt of the model's folder. A component's instruction may change at any time."""
        instruction: str | None = "" if self._component is None else self._component.instruction
        return instruction

    @property
    def query_words(self) -> str:
        """What stands before queries, to be shown: the instruction, or the prompt of the model's folder."""
        instruction = self.instruction
        return str(self._component.query_prompt) if instruction is None and self._component is not None else instruction or ""

    @property
    def k(self) -> int:
        """Number of neighbours in recall: 10, or all other texts of a smaller corpus."""
        return 0 if self.space is None else max(min(NEIGHBOURS, len(self.space.unit) - 1), 0)

    @property
    def asked(self) -> int:
        """Number of texts in the measurement of recall."""
        return 0 if self.space is None else min(MOST_QUERIES, len(self.space.unit))

    async def open(self, say: Say) -> Space:
        """Embed the texts, unless vectors were passed, and compute the properties of the vectors.

        Raises:
            EngineError: If the engine or its server fails.
            ConfigError: For a width that the vectors don't have.
        """
        rows = self._rows if self._rows is not None else await self._embed(say)
        say("Checking the vectors")
        space = await asyncio.to_thread(Space, rows)
        self._set_widths(space.width)
        self.space, self._rows, self._batches = space, None, []
        return space

    async def draw(self, say: Say) -> Projection:
        """Find the plane of the map."""
        say("Drawing the map")
        self.plane = await _in_thread(principal_plane, self._opened.unit)
        return self.plane

    async def divide(self, say: Say) -> None:
        """Find clusters, and name them by their words.

        Raises:
            MissingExtra: If scipy is not installed.
        """
        say("Finding clusters")
        found = await _in_thread(divided, self._opened.unit, self._wanted_clusters)
        of = np.full(len(self.texts), -1)
        of[self._opened.usable] = found
        say("Naming clusters")
        self.cluster_names = await asyncio.to_thread(group_names, self.texts, of)
        self.cluster_of = of

    @property
    def clusters(self) -> tuple[Cluster, ...]:
        """The clusters, the largest first."""
        of = self.cluster_of
        return tuple(
            Cluster(name, tuple(np.flatnonzero(of == number).tolist())) for number, name in enumerate(self.cluster_names) if of is not None
        )

    def typical(self, most: int, among: Sequence[int] | None = None) -> list[int]:
        """At most `most` texts that represent all, or the texts `among`; those without a direction are left out."""
        space = self._opened
        if among is not None:
            places = np.array([place for index in among if (place := space.place(index)) is not None], np.intp)
            chosen: list[int] = space.usable[places[representatives(space.unit[places], most)]].tolist()
            return chosen
        if self._typical is None:
            self._typical = space.usable[representatives(space.unit, most)].tolist()
        return self._typical

    async def compare(self, say: Say) -> None:
        """Measure recall at each width, with at most 1,000 of the texts."""
        say("Comparing widths")
        unit = self._opened.unit
        recall = await _in_thread(recall_of_widths, unit, self.widths, NEIGHBOURS, most_queries=MOST_QUERIES)
        self.recall = dict(zip(self.widths, recall, strict=True))

    async def pair(self, say: Say) -> None:
        """Find the nearest pairs."""
        say("Looking for near-duplicates")
        found = await _in_thread(closest_pairs, self._opened.unit, MOST_PAIRS, above=self.above)
        usable = self._opened.usable.tolist()
        self.pairs = Pairs(tuple((usable[first], usable[second], cosine) for first, second, cosine in found.best), found.above)

    async def ask(self, query: str, say: Say) -> None:
        """Embed a query with the embedder's instruction.

        Raises:
            PromptTooLong, EngineError: As `Embedder.embed_queries`.
            ConfigError: If the embedder's vectors are not as wide as the texts'.
        """
        say("Embedding the query")
        assert self.embedder is not None  # the widget refuses a query without one
        vector = (await self.embedder.aembed_queries([query], self.instruction))[0]
        if len(vector) != self._opened.width:
            raise ConfigError(
                f"makes vectors of {len(vector)} dimensions, but those of the texts have {self._opened.width}", option="embedder"
            )
        self.query_vector, self.query_of = vector, (query, self.instruction)

    def near_text(self, index: int, width: int) -> tuple[Neighbour, ...]:
        """The texts nearest to a text; none if its vector has no direction."""
        place = self._opened.place(index)
        return () if place is None else self._opened.neighbours(self._opened.unit[place], width, without=index)

    def near_query(self, width: int) -> tuple[Neighbour, ...]:
        """The texts nearest to the query; none without one."""
        return () if self.query_vector is None else self._opened.neighbours(self.query_vector, width)

    def to_pandas(self, matches: Sequence[int], selection: Sequence[int]) -> pandas.DataFrame:
        """The columns of `EmbeddingExplorer.to_pandas`."""
        from qwen3_integrations.core.extras import require

        count, space = len(self.texts), self.space
        points, cosines = np.full((count, 2), np.nan), np.full(count, np.nan)
        columns: dict[str, Any] = {"number": np.arange(1, count + 1), "text": self.texts}
        if self.labels is not None:
            columns["label"] = self.labels
        if self.cluster_names and self.cluster_of is not None:
            columns["cluster"] = [self.cluster_names[of] if of >= 0 else None for of in self.cluster_of.tolist()]
        if space and self.plane:
            points[space.usable] = self.plane.place(space.unit)
        columns |= {"x": points[:, 0], "y": points[:, 1], "norm": space.norms if space else np.full(count, np.nan)}
        columns |= {"match": np.isin(np.arange(count), matches), "selected": np.isin(np.arange(count), selection)}
        if space and self.query_vector is not None:
            cosines[space.usable] = space.unit @ self.query_vector
            columns["query_cosine"] = cosines
        frame: pandas.DataFrame = require("pandas", "notebook").DataFrame(columns)
        frame.columns.name = COUNTED_FROM_0
        return frame

    def _repr_html_(self) -> str:
        if self.space is None:
            return (
                f"<p>EmbeddingExplorer: {len(self.texts):,} texts, no vectors yet.</p>"
                if self.texts
                else "<p>EmbeddingExplorer: no texts.</p>"
            )
        tables = [health_table(self.space.health, self.plane.explained if self.plane else None, self.pairs, self.above)]
        if self.cluster_names:
            tables.append(clusters_table(self.clusters))
        if self.recall:
            tables.append(recall_table(self.recall, self.k))
        if self.pairs and self.pairs.best:
            tables.append(pairs_table(self.pairs, self.texts))
        return "".join(tables)

    @property
    def _opened(self) -> Space:
        assert self.space is not None, "call open first"
        return self.space

    async def _embed(self, say: Say) -> Rows:
        assert self.embedder is not None
        done = sum(map(len, self._batches))
        say(f"Embedding: {done:,} of {len(self.texts):,} texts")
        async with aclosing(self.embedder.aslices(self.texts[done:], lambda text: text, size=SLICES)) as parts:
            async for part in parts:
                self._batches.append(part.rows)
                done += len(part.rows)
                if done < len(self.texts):
                    say(f"Embedding: {done:,} of {len(self.texts):,} texts")
        return np.concatenate(self._batches)

    def _set_widths(self, width: int) -> None:
        """Fix the widths to compare, once the vectors' own is known."""
        widths = {whole_number(each, "widths", 1, width) for each in self.widths or matryoshka_widths(width)}
        self.dimensions = width if self.dimensions is None else whole_number(self.dimensions, "dimensions", 1, width)
        self.widths = tuple(sorted(widths | {self.dimensions, width}))


async def _in_thread(work: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Compute in a thread, which ends at its next block when this is cancelled."""
    stopped = threading.Event()

    def between() -> None:
        if stopped.is_set():
            raise CancelledError

    try:
        return await asyncio.to_thread(work, *arguments, between=between, **options)
    finally:
        stopped.set()


def _embedder_of(embedder: Any) -> Embedder:
    """The core object behind what was passed, so that the event loop stays free."""
    core = getattr(embedder, "_embedder", embedder)
    if isinstance(core, Embedder):
        return core
    raise ConfigError(
        f"must be an Embedder, Qwen3Embeddings or Qwen3Embedding, not {type(embedder).__name__}",
        option="embedder",
        advice="Pass vectors of other models as vectors=",
    )
