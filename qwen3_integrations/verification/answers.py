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
"""Tolerance between two answers to one text (1 - cosine; difference of scores). bfloat16 has 8 bits, and a kernel that sums a
batch in another order changes the last one; in float32 the difference is 1e-6."""

_FLOOR = {"embed": 1e-6, "rerank": 1e-3}
"""Tolerance where no run-to-run noise was measured (1 - cosine; difference of log odds): float32's rounding."""

_ODDS = (1e-6, 0.999)
"""Range of scores whose log odds are compared: outside it, float32 has too few digits."""

_REPEATED = 8
_FEW = 4


async def order(probe: Probe) -> CheckResult:
    """The answers to many different texts in one request are in the order of the texts."""
    prompts = probe.prompts(TEXTS, tokenizer=probe.tokenizer)
    alone = await _alone(probe)
    wrong = _misplaced(probe, (await probe.ask(prompts)).rows, alone)
    if wrong:
        return CheckResult("failed", f"of {len(TEXTS)} texts in one request {_others(wrong)}", _PROXY)
    return _in_place(f"{len(TEXTS)} texts in one request come back in order", alone)


async def determinism(probe: Probe) -> CheckResult:
    """One text gets the same answer alone, alone again, and several times in one request."""
    prompt = probe.prompts([TEXTS[0]], tokenizer=probe.tokenizer)
    first, second = (await probe.ask(prompt)).rows, (await probe.ask(prompt)).rows
    batch = (await probe.ask(prompt * _REPEATED)).rows
    again = probe.furthest(first, second)
    batched = probe.furthest(batch, np.repeat(first, _REPEATED, axis=0))
    unit = "1 - cosine" if probe.task == "embed" else "of the score"
    seen = f"the same text alone again differs by {_figure(again)}, in a batch by {_figure(batched)} ({unit})"
    if max(again, batched) > SAME[probe.task]:
        return CheckResult("failed", f"{seen}; rounding explains at most {SAME[probe.task]:g}", _PROXY)
    return CheckResult("passed", seen)


async def concurrency(probe: Probe) -> CheckResult:
    """Concurrent requests get the same answers as sequential ones."""
    prompts = probe.prompts(TEXTS, tokenizer=probe.tokenizer)
    alone = await _alone(probe)
    answers = await together(probe.ask([prompt]) for prompt in prompts)
    wrong = _misplaced(probe, np.concatenate([answer.rows for answer in answers]), alone)
    if wrong:
        return CheckResult("failed", f"of {len(TEXTS)} requests at once {_others(wrong)}", _PROXY)
    return _in_place(f"{len(TEXTS)} requests at once, each with its own answer", alone)


_PROXY = "Look at what stands before the model: a proxy, a cache or a load balancer over servers of different models"


@dataclass(frozen=True, slots=True)
class _Alone:
    """The answers to `TEXTS`, asked one at a time.

    Attributes:
        rows: In the order of `TEXTS`.
        tolerance: Tolerance between two answers to one text on this server, in the unit of `_finely`.
        told: How many texts have an answer that differs from most others. A mix-up among the rest could not be seen.
    """

    rows: Rows
    tolerance: float
    told: int


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
    """The server's run-to-run noise: answers to one text alone, again, and in requests of that text alone, which no mix-up can change."""
    again = await probe.alone(prompts)
    few = np.concatenate([(await probe.ask([prompt] * _FEW)).rows for prompt in prompts])
    many = (await probe.ask([prompts[0]] * len(prompts))).rows
    answers = np.concatenate([again, few, many])
    own = np.concatenate([np.arange(len(prompts)), np.arange(len(prompts)).repeat(_FEW), np.zeros(len(prompts), dtype=int)])
    return float(_finely(probe, answers, rows)[np.arange(len(answers)), own].max())


def _finely(probe: Probe, these: Rows, those: Rows) -> Rows:
    """Pairwise distances, shape (these, those): 1 - cosine, or the difference of log odds.

    In log odds, rounding has a similar size for all scores, and the scores of irrelevant texts, all near 0, can be distinguished.
    """
    if probe.task == "embed":
        return probe.distances(these, those)
    odds, others = (np.log(scores / (1 - scores)) for scores in (np.clip(rows.astype(np.float64), *_ODDS) for rows in (these, those)))
    return np.asarray(np.abs(odds[:, None] - others[None, :]), dtype=np.float32)


def _apart(probe: Probe, these: Rows, those: Rows, tolerance: float) -> Rows:
    """Pairwise distances as multiples of the tolerance, shape (these, those): above 1 two answers are different."""
    fine, coarse = _finely(probe, these, those) / tolerance, probe.distances(these, those) / SAME[probe.task]
    return np.asarray(np.maximum(fine, coarse), dtype=np.float32)


def _misplaced(probe: Probe, rows: Rows, alone: _Alone) -> list[tuple[int, int]]:
    """Rows that are another text's answer, or too far off for noise, as (position, position of that text or its own)."""
    apart = _apart(probe, rows, alone.rows, alone.tolerance)
    has = np.where(apart.min(axis=1) <= 1, apart.argmin(axis=1), np.arange(len(rows)))
    far = np.diagonal(probe.distances(rows, alone.rows)) > SAME[probe.task]
    wrong = (np.diagonal(apart) > 1) & ((has != np.arange(len(rows))) | far)
    return [(int(at), int(has[at])) for at in np.flatnonzero(wrong)]


def _in_place(seen: str, alone: _Alone) -> CheckResult:
    """The result where no answer is misplaced, as far as the answers can show."""
    told = f"{alone.told} of the {len(TEXTS)} texts have answers unlike those of most others"
    if alone.told < len(TEXTS) / 2:
        return CheckResult("warned", f"whether {seen} can't be told: on this server only {told}, rounding considered")
    return CheckResult("passed", f"{seen}; {told}")


def _others(wrong: list[tuple[int, int]]) -> str:
    at, instead = wrong[0]
    seen = f"text {at} has the answer of text {instead}" if at != instead else f"text {at} has an answer of its own each time"
    return f"{len(wrong)} have another answer than alone: {seen}"


def _figure(distance: float) -> str:
    return f"{max(distance, 0.0):.1g}"
