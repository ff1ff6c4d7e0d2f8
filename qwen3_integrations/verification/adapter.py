"""The check of a served adapter: its answers differ from those of its model."""

from __future__ import annotations

from dataclasses import replace

from qwen3_integrations.engines.http.learning import ask_and_learn
from qwen3_integrations.verification.answers import TEXTS
from qwen3_integrations.verification.probe import CheckResult, Probe
from qwen3_integrations.verification.templates import NOISY

_TEXTS = TEXTS[:8]
_ROUNDING = 1e-6
"""Smallest difference that counts (1 - cosine; difference of scores): float32's rounding."""


async def adapter(probe: Probe) -> CheckResult:
    """The adapter changes the answers of its model."""
    assert probe.adapter_of is not None  # the check is left out where no adapter is named
    prompts = probe.prompts(_TEXTS, tokenizer=probe.tokenizer)
    ours, again = (await probe.ask(prompts)).rows, (await probe.ask(prompts)).rows
    theirs, _ = await ask_and_learn(replace(probe.server, model=probe.adapter_of), prompts, probe.connection.post)
    difference = probe.furthest(ours, probe.finished(theirs.rows, len(prompts)))
    unit = "1 - cosine" if probe.task == "embed" else "difference of scores"
    if difference <= max(_ROUNDING, NOISY * probe.furthest(ours, again)):
        return CheckResult(
            "failed",
            f"the answers of {probe.server.model} are those of {probe.adapter_of}: the adapter is not applied",
            "Check that the server loaded the adapter, and that its proxy passes the field `model` on",
        )
    return CheckResult("passed", f"the adapter changes the answers of {probe.adapter_of} by up to {difference:.2g} ({unit})")
