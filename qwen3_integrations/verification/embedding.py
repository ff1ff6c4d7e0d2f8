"""Checks of embedders: relevance, and Matryoshka dimensions."""

from __future__ import annotations

import numpy as np

from qwen3_integrations.core.embedder import Embedder, unit_rows
from qwen3_integrations.core.types import Rows
from qwen3_integrations.core.validation import MIN_DIMENSIONS
from qwen3_integrations.engines.http.handshake import EASY
from qwen3_integrations.errors import RequestRefused
from qwen3_integrations.verification.probe import CheckResult, Probe

MATRYOSHKA_TOLERANCE = 0.01
"""Tolerance for a vector's element; bfloat16 changes one by 0.004."""


async def relevance(probe: Probe) -> CheckResult:
    """Queries have larger cosines with relevant than with irrelevant documents."""
    queries, relevant, irrelevant = zip(*EASY, strict=True)
    embedder = Embedder(probe.engine)
    asked, told = await embedder.aembed_queries(queries), await embedder.aembed_documents([*relevant, *irrelevant])
    cosines = asked @ told.T
    near, far = np.diagonal(cosines), cosines[:, len(relevant) :].max(axis=1)
    shown = ", ".join(f"{one:.3f} against {other:.3f}" for one, other in zip(near, far, strict=True))
    if (near <= far).any():
        return CheckResult(
            "failed",
            f"cosines of relevant against irrelevant documents are {shown}: another model, or another pooling than of the last token",
            "Look at what the server loaded, and take options for pooling away",
        )
    return CheckResult("passed", f"cosines of relevant against irrelevant documents are {shown}")


async def dimensions(probe: Probe) -> CheckResult:
    """Vectors of fewer dimensions are the first elements of the full ones, normalised again."""
    prompts = probe.prompts([document for _, document, _ in EASY], tokenizer=probe.tokenizer)
    full = (await probe.raw(prompts)).rows
    width = full.shape[1]
    if width <= MIN_DIMENSIONS:
        return CheckResult("skipped", f"vectors of {width} dimensions have no shorter ones")
    fewer = max(MIN_DIMENSIONS, width // 2)
    body = probe.server.dialect.body(probe.server.model, prompts) | {"dimensions": fewer}
    try:
        answer = probe.server.dialect.read(await probe.transport.post(probe.server.url, body), len(prompts))
    except RequestRefused:
        return CheckResult(
            "warned", f"it refuses {fewer} `dimensions`; clients of this package shorten vectors themselves", _serving(probe)
        )
    sent = answer.rows.shape[1]
    if sent == width:
        return CheckResult("warned", f"it ignores `dimensions` and sends all {width}; clients of this package shorten vectors themselves")
    return (
        _shortened(answer.rows, full, fewer) if sent == fewer else CheckResult("failed", f"asked for {fewer} dimensions, it sends {sent}")
    )


def _shortened(rows: Rows, full: Rows, fewer: int) -> CheckResult:
    expected = unit_rows(full, len(full), fewer)
    if np.abs(rows - expected).max() <= MATRYOSHKA_TOLERANCE:
        return CheckResult("passed", f"vectors of {fewer} dimensions are the full ones cut and normalised again")
    off = float(np.abs(unit_rows(rows, len(full), None) - expected).max())
    if off <= MATRYOSHKA_TOLERANCE:
        return CheckResult("warned", f"vectors of {fewer} dimensions are the full ones cut, but not normalised again", _LEAVE_OUT)
    return CheckResult("failed", f"vectors of {fewer} dimensions are not the full ones cut, but up to {off:.2g} off", _LEAVE_OUT)


_LEAVE_OUT = "Leave `dimensions` out of requests, or normalise; clients of this package shorten vectors themselves"


def _serving(probe: Probe) -> str:
    if not probe.server.dialect.exact:
        return ""
    return (
        f"For other clients: `qwen3-integrations serve embed {probe.server.model}`, or vLLM's option --hf-overrides "
        """'{"is_matryoshka": true}'"""
    )
