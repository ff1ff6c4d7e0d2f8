"""A set of vectors with its neighbours and similarities, for widgets, tables and scripts. Needs only numpy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from qwen3_integrations.analysis.vectors import Indices, best_first, cosines, health, lengths, matrix, unit
from qwen3_integrations.core.types import Rows

NEIGHBOURS = 10
"""Number of nearest texts that are compared between widths: the `k` of recall@k."""

Fate = Literal["kept", "lost", "gained"]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A text near another one, or near a query.

    Attributes:
        index: Index of the text.
        cosine: Cosine at full width, in [-1, 1].
        cut: Cosine at the smaller width, in [-1, 1].
        fate: `kept` if the text is among the nearest at both widths, `lost` if only at full width, `gained` if only at the smaller width.
    """

    index: int
    cosine: float
    cut: float
    fate: Fate


class Space:
    """Vectors with their properties, scaled to unit length. Vectors without a direction (not finite, or zero) are excluded.

    Args:
        vectors: An array, or nested lists, of shape (texts, dimensions).

    Attributes:
        rows: The vectors as they were passed, float32.
        usable: Indices of the vectors with a direction, in order.
        unit: The usable vectors at unit length, shape (usable, dimensions).
        health: Properties of the vectors.

    Raises:
        InputError: If they have another shape, or are not numbers.
    """

    def __init__(self, vectors: ArrayLike) -> None:
        self.rows = matrix(vectors)
        self.norms = lengths(self.rows)
        self.health = health(self.rows)
        self.usable: Indices = np.flatnonzero(np.isfinite(self.norms) & (self.norms > 0))
        whole = len(self.usable) == len(self.rows)
        self.unit = unit(self.rows if whole else self.rows[self.usable], self.norms if whole else self.norms[self.usable])

    @property
    def width(self) -> int:
        """Dimensions of a vector."""
        return int(self.rows.shape[1])

    def place(self, index: int) -> int | None:
        """Row of a text in `unit`; None if its vector has no direction."""
        place = int(np.searchsorted(self.usable, index))
        return place if place < len(self.usable) and self.usable[place] == index else None

    def neighbours(self, vector: Rows, width: int, k: int = NEIGHBOURS, without: int | None = None) -> tuple[Neighbour, ...]:
        """The nearest texts of a vector: the `k` nearest at full width, nearest first, then those found only at the smaller width.

        Args:
            vector: Of unit length, shape (dimensions,).
            width: The smaller width.
            k: Number of neighbours at each width.
            without: A text to exclude: the text of the vector itself.
        """
        out = None if without is None else self.place(without)
        full = cosines(vector[None], self.unit)[0]
        cut = full if width == self.width else cosines(vector[None], self.unit, width)[0]
        nearest, found = best_first(full, k, out).tolist(), best_first(cut, k, out).tolist()
        listed: list[tuple[int, Fate]] = [(place, "kept" if place in found else "lost") for place in nearest]
        listed += [(place, "gained") for place in found if place not in nearest]
        return tuple(Neighbour(int(self.usable[place]), float(full[place]), float(cut[place]), fate) for place, fate in listed)

    def similarities(self, indices: Iterable[int]) -> tuple[list[int], Rows]:
        """Cosines of texts with each other.

        Args:
            indices: Indices of texts. Texts whose vectors have no direction are skipped.

        Returns:
            The remaining indices, and their cosines, shape (remaining, remaining).
        """
        places = {index: place for index in indices if (place := self.place(index)) is not None}
        rows = self.unit[list(places.values())]
        return list(places), cosines(rows, rows)
