"""Measurement: the sides must give equal results first; then they are timed alternately."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]


class Unequal(Exception):
    """Two sides give different results. Their times would mean nothing, so nothing is timed."""


class Work(Protocol):
    """The work of a row, equal for all sides."""

    def __len__(self) -> int: ...

    def salted(self, salt: int) -> Work:
        """The same work with another salt, so that no cache contains it. Salts of equal length give work of equal length."""

    def part(self, count: int) -> Work:
        """About the first `count` items."""


def as_rows(result: Any) -> Rows:
    """A result as an array."""
    return np.asarray(result, dtype=np.float64)


@dataclass(frozen=True)
class Side:
    """One of the compared implementations.

    Attributes:
        name: Its name in the tables.
        run: The timed part: from the output of `prepare` to a result.
        prepare: From the work to this side's input; not timed.
        rows: From the result to vectors, shape (items, width), or scores, shape (items,); not timed.
        before: Called before each repeat, not timed, such as vLLM's reset of its prefix cache.
        each: `run` is called once for each item of the input, and the time of a repeat is the median of these calls:
            a latency, in seconds, where other sides have the seconds of the whole work.
        share: Share of the work that this side does, in (0, 1]; less than 1 for a slow side.
        compared: Whether there are results to compare; a client that discards the answers has none.
    """

    name: str
    run: Callable[[Any], Any]
    prepare: Callable[[Any], Any] = lambda work: work
    rows: Callable[[Any], Rows] = as_rows
    before: Callable[[], object] | None = None
    each: bool = False
    share: float = 1.0
    compared: bool = True


@dataclass(frozen=True)
class Bounds:
    """Tolerance between results.

    Attributes:
        cosine: Smallest cosine between a vector of any side and that of the first side, or of the reference.
        difference: Largest difference between a score of any side and that of the first side, or of the reference.

    The default allows the rounding errors of two sides over thousands of bf16 results. Another template, cut or pooling gives far larger
    differences. The distance of our results from fp32 is recorded, and `report.py` marks results beyond the project's own tolerance
    (`ours_within`).
    """

    cosine: float = 0.999
    difference: float = 0.04


OURS_COSINE = 0.9998
OURS_DIFFERENCE = 0.01
"""Tolerance of our bf16 results against fp32."""


def ours_within(distance: float, *, scores: bool) -> bool:
    """Whether a distance from the fp32 reference is within the project's own tolerance."""
    return distance <= (OURS_DIFFERENCE if scores else 1 - OURS_COSINE)


@dataclass
class Measured:
    """The numbers of one side.

    Attributes:
        name: Name of the side.
        items: Number of items per repeat.
        seconds: Time of each repeat; with `each`, the median time of a call.
        distance: Largest distance from the first side: 1 - cosine of vectors, or difference of scores; None if nothing is compared.
        reference_distance: Largest distance from the fp32 reference; None without a reference.
        scores: Whether the results are scores; otherwise they are vectors.
    """

    name: str
    items: int
    seconds: list[float] = field(default_factory=list)
    distance: float | None = 0.0
    reference_distance: float | None = None
    scores: bool = False

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float:
        """Items a second by the median."""
        return self.items / self.median

    def to_dict(self) -> dict[str, Any]:
        """Plain values, times in seconds."""
        return {
            "name": self.name,
            "items": self.items,
            "seconds": self.seconds,
            "median": self.median,
            "min": min(self.seconds),
            "max": max(self.seconds),
            "rate": self.rate,
            "distance": self.distance,
            "reference_distance": self.reference_distance,
            "scores": self.scores,
        }


OnTime = Callable[[str, int, float], object]
"""Called with each measured time: side, repeat, seconds."""


def compare(
    sides: Sequence[Side],
    work: Work,
    *,
    repeats: int = 3,
    check: Work | None = None,
    reference: Rows | None = None,
    bounds: Bounds | None = None,
    on_time: OnTime = lambda *_: None,
    broken: dict[str, str] | None = None,
) -> list[Measured]:
    """Check that all sides give equal results, then time them alternately: A B C, A B C, ...

    Args:
        sides: Ours first.
        work: The timed work; each repeat of each side has another salt.
        repeats: Number of timed repeats of each side, at least 1.
        check: Work for the comparison, which is also the warm-up; None for `work`.
        reference: fp32 results of the first items of `check`.
        bounds: Tolerance between results.
        on_time: Called with each measured time.
        broken: Receives the name of each side (except the first) that fails in its first run, with the reason; this side is skipped.
            Without it, the error is raised.

    Raises:
        Unequal: Before anything is timed, if a result is out of tolerance; names side, item and difference.
    """
    bounds = bounds or Bounds()
    agreed = agree(sides, check or work, reference, bounds, broken)
    salt = 0
    for repeat in range(repeats):
        for side, numbers in agreed:
            salt += 1
            own = _own_part(side, work)
            numbers.items = 1 if side.each else len(own)
            seconds = _timed(side, side.prepare(own.salted(salt)))
            numbers.seconds.append(seconds)
            on_time(side.name, repeat, seconds)
    return [numbers for _, numbers in agreed]


def agree(
    sides: Sequence[Side], work: Work, reference: Rows | None, bounds: Bounds, broken: dict[str, str] | None = None
) -> list[tuple[Side, Measured]]:
    """Run each side once without timing, and compare its results with the first side and the reference."""
    agreed: list[tuple[Side, Measured]] = []
    first = None
    for side in sides:
        own = _own_part(side, work)
        gc.collect()
        try:
            rows = _once(side, own)
        except Exception as error:
            if broken is None or side is sides[0]:
                raise
            broken[side.name] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            continue
        if rows is None:
            agreed.append((side, Measured(side.name, len(own), distance=None)))
            continue
        if len(rows) != len(own):
            raise Unequal(f"{side.name} gave {len(rows)} results for {len(own)} items: nothing was timed")
        first = rows if first is None else first
        numbers = Measured(side.name, len(own), scores=rows.ndim == 1)
        limit = bounds.difference if numbers.scores else 1 - bounds.cosine
        if reference is not None:
            numbers.reference_distance = _checked(rows, reference, limit, f"{side.name} and the fp32 reference")
        numbers.distance = _checked(rows, first, limit, f"{side.name} and {sides[0].name}")
        agreed.append((side, numbers))
    return agreed


def _once(side: Side, work: Work) -> Rows | None:
    """The results of a side; None if it has none."""
    payload = side.prepare(work.salted(0))
    if side.before:
        side.before()
    result = [side.run(item) for item in payload] if side.each else side.run(payload)
    return side.rows(result) if side.compared else None


def distances(rows: Rows, others: Rows) -> Rows:
    """For each item of both: 1 - cosine of the vectors, or difference of the scores. A result with NaN has an infinite distance."""
    count = min(len(rows), len(others))
    if rows.shape[1:] != others.shape[1:]:
        raise Unequal(f"results of shapes {rows.shape} and {others.shape} can't be compared: nothing was timed")
    rows, others = rows[:count].astype(np.float64), others[:count].astype(np.float64)
    if rows.ndim == 1:
        apart = np.abs(rows - others)
    else:
        with np.errstate(invalid="ignore", divide="ignore"):
            apart = 1 - (rows * others).sum(axis=1) / (np.linalg.norm(rows, axis=1) * np.linalg.norm(others, axis=1))
    return np.where(np.isfinite(apart), apart, np.inf)


def _checked(rows: Rows, others: Rows, limit: float, whose: str) -> float:
    apart = distances(rows, others)
    worst = float(apart.max(initial=0.0))
    if worst > limit:
        what = "scores differ by" if rows.ndim == 1 else "1 - cosine is"
        raise Unequal(
            f"{whose}: {what} up to {worst:.3g} (item {int(apart.argmax())}; mean {apart.mean():.3g}), "
            f"where {limit:.3g} is allowed: nothing was timed"
        )
    return worst


def _own_part(side: Side, work: Work) -> Work:
    return work if side.share == 1 else work.part(max(1, round(len(work) * side.share)))


def _timed(side: Side, payload: Any) -> float:
    if side.before:
        side.before()
    gc.collect()
    if not side.each:
        started = time.perf_counter()
        result = side.run(payload)
        seconds = time.perf_counter() - started
        del result
        return seconds
    calls = []
    for item in payload:
        started = time.perf_counter()
        side.run(item)
        calls.append(time.perf_counter() - started)
    return statistics.median(calls)
