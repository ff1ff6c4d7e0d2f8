"""State of the inspector for the browser: rankings, labels and metrics as plain values. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from qwen3_integrations.analysis.metrics import condensed, hit_rate, judged_at, mrr, ndcg
from qwen3_integrations.core.results import Hit, Ranking
from qwen3_integrations.errors import ConfigError

MOST_SHOWN = 10_000
"""Most documents in the browser."""

MOST_CHARACTERS = 20_000
"""Most characters of a document in the browser."""

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


def view_of(ranking: Ranking, shown: Sequence[int] | None = None) -> dict[str, Any]:
    """A ranking for the browser: `order` has positions by rank, `scores` are by position, `total` counts the documents.

    Args:
        ranking: The ranking.
        shown: The positions to show, where these are not all; `scores` and `rank` are then mappings of those positions.
    """
    hits = all_hits(ranking)
    view: dict[str, Any] = {
        "query": ranking.query,
        "instruction": ranking.instruction,
        "model": ranking.model,
        "total": len(hits),
        "tokens": ranking.usage.tokens,
        "seconds": ranking.timing.total_s,
    }
    if shown is None:
        scores = [hit.score for hit in sorted(hits, key=lambda hit: hit.index)]
        return view | {"order": order_of(ranking), "scores": scores, "truncated": sorted(hit.index for hit in hits if hit.truncated)}
    wanted = set(shown)
    among = [hit for hit in hits if hit.index in wanted]
    return view | {
        "order": [hit.index for hit in among],
        "scores": {str(hit.index): hit.score for hit in among},
        "rank": {str(hit.index): hit.rank for hit in among},
        "truncated": sorted(hit.index for hit in among if hit.truncated),
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
    """nDCG, MRR and hit rate of several orders of the same documents.

    Returns:
        One mapping for each order: `order` (its name), `ndcg`, `mrr`, `hit_rate`, each in [0, 1], where documents without a label count
        as irrelevant; `judged`, the number of the first `seen` documents that have a label; and `condensed`, the same three metrics of
        the order without the unjudged documents, or None where all are judged. Empty where nothing is relevant.
    """
    if not any(labels):
        return []
    partly = any(label is None for label in labels)
    found = []
    for name, order in orders.items():
        listed = [[labels[index] for index in order]]
        seen = min(k, len(order))
        without = _figures(condensed(listed), k) if partly else None
        found.append(
            {"order": name, **_figures([[label or 0 for label in listed[0]]], k)}
            | {"judged": round(judged_at(listed, k) * seen), "seen": seen, "condensed": without}
        )
    return found


def _figures(listed: list[list[float]], k: int) -> dict[str, float]:
    return {"ndcg": ndcg(listed, k), "mrr": mrr(listed), "hit_rate": hit_rate(listed, k)}


def first_of(ranking: Ranking) -> list[int] | None:
    """Positions of the documents that the browser gets, best first; None for all.

    A million documents would be 100 MB of state.
    """
    order = order_of(ranking)
    if len(order) <= MOST_SHOWN:
        return None
    return order[:MOST_SHOWN]


def document_view(text: str, same: int | None, about: dict[str, str]) -> dict[str, Any]:
    """A document for the browser; of a very long text, its beginning and its length."""
    view: dict[str, Any] = {"text": text[:MOST_CHARACTERS], "same": same, "about": about}
    return view if len(text) <= MOST_CHARACTERS else view | {"length": len(text)}
