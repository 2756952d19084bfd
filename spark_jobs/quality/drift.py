"""How the features have changed since an earlier model was fitted: two fitted PCAs, compared. numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_jobs.numerics.fitted_pca import FittedPca

Floats = NDArray[np.float64]

MEASURES = {
    "mean_shift": "the mean has moved by {:.2f} standard deviations",
    "variance_change": "the total variance has changed by {:+.0%}",
    "variance_missed": "the previous components miss {:.0%} of the variance that as many new ones explain",
}
"""The measures that are held against the threshold, and how a person is told of them."""

_OF_SUBSPACES = ("variance_explained", "largest_angle", "subspace_distance")

ADVICE = (
    "Look at what is new in the photos (labels, camera, light, size) before scores of the two runs are used together; "
    "the next run is compared with this one"
)


def compare(previous: FittedPca, current: FittedPca, covariance: Floats, threshold: float) -> dict[str, Any]:
    """Compare a fitted PCA with an earlier one.

    Parameters
    ----------
    previous, current : FittedPca
    covariance : ndarray of float64, shape (d, d)
        Of the features that ``current`` was fitted on.
    threshold : float
        There is a warning when a measure is farther from 0 than this and what chance makes of it together.

    Returns
    -------
    dict
        ``reason`` (why there is no comparison; then None here), ``threshold``, ``images``, ``k`` and ``total_variance``
        (each ``{"previous": …, "current": …}``), ``warnings`` (none or one text), and the measures, None where one is
        not defined:

        ``mean_shift``
            ‖μ₁ − μ₀‖ / √tr(C₀): in standard deviations of the previous features.
        ``variance_change``
            tr(C₁) / tr(C₀) − 1.
        ``variance_missed``
            The share, from 0 to 1, that the previous k components miss of the variance of the current features that the
            best k explain; ``variance_explained`` has both as shares of all.
        ``principal_angles``
            Degrees between the two subspaces, ascending, min(k₀, k₁) of them; ``largest_angle``.
        ``subspace_distance``
            Their mean squared sine, from 0 to 1: the squared chordal distance, normalised.

        The first three are ``{"value": …, "by_chance": …}``, the second what to expect between two samples of these
        sizes, independent, of features that have not changed (:func:`_chances`). Angles are not held against the
        threshold: they are large between samples of the same features, too, wherever variances are nearly equal.

    References
    ----------
    Björck, Å. and Golub, G. H. (1973). "Numerical methods for computing angles between linear subspaces", Mathematics
    of Computation 27(123), 579-594.
    """
    before, now = len(previous.mean), len(current.mean)
    if before != now:
        return unavailable(f"the previous model is of {before} features, this one of {now}")
    old_total, total = float(previous.eigenvalues.sum()), float(np.trace(covariance))
    chances = _chances(previous, current)
    values: dict[str, float | None] = dict.fromkeys(MEASURES)
    record = unavailable("") | {
        "reason": None,
        "threshold": threshold,
        "images": _pair(previous.n, current.n),
        "k": _pair(previous.k, current.k),
        "total_variance": _pair(old_total, total),
    }
    if old_total > 0:
        values["mean_shift"] = float(np.linalg.norm(current.mean - previous.mean)) / float(np.sqrt(old_total))
        values["variance_change"] = total / old_total - 1
    if total > 0:
        best = float(current.eigenvalues[: previous.k].sum())
        captured = float(np.einsum("ij,ij->", previous.components @ covariance, previous.components))
        values["variance_missed"] = max(0.0, 1 - captured / best)
        record["variance_explained"] = _pair(captured / total, best / total)
    if old_total > 0 and total > 0:
        angles = principal_angles(previous.components, current.components)
        record["principal_angles"] = np.degrees(angles).tolist()
        record["largest_angle"] = float(np.degrees(angles[-1]))
        record["subspace_distance"] = float(np.square(np.sin(angles)).mean())
    told = []
    for name, value in values.items():
        record[name] = {"value": value, "by_chance": None if value is None else chances[name]}
        if value is not None and abs(value) - chances[name] > threshold:
            told.append(f"{MEASURES[name].format(value)} ({name} {value:.3f}, by chance {chances[name]:.3f})")
    if told:
        record["warnings"] = [
            f"drift since the previous run, beyond chance and a threshold of {threshold:g}: {'; '.join(told)}. {ADVICE}"
        ]
    return record


def unavailable(reason: str) -> dict[str, Any]:
    """Return the record of a comparison that could not be made, and why; the keys are those of :func:`compare`."""
    nothing = dict.fromkeys(("threshold", "images", "k", "total_variance", *MEASURES, *_OF_SUBSPACES))
    return {"reason": reason} | nothing | {"principal_angles": [], "warnings": []}


def principal_angles(a: Floats, b: Floats) -> Floats:
    """Return the principal angles between two subspaces.

    The cosines alone tell nothing of angles below 1e-8, the sines nothing of those as near to a right angle: each is
    used where it is the smaller.

    Parameters
    ----------
    a, b : ndarray of float64, shape (k, d)
        Orthonormal rows; ``k`` may differ.

    Returns
    -------
    ndarray of float64, shape (least k,)
        Radians from 0 to π/2, ascending.

    References
    ----------
    Björck and Golub (1973), as in :func:`compare`: section 3 has the cosines, section 4 the sines.
    """
    fewer, more = (a, b) if len(a) <= len(b) else (b, a)
    inner = fewer @ more.T
    cosines = np.linalg.svd(inner, compute_uv=False)
    sines = np.linalg.svd(fewer - inner @ more, compute_uv=False)[::-1]
    return np.where(cosines**2 > 0.5, np.arcsin(np.clip(sines, 0, 1)), np.arccos(np.clip(cosines, 0, 1)))


def _chances(previous: FittedPca, current: FittedPca) -> dict[str, float]:
    """Return what the measures are between independent samples of the same normally distributed features.

    With r = 1/n₀ + 1/n₁ and the current eigenvalues λ as the true ones: the root mean square of the mean's shift is √r,
    that of the change of variance √(2 Σλ² r) / Σλ. The previous components lose, and the current ones gain by being
    fitted to their sample, λᵢλⱼ / (λᵢ − λⱼ) / n of variance for each axis i that is kept and j that is not, and
    λᵢ − λⱼ at most, when they have changed places.

    References
    ----------
    Anderson, T. W. (1963). "Asymptotic theory for principal component analysis", Annals of Mathematical Statistics
    34(1), 122-148: the variance of the eigenvectors.
    """
    rate = 1 / previous.n + 1 / current.n
    values, total = current.eigenvalues, float(current.eigenvalues.sum())
    if not total > 0:
        return {"mean_shift": float(np.sqrt(rate)), "variance_change": 0.0, "variance_missed": 0.0}
    kept, left = values[: previous.k, np.newaxis], values[previous.k :]
    gaps = kept - left
    # Multiplied out, so that equal variances, whose places tell nothing, need no division by zero.
    lost = np.where(kept * left * rate < gaps**2, kept * left * rate / np.where(gaps > 0, gaps, 1.0), gaps)
    return {
        "mean_shift": float(np.sqrt(rate)),
        "variance_change": float(np.sqrt(2 * np.square(values).sum() * rate)) / total,
        "variance_missed": min(1.0, float(lost.sum() / kept.sum())),
    }


def _pair(previous: float, current: float) -> dict[str, float]:
    return {"previous": previous, "current": current}
