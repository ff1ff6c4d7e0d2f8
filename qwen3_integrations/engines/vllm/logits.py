"""Probabilities from a reranker's logits."""

from __future__ import annotations

import numpy as np

from qwen3_integrations.core.types import Rows


def probabilities_of(logits: Rows, positive: int = 1) -> Rows:
    """P(yes) from a reranker's logits.

    Args:
        logits: float32, shape (prompts, 1): yes minus no; or (prompts, 2): one column for each label.
        positive: Index of the label that means "yes", of two labels.

    Returns:
        float32, shape (prompts,), in [0, 1].
    """
    wide = logits.astype(np.float64)
    difference = wide[:, 0] if wide.shape[1] == 1 else wide[:, positive] - wide[:, 1 - positive]
    small = np.exp(-np.abs(difference))  # the exponent is never positive, so that exp cannot overflow
    return np.where(difference >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)
