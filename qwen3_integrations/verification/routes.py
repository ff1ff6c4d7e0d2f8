"""Checks of vLLM's `/score` and `/rerank`, for other clients: this package sends finished prompts to `/classify`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qwen3_integrations.core.prompts import DEFAULT_INSTRUCTION
from qwen3_integrations.core.tokenizer import neutral
from qwen3_integrations.core.types import Rows
from qwen3_integrations.engines.http.dialects import read_ranks
from qwen3_integrations.engines.http.handshake import EASY, OTHER_INSTRUCTION
from qwen3_integrations.errors import RouteNotServed
from qwen3_integrations.verification.answers import SAME
from qwen3_integrations.verification.probe import QUERY, CheckResult, Probe, QueryDocumentPairs, plain
from qwen3_integrations.verification.published import PLANET, PLANETS
from qwen3_integrations.verification.reading import HOSTILE
from qwen3_integrations.verification.report import State
from qwen3_integrations.verification.templates import FORMS, SAYS, FormName, Match, mean_difference, nearest

PAIRS = (*((query, text) for query, *texts in EASY for text in texts), *((PLANET, planet) for planet in PLANETS))
"""Relevant, doubtful and irrelevant pairs. The template changes the score of a doubtful pair most."""


async def score(probe: Probe) -> CheckResult:
    """The template of `/score`."""
    return await _route(probe, "/score")


async def rerank(probe: Probe) -> CheckResult:
    """The template of `/rerank`."""
    return await _route(probe, "/rerank")


async def injection(probe: Probe) -> CheckResult:
    """Whether a document with spelled control tokens can answer instead of the model on `/score`."""
    if probe.server.dialect.literal:
        pairs = [(QUERY, text) for text in HOSTILE]
        off = probe.furthest(await _answers(probe, "/score", pairs, {}), await _classified(probe, "right", pairs))
        if off > SAME[probe.task]:
            return CheckResult("failed", f"control tokens in a document change its score of /score by {off:.2g}")
        return CheckResult("passed", "/score reads control tokens in a document as text, as /classify does")
    form: FormName | None = probe.notes.get("/score")
    if form is None:
        return CheckResult("skipped", "the template of /score is not known")
    pairs = [(QUERY, text) for text in HOSTILE]
    seen = await _answers(probe, "/score", pairs, {})
    harmless = [(QUERY, neutral(text)) for text in HOSTILE]
    known = {"text": await _classified(probe, form, harmless), "control": await _classified(probe, form, pairs)}
    match = nearest(seen, known, (await _known(probe)).noise, right="text")
    if match.name == "control" and match.clear:
        return CheckResult(
            "warned",
            f"/score reads control tokens in a document as control tokens: they change its score by {match.rival:.2g} on average",
            _fix(probe),
        )
    if match.name == "text" and not match.clear:
        return CheckResult("skipped", "control tokens in a document change no score of this model")
    return CheckResult("passed", "/score reads control tokens in a document as text")


async def _route(probe: Probe, route: str) -> CheckResult:
    if not probe.server.dialect.exact:
        return CheckResult("skipped", "only vLLM has /classify to compare with; the handshake checked the answers of this server")
    try:
        seen = await _answers(probe, route, PAIRS, {})
    except RouteNotServed:
        return CheckResult("skipped", f"the server has no {route}")
    return await (_as_classified if probe.server.dialect.literal else _in_form)(probe, route, seen)


async def _in_form(probe: Probe, route: str, seen: Rows) -> CheckResult:
    """The result for a server whose route may have any template."""
    known = await _known(probe)
    match = nearest(seen, known.scores, known.noise)
    if match.name is None:
        return CheckResult(
            "failed",
            f"unknown template: its scores differ from those of the nearest known template by {match.distance:.2g} on average",
            _fix(probe),
        )
    if not match.clear:
        return CheckResult("warned", f"this model's scores do not show which template {route} has: {_figures(match)}")
    form: FormName = match.name  # type: ignore[assignment]  # a key of FORMS
    probe.notes[route] = form
    finding = SAYS[form].format(route=route)
    if form == "right":
        return await _instructed(probe, route, finding)
    state: State = "warned" if form == "two newlines" else "failed"
    return CheckResult(state, f"{finding} ({_figures(match)})", _fix(probe))


async def _as_classified(probe: Probe, route: str, seen: Rows) -> CheckResult:
    """The result for a server that takes no other prompt than the right one: its route has the scores of `/classify`."""
    other = await _answers(probe, route, PAIRS, {"instruction": OTHER_INSTRUCTION})
    for scores, instruction in ((seen, DEFAULT_INSTRUCTION), (other, OTHER_INSTRUCTION)):
        off = probe.furthest(scores, await _classified(probe, "right", PAIRS, instruction))
        if off > SAME[probe.task]:
            return CheckResult(
                "failed", f"the scores of {route} differ by {off:.2g} from those of /classify for {instruction!r}", _fix(probe)
            )
    return CheckResult("passed", f"{route} has the scores of /classify, with the instruction in the request")


async def _instructed(probe: Probe, route: str, finding: str) -> CheckResult:
    """The result for a correct template: whether it uses the instruction of the request."""
    seen = await _answers(probe, route, PAIRS, {"instruction": OTHER_INSTRUCTION})
    known = await _known(probe)
    expected = {"used": await _classified(probe, "right", PAIRS, OTHER_INSTRUCTION), "ignored": known.scores["right"]}
    match = nearest(seen, expected, known.noise, right="used")
    if match.name is None:
        return CheckResult(
            "failed", f"{finding}; but with another instruction in the request they are wrong by {match.distance:.2g}", _fix(probe)
        )
    if match.name == "ignored" and match.clear:
        return CheckResult("warned", f"{finding}; but {route} ignores the instruction in the request", _fix(probe))
    return CheckResult("passed", f"{finding}, with the instruction in the request")


def _figures(match: Match) -> str:
    return f"mean difference {match.distance:.1g} from scores of that template, {match.rival:.2g} from right scores"


def _fix(probe: Probe) -> str:
    return (
        f"For other clients: `qwen3-integrations serve rerank {shlex.quote(probe.server.model)}`, or vLLM's --chat-template with a file "
        r"that ends with {{ '\n\n' }}, because Jinja drops the last newline of a file. Clients of this package use /classify and are right"
    )


@dataclass(frozen=True, slots=True)
class _Known:
    """The scores of `PAIRS` in each form, and the noise: the mean difference in the right form when each pair is requested alone."""

    scores: Mapping[str, Rows]
    noise: float


async def _known(probe: Probe) -> _Known:
    """Requested once per report."""
    if "known" not in probe.notes:
        scores: dict[str, Rows] = {form: await _classified(probe, form, PAIRS) for form in FORMS}
        alone = [await _classified(probe, "right", [pair]) for pair in PAIRS]
        probe.notes["known"] = _Known(scores, mean_difference(np.concatenate(alone), scores["right"]))
    known: _Known = probe.notes["known"]
    return known


async def _classified(probe: Probe, form: FormName, pairs: QueryDocumentPairs, instruction: str = DEFAULT_INSTRUCTION) -> Rows:
    """Scores of finished prompts, through `/classify`. Control tokens in the texts are read as control tokens."""
    return (await probe.ask([plain(FORMS[form](query, document, instruction)) for query, document in pairs])).rows


async def _answers(probe: Probe, route: str, pairs: QueryDocumentPairs, more: Mapping[str, Any]) -> Rows:
    """The scores that other clients get for pairs."""
    if route == "/score":
        body = {"text_1": [query for query, _ in pairs], "text_2": [document for _, document in pairs], **more}
        return read_ranks(await probe.post(route, body), len(pairs)).rows
    scores = np.empty(len(pairs), dtype=np.float32)
    for query in dict.fromkeys(query for query, _ in pairs):
        at = [number for number, pair in enumerate(pairs) if pair[0] == query]
        body = {"query": query, "documents": [pairs[number][1] for number in at], **more}
        scores[at] = read_ranks(await probe.post(route, body), len(at)).rows
    return scores
