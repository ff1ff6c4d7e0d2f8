"""Checks of vLLM's `/score` and `/rerank`, for other clients: this package sends finished prompts to `/classify`."""

from __future__ import annotations

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
from qwen3_integrations.verification.probe import QUERY, CheckResult, Probe, QueryDocumentPairs, plain
from qwen3_integrations.verification.published import PLANET, PLANETS
from qwen3_integrations.verification.reading import HOSTILE
from qwen3_integrations.verification.report import State
from qwen3_integrations.verification.templates import FORMS, SAYS, FormName, Match, mean_difference, nearest

PAIRS = (*((query, text) for query, *texts in EASY for text in texts), *((PLANET, planet) for planet in PLANETS))
"""From clearly relevant through doubtful to clearly irrelevant: a doubtful pair's score moves most with the template."""


async def score(probe: Probe) -> CheckResult:
    """The template of `/score`."""
    return await _route(probe, "/score")


async def rerank(probe: Probe) -> CheckResult:
    """The template of `/rerank`."""
    return await _route(probe, "/rerank")


async def injection(probe: Probe) -> CheckResult:
    """Whether a document with spelled control tokens can answer in place of the model on `/score`."""
    form: FormName | None = probe.notes.get("/score")
    if form is None:
        return CheckResult("skipped", "what /score does with a prompt is not known")
    pairs = [(QUERY, text) for text in HOSTILE]
    seen = await _answers(probe, "/score", pairs, {})
    harmless = [(QUERY, neutral(text)) for text in HOSTILE]
    known = {"text": await _classified(probe, form, harmless), "control": await _classified(probe, form, pairs)}
    match = nearest(seen, known, (await _known(probe)).noise, right="text")
    if match.name == "control" and match.clear:
        return CheckResult(
            "warned", f"a document's control tokens reach the model: they move its score by {match.rival:.2g} on average", _fix(probe)
        )
    if match.name == "text" and not match.clear:
        return CheckResult("skipped", "control tokens in a document move no score of this model")
    return CheckResult("passed", "control tokens in a document stay text")


async def _route(probe: Probe, route: str) -> CheckResult:
    if not probe.server.dialect.exact:
        return CheckResult("skipped", "only vLLM has /classify to compare with; the handshake judges what this server answers")
    try:
        seen = await _answers(probe, route, PAIRS, {})
    except RouteNotServed:
        return CheckResult("skipped", f"the server has no {route}")
    known = await _known(probe)
    match = nearest(seen, known.scores, known.noise)
    if match.name is None:
        return CheckResult(
            "failed",
            f"an unknown template: its scores are {match.distance:.2g} off those of the nearest known one, on average",
            _fix(probe),
        )
    if not match.clear:
        return CheckResult("warned", f"this model's scores do not tell which template {route} has: {_figures(match)}")
    form: FormName = match.name  # type: ignore[assignment]  # a key of FORMS
    probe.notes[route] = form
    says = SAYS[form].format(route=route)
    if form == "right":
        return await _instructed(probe, route, says)
    state: State = "warned" if form == "two newlines" else "failed"
    return CheckResult(state, f"{says} ({_figures(match)})", _fix(probe))


async def _instructed(probe: Probe, route: str, says: str) -> CheckResult:
    """The result for a correct template: whether it uses the instruction of the request."""
    seen = await _answers(probe, route, PAIRS, {"instruction": OTHER_INSTRUCTION})
    known = await _known(probe)
    told = {"heard": await _classified(probe, "right", PAIRS, OTHER_INSTRUCTION), "ignored": known.scores["right"]}
    match = nearest(seen, told, known.noise, right="heard")
    if match.name is None:
        return CheckResult("failed", f"{says}, but with an instruction that is sent they are {match.distance:.2g} off", _fix(probe))
    if match.name == "ignored" and match.clear:
        return CheckResult("warned", f"{says}, but an instruction that is sent is ignored", _fix(probe))
    return CheckResult("passed", f"{says}, with the instruction that is sent")


def _figures(match: Match) -> str:
    return f"mean difference {match.distance:.1g} from that, {match.rival:.2g} from right scores"


def _fix(probe: Probe) -> str:
    return (
        f"For other clients: `qwen3-integrations serve rerank {probe.server.model}`, or vLLM's --chat-template with a file that ends "
        r"with {{ '\n\n' }}, since Jinja drops a file's last newline. Clients of this package ask /classify and are right anyway"
    )


@dataclass(frozen=True, slots=True)
class _Known:
    """The scores of `PAIRS` in each form, and the difference of those of the right form when requested one by one."""

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
    """Scores of finished prompts, through `/classify`; control tokens in the texts are read as such."""
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
