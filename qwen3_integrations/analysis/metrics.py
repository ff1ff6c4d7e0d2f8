"""Retrieval metrics (nDCG, MRR, hit rate) and rank correlation. Pure arithmetic over plain lists."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Callable, Hashable, Iterable, Sequence

from qwen3_integrations.core.validation import optional_whole_number, whole_number
from qwen3_integrations.errors import InputError

__all__ = [
    "condensed",
    "hit_rate",
    "judged_at",
    "kendall_tau",
    "mrr",
    "ndcg",
]


def ndcg(relevances: Iterable[Sequence[float]], k: int | None = None) -> float:
    """Normalised discounted cumulative gain, the mean over queries.

    The gain is the relevance itself, as in trec_eval and BEIR, not 2^relevance - 1. The ideal order is made of the
    given list: relevant documents that were not retrieved do not count.

    Args:
        relevances: One list per query: the relevance of each document, at least 0, in the order to evaluate.
        k: Number of documents that count, from the first on, at least 1; None for all.

    Returns:
        In [0, 1]; a query without a relevant document counts 0.

    Raises:
        InputError: For no queries, a relevance below 0 or not finite, or a `k` below 1.

    Source: Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, 2002, doi:10.1145/582415.582418, with
    the discount log2(rank + 1) of trec_eval's `ndcg_cut`.
    """
    k = _checked(k)
    return _mean(relevances, lambda listed: _ndcg(listed, k))


def mrr(relevances: Iterable[Sequence[float]], k: int | None = None) -> float:
    """Mean reciprocal rank: 1 / rank of the first relevant document, the mean over queries.

    Args:
        relevances: As in `ndcg`; a document is relevant if its relevance is above 0.
        k: As in `ndcg`.

    Returns:
        In [0, 1]; a query without a relevant document among the first `k` counts 0.

    Raises:
        InputError: As in `ndcg`.

    Source: Voorhees, The TREC-8 question answering track report, 1999.
    """
    k = _checked(k)
    return _mean(relevances, lambda listed: next((1 / rank for rank, value in enumerate(listed[:k], 1) if value > 0), 0.0))


def hit_rate(relevances: Iterable[Sequence[float]], k: int | None = None) -> float:
    """The share of queries with a relevant document among the first `k`; also called success@k.

    Args:
        relevances: As in `ndcg`; a document is relevant if its relevance is above 0.
        k: As in `ndcg`.

    Returns:
        In [0, 1].

    Raises:
        InputError: As in `ndcg`.

    Source: `success` in trec_eval.
    """
    k = _checked(k)
    return _mean(relevances, lambda listed: float(any(value > 0 for value in listed[:k])))


def judged_at(relevances: Iterable[Sequence[float | None]], k: int) -> float:
    """The share of the first `k` documents that are judged, the mean over queries.

    Where it is low, metrics that count unjudged documents as irrelevant say little: nDCG@10 is 0 for a list whose first ten nobody judged.

    Args:
        relevances: As in `ndcg`, with None for a document that is not judged.
        k: Number of documents that count, from the first on, at least 1.

    Returns:
        In [0, 1].

    Raises:
        InputError: As in `ndcg`.

    Source: Judged@k in Zhang et al., Mr. TyDi, 2021, and in pyserini.
    """
    k = whole_number(k, "k", of_call=True)
    shares = [sum(value is not None for value in listed[:k]) / max(min(k, len(listed)), 1) for listed in relevances]
    if not shares:
        raise InputError("a mean over queries needs at least one query")
    return sum(shares) / len(shares)


def condensed(relevances: Iterable[Sequence[float | None]]) -> list[list[float]]:
    """The lists without their unjudged documents, in the same order, for a metric that does not count those as irrelevant.

    Args:
        relevances: As in `judged_at`.

    Source: Sakai, Alternatives to bpref, 2007, doi:10.1145/1277741.1277756.
    """
    return [[value for value in listed if value is not None] for listed in relevances]


def kendall_tau(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Rank correlation of two orders of the same items: (pairs in the same order - pairs in opposite order) / pairs.

    Args:
        first: Different items.
        second: The same items in another order.

    Returns:
        In [-1, 1]: 1 for equal orders, -1 for reversed ones; 1 for fewer than two items.

    Raises:
        InputError: If an item occurs twice, or the two have different items.

    Source: Kendall, A new measure of rank correlation, 1938, doi:10.1093/biomet/30.1-2.81 (orders without ties: tau-a).
    """
    place = {thing: rank for rank, thing in enumerate(second)}
    if len(place) != len(second) or len(set(first)) != len(first) or place.keys() != set(first):
        raise InputError("Kendall's tau needs two orders of the same items, each item once")
    pairs = len(first) * (len(first) - 1) // 2
    if pairs == 0:
        return 1.0
    passed: list[int] = []
    opposite = 0
    for thing in first:
        opposite += len(passed) - bisect_right(passed, place[thing])
        insort(passed, place[thing])
    return 1 - 2 * opposite / pairs


def _checked(k: object) -> int | None:
    return optional_whole_number(k, "k", note=", or None for all", of_call=True)


def _mean(relevances: Iterable[Sequence[float]], measure: Callable[[Sequence[float]], float]) -> float:
    queries = list(relevances)
    if not queries:
        raise InputError("a mean over queries needs at least one query")
    for number, listed in enumerate(queries):
        for rank, value in enumerate(listed):
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"relevances[{number}][{rank}] must be a finite number of at least 0, not {value!r}")
    return sum(measure(listed) for listed in queries) / len(queries)


def _ndcg(listed: Sequence[float], k: int | None) -> float:
    ideal = _gain(sorted(listed, reverse=True)[:k])
    return _gain(listed[:k]) / ideal if ideal else 0.0


def _gain(listed: Sequence[float]) -> float:
    return sum(value / math.log2(rank + 1) for rank, value in enumerate(listed, 1))
