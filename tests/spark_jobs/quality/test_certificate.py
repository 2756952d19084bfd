"""The certificate of quality equals scikit-learn's figures and loops that follow its definition."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score
from sklearn.neighbors import KNeighborsClassifier

from spark_jobs.numerics import decomposition, moments
from spark_jobs.numerics.fitted_pca import FittedPca
from spark_jobs.quality import certificate
from tests.spark_jobs.feature_runs import realistic


def fit(vectors: np.ndarray, n_components: int) -> FittedPca:
    return decomposition.fit(moments.compute(vectors.astype(np.float64)), n_components=n_components)


def certify(vectors: Any, labels: list[str], fitted: FittedPca) -> dict[str, Any]:
    """Return the certificate as read back from the summary's JSON, which allows no NaN."""
    record = certificate.certify(np.asarray(vectors, np.float32), labels, fitted, 0)
    copy: dict[str, Any] = json.loads(json.dumps(record, allow_nan=False))
    return copy


def named_by_neighbours(points: np.ndarray, labels: list[str], count: int = 5) -> list[str]:
    """Predict each label as defined: the nearest others vote; of equal votes, the nearest label wins."""
    named = []
    for row, point in enumerate(points):
        others = [other for other in range(len(points)) if other != row]
        nearest = sorted(others, key=lambda other: (np.linalg.norm(points[other] - point), other))[:count]
        votes = Counter(labels[other] for other in nearest)
        named.append(next(labels[other] for other in nearest if votes[labels[other]] == max(votes.values())))
    return named


@pytest.fixture(scope="module")
def overlapping() -> tuple[np.ndarray, list[str]]:
    """Return images of seven labels that overlap, so that features and components give different wrong predictions."""
    vectors = realistic(260, 24)
    labels = [f"{chr(65 + row % 7)}{'é' * (row % 7 == 3)}" for row in range(260)]
    centres = np.random.default_rng(1).normal(size=(7, 24)).astype(np.float32)
    return vectors + 0.5 * centres[np.arange(260) % 7], labels


def test_accuracy_and_silhouette_are_those_of_the_definitions(overlapping: tuple[np.ndarray, list[str]]) -> None:
    vectors, labels = overlapping
    fitted = fit(vectors, 4)
    record = certify(vectors, labels, fitted)
    scores = PCA(4, svd_solver="full").fit(vectors.astype(np.float64)).transform(vectors.astype(np.float64))
    geometries = {"features": vectors.astype(np.float64), "components": scores}
    right = {name: np.array(named_by_neighbours(points, labels)) == labels for name, points in geometries.items()}
    for name, points in geometries.items():
        assert record["knn_accuracy"][name] == pytest.approx(right[name].mean(), abs=1e-15)
        assert record["silhouette"][name] == pytest.approx(silhouette_score(points, labels), abs=1e-9)
        for entry in record["by_label"]:
            assert entry[name] == pytest.approx(right[name][np.array(labels) == entry["label"]].mean(), abs=1e-15)
    assert record["knn_accuracy"]["lost"] == (right["features"] & ~right["components"]).sum() > 0
    assert record["knn_accuracy"]["gained"] == (right["components"] & ~right["features"]).sum() > 0
    assert record["knn_accuracy"]["asked"] == 260
    assert 0.2 < record["knn_accuracy"]["components"] < record["knn_accuracy"]["features"] < 1
    assert [entry["label"] for entry in record["by_label"]] == sorted(set(labels))
    assert sum(entry["images"] for entry in record["by_label"]) == 260


def test_accuracy_is_that_of_scikit_learn_left_one_out_where_no_votes_are_equal() -> None:
    """With two labels, five votes always have a majority: scikit-learn, which settles ties by name, must agree."""
    vectors = realistic(90, 10, seed=5)
    labels = ["b" if row % 3 else "a" for row in range(90)]
    vectors[np.array(labels) == "a", 0] += 0.7
    record = certify(vectors, labels, fit(vectors, 3))
    # Without vectors, predict leaves out each fitted vector in its own prediction.
    found = KNeighborsClassifier(5, algorithm="brute").fit(vectors.astype(np.float64), labels).predict(None)
    assert record["knn_accuracy"]["features"] == pytest.approx((found == labels).mean(), abs=1e-15)
    assert 0.5 < record["knn_accuracy"]["features"] < 1


def test_equal_votes_go_to_the_nearest() -> None:
    # Around the image at 0: b at 1, a at 2 and 3, b at 4, c at 5: two votes each for a and b, and b is the nearest.
    positions, labels = [0, 1, -2, 3, -4, 5], ["b", "b", "a", "a", "b", "c"]
    points = np.array(positions, dtype=float)[:, np.newaxis]
    codes = np.unique(labels, return_inverse=True)[1]
    nearest = certificate._nearest(certificate._squared_distances(points))
    assert nearest[0].tolist() == [1, 2, 3, 4, 5]
    assert certificate._vote(nearest, codes)[0] == 1


def test_of_equal_distances_the_first_in_the_sample_counts() -> None:
    points = np.array([[0.0], [1.0], [-1.0], [1.0], [-1.0], [1.0], [-1.0]])
    assert certificate._nearest(certificate._squared_distances(points))[0].tolist() == [1, 2, 3, 4, 5]


def test_nearest_leaves_the_distances_as_they_were() -> None:
    distances = certificate._squared_distances(realistic(30, 4).astype(np.float64))
    before = distances.copy()
    certificate._nearest(distances)
    np.testing.assert_array_equal(distances, before)


def test_distances_are_exact_for_any_mean_of_the_features() -> None:
    """Distances come from a matrix product; if the mean were not subtracted, a large one would cancel all digits."""
    labels = [f"{row % 3}" for row in range(60)]
    for offset in (0, 1e4):
        vectors = (realistic(60, 8) + np.float32(offset)).astype(np.float32)
        record = certify(vectors, labels, fit(vectors, 8))
        expected = silhouette_score(vectors.astype(np.float64), labels)
        assert record["silhouette"]["features"] == pytest.approx(expected, abs=1e-10), offset


def test_all_components_lose_nothing(overlapping: tuple[np.ndarray, list[str]]) -> None:
    vectors, labels = overlapping
    record = certify(vectors, labels, fit(vectors, 24))
    assert (record["knn_accuracy"]["lost"], record["knn_accuracy"]["gained"]) == (0, 0)
    assert record["silhouette"]["components"] == pytest.approx(record["silhouette"]["features"], abs=1e-10)
    assert record["reconstruction"]["variance_missed"] == pytest.approx(0, abs=1e-20)


def test_reconstruction_is_that_of_scikit_learn_on_images_that_it_was_not_fitted_on() -> None:
    vectors = realistic(300, 12).astype(np.float64)
    fitted_on, sample = vectors[:200], vectors[200:].astype(np.float32)
    record = certify(sample, [f"{row % 2}" for row in range(100)], fit(fitted_on, 5))["reconstruction"]
    reference = PCA(5, svd_solver="full").fit(fitted_on)
    errors = sample - reference.inverse_transform(reference.transform(sample.astype(np.float64)))
    deviations = sample - reference.mean_
    assert record["rmse"] == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-9)
    assert record["variance_missed"] == pytest.approx((errors**2).sum() / (deviations**2).sum(), rel=1e-9)


def test_on_all_images_the_variance_missed_is_what_the_model_does_not_explain() -> None:
    vectors = realistic(200, 12)
    fitted = fit(vectors, 4)
    record = certify(vectors, ["a", "b"] * 100, fitted)
    assert record["reconstruction"]["variance_missed"] == pytest.approx(1 - fitted.variance_reached, abs=1e-12)


def test_the_certificate_does_not_depend_on_the_kind_of_scores(overlapping: tuple[np.ndarray, list[str]]) -> None:
    vectors, labels = overlapping
    fitted = fit(vectors, 4)
    expected = certify(vectors, labels, fitted)
    for scores in ("centred", "whitened"):
        assert certify(vectors, labels, replace(fitted, scores=scores)) == expected, scores


def test_labels_with_a_single_image_vote_but_are_not_classified() -> None:
    vectors = np.array([[0, 0], [0.1, 0], [0.2, 0], [9, 9]], dtype=np.float32)
    record = certify(vectors, ["a", "a", "a", "b"], fit(vectors, 1))
    assert record["knn_accuracy"] == {
        "features": 1.0,
        "components": 1.0,
        "asked": 3,
        "lost": 0,
        "gained": 0,
        "note": "labels with a single image in the sample, which cannot be predicted, are left out: 1",
    }
    assert record["by_label"][1] == {"label": "b", "images": 1, "features": None, "components": None}
    expected = silhouette_score(vectors.astype(np.float64), ["a", "a", "a", "b"])
    assert record["silhouette"]["features"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("vectors", "labels", "note"),
    [
        (np.empty((0, 3)), [], r"at least two labels are needed; the sample of 0 image\(s\) has 0"),
        ([[1, 2, 3]], ["a"], r"at least two labels are needed; the sample of 1 image\(s\) has 1"),
        (realistic(9, 3), ["a"] * 9, r"at least two labels are needed; the sample of 9 image\(s\) has 1"),
        (realistic(4, 3), list("abcd"), "no label has two images in the sample"),
        ([[1, 2, 3]] * 6, ["a", "b"] * 3, "all images of the sample have the same features"),
    ],
)
def test_undefined_figures_are_none_with_a_reason(vectors: Any, labels: list[str], note: str) -> None:
    record = certify(vectors, labels, fit(realistic(9, 3), 2))
    for measure in ("knn_accuracy", "silhouette"):
        assert record[measure]["features"] is None
        assert record[measure]["components"] is None
        assert re.match(note, record[measure]["note"])
    assert record["knn_accuracy"]["asked"] == 0
    assert record["sample_images"] == len(labels)


def test_images_at_the_mean_have_no_variance_to_miss() -> None:
    vectors = np.array([[0.1, 0.7]] * 4, dtype=np.float32)
    record = certify(vectors, ["a", "b"] * 2, fit(vectors, 1))["reconstruction"]
    assert (record["variance_missed"], record["rmse"]) == (None, 0)
    assert "the sample has no variance" in record["note"]
    record = certify(np.empty((0, 2)), [], fit(vectors, 1))["reconstruction"]
    assert record == {"variance_missed": None, "rmse": None, "note": "the sample has no images"}


def test_fewer_than_five_others_all_vote() -> None:
    vectors = np.array([[0, 1], [0, 1], [2, 1]], dtype=np.float32)
    record = certify(vectors, ["a", "b", "b"], fit(vectors, 1))
    # The first is left out (the only "a"); of a and b, with a vote each, the second is nearest to the duplicate "a",
    # and the third has the same distance to both: the first in the sample, "a", counts.
    assert record["knn_accuracy"]["features"] == 0
    assert record["knn_accuracy"]["asked"] == 2
