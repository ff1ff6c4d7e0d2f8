"""State of the inspector for the browser: rankings, labels and metrics as plain values. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from qwen3_integrations.analysis.metrics import hit_rate, mrr, ndcg
from qwen3_integrations.core.results import Hit, Ranking
from qwen3_integrations.errors import ConfigError

Labels = Mapping[int, float] | Sequence[float | None]
"""Relevance by position in the order passed, or one value per document; None for not judged."""


def all_hits(ranking: Ranking) -> tuple[Hit, ...]:
    """Kept and dropped documents, best first."""
    return ranking.hits + ranking.dropped


def order_of(ranking: Ranking) -> list[int]:
    """Positions, best first."""
    return [hit.index for hit in all_hits(ranking)]


def texts_in(ranking: Ranking) -> list[str]:
    """The documents in the order in which they were passed."""
    return [hit.document for hit in sorted(all_hits(ranking), key=lambda hit: hit.index)]


def view_of(ranking: Ranking) -> dict[str, Any]:
    """A ranking for the browser: `order` has positions by rank, `scores` are by position."""
    by_position = sorted(all_hits(ranking), key=lambda hit: hit.index)
    return {
        "query": ranking.query,
        "instruction": ranking.instruction,
        "model": ranking.model,
        "order": order_of(ranking),
        "scores": [hit.score for hit in by_position],
        "truncated": [hit.index for hit in by_position if hit.truncated],
        "tokens": ranking.usage.tokens,
        "seconds": ranking.timing.total_s,
    }


def listed_labels(labels: Labels | None, count: int) -> list[float | None]:
    """Labels as one value per document; whole numbers become integers.

    Raises:
        ConfigError: For a document that is not there, a list of another length, or a relevance that is no number of at least 0.
    """
    if isinstance(labels, Mapping):
        unknown = [at for at in labels if at not in range(count)]
        if unknown:
            raise ConfigError(f"contain document {unknown[0]!r}, but there are {count}, counted from 0", option="labels")
        listed: list[Any] = [labels.get(index) for index in range(count)]
    else:
        listed = [None] * count if labels is None else list(labels)
    if len(listed) != count:
        advice = "Pass one for each document, None for one that is not judged, or a mapping"
        raise ConfigError(f"are {len(listed)}, but there are {count} documents", option="labels", advice=advice)
    for index, label in enumerate(listed):
        if label is not None and not (isinstance(label, Real) and math.isfinite(label) and float(label) >= 0):
            raise ConfigError(f"must be numbers of at least 0, or None; labels[{index}] is {label!r}", option="labels")
    return [label if label is None else float(label) if label % 1 else int(label) for label in listed]


def measured(orders: Mapping[str, Sequence[int]], labels: Sequence[float | None], k: int) -> list[dict[str, Any]]:
    """nDCG, MRR and hit rate of several orders of the same documents; documents without a label count as irrelevant.

    Returns:
        One mapping for each order: `order` (its name), `ndcg`, `mrr`, `hit_rate`, each in [0, 1]. Empty where nothing is relevant.
    """
    if not any(labels):
        return []
    listed = {name: [[labels[index] or 0 for index in order]] for name, order in orders.items()}
    return [{"order": name, "ndcg": ndcg(one, k), "mrr": mrr(one), "hit_rate": hit_rate(one, k)} for name, one in listed.items()]
