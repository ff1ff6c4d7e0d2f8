"""Arithmetic on embeddings: cosines, neighbours, a plane to draw them in, what a smaller width costs, and what is wrong with them.

Everything works in blocks of rows, so that 10,000 vectors of 1,024 need some 20 MB beside themselves. "Unit rows" are float32,
shape (texts, dimensions), finite and of unit length, as `unit` makes them.
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

BLOCK = 256
"""Rows at once: their cosines with 10,000 others are 10 MB."""

TIE = 1e-6
"""Cosines in float32 that are nearer than this are the same."""

Indices = NDArray[np.intp]


def proceed() -> None:
    """Does nothing. Long functions call such a one between blocks; another may raise there to stop them."""


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """A plane through vectors: their two principal components.

    Attributes:
        mean: Their mean, shape (dimensions,).
        axes: The two directions, orthonormal, shape (2, dimensions); zeros where there is no second one.
        explained: Each axis's share of the variance, in [0, 1], the larger first.
    """

    mean: Rows
    axes: Rows
    explained: tuple[float, float]

    def place(self, rows: Rows) -> Rows:
        """Rows in the plane: shape (rows, 2), float32."""
        placed: Rows = rows @ self.axes.T - self.mean @ self.axes.T
        return placed


@dataclass(frozen=True, slots=True, eq=False)
class Health:
    """What vectors look like, before anything is done to them.

    Attributes:
        count, width: Their shape.
        non_finite: Rows that hold a NaN or an infinity, in order.
        zero: Rows of length zero, in order: they have no direction, so no cosine.
        norms: Least, median and largest length of the finite rows; None without any.
        mean_cosine: Mean cosine of two different usable rows, in [-1, 1]; None with fewer than two.
        variance: Of each dimension over the finite rows, shape (width,), float64.
        constant: Dimensions that hardly vary: a variance below a millionth of the mean one.
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
        above: How many pairs in all have at least the cosine that was asked for.
    """

    best: tuple[tuple[int, int, float], ...]
    above: int


def matrix(vectors: ArrayLike) -> Rows:
    """Anything like an array as float32 of shape (texts, dimensions); values may be non-finite.

    Raises:
        InputError: If it has another shape, or holds no numbers.
    """
    try:
        with np.errstate(over="ignore"):  # what float32 can't hold becomes an infinity, which health names
            rows = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"must be numbers in rows of one length: {error}", argument="vectors") from None
    if rows.ndim == 1 and rows.size == 0:
        return rows.reshape(0, 0)
    if rows.ndim != 2 or (len(rows) and not rows.shape[1]):
        raise InputError(f"must have the shape (texts, dimensions), not {rows.shape}", argument="vectors")
    return rows


def lengths(rows: Rows) -> NDArray[np.float64]:
    """The length of each row, in float64, in which squares can't overflow."""
    sums = [np.square(block, dtype=np.float64).sum(axis=1) for block in _blocks(rows)]
    norms: NDArray[np.float64] = np.sqrt(np.concatenate([np.empty(0), *sums]))
    return norms


def unit(rows: Rows, norms: NDArray[np.float64]) -> Rows:
    """Finite rows at unit length; a row of zeros stays one. Rows that have it already are not copied.

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
        width: Compare their first so many dimensions alone (Matryoshka: slice, then normalise again); None for all.
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
        k: At most so many.
        without: A position to leave out: a text is not its own neighbour.
    """
    k = whole_number(k, "k", of_call=True)
    order = np.argsort(-similarities, kind="stable")
    return order[order != without][:k] if without is not None else order[:k]


def matryoshka_widths(width: int) -> tuple[int, ...]:
    """Widths worth comparing: 32, 48, 64, 96, 128, 192 and so on below `width`, and itself; from 2 on where that is 32 or less."""
    width = whole_number(width, "width", of_call=True)
    first = 32 if width > 32 else 2
    steps = (step << power for power in range(width.bit_length()) for step in (first, 3 * first // 2))
    return (*(step for step in steps if step < width), width)


def recall_of_widths(
    rows: Rows, widths: Sequence[int], k: int = 10, *, most_queries: int | None = None, between: Callable[[], None] = proceed
) -> tuple[float, ...]:
    """How many of the `k` nearest neighbours a smaller width still finds, for each of `widths`.

    Each row is cut to the width and normalised again, then asks for its `k` nearest others. A neighbour counts as found when its
    cosine at full width is among the `k` best there, so that ties at full width, as between duplicates, cost nothing.

    Args:
        rows: Unit rows.
        widths: Each from 1 to the rows' own.
        k: Neighbours asked for; with no more rows than that, all others.
        most_queries: Ask with so many rows, drawn at random but always the same; None for all.
        between: Called between blocks.

    Returns:
        The mean share found, in [0, 1], in the order of `widths`; 1.0 where there is at most one row.
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
            cut /= divisor  # the asking row's own length changes no order
            cut[own] = -np.inf
            nearest = np.argpartition(cut, -k, axis=1)[:, -k:]
            found[place] += np.count_nonzero(np.take_along_axis(full, nearest, axis=1) >= least)
    return tuple(float(share) for share in found / (len(asking) * k))


def principal_plane(rows: Rows, between: Callable[[], None] = proceed) -> Projection:
    """The two principal components of finite rows, by subspace iteration: no matrix of dimensions times dimensions is made.

    Source: Halko, Martinsson, Tropp, "Finding structure with randomness" (2011), algorithm 4.4, repeated until the two largest
    values stand still.
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
    found *= np.sign(found[np.arange(len(found)), np.abs(found).argmax(axis=1)])[:, None]  # the same picture every time
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
    """Look vectors over; the rows may be anything `matrix` lets through."""
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
        most: How many pairs to return; at least 1.
        above: The least cosine of a near-duplicate.
        between: Called between blocks.
    """
    most = whole_number(most, "most", of_call=True)
    count, pairs = 0, np.empty((0, 2), np.intp)
    best = np.empty(0, np.float32)
    for start in range(0, len(rows), BLOCK):
        between()
        block = rows[start : start + BLOCK] @ rows[start:].T
        block[np.tri(*block.shape, dtype=np.bool_)] = -np.inf  # each pair once, and none with itself
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
    """Of all pairs at once: the squared length of the sum of unit rows is their number and twice the sum of all cosines."""
    count = int(usable.sum())
    if count < 2:
        return None
    total = np.zeros(rows.shape[1])
    for block, length, use in zip(_blocks(rows), _blocks(norms), _blocks(usable), strict=True):
        total += (block[use] / length[use, None]).sum(axis=0)
    return float(np.clip((total @ total - count) / (count * (count - 1)), -1, 1))


def _scatter_times(rows: Rows, mean: Rows, basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """The centred rows' scatter matrix times `basis`, without making that matrix, or a centred copy of the rows."""
    narrow = basis.astype(np.float32)
    product = np.zeros_like(basis)
    for block in _blocks(rows):
        centred = block - mean
        product += centred.T @ (centred @ narrow)
    return product
