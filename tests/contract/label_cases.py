"""Sequence-classification rerankers whose heads differ, and the scores that every engine must compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qwen3_integrations import Reranker
from qwen3_integrations.engines import Engine
from tests.contract.cases import TOLERANCE
from tests.models import write_classifier
from tests.reference import reference_logits, reference_scores
from tests.texts import PLAIN

PAIRS = [("How do I sort a list?", text) for text in PLAIN]
NO_YES, YES_NO = ("no", "yes"), ("yes", "no")

HEADS = {
    "one label": {"names": ["LABEL_0"], "order": ["yes"]},
    "one label, named": {"names": ["relevance"], "order": ["yes"]},
    "one label, with a bias": {"names": ["LABEL_0"], "order": ["yes"], "bias": [0.7]},
    "one label, not declared": {"names": None, "order": ["yes"]},
    "no and yes": {"names": NO_YES, "order": NO_YES},
    "yes and no": {"names": YES_NO, "order": YES_NO},
    "yes and no, in other words": {"names": ["Relevant", "NOT_RELEVANT"], "order": YES_NO},
    "true and false": {"names": ["True", "False"], "order": YES_NO},
    "default names": {"names": ["LABEL_0", "LABEL_1"], "order": NO_YES},
    "two labels, not declared": {"names": None, "order": NO_YES},
    "no and yes, with a bias": {"names": NO_YES, "order": NO_YES, "bias": [0.4, -0.3]},
    "yes and no, with a bias": {"names": YES_NO, "order": YES_NO, "bias": [0.4, -0.3]},
}
"""Arguments of `write_classifier`."""


def check_head(folder: Path, reranker: Path, engine: Engine, head: dict[str, object]) -> None:
    """Scores equal transformers' own logits of this very folder, read as its labels say; without a bias, the original's scores too."""
    scores = Reranker(engine).score(PAIRS)
    bias = np.asarray(head.get("bias", 0))
    if head["names"] is None and len(head["order"]) == 1:  # which transformers can't read
        logits = reference_logits(write_classifier(folder.with_name("declared"), reranker), PAIRS)
    else:
        logits = reference_logits(folder, PAIRS) + bias
    yes = list(head["order"]).index("yes")
    against = logits[:, 1 - yes] if logits.shape[1] == 2 else 0
    expected = 1 / (1 + np.exp(against - logits[:, yes].astype(np.float64)))
    assert np.abs(scores - expected).max() < TOLERANCE
    if not bias.any():
        assert np.abs(scores - reference_scores(reranker, PAIRS)).max() < TOLERANCE
    else:
        assert np.abs(scores - reference_scores(reranker, PAIRS)).max() > 10 * TOLERANCE
