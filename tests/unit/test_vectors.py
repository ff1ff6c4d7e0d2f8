"""Arithmetic on embeddings, against the slow and plain way to do it."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from qwen3_integrations.analysis import vectors
from qwen3_integrations.errors import InputError


def clustered(count, width, seed=0):
    """Rows around a few centres, with dimensions that matter less and less, as a Matryoshka model's do."""
    rng = np.random.default_rng(seed)
    scale = 1 / np.sqrt(1 + np.arange(width))
    centres = rng.standard_normal((7, width)) * scale
    return (centres[rng.integers(0, 7, count)] + 0.5 * rng.standard_normal((count, width)) * scale + 0.1).astype(np.float32)


def unit_rows(count, width, seed=0):
    rows = clustered(count, width, seed)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def cosine(left, right):
    return float(np.dot(left, right) / (np.linalg.norm(left) * np.linalg.norm(right)))


def neighbours(rows, index, k):
    others = [other for other in range(len(rows)) if other != index]
    return set(sorted(others, key=lambda other: -cosine(rows[index], rows[other]))[:k])


@pytest.mark.parametrize("given", [[[1, 2], [3, 4]], np.ones((3, 2), np.float16), np.ones((3, 2), np.float64)])
def test_anything_like_an_array_becomes_float32(given):
    rows = vectors.matrix(given)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, np.asarray(given))


def test_what_float32_cannot_hold_is_an_infinity_and_none_are_none():
    assert np.isinf(vectors.matrix([[1e300, 0.0]])[0, 0])
    assert vectors.matrix([]).shape == (0, 0)


@pytest.mark.parametrize("wrong", [[1.0, 2.0], [[1.0], [1.0, 2.0]], [["a"]], np.ones((2, 2, 2)), np.empty((3, 0)), 1.0])
def test_other_shapes_and_other_things_are_refused(wrong):
    with pytest.raises(InputError, match="vectors must"):
        vectors.matrix(wrong)


def test_lengths_do_not_overflow_and_unit_rows_have_length_one():
    rows = np.array([[3e30, 4e30], [0, 0], [0.3, 0.4]], np.float32)
    norms = vectors.lengths(rows)
    np.testing.assert_allclose(norms, [5e30, 0, 0.5], rtol=1e-6)
    np.testing.assert_allclose(vectors.unit(rows, norms), [[0.6, 0.8], [0, 0], [0.6, 0.8]], rtol=1e-6)
    already = unit_rows(4, 3)
    assert vectors.unit(already, vectors.lengths(already)) is already


@pytest.mark.parametrize("width", [None, 16, 3, 1])
def test_cosines_at_a_width_are_those_of_slices_normalised_again(width):
    left, right = unit_rows(5, 16, seed=1), unit_rows(9, 16, seed=2)
    plain = [[cosine(one[:width], other[:width]) for other in right] for one in left]
    np.testing.assert_allclose(vectors.cosines(left, right, width), plain, atol=1e-6)


def test_a_slice_of_zeros_has_a_cosine_of_zero():
    rows = np.array([[0, 1], [1, 0]], np.float32)
    np.testing.assert_array_equal(vectors.cosines(rows, rows, 1), [[0, 0], [0, 1]])


def test_best_first_breaks_ties_by_position_and_leaves_one_out():
    similarities = np.array([0.5, 0.9, 0.5, 1.0], np.float32)
    assert vectors.best_first(similarities, 3).tolist() == [3, 1, 0]
    assert vectors.best_first(similarities, 9, without=3).tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("width", "widths"),
    [(1, (1,)), (8, (2, 3, 4, 6, 8)), (32, (2, 3, 4, 6, 8, 12, 16, 24, 32)), (100, (32, 48, 64, 96, 100))],
)
def test_widths_to_compare_end_with_the_full_one(width, widths):
    assert vectors.matryoshka_widths(width) == widths
    assert vectors.matryoshka_widths(1024) == (32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


@pytest.mark.parametrize("count", [4, 60, 300])  # fewer rows than k, one block, two blocks
def test_recall_of_widths_is_the_share_of_neighbours_kept(count):
    rows = unit_rows(count, 24)
    k = min(10, count - 1)
    truth = [neighbours(rows, index, k) for index in range(count)]
    plain = [np.mean([len(neighbours(rows[:, :width], index, k) & truth[index]) / k for index in range(count)]) for width in (2, 5, 12, 24)]
    found = vectors.recall_of_widths(rows, (2, 5, 12, 24))
    np.testing.assert_allclose(found, plain, atol=1e-9)
    assert found[-1] == 1.0
    assert count == 4 or found[0] < found[1] < found[2]


def test_recall_over_some_queries_is_near_that_over_all_and_the_same_again():
    rows = unit_rows(400, 24)
    everything = vectors.recall_of_widths(rows, (2, 12))
    some = vectors.recall_of_widths(rows, (2, 12), most_queries=200)
    assert some == vectors.recall_of_widths(rows, (2, 12), most_queries=200)
    assert some != everything
    np.testing.assert_allclose(some, everything, atol=0.05)


def test_ties_at_full_width_cost_no_recall():
    rows = np.repeat(unit_rows(4, 8), 5, axis=0)  # each has 4 equals, and k = 2 may pick any of them
    assert vectors.recall_of_widths(rows, (2, 8), k=2) == (1.0, 1.0)


def test_one_row_and_none_have_nothing_to_lose():
    assert vectors.recall_of_widths(unit_rows(1, 8), (2, 8)) == (1.0, 1.0)
    assert vectors.recall_of_widths(unit_rows(0, 8), (2,)) == (1.0,)


@pytest.mark.parametrize(("count", "width"), [(500, 40), (20, 60), (3, 2), (2, 5)])
def test_the_principal_plane_is_that_of_the_full_decomposition(count, width):
    rows = clustered(count, width)
    plane = vectors.principal_plane(rows)
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    shares = np.append(singular**2 / np.sum(singular**2), 0)[:2]
    np.testing.assert_allclose(plane.explained, shares, atol=1e-4)
    placed = plane.place(rows)
    for axis in range(2):
        if shares[axis] > 1e-9:
            plain = centred @ axes[axis]
            difference = min(np.abs(placed[:, axis] - plain).max(), np.abs(placed[:, axis] + plain).max())  # a sign is free
            assert difference < 0.02 * np.abs(plain).max()
    np.testing.assert_array_equal(placed, vectors.principal_plane(rows).place(rows))


@pytest.mark.parametrize("rows", [np.ones((4, 3), np.float32), np.ones((1, 3), np.float32), np.empty((0, 3), np.float32)])
def test_rows_that_do_not_vary_lie_in_one_point(rows):
    plane = vectors.principal_plane(rows)
    assert plane.explained == (0.0, 0.0)
    assert plane.place(rows).shape == (len(rows), 2)
    np.testing.assert_allclose(plane.place(rows), 0, atol=1e-6)


def test_rows_of_one_dimension_lie_on_a_line():
    plane = vectors.principal_plane(np.array([[1], [2], [4]], np.float32))
    assert plane.explained == (pytest.approx(1.0), 0.0)
    assert np.all(plane.place(np.array([[1], [4]], np.float32))[:, 1] == 0)


def test_health_of_rows_is_what_numpy_says_of_them():
    rows = clustered(600, 12)
    rows[:, 5] = 0.25
    found = vectors.health(rows)
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    assert (found.count, found.width, found.non_finite, found.zero) == (600, 12, (), ())
    np.testing.assert_allclose(found.norms, [norms.min(), np.median(norms), norms.max()], rtol=1e-6)
    np.testing.assert_allclose(found.variance, rows.astype(np.float64).var(axis=0), rtol=1e-6, atol=1e-12)
    assert found.constant == (5,)
    plain = np.mean([cosine(rows[i], rows[j]) for i in range(600) for j in range(i + 1, 600)])
    assert found.mean_cosine == pytest.approx(plain, abs=1e-6)


def test_health_names_rows_without_a_direction_and_leaves_them_out():
    rows = clustered(6, 4)
    whole = rows[[0, 3, 5]].copy()
    rows[1, 2], rows[2, 0], rows[4] = np.nan, -np.inf, 0
    found = vectors.health(rows)
    assert found.non_finite == (1, 2)
    assert found.zero == (4,)
    assert found.norms[0] == 0
    assert found.mean_cosine == pytest.approx(vectors.health(whole).mean_cosine)
    np.testing.assert_allclose(found.variance, np.vstack([whole, np.zeros(4)]).var(axis=0), rtol=1e-5)


def test_health_of_nothing_and_of_nothing_finite():
    for rows in (vectors.matrix([]), np.full((2, 3), np.nan, np.float32)):
        found = vectors.health(rows)
        assert found.norms is None
        assert found.mean_cosine is None
        assert found.constant == ()
        assert not found.variance.any()


@pytest.mark.parametrize(("count", "most"), [(50, 20), (600, 7), (600, 3000)])  # one block and several; few and many asked for
def test_closest_pairs_are_the_largest_cosines(count, most):
    rows = unit_rows(count, 16)
    plain = rows.astype(np.float64) @ rows.T
    left, right = np.triu_indices(count, 1)
    order = np.argsort(-plain[left, right], kind="stable")[:most]
    found = vectors.closest_pairs(rows, most, above=0.9)
    assert {(i, j) for i, j, _ in found.best} == set(zip(left[order].tolist(), right[order].tolist(), strict=True))
    np.testing.assert_allclose([cosine for *_, cosine in found.best], plain[left, right][order], atol=1e-5)
    assert found.above == np.count_nonzero(plain[left, right] >= 0.9)
    assert found.above > 0


def test_equal_pairs_come_in_order_of_rows_and_all_are_counted():
    rows = np.repeat(unit_rows(2, 8), 300, axis=0)
    found = vectors.closest_pairs(rows, 3)
    assert [pair[:2] for pair in found.best] == [(0, 1), (0, 2), (0, 3)]
    assert all(cosine == pytest.approx(1) and cosine <= 1 for *_, cosine in found.best)
    assert found.above == 2 * (300 * 299 // 2)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_rows_are_no_pair(count):
    assert vectors.closest_pairs(unit_rows(count, 8), 5) == vectors.Pairs((), 0)


@pytest.mark.parametrize(
    "work",
    [
        lambda rows, between: vectors.recall_of_widths(rows, (2, 8), between=between),
        lambda rows, between: vectors.closest_pairs(rows, 5, between=between),
        vectors.principal_plane,
    ],
)
def test_long_work_can_be_stopped_between_blocks(work):
    class StoppedError(Exception):
        pass

    calls = []

    def between():
        calls.append(1)
        if len(calls) == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        work(unit_rows(600, 40), between)


def test_ten_thousand_rows_of_a_thousand_stay_within_modest_memory():
    rows = np.zeros((10_000, 1024), np.float32)
    rows[np.arange(10_000), np.arange(10_000) % 1000] = 1
    rows[:, 1000:] = 1e-6 * np.arange(24)
    tracemalloc.start()
    try:
        vectors.health(rows)
        vectors.unit(rows, vectors.lengths(rows))
        vectors.principal_plane(rows[:, :64])
        vectors.recall_of_widths(rows, (32, 1024), most_queries=300)
        assert tracemalloc.get_traced_memory()[1] < 64e6  # the rows themselves are 41 MB; all cosines would be 400 MB
    finally:
        tracemalloc.stop()
