"""Arithmetic on embeddings: cosines, nearest neighbours, a projection to a plane, recall at smaller widths, and defects.

All functions work in blocks of rows: 10,000 vectors of 1,024 dimensions need about 20 MB of additional memory. "Unit rows" are float32,
shape (texts, dimensions), finite and of unit length, as `unit` returns them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qwen3_integrations.core.types import Rows
from qwen3_integrations.core.validation import optional_whole_number, whole_number
from qwen3_integrations.errors import InputError

__all__ = [
    "Health",
    "Pairs",
    "Projection",
    "best_first",
    "closest_pairs",
    "cosines",
    "health",
    "lengths",
    "matrix",
    "matryoshka_widths",
    "moments",
    "principal_plane",
    "recall_of_widths",
    "unit",
]

BLOCK = 256
"""Rows of a block. Their cosines with 10,000 other rows take 10 MB."""

TIE = 1e-6
"""Tolerance: float32 cosines with a smaller difference are equal."""

Indices = NDArray[np.intp]


def proceed() -> None:
    """Default of `between`: does nothing. Long functions call `between` between blocks; it may raise an error to stop them."""


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """A plane through vectors: their two principal components.

    Attributes:
        mean: Mean of the vectors, shape (dimensions,).
        axes: The two directions, orthonormal, shape (2, dimensions); zeros if there is no second direction.
        explained: Share of the variance on each axis, in [0, 1], the larger first.
    """

    mean: Rows
    axes: Rows
    explained: tuple[float, float]

    def place(self, rows: Rows) -> Rows:
        """Coordinates of rows in the plane: shape (rows, 2), float32."""
        placed: Rows = rows @ self.axes.T - self.mean @ self.axes.T
        return placed


@dataclass(frozen=True, slots=True, eq=False)
class Health:
    """Properties of vectors as given, before normalisation.

    Attributes:
        count, width: Number of rows and of dimensions.
        non_finite: Rows with a NaN or an infinity, in order.
        zero: Rows of length zero, in order. They have no direction, so no cosine.
        norms: Smallest, median and largest length of the finite rows; None without finite rows.
        mean_cosine: Mean cosine of two different usable rows, in [-1, 1]; None with fewer than two.
        variance: Of each dimension over the finite rows, shape (width,), float64.
        constant: Almost constant dimensions: their variance is below one millionth of the mean variance.
    """

    count: int
    width: int
    non_finite: tuple[int, ...]
    zero: tuple[int, ...]
    norms: tuple[float, float, float] | None
    mean_cosine: float | None
    variance: NDArray[np.float64]
    constant: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pairs:
    """The most similar rows.

    Attributes:
        best: (row, later row, cosine), most similar first; ties in order of rows.
        above: Number of all pairs with at least the requested cosine.
    """

    best: tuple[tuple[int, int, float], ...]
    above: int


def matrix(vectors: ArrayLike) -> Rows:
    """Convert to a float32 array of shape (texts, dimensions). Values may be non-finite.

    Raises:
        InputError: If it has another shape, or does not consist of numbers.
    """
    try:
        with np.errstate(over="ignore"):  # values beyond float32 become infinity, which `health` reports
            rows = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"must be numbers in rows of one length: {error}", argument="vectors") from None
    if rows.ndim == 1 and rows.size == 0:
        return rows.reshape(0, 0)
    if rows.ndim != 2 or (len(rows) and not rows.shape[1]):
        raise InputError(f"must have the shape (texts, dimensions), not {rows.shape}", argument="vectors")
    return rows


def lengths(rows: Rows) -> NDArray[np.float64]:
    """Length of each row, in float64, so that squares cannot overflow."""
    sums = [np.square(block, dtype=np.float64).sum(axis=1) for block in _blocks(rows)]
    norms: NDArray[np.float64] = np.sqrt(np.concatenate([np.empty(0), *sums]))
    return norms


def unit(rows: Rows, norms: NDArray[np.float64]) -> Rows:
    """Scale finite rows to unit length. Rows of zeros stay zero. If all rows have unit length, they are not copied.

    Args:
        rows: float32, shape (texts, dimensions).
        norms: Their `lengths`.
    """
    if np.all(np.abs(norms - 1) < TIE):
        return rows
    made: Rows = np.concatenate(
        [np.empty((0, rows.shape[1]), np.float32)]
        + [(block / length).astype(np.float32) for block, length in zip(_blocks(rows), _blocks(_divisor(norms)[:, None]), strict=True)]
    )
    return made


def cosines(left: Rows, right: Rows, width: int | None = None) -> Rows:
    """Cosines of unit rows: shape (left, right), in [-1, 1].

    Args:
        left, right: Unit rows of one width.
        width: Use only the first dimensions (Matryoshka: cut, then normalise again); None for all.
    """
    products = left[:, :width] @ right[:, :width].T
    if width is not None and width < right.shape[1]:
        products /= _divisor(lengths(left[:, :width])).astype(np.float32)[:, None]
        products /= _divisor(lengths(right[:, :width])).astype(np.float32)
    clipped: Rows = np.clip(products, -1, 1)
    return clipped


def best_first(similarities: Rows, k: int, without: int | None = None) -> Indices:
    """Positions of the `k` largest values, largest first, ties in order of position.

    Args:
        similarities: Shape (rows,).
        k: Maximum number of positions.
        without: A position to exclude: a text is not its own neighbour.
    """
    k = whole_number(k, "k", of_call=True)
    order = np.argsort(-similarities, kind="stable")
    return order[order != without][:k] if without is not None else order[:k]


def matryoshka_widths(width: int) -> tuple[int, ...]:
    """Widths to compare: 32, 48, 64, 96, 128, 192 and so on below `width`, then `width`. For a `width` up to 32 they start at 2."""
    width = whole_number(width, "width", of_call=True)
    first = 32 if width > 32 else 2
    steps = (step << power for power in range(width.bit_length()) for step in (first, 3 * first // 2))
    return (*(step for step in steps if step < width), width)


def recall_of_widths(
    rows: Rows, widths: Sequence[int], k: int = 10, *, most_queries: int | None = None, between: Callable[[], None] = proceed
) -> tuple[float, ...]:
    """Recall@k of smaller widths: share of the `k` nearest neighbours at full width that a smaller width still finds.

    Each row is cut to the width and normalised again; then its `k` nearest other rows are searched. A neighbour counts as found if its
    cosine at full width is among the `k` best there. So ties at full width, as between duplicates, do not lower the recall.

    Args:
        rows: Unit rows.
        widths: Each from 1 to the full width.
        k: Number of neighbours; all other rows if there are fewer.
        most_queries: Number of rows to use as queries, drawn at random with a fixed seed; None for all.
        between: Called between blocks.

    Returns:
        The mean share, in [0, 1], in the order of `widths`; 1.0 with at most one row.
    """
    count = len(rows)
    widths = [whole_number(width, "widths", 1, rows.shape[1], of_call=True) for width in widths]
    most_queries = optional_whole_number(most_queries, "most_queries", note=", or None for all", of_call=True)
    k = min(whole_number(k, "k", of_call=True), count - 1)
    if k < 1:
        return (1.0,) * len(widths)
    asking = np.arange(count)
    if most_queries is not None and most_queries < count:
        asking = np.sort(np.random.default_rng(0).choice(count, most_queries, replace=False))
    divisors = [_divisor(lengths(rows[:, :width])).astype(np.float32) for width in widths]
    found = np.zeros(len(widths))
    for block in _blocks(asking):
        own = (np.arange(len(block)), block)
        full = rows[block] @ rows.T
        full[own] = -np.inf
        least = np.partition(full, -k, axis=1)[:, -k, None] - TIE
        for place, (width, divisor) in enumerate(zip(widths, divisors, strict=True)):
            between()
            cut = rows[block, :width] @ rows[:, :width].T
            cut /= divisor  # the length of the query row does not change the order
            cut[own] = -np.inf
            nearest = np.argpartition(cut, -k, axis=1)[:, -k:]
            found[place] += np.count_nonzero(np.take_along_axis(full, nearest, axis=1) >= least)
    return tuple(float(share) for share in found / (len(asking) * k))


def principal_plane(rows: Rows, between: Callable[[], None] = proceed) -> Projection:
    """The two principal components of finite rows, by subspace iteration, without a matrix of shape (dimensions, dimensions).

    Source: Halko, Martinsson, Tropp, "Finding structure with randomness" (2011), algorithm 4.4, repeated until the two largest
    values converge.
    """
    width = rows.shape[1]
    mean, variance = moments(rows)
    total = float(variance.sum()) * len(rows)
    axes = np.zeros((2, width), np.float32)
    centre = mean.astype(np.float32)
    if total <= len(rows) * TIE**2:
        return Projection(centre, axes, (0.0, 0.0))
    basis = np.random.default_rng(0).standard_normal((width, min(12, width)))
    before = np.zeros(2)
    for _ in range(100):
        between()
        basis = np.linalg.qr(basis)[0]
        turned = _scatter_times(rows, centre, basis)
        values, vectors = np.linalg.eigh(basis.T @ turned)
        if np.abs(values[-2:] - before[: len(values[-2:])]).max() <= TIE * values[-1]:
            break
        before, basis = values[-2:], turned
    found = (basis @ vectors[:, ::-1][:, :2]).T
    found *= np.sign(found[np.arange(len(found)), np.abs(found).argmax(axis=1)])[:, None]  # fixed signs: a reproducible picture
    axes[: len(found)] = found
    shares = [*np.clip(values[::-1][:2] / total, 0, 1).tolist(), 0.0]
    return Projection(centre, axes, (shares[0], shares[1]))


def moments(rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance of each dimension over finite rows, float64; zeros without rows."""
    width, count = rows.shape[1], max(len(rows), 1)
    mean = sum((block.sum(axis=0, dtype=np.float64) for block in _blocks(rows)), np.zeros(width)) / count
    variance = sum((np.square(block - mean).sum(axis=0) for block in _blocks(rows)), np.zeros(width)) / count
    return mean, variance


def health(rows: Rows) -> Health:
    """Compute the properties of vectors; rows as returned by `matrix`."""
    norms = lengths(rows)
    finite = np.isfinite(norms)
    sound = rows if finite.all() else rows[finite]
    usable = finite & (norms > 0)
    variance = moments(sound)[1]
    spread = np.quantile(norms[finite], [0, 0.5, 1]).tolist() if finite.any() else None
    return Health(
        count=len(rows),
        width=rows.shape[1],
        non_finite=_listed(~finite),
        zero=_listed(finite & ~usable),
        norms=None if spread is None else (spread[0], spread[1], spread[2]),
        mean_cosine=_mean_cosine(rows, norms, usable),
        variance=variance,
        constant=_listed(variance < 1e-6 * variance.mean()) if len(sound) > 1 else (),
    )


def closest_pairs(rows: Rows, most: int, *, above: float = 0.98, between: Callable[[], None] = proceed) -> Pairs:
    """The most similar pairs of unit rows, and how many near-duplicates there are.

    Args:
        rows: Unit rows.
        most: Number of pairs to return; at least 1.
        above: Smallest cosine of a near-duplicate.
        between: Called between blocks.
    """
    most = whole_number(most, "most", of_call=True)
    count, pairs = 0, np.empty((0, 2), np.intp)
    best = np.empty(0, np.float32)
    for start in range(0, len(rows), BLOCK):
        between()
        block = rows[start : start + BLOCK] @ rows[start:].T
        block[np.tri(*block.shape, dtype=np.bool_)] = -np.inf  # each pair once, and no row with itself
        count += int(np.count_nonzero(block >= above - TIE))
        floor = best[-1] if len(best) == most else _nth_largest(block, most) - TIE
        left, right = np.nonzero(block > floor)
        best = np.concatenate([best, block[left, right]])
        pairs = np.concatenate([pairs, np.stack([left, right], axis=1) + start])
        order = np.lexsort((pairs[:, 1], pairs[:, 0], -np.round(best, 6)))[:most]
        best, pairs = best[order], pairs[order]
    listed = zip(pairs.tolist(), np.minimum(best, 1).tolist(), strict=True)
    return Pairs(tuple((first, second, cosine) for (first, second), cosine in listed), count)


def _blocks(rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    return (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))


def _divisor(norms: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(norms > 0, norms, 1)


def _nth_largest(values: Rows, n: int) -> float:
    return float(np.partition(values, -n, axis=None)[-n]) if values.size > n else -np.inf


def _listed(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(np.flatnonzero(mask).tolist())


def _mean_cosine(rows: Rows, norms: NDArray[np.float64], usable: NDArray[np.bool_]) -> float | None:
    """Mean cosine of all pairs: the squared length of the sum of unit rows equals their number plus twice the sum of all cosines."""
    count = int(usable.sum())
    if count < 2:
        return None
    total = np.zeros(rows.shape[1])
    for block, length, use in zip(_blocks(rows), _blocks(norms), _blocks(usable), strict=True):
        total += (block[use] / length[use, None]).sum(axis=0)
    return float(np.clip((total @ total - count) / (count * (count - 1)), -1, 1))


def _scatter_times(rows: Rows, mean: Rows, basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scatter matrix of the centred rows times `basis`, without that matrix and without a centred copy of the rows."""
    narrow = basis.astype(np.float32)
    product = np.zeros_like(basis)
    for block in _blocks(rows):
        centred = block - mean
        product += centred.T @ (centred @ narrow)
    return product
