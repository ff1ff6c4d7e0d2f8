"""Checks of embedders: relevance, and Matryoshka dimensions."""

from __future__ import annotations

import shlex

import numpy as np

from qwen3_integrations.core.embedder import Embedder, unit_rows
from qwen3_integrations.core.types import Rows
from qwen3_integrations.core.validation import MIN_DIMENSIONS
from qwen3_integrations.engines.http.handshake import EASY
from qwen3_integrations.errors import RequestRefused
from qwen3_integrations.verification.probe import CheckResult, Probe

MATRYOSHKA_TOLERANCE = 0.01
"""Tolerance for an element of a vector; rounding to bfloat16 changes an element by up to 0.004."""


async def relevance(probe: Probe) -> CheckResult:
    """Queries have larger cosines with relevant than with irrelevant documents."""
    queries, relevant, irrelevant = zip(*EASY, strict=True)
    embedder = Embedder(probe.engine)
    query_rows, document_rows = await embedder.aembed_queries(queries), await embedder.aembed_documents([*relevant, *irrelevant])
    cosines = query_rows @ document_rows.T
    near, far = np.diagonal(cosines), cosines[:, len(relevant) :].max(axis=1)
    shown = ", ".join(f"{one:.3f} against {other:.3f}" for one, other in zip(near, far, strict=True))
    if (near <= far).any():
        return CheckResult(
            "failed",
            f"cosines of relevant against irrelevant documents are {shown}: another model, or it pools otherwise than the model",
            "Check which model the server loaded, and its options for pooling",
        )
    return CheckResult("passed", f"cosines of relevant against irrelevant documents are {shown}")


async def dimensions(probe: Probe) -> CheckResult:
    """Vectors with fewer dimensions are the first elements of the full vectors, normalised again."""
    prompts = probe.prompts([document for _, document, _ in EASY], tokenizer=probe.tokenizer)
    full = (await probe.raw(prompts)).rows
    width = full.shape[1]
    if width <= MIN_DIMENSIONS:
        return CheckResult("skipped", f"vectors of {width} dimensions can't be shortened")
    fewer = max(MIN_DIMENSIONS, width // 2)
    body = probe.server.dialect.body(probe.server.model, prompts) | {"dimensions": fewer}
    try:
        answer = probe.server.dialect.read(await probe.transport.post(probe.server.url, body), len(prompts))
    except RequestRefused:
        return CheckResult(
            "warned", f"the server refuses `dimensions` = {fewer}; clients of this package shorten vectors themselves", _serving(probe)
        )
    sent = answer.rows.shape[1]
    if sent == width:
        return CheckResult(
            "warned", f"the server ignores `dimensions` and sends all {width}; clients of this package shorten vectors themselves"
        )
    return (
        _shortened(answer.rows, full, fewer)
        if sent == fewer
        else CheckResult("failed", f"the server sends {sent} dimensions for a request with `dimensions` = {fewer}")
    )


def _shortened(rows: Rows, full: Rows, fewer: int) -> CheckResult:
    expected = unit_rows(full, len(full), fewer)
    if np.abs(rows - expected).max() <= MATRYOSHKA_TOLERANCE:
        return CheckResult("passed", f"vectors of {fewer} dimensions are the full vectors, cut and normalised again")
    off = float(np.abs(unit_rows(rows, len(full), None) - expected).max())
    if off <= MATRYOSHKA_TOLERANCE:
        return CheckResult("warned", f"vectors of {fewer} dimensions are the full vectors cut, but not normalised again", _LEAVE_OUT)
    return CheckResult("failed", f"vectors of {fewer} dimensions differ from the full vectors cut by up to {off:.2g}", _LEAVE_OUT)


_LEAVE_OUT = "Omit `dimensions` from requests, or normalise the vectors; clients of this package shorten vectors themselves"


def _serving(probe: Probe) -> str:
    if not probe.server.dialect.exact:
        return ""
    return (
        f"For other clients: `qwen3-integrations serve embed {shlex.quote(probe.server.model)}`, or vLLM's option --hf-overrides "
        """'{"is_matryoshka": true}'"""
    )
