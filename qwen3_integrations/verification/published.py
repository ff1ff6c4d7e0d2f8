"""The numbers that were published for the 0.6B checkpoints."""

from __future__ import annotations

import numpy as np

from qwen3_integrations.core.embedder import Embedder
from qwen3_integrations.core.reranker import Reranker
from qwen3_integrations.models.catalog import CHECKPOINTS
from qwen3_integrations.verification.probe import CheckResult, Probe

EMBEDDER = "Qwen/Qwen3-Embedding-0.6B"
QUERIES = ("What is the capital of China?", "Explain gravity")
DOCUMENTS = (
    "The capital of China is Beijing.",
    (
        "Gravity is a force that attracts two bodies towards each other. It gives weight to physical objects and is responsible for the "
        "movement of planets around the sun."
    ),
)
COSINES = ((0.7646, 0.1414), (0.1355, 0.6000))
"""Of queries and documents, with the default instruction, transformers in float32; through vLLM [[0.7620, 0.1408], [0.1358, 0.6014]].
Source: the model card, https://huggingface.co/Qwen/Qwen3-Embedding-0.6B."""

RERANKER = "Qwen/Qwen3-Reranker-0.6B"
PLANET = "Which planet is known as the Red Planet?"
PLANETS = (
    "Venus is often called Earth's twin because of its similar size and proximity.",
    "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
    "Jupiter, the largest planet in our solar system, has a prominent red spot.",
    "Saturn, famous for its rings, is sometimes mistaken for the Red Planet.",
)
PROBABILITIES = (0.0427, 0.9992, 0.4064, 0.9719)
"""Of `PLANETS` for `PLANET`, float32: the sigmoid of the logit differences [-3.1093, 7.1204, -0.3788, 3.5416].
Source: reported for sentence-transformers' cross-encoder test of this checkpoint; the texts are those of its `test_pretrained.py`."""

TOLERANCE = {"embed": 0.01, "rerank": 0.05}
"""The two published matrices differ by at most 0.003. A change of a logit difference by 0.1, as by bfloat16, changes the third
probability by 0.024. A wrong model would have to match all four numbers this closely by chance."""


async def published_numbers(probe: Probe) -> CheckResult:
    """The server reproduces the numbers that the authors published, for the models with published numbers."""
    name = probe.published.name if probe.published else None
    if name == EMBEDDER:
        embedder = Embedder(probe.engine)
        queries, documents = await embedder.aembed_queries(QUERIES), await embedder.aembed_documents(DOCUMENTS)
        return _compared(queries @ documents.T, np.asarray(COSINES), "cosines", TOLERANCE["embed"])
    if name == RERANKER:
        scores = await Reranker(probe.engine).ascore([(PLANET, planet) for planet in PLANETS])
        return _compared(scores, np.asarray(PROBABILITIES), "scores", TOLERANCE["rerank"])
    if name in CHECKPOINTS:
        return CheckResult("skipped", f"no numbers were published for {name}")
    return CheckResult("skipped", f"{probe.server.model} is not a published checkpoint")


def _compared(seen: np.ndarray, expected: np.ndarray, what: str, tolerance: float) -> CheckResult:
    off = float(np.abs(seen - expected).max())
    shown, known = (", ".join(f"{number:.4f}" for number in numbers.ravel()) for numbers in (seen, expected))
    if off > tolerance:
        return CheckResult(
            "failed",
            f"{what} are {shown}, published are {known}: another model, or changed weights",
            "Check which model the server loaded: name, revision and quantisation",
        )
    return CheckResult("passed", f"{what} are {shown}, published are {known}")
