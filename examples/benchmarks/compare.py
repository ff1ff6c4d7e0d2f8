"""The measuring: sides that must first agree, then take turns on the clock."""

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
    """Two sides compute different things: their times say nothing, so none are taken."""


class Work(Protocol):
    """What every side is given to do."""

    def __len__(self) -> int: ...

    def salted(self, salt: int) -> Work:
        """The same work in other words, so that no cache knows it; salts of equal length make works of equal length."""

    def part(self, count: int) -> Work:
        """About the first `count` items."""


def as_rows(result: Any) -> Rows:
    """Numbers of a result that is an array, or becomes one."""
    return np.asarray(result, dtype=np.float64)


@dataclass(frozen=True)
class Side:
    """One way to do the work.

    Attributes:
        name: What the tables call it.
        run: The timed part: from what `prepare` gives to a result.
        prepare: From the work to this side's own input, off the clock.
        rows: From the result to vectors, shape (items, width), or scores, shape (items,), off the clock.
        before: Called off the clock before each repeat, such as vLLM's reset of its prefix cache.
        each: `run` is called once for each item of the input, and the time of a repeat is the median of these calls:
            a latency, in seconds, where other sides have the seconds of the whole work.
        share: Part of the work that this side does, in (0, 1]: a slow way is not asked for all of it.
        compared: Whether there are results to compare; a client that throws answers away has none.
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
    """How far apart results may lie.

    Attributes:
        cosine: Least cosine between a vector of any side and the first side's, or the reference's.
        difference: Greatest difference between a score of any side and the first side's, or the reference's.

    The default is wide enough for thousands of bf16 results with the errors of two sides in each, and far narrower than
    any other template, cut or pooling would need. How near ours is to fp32 is on record, and `report.py` marks what lies
    beyond the project's own bounds (`ours_within`).
    """

    cosine: float = 0.999
    difference: float = 0.04


OURS_COSINE = 0.9998
OURS_DIFFERENCE = 0.01
"""How near our own bf16 results have to be to fp32. Source: the project's issue on speed."""


def ours_within(distance: float, *, scores: bool) -> bool:
    """Whether a distance from the fp32 reference keeps to the project's own bounds."""
    return distance <= (OURS_DIFFERENCE if scores else 1 - OURS_COSINE)


@dataclass
class Measured:
    """One side's numbers.

    Attributes:
        name: The side's.
        items: What one repeat did.
        seconds: Of each repeat; of a side that runs `each`, the median call's.
        distance: To the first side: 1 - cosine of vectors, or the difference of scores, the worst one; None where nothing is compared.
        reference_distance: To the fp32 reference, likewise; None where there is none.
        scores: Whether the results are scores; else vectors.
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


Told = Callable[[str, int, float], object]
"""Is told each time as it is taken: side, repeat, seconds."""


def compare(
    sides: Sequence[Side],
    work: Work,
    *,
    repeats: int = 3,
    check: Work | None = None,
    reference: Rows | None = None,
    bounds: Bounds | None = None,
    told: Told = lambda *_: None,
    broken: dict[str, str] | None = None,
) -> list[Measured]:
    """Prove that all sides compute the same, then time them in turn: A B C, A B C, ...

    Args:
        sides: Ours first.
        work: What is timed; every repeat of every side has it in other words.
        repeats: Times each side is timed, at least 1.
        check: What is compared, and warms every side up; the work itself unless told.
        reference: fp32 results of the first items of `check`.
        bounds: How far apart results may lie.
        told: Hears each time at once.
        broken: Is given the name of each side but the first that raises when it is first run, with the reason; such a side is
            left out. Without it, that error is raised.

    Raises:
        Unequal: Before anything is timed, if a result lies out of bounds; says whose, where and by how much.
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
            told(side.name, repeat, seconds)
    return [numbers for _, numbers in agreed]


def agree(
    sides: Sequence[Side], work: Work, reference: Rows | None, bounds: Bounds, broken: dict[str, str] | None = None
) -> list[tuple[Side, Measured]]:
    """Run every side once, untimed, and hold its results against the first side's and the reference."""
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
    """A side's results; None of one that has none."""
    payload = side.prepare(work.salted(0))
    if side.before:
        side.before()
    result = [side.run(item) for item in payload] if side.each else side.run(payload)
    return side.rows(result) if side.compared else None


def distances(rows: Rows, others: Rows) -> Rows:
    """Of each item that both have: 1 - cosine of its vectors, or the difference of its scores. Not a number is infinitely far."""
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
