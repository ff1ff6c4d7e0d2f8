"""Checks of how a server answers: in order, the same each time, to many at once."""

from __future__ import annotations

import numpy as np

from qwen3_integrations.jobs import Rows
from qwen3_integrations.verification.probe import Finding, Probe, together

TEXTS = tuple(
    f"{verb} {thing}."
    for thing in ("a list of names", "a large file", "the rows of a table", "an old letter")
    for verb in ("Sort", "Copy", "Read", "Write", "Count", "Reverse", "Delete", "Print")
)
"""Distinct in meaning and alike in length, so that each has an answer of its own."""

SAME = {"embed": 1e-3, "rerank": 0.03}
"""How far two answers to one text may be apart (1 - cosine; difference of scores). bfloat16 keeps 8 bits, and a kernel that sums
a batch in another order moves the last of them; in float32 it is 1e-6."""

_REPEATED = 8


async def order(probe: Probe) -> Finding:
    """Many distinct texts in one request come back in the order in which they were sent."""
    prompts = probe.prompts(TEXTS, tokenizer=probe.tokenizer)
    alone = await _alone(probe)
    wrong = _misplaced(probe, (await probe.ask(prompts)).rows, alone)
    if wrong:
        return Finding("failed", f"of {len(TEXTS)} texts in one request {_others(wrong)}", _PROXY)
    return Finding("passed", f"{len(TEXTS)} texts in one request come back in order")


async def determinism(probe: Probe) -> Finding:
    """One text has one answer: alone, alone once more, and several times in one request."""
    prompt = probe.prompts([TEXTS[0]], tokenizer=probe.tokenizer)
    first, second = (await probe.ask(prompt)).rows, (await probe.ask(prompt)).rows
    batch = (await probe.ask(prompt * _REPEATED)).rows
    again = probe.furthest(first, second)
    batched = probe.furthest(batch, np.repeat(first, _REPEATED, axis=0))
    unit = "1 - cosine" if probe.task == "embed" else "of the score"
    seen = f"the same text alone again differs by {_figure(again)}, in a batch by {_figure(batched)} ({unit})"
    if max(again, batched) > SAME[probe.task]:
        return Finding("failed", f"{seen}; rounding explains at most {SAME[probe.task]:g}", _PROXY)
    return Finding("passed", seen)


async def concurrency(probe: Probe) -> Finding:
    """Many requests at once get the answers that they get one after another."""
    prompts = probe.prompts(TEXTS, tokenizer=probe.tokenizer)
    alone = await _alone(probe)
    answers = await together(probe.ask([prompt]) for prompt in prompts)
    wrong = _misplaced(probe, np.concatenate([answer.rows for answer in answers]), alone)
    if wrong:
        return Finding("failed", f"of {len(TEXTS)} requests at once {_others(wrong)}", _PROXY)
    return Finding("passed", f"{len(TEXTS)} requests at once, each with its own answer")


_PROXY = "Look at what stands before the model: a proxy, a cache or a load balancer over servers of different models"


async def _alone(probe: Probe) -> Rows:
    """The rows of `TEXTS`, asked one at a time and once a report."""
    if "alone" not in probe.notes:
        probe.notes["alone"] = await probe.alone(probe.prompts(TEXTS, tokenizer=probe.tokenizer))
    rows: Rows = probe.notes["alone"]
    return rows


def _misplaced(probe: Probe, rows: Rows, expected: Rows) -> list[tuple[int, int]]:
    """(position, position whose answer it got) of the rows that are not what was expected there."""
    distances = probe.distances(rows, expected)
    own, nearest = np.diagonal(distances), distances.argmin(axis=1)
    return [(int(at), int(nearest[at])) for at in np.flatnonzero(own > SAME[probe.task])]


def _others(wrong: list[tuple[int, int]]) -> str:
    at, instead = wrong[0]
    seen = f"text {at} has the answer of text {instead}" if at != instead else f"text {at} has an answer of its own each time"
    return f"{len(wrong)} have another answer than alone: {seen}"


def _figure(distance: float) -> str:
    return f"{max(distance, 0.0):.1g}"
