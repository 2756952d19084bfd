"""Drift: how the features have changed since an earlier model was fitted. Compares two fitted PCAs. numpy only."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spark_jobs.numerics.fitted_pca import FittedPca
from spark_jobs.records import Change, Drift

Floats = NDArray[np.float64]

MeasureName = Literal["mean_shift", "variance_change", "variance_missed"]

MEASURES: dict[MeasureName, str] = {
    "mean_shift": "the mean has moved by {:.2f} standard deviations",
    "variance_change": "the total variance has changed by {:+.0%}",
    "variance_missed": "the previous components miss {:.0%} of the variance that as many new ones explain",
}
"""The measures that are compared with the threshold, and the text of their warnings."""

ADVICE = (
    "Check what changed in the photos (labels, camera, light, size) before you use scores of both runs together; the "
    "next run is compared with this one"
)


def compare(previous: FittedPca, current: FittedPca, covariance: Floats, threshold: float) -> Drift:
    """Compare a fitted PCA with an earlier one.

    Parameters
    ----------
    previous, current : FittedPca
    covariance : ndarray of float64, shape (d, d)
        Covariance of the features that ``current`` was fitted on.
    threshold : float
        The record has a warning if the absolute value of a measure exceeds the sum of this and ``by_chance``.

    Returns
    -------
    Drift
        ``reason`` is None if the models were compared; ``warnings`` has at most one text. An undefined measure is None:

        ``mean_shift``
            ‖μ₁ − μ₀‖ / √tr(C₀): in standard deviations of the previous features.
        ``variance_change``
            tr(C₁) / tr(C₀) − 1.
        ``variance_missed``
            Share, from 0 to 1, of the variance explained by the best k components of the current features that the
            previous k components miss. ``variance_explained`` gives both as shares of the total variance.
        ``principal_angles``
            The min(k₀, k₁) angles between the two subspaces in degrees, ascending; ``largest_angle`` is the last.
        ``subspace_distance``
            Mean squared sine of the angles, from 0 to 1: the normalised squared chordal distance.

        The first three have a ``value``, and ``by_chance``, the expected value between two independent samples of these
        sizes from the same features (:func:`_chances`). Angles are not compared with the threshold: where variances are
        nearly equal, they are large between samples of the same features, too.

    References
    ----------
    Björck, Å. and Golub, G. H. (1973). "Numerical methods for computing angles between linear subspaces", Mathematics
    of Computation 27(123), 579-594.
    """
    old_dimensions, dimensions = len(previous.mean), len(current.mean)
    if old_dimensions != dimensions:
        return unavailable(f"the previous model has {old_dimensions} features, this one has {dimensions}")
    old_total, total = float(previous.eigenvalues.sum()), float(np.trace(covariance))
    chances = _chances(previous, current)
    values: dict[MeasureName, float | None] = dict.fromkeys(MEASURES)
    record = unavailable(None)
    record["threshold"] = threshold
    record["images"] = _change(previous.n, current.n)
    record["k"] = _change(previous.k, current.k)
    record["total_variance"] = _change(old_total, total)
    if old_total > 0:
        values["mean_shift"] = float(np.linalg.norm(current.mean - previous.mean)) / float(np.sqrt(old_total))
        values["variance_change"] = total / old_total - 1
    if total > 0:
        best = float(current.eigenvalues[: previous.k].sum())
        captured = float(np.einsum("ij,ij->", previous.components @ covariance, previous.components))
        values["variance_missed"] = max(0.0, 1 - captured / best)
        record["variance_explained"] = _change(captured / total, best / total)
    if old_total > 0 and total > 0:
        angles = principal_angles(previous.components, current.components)
        record["principal_angles"] = np.degrees(angles).tolist()
        record["largest_angle"] = float(np.degrees(angles[-1]))
        record["subspace_distance"] = float(np.square(np.sin(angles)).mean())
    for name, value in values.items():
        record[name] = {"value": value, "by_chance": None if value is None else chances[name]}
    if exceeded := find_exceeded(record):
        limit = f"chance and the threshold of {threshold:g}"
        record["warnings"] = [f"drift since the previous run exceeds {limit}: {'; '.join(exceeded)}. {ADVICE}"]
    return record


def find_exceeded(drift: Drift) -> list[str]:
    """Return a text for each measure that exceeds the sum of chance and the threshold."""
    threshold, found = drift["threshold"], []
    for name, text in MEASURES.items():
        measure = drift[name]
        value, chance = (measure["value"], measure["by_chance"]) if measure else (None, None)
        if value is not None and chance is not None and threshold is not None and abs(value) - chance > threshold:
            found.append(f"{text.format(value)} ({name} {value:.3f}, by chance {chance:.3f})")
    return found


def unavailable(reason: str | None) -> Drift:
    """Return a record without figures: there was no comparison, for this reason."""
    return {
        "reason": reason,
        "threshold": None,
        "images": None,
        "k": None,
        "total_variance": None,
        "mean_shift": None,
        "variance_change": None,
        "variance_missed": None,
        "variance_explained": None,
        "largest_angle": None,
        "subspace_distance": None,
        "principal_angles": [],
        "warnings": [],
    }


def principal_angles(a: Floats, b: Floats) -> Floats:
    """Return the principal angles between two subspaces.

    Cosines cannot resolve angles below 1e-8, and sines cannot resolve angles as near to a right angle: each angle is
    computed from the smaller of the two.

    Parameters
    ----------
    a, b : ndarray of float64, shape (k, d)
        Orthonormal rows; ``k`` may differ.

    Returns
    -------
    ndarray of float64, shape (smaller k,)
        Radians from 0 to π/2, ascending.

    References
    ----------
    Björck and Golub (1973), as in :func:`compare`: section 3 for the cosines, section 4 for the sines.
    """
    fewer, more = (a, b) if len(a) <= len(b) else (b, a)
    inner = fewer @ more.T
    cosines = np.linalg.svd(inner, compute_uv=False)
    sines = np.linalg.svd(fewer - inner @ more, compute_uv=False)[::-1]
    return np.where(cosines**2 > 0.5, np.arcsin(np.clip(sines, 0, 1)), np.arccos(np.clip(cosines, 0, 1)))


def _chances(previous: FittedPca, current: FittedPca) -> dict[MeasureName, float]:
    """Return the expected measures between two independent samples of the same normally distributed features.

    With r = 1/n₀ + 1/n₁ and the current eigenvalues λ as the true ones, the root mean square of the mean's shift is √r,
    and that of the variance's change is √(2 Σλ² r) / Σλ. For each kept axis i and each dropped axis j, the previous
    components lose a variance of λᵢλⱼ / (λᵢ − λⱼ) / n, and the current ones gain as much because they are fitted to
    their own sample. The sum is at most λᵢ − λⱼ: the two axes have then changed places.

    References
    ----------
    Anderson, T. W. (1963). "Asymptotic theory for principal component analysis", Annals of Mathematical Statistics
    34(1), 122-148: the variance of the eigenvectors.
    """
    rate = 1 / previous.n + 1 / current.n
    values, total = current.eigenvalues, float(current.eigenvalues.sum())
    if not total > 0:
        return {"mean_shift": float(np.sqrt(rate)), "variance_change": 0.0, "variance_missed": 0.0}
    kept, dropped = values[: previous.k, np.newaxis], values[previous.k :]
    gaps = kept - dropped
    # Multiplied out to avoid a division by zero where variances are equal, since the order of such axes is arbitrary.
    lost = np.where(kept * dropped * rate < gaps**2, kept * dropped * rate / np.where(gaps > 0, gaps, 1.0), gaps)
    return {
        "mean_shift": float(np.sqrt(rate)),
        "variance_change": float(np.sqrt(2 * np.square(values).sum() * rate)) / total,
        "variance_missed": min(1.0, float(lost.sum() / kept.sum())),
    }


def _change(previous: float, current: float) -> Change:
    return {"previous": previous, "current": current}
