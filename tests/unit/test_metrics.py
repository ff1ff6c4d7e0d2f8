"""Metrics of rankings, compared with values computed by hand."""

from __future__ import annotations

import itertools
from math import log2

import pytest

from qwen3_integrations.analysis.metrics import hit_rate, kendall_tau, mrr, ndcg
from qwen3_integrations.errors import InputError

GRADED = [3, 2, 3, 0, 1, 2]
"""The worked example of Wikipedia's article on discounted cumulative gain: DCG 6.861, ideal 7.141 over these six."""


def test_ndcg_of_a_worked_example():
    gain = 3 + 2 / log2(3) + 3 / 2 + 0 + 1 / log2(6) + 2 / log2(7)
    ideal = 3 + 3 / log2(3) + 2 / 2 + 2 / log2(5) + 1 / log2(6)
    assert round(gain, 3) == 6.861
    assert round(ideal, 3) == 7.141
    assert ndcg([GRADED]) == pytest.approx(gain / ideal)
    assert ndcg([GRADED]) == pytest.approx(0.961, abs=5e-4)


def test_ndcg_counts_only_the_first_k():
    assert ndcg([[0, 1, 1]], 1) == 0
    assert ndcg([[0, 1, 1]], 2) == pytest.approx((1 / log2(3)) / (1 + 1 / log2(3)))
    assert ndcg([[1, 1, 0]], 2) == 1
    assert ndcg([[1, 0]], 10) == 1  # k beyond the end


def test_mrr_is_the_mean_of_one_over_the_first_relevant_rank():
    assert mrr([[0, 0, 1, 1]]) == pytest.approx(1 / 3)
    assert mrr([[0, 0, 1], [2, 0, 0], [0, 1, 0]]) == pytest.approx((1 / 3 + 1 + 1 / 2) / 3)
    assert mrr([[0, 0, 1]], 2) == 0


def test_hit_rate_is_the_share_of_queries_with_a_hit():
    queries = [[0, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 1]]
    assert hit_rate(queries, 1) == 0.25
    assert hit_rate(queries, 2) == 0.5
    assert hit_rate(queries) == 0.75


def test_nothing_relevant_counts_zero():
    for measure in (ndcg, mrr, hit_rate):
        assert measure([[0, 0]]) == 0
        assert measure([[]]) == 0


@pytest.mark.parametrize(
    ("first", "second", "tau"),
    [
        ("abcd", "abcd", 1),
        ("abcd", "dcba", -1),
        ("abcd", "abdc", 1 - 2 * 1 / 6),  # one pair of six is swapped
        ("abc", "bca", 1 - 2 * 2 / 3),  # a-b and a-c are swapped
        ("a", "a", 1),
        ("", "", 1),
    ],
)
def test_kendall_tau_of_orders_worked_out_by_hand(first, second, tau):
    assert kendall_tau(first, second) == pytest.approx(tau)
    assert kendall_tau(second, first) == pytest.approx(tau)


def test_kendall_tau_is_what_counting_every_pair_gives():
    first = range(6)
    for second in itertools.islice(itertools.permutations(first), 0, None, 7):
        pairs = list(itertools.combinations(first, 2))
        agreeing = sum((second.index(a) < second.index(b)) for a, b in pairs)
        assert kendall_tau(first, second) == pytest.approx((2 * agreeing - len(pairs)) / len(pairs))


@pytest.mark.parametrize(("first", "second"), [("ab", "ac"), ("ab", "abc"), ("aab", "abb"), ("aab", "ab")])
def test_kendall_tau_needs_the_same_items(first, second):
    with pytest.raises(InputError, match="same items"):
        kendall_tau(first, second)


@pytest.mark.parametrize("measure", [ndcg, mrr, hit_rate])
@pytest.mark.parametrize(
    ("relevances", "k", "said"),
    [
        ([], None, "at least one query"),
        ([[1]], 0, "k must be a whole number of at least 1"),
        ([[1], [0, -1]], None, r"relevances\[1\]\[1\]"),
        ([[float("nan")]], None, "finite"),
    ],
)
def test_what_has_no_measure_is_refused(measure, relevances, k, said):
    with pytest.raises(InputError, match=said):
        measure(relevances, k)
