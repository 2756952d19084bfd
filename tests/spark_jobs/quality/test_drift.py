"""Comparison of two fitted PCAs: SciPy's angles, closed forms, no warning for chance, a warning for a change."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import subspace_angles

from spark_jobs.numerics import decomposition, moments
from spark_jobs.numerics.fitted_pca import FittedPca
from spark_jobs.numerics.moments import Moments
from spark_jobs.quality import drift
from tests.spark_jobs.feature_runs import realistic

Fit = tuple[FittedPca, np.ndarray]


def fit(vectors: Any, variance_target: float | None = 0.8, n_components: int | None = None) -> Fit:
    return of(moments.compute(np.asarray(vectors, dtype=np.float64)), variance_target, n_components)


def of(of_vectors: Moments, variance_target: float | None = 0.8, n_components: int | None = None) -> Fit:
    return decomposition.fit(of_vectors, variance_target, n_components), of_vectors.covariance


def compare(previous: Fit, current: Fit, threshold: float = 0.1) -> dict[str, Any]:
    """Return the comparison as read back from the summary's JSON, which allows no NaN."""
    record = drift.compare(previous[0], current[0], current[1], threshold)
    copy: dict[str, Any] = json.loads(json.dumps(record, allow_nan=False))
    return copy


def random_subspace(seed: int, k: int, d: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, k)))[0].T


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12))
def test_angles_are_those_of_scipy(seed: int, a: int, b: int) -> None:
    first, second = random_subspace(seed, a, 12), random_subspace(seed + 1, b, 12)
    found = drift.principal_angles(first, second)
    # SciPy 1.17 computes some tiny angles from cosines, accurate to 1e-8 at best; the next test is stricter.
    np.testing.assert_allclose(found, np.sort(subspace_angles(first.T, second.T)), atol=1e-7)
    assert len(found) == min(a, b)
    assert (np.diff(found) >= -1e-9).all()


def test_angles_are_accurate_from_zero_to_a_right_angle() -> None:
    """Cosines alone would give 0 for 1e-12; sines alone would give a right angle for the last but one."""
    first = np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0]])
    for angle in (0.0, 1e-12, 1e-8, 1e-3, 0.7, np.pi / 4, 1.2, np.pi / 2 - 1e-8, np.pi / 2):
        second = np.array([[np.cos(angle), 0, np.sin(angle), 0], [0, 1.0, 0, 0]])
        np.testing.assert_allclose(drift.principal_angles(first, second), [0, angle], rtol=1e-9, atol=1e-16)


def test_angles_depend_on_the_subspaces_and_not_on_their_bases() -> None:
    first, second = random_subspace(1, 5, 20), random_subspace(2, 5, 20)
    turned = random_subspace(3, 5, 5) @ first
    np.testing.assert_allclose(
        drift.principal_angles(turned, second), drift.principal_angles(first, second), atol=1e-12
    )


def test_a_comparison_solved_by_hand() -> None:
    """Two of three axes kept; the second turned by 30° towards the third; mean and variances chosen."""
    previous = of(Moments(101, np.zeros(3), 100 * np.diag([4.0, 2.0, 1.0])), None, 2)
    turn = np.array([[1, 0, 0], [0, np.cos(np.pi / 6), np.sin(np.pi / 6)], [0, -np.sin(np.pi / 6), np.cos(np.pi / 6)]])
    current = of(Moments(201, np.array([0, 0, 2.0]), 200 * turn.T @ np.diag([8.0, 4.0, 2.0]) @ turn), None, 2)
    record = compare(previous, current)
    assert record["reason"] is None
    assert record["images"] == {"previous": 101, "current": 201}
    assert record["k"] == {"previous": 2, "current": 2}
    assert record["total_variance"] == pytest.approx({"previous": 7, "current": 14})
    np.testing.assert_allclose(record["principal_angles"], [0, 30], atol=1e-9)
    assert record["largest_angle"] == pytest.approx(30)
    assert record["subspace_distance"] == pytest.approx((0 + 0.25) / 2)
    assert record["mean_shift"]["value"] == pytest.approx(2 / np.sqrt(7))
    assert record["variance_change"]["value"] == pytest.approx(1)
    # Along the old second axis: 4 cos²30° + 2 sin²30° = 3.5, where the best has 4.
    assert record["variance_explained"] == pytest.approx({"previous": 11.5 / 14, "current": 12 / 14})
    assert record["variance_missed"]["value"] == pytest.approx(0.5 / 12)
    rate = 1 / 101 + 1 / 201
    assert record["mean_shift"]["by_chance"] == pytest.approx(np.sqrt(rate))
    assert record["variance_change"]["by_chance"] == pytest.approx(np.sqrt(2 * (64 + 16 + 4) * rate) / 14)
    # Axis 1 against 3: 8·2/(8−2); axis 2 against 3: 4·2/(4−2).
    assert record["variance_missed"]["by_chance"] == pytest.approx((16 / 6 + 8 / 2) * rate / 12)


def test_the_same_features_have_not_changed() -> None:
    same = fit(realistic(200, 30))
    record = compare(same, same)
    assert record["warnings"] == []
    assert record["largest_angle"] < 1e-5
    for name in drift.MEASURES:
        assert record[name]["value"] == pytest.approx(0, abs=1e-12)


def test_more_components_of_the_same_features_are_no_drift() -> None:
    rows = realistic(200, 30)
    for a, b in ((0.8, 0.99), (0.99, 0.8)):
        record = compare(fit(rows, a), fit(rows, b))
        assert record["k"]["previous"] != record["k"]["current"]
        assert len(record["principal_angles"]) == min(record["k"].values())
        assert record["subspace_distance"] == pytest.approx(0, abs=1e-12)
        assert record["warnings"] == []


@pytest.fixture(scope="module")
def spectrum() -> np.ndarray:
    """Standard deviations that fall as those of real features do."""
    return np.geomspace(1, 0.05, 40)


@pytest.mark.slow
@pytest.mark.parametrize("n", [100, 1000])
def test_chance_is_what_samples_of_the_same_distribution_differ_by(n: int, spectrum: np.ndarray) -> None:
    """Many pairs of samples of a normal distribution: the root mean square of each measure against its expectation."""
    random = np.random.default_rng(20261122)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in drift.MEASURES}
    for _ in range(60):
        first, second = (fit(random.normal(size=(size, 40)) * spectrum) for size in (n, 2 * n))
        record = compare(first, second)
        assert record["warnings"] == []
        assert record["largest_angle"] > 5, "what makes angles unfit for a threshold"
        for name, values in found.items():
            values.append((record[name]["value"], record[name]["by_chance"]))
    for name, values in found.items():
        measured, expected = np.sqrt(np.square(values).mean(axis=0))
        assert measured == pytest.approx(expected, rel=0.25), name


def test_axes_of_nearly_equal_variance_change_places_by_chance_but_lose_no_more_than_they_differ_by() -> None:
    same = of(Moments(10_001, np.zeros(3), 10_000 * np.diag([2.0, 1.0, 0.99])), None, 2)
    # Axis 1 against 3: 2·0.99/1.01, at a rate of 2/10,001; axis 2 against 3: 0.99/0.01 at that rate, but 0.01 at most.
    chance = (2 * 0.99 / 1.01 * 2 / 10_001 + 0.01) / 3
    assert compare(same, same)["variance_missed"]["by_chance"] == pytest.approx(chance)


def test_noise_that_is_alike_in_all_directions_is_all_chance() -> None:
    random = np.random.default_rng(2)
    record = compare(*(fit(random.normal(size=(60, 50)), None, 5) for _ in range(2)))
    assert record["variance_missed"]["by_chance"] == 1
    assert record["variance_missed"]["value"] > 0.5
    assert record["warnings"] == []


def test_warnings_have_figures_threshold_and_advice(spectrum: np.ndarray) -> None:
    random = np.random.default_rng(1)
    normal = random.normal(size=(2, 2000, 40))
    before = fit(normal[0] * spectrum)
    shifted = compare(before, fit(normal[1] * spectrum + 0.3 * spectrum))
    scaled = compare(before, fit(normal[1] * spectrum * 1.2))
    turned = compare(before, fit(normal[1] * np.roll(spectrum, 5)))
    for record, name in ((shifted, "mean_shift"), (scaled, "variance_change"), (turned, "variance_missed")):
        (warning,) = record["warnings"]
        assert f"{name} {record[name]['value']:.3f}" in warning
        assert "threshold of 0.1" in warning
        assert "Check what changed in the photos" in warning
    assert "variance_missed" not in shifted["warnings"][0]
    assert compare(before, fit(normal[1] * np.roll(spectrum, 5)), 0.99)["warnings"] == []


def test_less_variance_is_as_much_a_change_as_more(spectrum: np.ndarray) -> None:
    random = np.random.default_rng(1).normal(size=(2, 2000, 40)) * spectrum
    record = compare(fit(random[0]), fit(random[1] * 0.8))
    assert record["variance_change"]["value"] == pytest.approx(-0.36, abs=0.05)
    assert "-3" in record["warnings"][0]


def test_components_of_other_features_miss_everything() -> None:
    previous = of(Moments(11, np.zeros(4), np.diag([9.0, 8.0, 0, 0])), None, 2)
    current = of(Moments(11, np.zeros(4), np.diag([0, 0, 9.0, 8.0])), None, 2)
    record = compare(previous, current)
    assert record["variance_missed"]["value"] == 1
    np.testing.assert_allclose(record["principal_angles"], [90, 90])
    assert record["subspace_distance"] == pytest.approx(1)


def test_all_components_miss_nothing() -> None:
    for seed in range(10):
        rows = realistic(50, 6, seed)
        record = compare(fit(rows, None, 6), fit(rows[::-1] * 0.5, None, 2))
        assert record["variance_missed"] == {"value": pytest.approx(0, abs=1e-12), "by_chance": 0}
        assert record["variance_missed"]["value"] >= 0, "rounding has to leave a share a share"


def test_models_of_other_dimensions_cannot_be_compared() -> None:
    record = compare(fit(realistic(20, 5)), fit(realistic(20, 6)))
    assert record["reason"] == "the previous model has 5 features, this one has 6"
    assert record["warnings"] == []


ONE, ALIKE, VARIED = [[0.1, 0.7, 5.9]], [[0.1, 0.7, 5.9]] * 4, realistic(40, 3)


def test_without_variance_measures_that_need_it_are_none() -> None:
    cases: tuple[tuple[Any, Any, set[str]], ...] = (
        (ONE, VARIED, {"variance_missed"}),
        (ALIKE, VARIED, {"variance_missed"}),
        (VARIED, ONE, {"mean_shift", "variance_change"}),
        (VARIED, ALIKE, {"mean_shift", "variance_change"}),
        (ONE, ALIKE, set()),
    )
    for number, (previous, current, defined) in enumerate(cases):
        record = compare(fit(previous), fit(current))
        assert {name for name in drift.MEASURES if record[name]["value"] is not None} == defined, f"case {number}"
        assert record["principal_angles"] == [], f"case {number}"
        assert record["largest_angle"] is None, f"case {number}"
        if "variance_change" in defined:
            assert "the total variance has changed by -100%" in record["warnings"][0], f"case {number}"


def test_every_record_has_the_same_keys() -> None:
    rows = realistic(20, 5)
    assert set(compare(fit(rows), fit(rows))) == set(drift.unavailable("the previous model is gone"))
    assert drift.unavailable("the previous model is gone")["reason"] == "the previous model is gone"
