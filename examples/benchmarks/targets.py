"""Targets of the measurements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

OURS = "ours, torch engine"
OURS_FP8 = "ours, torch engine, fp8"
OURS_VLLM = "ours, embedded vLLM"
OURS_HTTP = "ours, over HTTP"
VLLM_IDS = "vLLM, token ids"
VLLM_FP8_IDS = "vLLM fp8, token ids"
VLLM_TEXTS = "vLLM, texts"
SENTENCE_TRANSFORMERS = "sentence-transformers, batch 256"
SENTENCE_TRANSFORMERS_32 = "sentence-transformers, batch 32"
CROSS_ENCODER = "sentence-transformers CrossEncoder"
MODEL_CARD = "model card, batch 32"
MODEL_CARD_LAST = "model card, last position only"
UNSHARED = "the same engine, head not shared"
ONE_CALLER = "one caller"
THREADS = "256 threads"
TASKS = "256 tasks"
OPENAI = "langchain-openai"
OPENAI_SDK = "openai SDK, as langchain-openai uses it"
BARE = "bare client, answers discarded"
SCORE_ROUTE = "one /score request a query, in turn"

Kind = Literal["times", "of the ceiling", "at most"]


@dataclass(frozen=True)
class Target:
    """One figure to reach.

    Attributes:
        side: The side that must reach it.
        bound: The smallest speed relative to `against`; or the smallest share of the ceiling, in [0, 1]; or the largest value, in `unit`.
        kind: The kind of the bound: one of these three.
        against: The side to compare with.
        unit: Unit of the largest value.
    """

    side: str
    bound: float
    kind: Kind = "times"
    against: str = ""
    unit: str = "s"


@dataclass(frozen=True)
class Verdict:
    """A target and its measured figure, in the unit of the target."""

    target: Target
    figure: float

    @property
    def met(self) -> bool:
        """Whether it was reached."""
        return self.figure <= self.target.bound if self.target.kind == "at most" else self.figure >= self.target.bound

    @property
    def margin(self) -> float:
        """Relative margin over the target; negative if the target is missed."""
        over = self.figure / self.target.bound - 1
        return -over if self.target.kind == "at most" else over


TARGETS: Mapping[str, tuple[Target, ...]] = {
    "embed-128": (
        Target(OURS, 2.2, against=VLLM_IDS),
        Target(OURS, 3.5, against=VLLM_TEXTS),
        Target(OURS, 3.5, against=SENTENCE_TRANSFORMERS),
        Target(OURS, 0.6, "of the ceiling"),
    ),
    "embed-512": (
        Target(OURS, 1.6, against=VLLM_IDS),
        Target(OURS, 3.0, against=VLLM_TEXTS),
        Target(OURS, 3.0, against=SENTENCE_TRANSFORMERS),
        Target(OURS, 0.6, "of the ceiling"),
    ),
    "fp8-embed-0.6B": (Target(OURS_FP8, 1.3, against=OURS), Target(OURS_FP8, 1.3, against=VLLM_FP8_IDS)),
    "fp8-embed-4B": (Target(OURS_FP8, 1.55, against=OURS), Target(OURS_FP8, 1.3, against=VLLM_FP8_IDS)),
    "fp8-embed-8B": (Target(OURS_FP8, 1.55, against=OURS), Target(OURS_FP8, 1.3, against=VLLM_FP8_IDS)),
    "fp8-rerank-4B": (Target(OURS_FP8, 2.0, against=VLLM_IDS), Target(OURS_FP8, 1.3, against=VLLM_FP8_IDS)),
    "rerank": (Target(OURS, 2.0, against=VLLM_IDS), Target(OURS, 6.0, against=MODEL_CARD), Target(OURS, 4.0, against=CROSS_ENCODER)),
    "rerank-long-head": (Target(OURS, 2.5, against=UNSHARED),),
    "latency": (Target(OURS, 1.0, against=VLLM_TEXTS),),
    "embedded": (Target(OURS_VLLM, 0.95, against=VLLM_IDS), Target(OURS_VLLM, 1.6, against=VLLM_TEXTS)),
    "callers": (Target(THREADS, 10.0, against=ONE_CALLER), Target(TASKS, 10.0, against=ONE_CALLER)),
    "remote-embed": (
        Target(OURS_HTTP, 2.0, against=OPENAI),
        Target(OURS_HTTP, 2.0, against=OPENAI_SDK),
        Target(OURS_HTTP, 0.9, against=BARE),
    ),
    "remote-rerank": (Target(OURS_HTTP, 1.5, against=SCORE_ROUTE),),
    "cpu-rerank": (Target(OURS, 2.5, against=MODEL_CARD), Target(OURS, 1.7, against=CROSS_ENCODER)),
    "cpu-embed": (Target(OURS, 1.15, against=SENTENCE_TRANSFORMERS_32),),
    "startup": (Target("import qwen3_integrations", 0.2, "at most"), Target("first answer of the tiny pair, cold process", 5.0, "at most")),
    "frames": tuple(
        Target(f"{widget}, {count:,}", 60.0, "at most", unit="ms") for count in (1_000, 10_000) for widget in ("inspector", "explorer")
    ),
    "memory-host": (Target("peak of 100,000 texts / peak of 10,000", 1.1, "at most", unit="x"),),
    "memory-gpu": (Target("peak / plan, worst length", 1.0, "at most", unit="x"),),
}
"""The project's targets, by measurement."""


def verdicts(measurement: str, sides: list[dict[str, Any]]) -> list[Verdict]:
    """Compare the targets of a measurement with its recorded sides. Targets without a measurement are skipped.

    Args:
        measurement: A key of `TARGETS`; others have no targets.
        sides: As `Measured.to_dict` gives them; with `of_ceiling` or `value` where a target needs it.
    """
    by_name = {side["name"]: side for side in sides}
    found = []
    for target in TARGETS.get(measurement, ()):
        side, against = by_name.get(target.side), by_name.get(target.against)
        if side is None or (target.kind == "times" and against is None):
            continue
        if target.kind == "times":
            assert against is not None
            found.append(Verdict(target, side["rate"] / against["rate"]))
        elif target.kind == "of the ceiling" and side.get("of_ceiling") is not None:
            found.append(Verdict(target, side["of_ceiling"]))
        elif target.kind == "at most":
            found.append(Verdict(target, side["value"] if "value" in side else side["median"]))
    return found


def in_words(verdict: Verdict) -> str:
    """`2.4x of vLLM, token ids; at least 2.2x: met, 9 % over`."""
    target = verdict.target
    result = "met" if verdict.met else "missed"
    margin = f"{result}, {abs(verdict.margin):.0%} {'to spare' if verdict.met else 'short'}"
    if target.kind == "times":
        return f"{verdict.figure:.2f}x of {target.against}; at least {target.bound:g}x: {margin}"
    if target.kind == "of the ceiling":
        return f"{verdict.figure:.1%} of the measured matmul ceiling; at least {target.bound:.0%}: {margin}"
    return f"{verdict.figure:.3g} {target.unit}; at most {target.bound:g} {target.unit}: {margin}"
