"""Checks of a server's answers: order, determinism, concurrency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qwen3_integrations.core.types import Prompt, Rows
from qwen3_integrations.verification.probe import CheckResult, Probe, together
from qwen3_integrations.verification.templates import NOISY

TEXTS = tuple(
    f"{verb} {thing}."
    for thing in ("a list of names", "a large file", "the rows of a table", "an old letter")
    for verb in ("Sort", "Copy", "Read", "Write", "Count", "Reverse", "Delete", "Print")
)
"""Texts of different meaning and similar length, so that each has a different answer."""

SAME = {"embed": 1e-3, "rerank": 0.03}
"""Tolerance between two answers to one text (1 - cosine; difference of scores). bfloat16 has 8 significant bits, and a kernel that sums
a batch in another order changes the last bit; in float32 the difference is 1e-6."""

_FLOOR = {"embed": 1e-6, "rerank": 1e-3}
"""Smallest tolerance (1 - cosine; difference of log odds), for a server without run-to-run noise: float32's rounding."""

_ODDS = (1e-6, 0.999)
"""Range of scores whose log odds are compared. Outside of it, float32 has too few digits."""

_REPEATED = 8
_FEW = 4


async def order(probe: Probe) -> CheckResult:
    """The answers to many different texts in one request are in the order of the texts."""
    prompts = probe.prompts(TEXTS, tokenizer=probe.tokenizer)
    alone = await _alone(probe)
    wrong = _misplaced(probe, (await probe.ask(prompts)).rows, alone)
    if wrong:
        return CheckResult("failed", f"of {len(TEXTS)} texts in one request, {_different(wrong)}", _PROXY)
    return _in_place(f"{len(TEXTS)} texts in one request get their answers in order", alone)


async def determinism(probe: Probe) -> CheckResult:
    """One text gets the same answer alone, alone again, and several times in one request."""
    prompt = probe.prompts([TEXTS[0]], tokenizer=probe.tokenizer)
    first, second = (await probe.ask(prompt)).rows, (await probe.ask(prompt)).rows
    batch = (await probe.ask(prompt * _REPEATED)).rows
    again = probe.furthest(first, second)
    batched = probe.furthest(batch, np.repeat(first, _REPEATED, axis=0))
    unit = "1 - cosine" if probe.task == "embed" else "difference of scores"
    seen = f"answers to one text differ by {_figure(again)} when it is sent alone again, and by {_figure(batched)} in a batch ({unit})"
    if max(again, batched) > SAME[probe.task]:
        return CheckResult("failed", f"{seen}; rounding can explain at most {SAME[probe.task]:g}", _PROXY)
    return CheckResult("passed", seen)


async def concurrency(probe: Probe) -> CheckResult:
    """Concurrent requests get the same answers as sequential ones."""
    prompts = probe.prompts(TEXTS, tokenizer=probe.tokenizer)
    alone = await _alone(probe)
    answers = await together(probe.ask([prompt]) for prompt in prompts)
    wrong = _misplaced(probe, np.concatenate([answer.rows for answer in answers]), alone)
    if wrong:
        return CheckResult("failed", f"of {len(TEXTS)} concurrent requests, {_different(wrong)}", _PROXY)
    return _in_place(f"{len(TEXTS)} concurrent requests get their own answers", alone)


_PROXY = "Check what is between client and model: a proxy, a cache, or a load balancer over servers with different models"


@dataclass(frozen=True, slots=True)
class _Alone:
    """The answers to `TEXTS`, each requested alone.

    Attributes:
        rows: In the order of `TEXTS`.
        tolerance: Tolerance between two answers to one text on this server, in the unit of `_fine_distances`.
        distinct: Number of texts whose answers differ from most other answers. An exchange among the rest could not be seen.
    """

    rows: Rows
    tolerance: float
    distinct: int


async def _alone(probe: Probe) -> _Alone:
    """Requested once per report."""
    if "alone" not in probe.notes:
        prompts = probe.prompts(TEXTS, tokenizer=probe.tokenizer)
        rows = await probe.alone(prompts)
        tolerance = max(NOISY * await _noise(probe, prompts, rows), _FLOOR[probe.task])
        others = (_apart(probe, rows, rows, tolerance) > 1).sum(axis=1)
        probe.notes["alone"] = _Alone(rows, tolerance, int((others > len(TEXTS) / 2).sum()))
    alone: _Alone = probe.notes["alone"]
    return alone


async def _noise(probe: Probe, prompts: Sequence[Prompt], rows: Rows) -> float:
    """The server's run-to-run noise, from answers to one text alone, and in requests with only that text."""
    again = await probe.alone(prompts)
    few = np.concatenate([(await probe.ask([prompt] * _FEW)).rows for prompt in prompts])
    many = (await probe.ask([prompts[0]] * len(prompts))).rows
    answers = np.concatenate([again, few, many])
    own = np.concatenate([np.arange(len(prompts)), np.arange(len(prompts)).repeat(_FEW), np.zeros(len(prompts), dtype=int)])
    return float(_fine_distances(probe, answers, rows)[np.arange(len(answers)), own].max())


def _fine_distances(probe: Probe, these: Rows, those: Rows) -> Rows:
    """Pairwise distances, shape (these, those): 1 - cosine, or the difference of log odds.

    In log odds, rounding has a similar size for all scores, and the scores of irrelevant texts, which are all near 0, are distinct.
    """
    if probe.task == "embed":
        return probe.distances(these, those)
    odds, others = (np.log(scores / (1 - scores)) for scores in (np.clip(rows.astype(np.float64), *_ODDS) for rows in (these, those)))
    return np.asarray(np.abs(odds[:, None] - others[None, :]), dtype=np.float32)


def _apart(probe: Probe, these: Rows, those: Rows, tolerance: float) -> Rows:
    """Pairwise distances as multiples of the tolerance, shape (these, those): above 1 two answers are different."""
    fine, coarse = _fine_distances(probe, these, those) / tolerance, probe.distances(these, those) / SAME[probe.task]
    return np.asarray(np.maximum(fine, coarse), dtype=np.float32)


def _misplaced(probe: Probe, rows: Rows, alone: _Alone) -> list[tuple[int, int]]:
    """Rows that are another text's answer, or differ by more than noise, as (position, position of that other text or its own)."""
    apart = _apart(probe, rows, alone.rows, alone.tolerance)
    has = np.where(apart.min(axis=1) <= 1, apart.argmin(axis=1), np.arange(len(rows)))
    far = np.diagonal(probe.distances(rows, alone.rows)) > SAME[probe.task]
    wrong = (np.diagonal(apart) > 1) & ((has != np.arange(len(rows))) | far)
    return [(int(at), int(has[at])) for at in np.flatnonzero(wrong)]


def _in_place(seen: str, alone: _Alone) -> CheckResult:
    """The result where no misplaced answer was found; a warning where too few answers are distinct."""
    distinct = f"{alone.distinct} of the {len(TEXTS)} texts have answers that differ from most others by more than rounding"
    if alone.distinct < len(TEXTS) / 2:
        return CheckResult("warned", f"it can't be checked whether {seen}: only {distinct}")
    return CheckResult("passed", f"{seen}; {distinct}")


def _different(wrong: list[tuple[int, int]]) -> str:
    at, other = wrong[0]
    seen = f"text {at} has the answer of text {other}" if at != other else f"the answers to text {at} differ each time"
    return f"{len(wrong)} have another answer than the same text sent alone: {seen}"


def _figure(distance: float) -> str:
    return f"{max(distance, 0.0):.1g}"
