"""The certificate of quality: what is lost by keeping k components instead of all features. numpy only.

On a sample of the images, it measures how well nearest neighbours and the silhouette separate the labels: once with all
features, once with the components. Distances depend neither on centring nor on signs, so the certificate is the same
for every kind of scores. For whitened scores, too, it measures the plain components.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spark_jobs.numerics.fitted_pca import FittedPca
from spark_jobs.records import Accuracy, LabelAccuracy, Quality, Reconstruction, Silhouette

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]
VectorKind = Literal["features", "components"]

NEIGHBOURS = 5
"""Number of nearest neighbours that vote, as by default in scikit-learn."""


def certify(vectors: NDArray[np.float32], labels: Sequence[str], fitted: FittedPca, seed: int) -> Quality:
    """Measure on a sample what the kept components retain of the features.

    Parameters
    ----------
    vectors : ndarray of float32, shape (m, d)
        The sample's features. The function needs the memory of one m × m and some m × d matrices of float64.
    labels : sequence of str
        ``m`` labels.
    fitted : FittedPca
    seed : int
        Random seed of the sample; it is only recorded.

    Returns
    -------
    Quality
        ``images`` counts all images, ``labels`` the labels in the sample. The measures are:

        ``knn_accuracy``
            Share of the images whose label is predicted by the five nearest other images of the sample: by majority
            vote; in a tie, the label of the nearest of the tied. Distances are Euclidean; of equal distances the first
            in the sample counts. An image without another image of its label votes but is not classified, since it
            could never be right. ``asked`` is the number of classified images; ``lost`` are right with all features
            only, ``gained`` with the components only.
        ``silhouette``
            Mean silhouette coefficient of the labels (Rousseeuw 1987), from −1 to 1.
        ``reconstruction``
            ``variance_missed``: share of the sample's squared distance from the model's mean that k components miss;
            ``rmse``: root mean square error of a feature rebuilt from the components, in the features' unit.
        ``by_label``
            Accuracy of each label, sorted by label; None for labels with one image.

        The first two have one value for ``features`` and one for ``components``. An undefined value is None, and
        ``note`` gives the reason.

    References
    ----------
    Rousseeuw, P. J. (1987). "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis",
    Journal of Computational and Applied Mathematics 20, 53-65.
    """
    names, codes = np.unique(np.asarray(labels, dtype=object), return_inverse=True)
    counts = np.bincount(codes, minlength=len(names))
    centred = vectors.astype(np.float64) - fitted.mean
    scores = centred @ fitted.components.T
    accuracy: Accuracy = {"features": None, "components": None, "asked": 0, "lost": 0, "gained": 0, "note": None}
    silhouette: Silhouette = {"features": None, "components": None, "note": None}
    by_label: list[LabelAccuracy] = [
        {"label": str(name), "images": int(count), "features": None, "components": None}
        for name, count in zip(names, counts, strict=True)
    ]
    note = _why_undefined(vectors, counts)
    if note is None:
        classified = counts[codes] > 1
        geometries: dict[VectorKind, Floats] = {"features": centred, "components": scores}
        right: dict[VectorKind, NDArray[np.bool_]] = {}
        for kind, points in geometries.items():
            right[kind], silhouette[kind] = _judge(points, codes, counts)
            accuracy[kind] = float(right[kind][classified].mean())
            shares = np.bincount(codes, weights=right[kind]) / counts
            for label in np.flatnonzero(counts > 1):
                by_label[label][kind] = float(shares[label])
        accuracy["asked"] = int(classified.sum())
        accuracy["lost"] = int((right["features"] & ~right["components"] & classified).sum())
        accuracy["gained"] = int((right["components"] & ~right["features"] & classified).sum())
    silhouette["note"] = note
    single = int((counts == 1).sum())
    if note is None and single:
        note = f"labels with a single image in the sample, which cannot be predicted, are left out: {single}"
    accuracy["note"] = note
    return {
        "images": fitted.n,
        "sample_images": len(vectors),
        "seed": seed,
        "labels": len(names),
        "dimensions": len(fitted.mean),
        "k": fitted.k,
        "knn_accuracy": accuracy,
        "silhouette": silhouette,
        "reconstruction": _reconstruction(centred, scores, fitted),
        "by_label": by_label,
    }


def _why_undefined(vectors: NDArray[np.float32], counts: Integers) -> str | None:
    """Return why accuracy and silhouette are undefined for a sample, or None."""
    if len(counts) < 2:
        return f"at least two labels are needed; the sample of {len(vectors)} image(s) has {len(counts)}"
    if counts.max() < 2:
        return "no label has two images in the sample"
    if (vectors == vectors[0]).all():
        return "all images of the sample have the same features"
    return None


def _judge(points: Floats, codes: Integers, counts: Integers) -> tuple[NDArray[np.bool_], float]:
    """Return whether each image's neighbours predict its label, and the mean silhouette of the points."""
    distances = _squared_distances(points)
    right = _vote(_nearest(distances), codes) == codes
    np.sqrt(distances, out=distances)
    np.fill_diagonal(distances, 0.0)
    return right, _silhouette(distances, codes, counts)


def _squared_distances(points: Floats) -> Floats:
    """Return the squared Euclidean distances of all pairs, from one matrix product; infinite on the diagonal."""
    distances = points @ points.T
    squares = distances.diagonal().copy()
    distances *= -2
    distances += squares[:, np.newaxis]
    distances += squares
    np.maximum(distances, 0.0, out=distances)  # rounding may make the distance of equal points negative
    np.fill_diagonal(distances, np.inf)
    return distances


def _nearest(distances: Floats) -> Integers:
    """Return the nearest other images of every image, the nearest first; in a tie, the first. Restores ``distances``.

    One ``argmin`` pass per neighbour: for some thousand images this is faster than a partition, and it breaks ties as
    defined.
    """
    rows = np.arange(len(distances))
    neighbours = np.empty((len(distances), min(NEIGHBOURS, len(distances) - 1)), dtype=np.intp)
    taken = np.empty(neighbours.shape)
    for number in range(neighbours.shape[1]):
        neighbours[:, number] = distances.argmin(axis=1)
        taken[:, number] = distances[rows, neighbours[:, number]]
        distances[rows, neighbours[:, number]] = np.inf
    distances[rows[:, np.newaxis], neighbours] = taken
    return neighbours


def _vote(nearest: Integers, codes: Integers) -> Integers:
    """Return the most frequent label of the neighbours; in a tie, that of the nearest."""
    voters = codes[nearest]
    votes = (voters[:, :, np.newaxis] == voters[:, np.newaxis, :]).sum(axis=2)
    # argmax returns the first maximum, which is the nearest neighbour.
    winners: Integers = voters[np.arange(len(voters)), votes.argmax(axis=1)]
    return winners


def _silhouette(distances: Floats, codes: Integers, counts: Integers) -> float:
    """Return the mean silhouette coefficient; as Rousseeuw defines, an image alone in its label counts as 0."""
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


def _reconstruction(centred: Floats, scores: Floats, fitted: FittedPca) -> Reconstruction:
    if len(centred) == 0:
        return {"variance_missed": None, "rmse": None, "note": "the sample has no images"}
    total = float(np.vdot(centred, centred))
    missed = centred - scores @ fitted.components
    error = float(np.vdot(missed, missed))
    return {
        "variance_missed": error / total if total > 0 else None,
        "rmse": float(np.sqrt(error / missed.size)),
        "note": None if total > 0 else "all images of the sample are at the model's mean: the sample has no variance",
    }
