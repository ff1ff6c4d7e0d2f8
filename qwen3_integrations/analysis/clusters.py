"""Clusters of vectors, the vectors that represent many, and their order by similarity. All of it is one method: trees of mergers.

The trees are scipy's (extra `notebook`). "Unit rows" are as in `analysis.vectors`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qwen3_integrations.analysis.vectors import Indices, cosines, proceed
from qwen3_integrations.core.extras import require
from qwen3_integrations.core.types import Rows

MOST_IN_TREE = 1500
"""Number of rows in a tree; of more rows, as many are drawn at random with a fixed seed. Its distances take 18 MB."""

MOST_CLUSTERS = 8
"""Largest number of clusters: colours and shapes that can be distinguished."""

LEAST_ROWS = 10
"""Fewer rows have no clusters."""

LEAST_PART = 0.02
"""A smaller share of the rows is a tiny part, which does not count when the number of clusters is chosen."""

NEARLY_BEST = 0.95
"""Of several numbers of clusters whose silhouettes are almost equal (at least this share of the best), the largest is chosen."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Texts whose vectors are near each other.

    Attributes:
        name: Words that are typical of its texts, such as `file, copy, folder`.
        indices: Indices of its texts, from 0, in order.
    """

    name: str
    indices: tuple[int, ...]


def divided(rows: Rows, count: int | None = None, between: Callable[[], None] = proceed) -> Indices:
    """Divide rows into clusters.

    Ward's tree of at most 1,500 rows is cut; each row belongs to the nearest mean of these parts.

    Args:
        rows: Unit rows.
        count: Number of clusters, at most; None to choose it from 2 to 8 by the mean silhouette.
        between: Called between steps.

    Returns:
        The cluster of each row, from 0, the largest cluster first; all -1 if there are fewer than 10 rows.
    """
    if len(rows) < LEAST_ROWS:
        return np.full(len(rows), -1)
    some = rows[_sample(len(rows))]
    distances = _distances(some)
    between()
    numbers = range(2, MOST_CLUSTERS + 1) if count is None else (count,)
    cuts = _cuts(distances, [min(number, len(some)) for number in numbers])
    between()
    if len(cuts) > 1:
        fits = []
        for cut in cuts:
            fits.append(_silhouette(distances, cut))
            between()
        chosen = max((at for at, fit in enumerate(fits) if fit >= NEARLY_BEST * max(fits)), default=0)
        cut = cuts[chosen]
    else:
        cut = cuts[0]
    means = np.stack([some[cut == part].mean(axis=0) for part in range(int(cut.max()) + 1)])
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    nearest = cosines(rows, means.astype(np.float32)).argmax(axis=1)
    between()
    sizes = np.bincount(nearest, minlength=len(means))
    order = np.argsort(-sizes, kind="stable")
    place = np.empty(len(means), np.intp)
    place[order] = np.arange(len(means))
    of: Indices = place[nearest]
    return of


def representatives(rows: Rows, most: int) -> Indices:
    """Positions of at most `most` unit rows that represent all, in order: of each part of Ward's tree the row nearest to the part's mean.

    The tree is of at most 1,500 rows.
    """
    if len(rows) <= most:
        return np.arange(len(rows))
    drawn = _sample(len(rows))
    some = rows[drawn]
    (cut,) = _cuts(_distances(some), [most])
    found = []
    for part in range(int(cut.max()) + 1):
        members = np.flatnonzero(cut == part)
        found.append(drawn[members[(some[members] @ some[members].mean(axis=0)).argmax()]])
    return np.sort(np.array(found))


def seriated(similarities: Rows) -> Indices:
    """The order in which rows that follow each other are as similar as possible: the best order of the leaves of a tree of mean distances.

    Args:
        similarities: Cosines of unit rows with each other, shape (rows, rows).

    Returns:
        Positions of the rows; of the two directions, that in which the earlier row stands first.

    Source: Bar-Joseph, Gifford, Jaakkola, "Fast optimal leaf ordering for hierarchical clustering" (2001), by scipy.
    """
    if len(similarities) < 3:
        return np.arange(len(similarities))
    hierarchy = _hierarchy()
    distances = _condensed(np.sqrt(np.maximum(2 - 2 * similarities.astype(np.float64), 0)))
    tree = hierarchy.linkage(distances, "average")
    order: Indices = hierarchy.leaves_list(hierarchy.optimal_leaf_ordering(tree, distances)).astype(np.intp)
    return order if order[0] < order[-1] else order[::-1]


def _sample(count: int) -> Indices:
    if count <= MOST_IN_TREE:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, MOST_IN_TREE, replace=False))


def _distances(rows: Rows) -> NDArray[np.float64]:
    distances: NDArray[np.float64] = np.sqrt(np.maximum(2 - 2 * cosines(rows, rows).astype(np.float64), 0))
    np.fill_diagonal(distances, 0)
    return distances


def _condensed(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    return distances[np.triu_indices(len(distances), 1)]


def _cuts(distances: NDArray[np.float64], numbers: list[int]) -> list[Indices]:
    """Ward's tree, cut into each number of parts."""
    hierarchy = _hierarchy()
    tree = hierarchy.linkage(_condensed(distances), "ward")
    return list(hierarchy.cut_tree(tree, n_clusters=numbers).T.astype(np.intp))


def _silhouette(distances: NDArray[np.float64], of: Indices) -> float:
    """The mean silhouette, in [-1, 1]; 0 for rows in tiny parts; -1 with fewer than two other parts.

    Else one far row would have the best silhouette of all: it is a part, and everything else is another.

    Source: Rousseeuw, "Silhouettes" (1987).
    """
    sizes = np.bincount(of)
    large = np.flatnonzero(sizes >= max(2, LEAST_PART * len(of)))
    if len(large) < 2:
        return -1.0
    inside = of[:, None] == large
    rows = np.flatnonzero(inside.any(axis=1))
    part = inside[rows].argmax(axis=1)
    sums = distances[rows] @ inside.astype(np.float64)
    own = sums[np.arange(len(rows)), part] / (sizes[large[part]] - 1)
    means = sums / sizes[large]
    means[np.arange(len(rows)), part] = np.inf
    other = means.min(axis=1)
    return float(((other - own) / np.maximum(np.maximum(other, own), 1e-12)).sum() / len(of))


def _hierarchy() -> Any:
    return require("scipy.cluster.hierarchy", "notebook")
