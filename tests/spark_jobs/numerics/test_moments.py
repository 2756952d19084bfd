from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_jobs.numerics import moments
from spark_jobs.numerics.moments import Moments


def assert_close(a: Moments, b: Moments, rtol: float = 1e-12) -> None:
    assert a.n == b.n
    np.testing.assert_allclose(a.mean, b.mean, rtol=rtol, atol=rtol * (1 + np.abs(b.mean).max()))
    np.testing.assert_allclose(a.m2, b.m2, rtol=rtol, atol=rtol * (1 + np.abs(b.m2).max()))


def test_moments_of_a_matrix_solved_by_hand() -> None:
    found = moments.compute(np.array([[1.0, 2.0], [3.0, 2.0], [5.0, 8.0]]))
    assert found.n == 3
    np.testing.assert_array_equal(found.mean, [3, 4])
    # Deviations: (-2, -2), (0, -2), (2, 4).
    np.testing.assert_array_equal(found.m2, [[8, 12], [12, 24]])
    np.testing.assert_array_equal(found.covariance, [[4, 6], [6, 12]])


def test_merging_by_hand() -> None:
    merged = moments.merge(moments.compute(np.array([[1.0, 2.0]])), moments.compute(np.array([[3.0, 2.0], [5.0, 8.0]])))
    assert_close(merged, Moments(3, np.array([3.0, 4.0]), np.array([[8.0, 12.0], [12.0, 24.0]])))


def test_one_vector_has_no_covariance() -> None:
    found = moments.compute(np.array([[0.1, 7.3]]))
    np.testing.assert_array_equal(found.mean, [0.1, 7.3])
    np.testing.assert_array_equal(found.covariance, np.zeros((2, 2)))


def test_no_vectors_change_nothing_and_have_no_covariance() -> None:
    some = moments.compute(np.array([[1.0, 2.0], [3.0, 5.0]]))
    nothing = moments.compute(np.empty((0, 2)))
    assert nothing.n == 0
    assert moments.merge(some, nothing) is some
    assert moments.merge(nothing, some) is some
    with pytest.raises(ValueError, match="covariance of no vectors"):
        _ = nothing.covariance


def test_different_dimensions_do_not_merge() -> None:
    with pytest.raises(ValueError, match="of 2 and of 3 dimensions"):
        moments.merge(moments.empty(2), moments.empty(3))


def test_a_block_is_left_as_it_was() -> None:
    block = np.random.default_rng(0).normal(size=(7, 3))
    before = block.copy()
    moments.compute(block)
    np.testing.assert_array_equal(block, before)


@pytest.mark.parametrize("constant", [0.1, 1 / 3, 1e7 + 0.3, 5.4e-39])
def test_constant_columns_have_exactly_no_variance_however_they_are_cut(constant: float) -> None:
    column = np.full((1000, 3), np.float32(constant)).astype(np.float64)
    found = moments.accumulate(np.array_split(column, 7), 3)
    assert not found.m2.any()
    np.testing.assert_array_equal(found.mean, column[0])


def test_m2_is_symmetric_to_the_bit() -> None:
    random = np.random.default_rng(3)
    found = moments.accumulate((random.normal(5, 1, size=(50, 33)) for _ in range(9)), 33)
    np.testing.assert_array_equal(found.m2, found.m2.T)


@pytest.mark.parametrize("block_rows", [1, 16, 2048])
def test_a_mean_of_a_billion_deviations_costs_no_digits_however_small_the_blocks(block_rows: int) -> None:
    random = np.random.default_rng(12)
    rows = random.normal(size=(4096, 5)) + 1e9
    exact = rows.astype(np.longdouble)
    centred = exact - exact.mean(axis=0)
    reference = centred.T @ centred
    found = moments.accumulate(np.array_split(rows, 4096 // block_rows), 5)
    assert np.abs(found.m2 / np.diag(reference).min() - reference / np.diag(reference).min()).max() < 1e-13
    assert found.mean_rest.any()


def test_a_mean_much_larger_than_the_deviations_costs_few_digits() -> None:
    random = np.random.default_rng(4)
    rows = (random.normal(size=(3000, 6)) + 1e6 * np.arange(1, 7)).astype(np.float32).astype(np.float64)
    exact = rows.astype(np.longdouble)
    centred = exact - exact.mean(axis=0)
    found = moments.accumulate(np.array_split(rows, 11), 6)
    reference = centred.T @ centred
    scale = np.sqrt(np.outer(np.diag(reference), np.diag(reference)))
    # κ = mean / deviation is 6e6 here. A mean in one float64 is held to eps of itself, eps·κ of a deviation; with its
    # rest none of that is lost. The textbook formula loses eps·κ².
    assert np.abs((found.m2 - reference) / scale).max() < 1e-14
    assert np.abs((found.mean - exact.mean(axis=0)) / exact.mean(axis=0)).max() < 1e-15
    # The bound is not loose: the textbook formula misses it by orders of magnitude.
    naive = rows.T @ rows - len(rows) * np.outer(rows.mean(axis=0), rows.mean(axis=0))
    assert np.abs((naive - reference) / scale).max() > 1e-5


matrices = st.integers(1, 5).flatmap(
    lambda d: st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=d, max_size=d), min_size=0, max_size=20).map(
        lambda rows: np.array(rows, dtype=np.float64).reshape(-1, d)
    )
)


@settings(deadline=None)
@given(matrices, st.lists(st.integers(0, 20), max_size=6), st.randoms(use_true_random=False))
def test_however_rows_are_cut_ordered_and_merged_the_moments_are_the_same(rows, cuts, random) -> None:
    expected = moments.compute(rows)
    parts = [moments.compute(part) for part in np.split(rows, sorted(min(cut, len(rows)) for cut in cuts))]
    left = functools.reduce(moments.merge, parts)
    right = functools.reduce(lambda later, earlier: moments.merge(earlier, later), reversed(parts))
    random.shuffle(parts)
    shuffled = functools.reduce(moments.merge, parts)
    for merged in (left, right, shuffled):
        assert_close(merged, expected, rtol=1e-11)


def test_packed_moments_come_back_equal_to_the_bit() -> None:
    found = moments.compute(np.random.default_rng(5).normal(size=(20, 7)))
    packed = moments.pack(found)
    assert len(packed) == 8 * (1 + 7 + 7 + 28)
    back = moments.unpack(packed, 7)
    assert back.n == found.n
    np.testing.assert_array_equal(back.mean, found.mean)
    np.testing.assert_array_equal(back.mean_rest, found.mean_rest)
    np.testing.assert_array_equal(back.m2, found.m2)
    with pytest.raises(ValueError, match="not moments of 8 dimensions"):
        moments.unpack(packed, 8)
