from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from spark_jobs.numerics import decomposition, moments
from spark_jobs.numerics.moments import Moments
from tests.spark_jobs.feature_runs import realistic


def fit(rows, target: float | None = 0.8, n_components: int | None = None) -> decomposition.FittedPca:
    rows = np.asarray(rows, dtype=np.float64)
    return decomposition.fit(moments.compute(rows), target, n_components)


def with_variances(variances) -> Moments:
    """Moments of 11 vectors whose covariance is diagonal."""
    return Moments(11, np.zeros(len(variances)), 10 * np.diag(np.asarray(variances, dtype=np.float64)))


def test_a_matrix_solved_by_hand() -> None:
    # Covariance ((2, 1), (1, 2)): eigenvalues 3 and 1 along (1, 1)/√2 and (1, −1)/√2.
    found = decomposition.fit(Moments(5, np.array([10.0, 20.0]), 4 * np.array([[2.0, 1.0], [1.0, 2.0]])), 0.9)
    half = np.sqrt(0.5)
    assert (found.n, found.k) == (5, 2)
    np.testing.assert_allclose(found.eigenvalues, [3, 1], rtol=1e-15)
    np.testing.assert_allclose(found.explained_variance_ratio, [0.75, 0.25], rtol=1e-15)
    np.testing.assert_allclose(found.components, [[half, half], [half, -half]], rtol=1e-14)
    np.testing.assert_array_equal(found.mean, [10, 20])
    assert found.variance_reached == 1
    # Not centred: the score of the mean itself is not zero.
    np.testing.assert_allclose(found.transform(np.array([[10.0, 20.0]])), [[30 * half, -10 * half]], rtol=1e-14)


@pytest.mark.parametrize(("n", "d"), [(500, 30), (20, 30), (2, 30), (31, 30)])
def test_equal_to_scikit_learn(n: int, d: int) -> None:
    rows = realistic(n, d).astype(np.float64)
    found, reference = fit(rows, 0.95), PCA(svd_solver="full").fit(rows)
    count = len(reference.explained_variance_)
    np.testing.assert_allclose(
        found.eigenvalues[:count], reference.explained_variance_, rtol=1e-9, atol=1e-12 * found.eigenvalues[0]
    )
    np.testing.assert_allclose(found.explained_variance_ratio[:count], reference.explained_variance_ratio_, atol=1e-12)
    np.testing.assert_allclose(found.mean, reference.mean_, rtol=1e-12)
    signs = np.sign(np.sum(found.components * reference.components_[: found.k], axis=1, keepdims=True))
    np.testing.assert_allclose(found.components, signs * reference.components_[: found.k], atol=1e-8)
    assert found.k == int((reference.explained_variance_ratio_.cumsum() >= 0.95).argmax()) + 1


def test_duplicated_rows_change_neither_axes_nor_ratios() -> None:
    rows = realistic(40, 8)
    once, twice = fit(rows), fit(np.repeat(rows, 2, axis=0))
    assert once.k == twice.k
    np.testing.assert_allclose(twice.components, once.components, atol=1e-10)
    np.testing.assert_allclose(twice.explained_variance_ratio, once.explained_variance_ratio, atol=1e-12)


def test_constant_columns_have_no_loadings() -> None:
    rows = realistic(50, 6)
    rows[:, [1, 4]] = 0.1
    found = fit(rows, 0.99)
    np.testing.assert_allclose(found.components[:, [1, 4]], 0, atol=1e-12)
    np.testing.assert_allclose(found.eigenvalues[-2:], 0, atol=1e-12)


@pytest.mark.parametrize("rows", [[[0.1, 0.7, 5.9]], [[0.1, 0.7, 5.9]] * 300], ids=["one image", "all alike"])
def test_no_variance_keeps_one_component_with_a_warning(rows: list[list[float]]) -> None:
    found = fit(rows)
    assert (found.k, found.variance_reached) == (1, 0)
    assert not found.explained_variance_ratio.any()
    assert np.linalg.norm(found.components) == 1
    (warning,) = found.warnings
    assert "no variance to explain" in warning
    assert ("single image" if len(rows) == 1 else "all 300 images are alike") in warning


def test_the_fewest_components_that_reach_the_target() -> None:
    for variances, target, k in (
        ([4, 1], 0.8, 1),
        ([4, 1], 0.8 + 1e-12, 2),
        ([7, 1, 2], 0.9, 2),
        ([0.7, 0.1, 0.1, 0.1], 0.8, 2),  # the floats 0.7 + 0.1 are less than 0.8
        ([5, 5, 0, 0], 1 - 1e-16, 2),
        ([1, 1, 1, 1, 1], 0.5, 3),
    ):
        found = decomposition.fit(with_variances(variances), target)
        assert (found.k, found.warnings) == (k, ()), (variances, target)


def test_a_ratio_equal_to_the_target_is_enough_where_scikit_learn_keeps_one_component_more() -> None:
    # Variances 16 / 8 and 4 / 8, so the first ratio is 0.8 exactly.
    rows = np.array([[2, 0], [-2, 0], [2, 0], [-2, 0], [0, 1], [0, -1], [0, 1], [0, -1], [0, 0]], dtype=np.float64)
    found, reference = fit(rows, 0.8), PCA(0.8, svd_solver="full").fit(rows)
    assert (found.k, found.variance_reached) == (1, 0.8)
    assert (reference.n_components_, reference.explained_variance_ratio_[0]) == (2, 0.8)


def test_small_features_have_the_components_of_the_same_features_at_scale_1() -> None:
    rows = realistic(60, 8).astype(np.float64)
    reference = PCA(svd_solver="full").fit(rows)
    for scale in (1e-40, 1e-100, 1e-140):
        found = fit(rows * scale, None, 8)
        np.testing.assert_allclose(found.explained_variance_ratio, reference.explained_variance_ratio_, atol=1e-12)
        signs = np.sign((found.components * reference.components_).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(found.components, signs * reference.components_, atol=1e-8)
        assert found.warnings == ()


def test_features_whose_squares_underflow_are_reported_as_such() -> None:
    rows = realistic(60, 8).astype(np.float64)
    with pytest.raises(ArithmeticError, match=r"the largest variance of a feature is .*e-3\d\d, .*underflow"):
        fit(rows * 1e-160)
    (warning,) = fit(rows * 1e-200).warnings
    assert "are alike, or they differ by so little" in warning


def test_a_target_out_of_reach_keeps_all_components_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decomposition.smallest_k(np.array([0.5, 0.2]), 0.8) is None
    # Apart from rounding, ratios of a real covariance always reach the target; the patch simulates a miss.
    monkeypatch.setattr(decomposition, "smallest_k", lambda ratio, target: None)
    found = decomposition.fit(with_variances([3, 2, 1]), 0.9)
    assert found.k == 3
    (warning,) = found.warnings
    assert "0.9 of the variance cannot be reached" in warning


def test_a_fixed_number_of_components_is_kept() -> None:
    for k in (1, 3, 5):
        found = decomposition.fit(with_variances([5, 4, 3, 2, 1]), n_components=k)
        assert (found.k, found.warnings) == (k, ())
        np.testing.assert_allclose(found.components, np.eye(5)[:k], atol=1e-15)


@pytest.mark.parametrize(("most", "k"), [(1, 1), (2, 2), (3, 2), (5, 2)])
def test_a_target_and_a_number_together_keep_the_fewer(most: int, k: int) -> None:
    found = decomposition.fit(with_variances([6, 2, 1, 0.5, 0.5]), 0.8, most)
    assert found.k == k
    if most >= 2:
        assert found.warnings == ()
    else:
        (warning,) = found.warnings
        assert warning.startswith("the target of 0.8 of the variance needs 2 components: kept 1")
        assert "which explain 0.6000" in warning


@pytest.mark.parametrize(("n", "d", "k", "rank"), [(6, 9, 7, 5), (2, 3, 3, 1), (50, 4, 4, 3)])
def test_components_beyond_the_rank_are_kept_with_a_warning(n: int, d: int, k: int, rank: int) -> None:
    rows = realistic(n, d).astype(np.float64)
    rows[:, -1] = rows[:, 0]
    found = fit(rows, None, k)
    assert found.k == k
    np.testing.assert_allclose(found.components @ found.components.T, np.eye(k), atol=1e-12)
    np.testing.assert_allclose(found.explained_variance_ratio[rank:], 0, atol=1e-14)
    (warning,) = found.warnings
    assert warning.startswith(f"{k - rank} of the {k} components explain nothing: ")
    assert f"all {n} images vary along {rank} axes" in warning


def test_no_variance_keeps_the_requested_number_and_one_component_for_a_target() -> None:
    for target, most, k in ((None, 3, 3), (0.8, 3, 1), (None, 1, 1)):
        found = fit([[0.1, 0.0, 5.9]] * 4, target, most)
        assert (found.k, found.variance_reached) == (k, 0), (target, most)
        np.testing.assert_array_equal(found.components @ found.components.T, np.eye(k))
        (warning,) = found.warnings
        assert "no variance to explain: the features of all 4 images are alike; kept " in warning
        assert ("one component, which" in warning) == (k == 1)


def test_the_largest_loading_of_every_component_is_positive() -> None:
    found = fit(realistic(60, 12), 0.9999)
    assert found.k > 3
    largest = np.abs(found.components).argmax(axis=1)
    assert (found.components[np.arange(found.k), largest] > 0).all()


def test_of_equal_loadings_the_first_is_positive() -> None:
    # Covariance ((2, −1), (−1, 2)): the first axis is (1, −1)/√2, whose loadings differ by rounding at most.
    for scale in (1.0, 1 / 3, 1e-7):
        found = decomposition.fit(Moments(2, np.zeros(2), scale * np.array([[2.0, -1.0], [-1.0, 2.0]])), 0.9)
        np.testing.assert_allclose(found.components, np.sqrt([[0.5, 0.5], [0.5, 0.5]]) * [[1, -1], [1, 1]], rtol=1e-14)


def test_the_order_of_rows_and_the_size_of_blocks_do_not_matter() -> None:
    rows = realistic(90, 10).astype(np.float64)
    expected = fit(rows, 0.9)
    for count in (1, 2, 7, 120):
        shuffled = np.random.default_rng(count).permutation(rows)
        found = decomposition.fit(moments.accumulate(np.array_split(shuffled, count), 10), 0.9)
        assert found.k == expected.k
        np.testing.assert_allclose(found.components, expected.components, atol=1e-10)


def test_tiny_negative_eigenvalues_are_zeros_and_large_ones_an_error() -> None:
    found = fit(realistic(5, 40))  # rank 4: rounding leaves 36 eigenvalues about zero, on both sides
    assert (found.eigenvalues >= 0).all()
    assert found.explained_variance_ratio.sum() == pytest.approx(1, abs=1e-12)
    with pytest.raises(ArithmeticError, match="eigenvalue of -1"):
        decomposition.fit(with_variances([3, -1]), 0.8)


def test_moments_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(ValueError, match="not finite"):
        decomposition.fit(with_variances([np.nan, 1]), 0.8)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda values, vectors: (values, vectors * 1.001), "orthonormal components"),
        (lambda values, vectors: (values * 1.001, vectors), "sum to the trace"),
        (lambda values, vectors: (values[::-1], vectors), "descending ratios"),
        (lambda values, vectors: (values, np.roll(vectors, 1, axis=1)), "captured variances equal"),
        (lambda values, vectors: (values, vectors * 1.001), "captured variances that sum to the trace"),
        (lambda values, vectors: (values * np.nan, vectors), "ratios that sum to 1"),
        (lambda values, vectors: (values, vectors * np.nan), "orthonormal components: off by nan"),
        # Ascending: the first is the axis of the least variance, which no target of 90 % keeps.
        (
            lambda values, vectors: (values, vectors * [1.001, 1, 1, 1, 1, 1]),
            "orthonormal components: off by 2.001e-03",
        ),
    ],
)
def test_a_wrong_decomposition_is_noticed(break_it, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    eigh = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: break_it(*eigh(matrix)))
    with pytest.raises(ArithmeticError, match=message):
        fit(realistic(50, 6), 0.9)
