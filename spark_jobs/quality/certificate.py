"""A certificate of quality: what is lost by keeping k components instead of all features. numpy only.

On a sample of the images, the labels are judged by nearest neighbours and by the silhouette, once by all features and
once by the components. Distances depend on neither centring nor signs, so that the certificate is the same whatever the
scores are: with whitened ones, too, it judges the plain components.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_jobs.numerics.fitted_pca import FittedPca

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]

NEIGHBOURS = 5
"""Nearest neighbours that vote: scikit-learn's default, too."""


def certificate(vectors: NDArray[np.float32], labels: Sequence[str], fitted: FittedPca, seed: int) -> dict[str, Any]:
    """Measure on a sample what the kept components retain of the features.

    Parameters
    ----------
    vectors : ndarray of float32, shape (m, d)
        The sample's features; memory is that of one m × m matrix and some m × d ones, of float64.
    labels : sequence of str
        ``m`` of them.
    fitted : FittedPca
    seed : int
        What the sample was drawn with; it is recorded only.

    Returns
    -------
    dict
        ``images`` (all), ``sample_images``, ``seed``, ``labels`` (how many the sample has), ``dimensions``, ``k`` and:

        ``knn_accuracy``
            Share of the images whose label the five nearest other images of the sample name, by a majority, among equal
            votes that of the nearest; by Euclidean distance, of equal ones the first in the sample. Images that are the
            only one of their label can never be right: they vote, but are not asked. Also how many were ``asked``, how
            many are right by all features only (``lost``), and by the components only (``gained``).
        ``silhouette``
            Mean silhouette coefficient of the labels (Rousseeuw 1987), from −1 to 1.
        ``reconstruction``
            ``variance_missed``: share of the sample's squared distance from the model's mean that k components miss;
            ``rmse``: root mean square error of a feature that is rebuilt from them, in the features' unit.
        ``by_label``
            Accuracy of each label, in the order of their names; None for labels of one image.

        The first two have a value for ``features`` and one for ``components``. A value that is not defined is None, and
        ``note`` says why.

    References
    ----------
    Rousseeuw, P. J. (1987). "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis",
    Journal of Computational and Applied Mathematics 20, 53-65.
    """
    names, codes = np.unique(np.asarray(labels, dtype=object), return_inverse=True)
    counts = np.bincount(codes, minlength=len(names))
    centred = vectors.astype(np.float64) - fitted.mean
    scores = centred @ fitted.components.T
    record: dict[str, Any] = {
        "images": fitted.n,
        "sample_images": len(vectors),
        "seed": seed,
        "labels": len(names),
        "dimensions": len(fitted.mean),
        "k": fitted.k,
        "knn_accuracy": {"features": None, "components": None, "asked": 0, "lost": 0, "gained": 0},
        "silhouette": {"features": None, "components": None},
        "reconstruction": _reconstruction(centred, scores, fitted),
        "by_label": [
            {"label": str(name), "images": int(count), "features": None, "components": None}
            for name, count in zip(names, counts, strict=True)
        ],
    }
    note = _why_nothing_is_told(vectors, counts)
    if note is None:
        asked = counts[codes] > 1
        right = {}
        for name, points in (("features", centred), ("components", scores)):
            right[name], record["silhouette"][name] = _judge(points, codes, counts)
            record["knn_accuracy"][name] = float(right[name][asked].mean())
            by_label = np.bincount(codes, weights=right[name]) / counts
            for label in np.flatnonzero(counts > 1):
                record["by_label"][label][name] = float(by_label[label])
        record["knn_accuracy"] |= {
            "asked": int(asked.sum()),
            "lost": int((right["features"] & ~right["components"] & asked).sum()),
            "gained": int((right["components"] & ~right["features"] & asked).sum()),
        }
    record["silhouette"]["note"] = note
    single = int((counts == 1).sum())
    if note is None and single:
        note = f"labels with a single image in the sample, which no neighbour can name, are left out: {single}"
    record["knn_accuracy"]["note"] = note
    return record


def _why_nothing_is_told(vectors: NDArray[np.float32], counts: Integers) -> str | None:
    """Return why a sample tells nothing of its labels, or None."""
    if len(counts) < 2:
        return f"two labels or more are needed, the sample of {len(vectors)} image(s) has {len(counts)}"
    if counts.max() < 2:
        return "no label has two images in the sample: nothing is near its own kind"
    if (vectors == vectors[0]).all():
        return "all images of the sample have the same features: there are no distances"
    return None


def _judge(points: Floats, codes: Integers, counts: Integers) -> tuple[NDArray[np.bool_], float]:
    """Return, by some geometry, whether each image's neighbours name its label, and the mean silhouette."""
    distances = _squared_distances(points)
    right = _vote(_nearest(distances), codes) == codes
    np.sqrt(distances, out=distances)
    np.fill_diagonal(distances, 0.0)
    return right, _silhouette(distances, codes, counts)


def _squared_distances(points: Floats) -> Floats:
    """Return the squared Euclidean distances of all pairs, from one product of matrices; infinite to itself."""
    distances = points @ points.T
    squares = distances.diagonal().copy()
    distances *= -2
    distances += squares[:, np.newaxis]
    distances += squares
    np.maximum(distances, 0.0, out=distances)  # rounding leaves equal points at a distance on either side of zero
    np.fill_diagonal(distances, np.inf)
    return distances


def _nearest(distances: Floats) -> Integers:
    """Return the nearest others of every image, the nearest first, of equals the first; the matrix is left as it was.

    A pass for each: on some thousand images that is less work than a partition, and tells equals apart as defined.
    """
    rows = np.arange(len(distances))
    found = np.empty((len(distances), min(NEIGHBOURS, len(distances) - 1)), dtype=np.intp)
    taken = np.empty(found.shape)
    for number in range(found.shape[1]):
        found[:, number] = distances.argmin(axis=1)
        taken[:, number] = distances[rows, found[:, number]]
        distances[rows, found[:, number]] = np.inf
    distances[rows[:, np.newaxis], found] = taken
    return found


def _vote(nearest: Integers, codes: Integers) -> Integers:
    """Return the label that most neighbours have; of equals, that of the nearest."""
    voters = codes[nearest]
    votes = (voters[:, :, np.newaxis] == voters[:, np.newaxis, :]).sum(axis=2)
    # argmax takes the first, which is the nearest, of those with the most votes.
    named: Integers = voters[np.arange(len(voters)), votes.argmax(axis=1)]
    return named


def _silhouette(distances: Floats, codes: Integers, counts: Integers) -> float:
    """Return the mean silhouette coefficient; 0 for an image that is the only one of its label, as Rousseeuw has it."""
    membership = np.zeros((len(codes), len(counts)))
    membership[np.arange(len(codes)), codes] = 1
    rows = np.arange(len(codes))
    sums = distances @ membership
    within = sums[rows, codes] / np.maximum(counts[codes] - 1, 1)
    means = sums / counts
    means[rows, codes] = np.inf
    between = means.min(axis=1)
    larger = np.maximum(within, between)
    defined = (counts[codes] > 1) & (larger > 0)
    return float(((between - within) / np.where(larger > 0, larger, 1.0) * defined).mean())


def _reconstruction(centred: Floats, scores: Floats, fitted: FittedPca) -> dict[str, Any]:
    if len(centred) == 0:
        return {"variance_missed": None, "rmse": None, "note": "the sample has no images"}
    total = float(np.vdot(centred, centred))
    missed = centred - scores @ fitted.components
    error = float(np.vdot(missed, missed))
    return {
        "variance_missed": error / total if total > 0 else None,
        "rmse": float(np.sqrt(error / missed.size)),
        "note": None if total > 0 else "all images of the sample are at the model's mean: there is no variance to miss",
    }
