"""Principal component analysis from moments: numpy only, no Spark."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from spark_jobs.args import PROJECTED_SCORES, WHITENED_SCORES
from spark_jobs.numerics.fitted_pca import TOLERANCE, FittedPca, orthonormality_error
from spark_jobs.numerics.moments import Moments

__all__ = ["FittedPca", "fit", "smallest_k"]

Floats = NDArray[np.float64]

SMALLEST_VARIANCE = float(np.finfo(np.float64).tiny / np.finfo(np.float64).eps)
"""Least accepted value of the largest variance, 1e-292. Below it, variances that are eps of the largest have fewer
digits than float64 has, because they are subnormal."""

SMALLEST_MEAN = 1e-130
"""Above it, two different floats differ by more than 1e-147, so the square of their difference is not rounded to 0."""


def fit(
    moments: Moments,
    variance_target: float | None = None,
    n_components: int | None = None,
    scores: str = PROJECTED_SCORES,
) -> FittedPca:
    """Fit a PCA and keep a number of components, given by a share of the variance, a number, or both.

    :class:`spark_jobs.args.PcaArgs` defines defaults and valid values. With neither of the two, all components are
    kept.

    Parameters
    ----------
    moments : Moments
        Of one vector or more. If there is no variance (a single vector, or equal vectors), ``n_components`` components
        are kept, or one if a target is set; their ratio is 0, and there is a warning.
    variance_target : float, optional
        Keep the fewest components that explain this share of the variance; between 0 and 1, both excluded.
    n_components : int, optional
        Number of components to keep, from 1 to d. With a target it is an upper limit, and there is a warning if the
        target is not reached. Components beyond the rank of the data explain nothing; a warning gives their number.
    scores : str
        Kind of the model's scores: one of ``args.SCORE_KINDS``.

    Raises
    ------
    ValueError
        If there are no vectors, or moments are not finite.
    ArithmeticError
        If the largest variance is below :data:`SMALLEST_VARIANCE`, or the result violates a property of every PCA; the
        message gives the figures.
    """
    covariance = moments.covariance
    if not np.isfinite(covariance).all():
        raise ValueError("the covariance has values that are not finite: expected features of moderate size")
    largest = float(covariance.diagonal().max())
    if 0 < largest < SMALLEST_VARIANCE:
        raise ArithmeticError(
            f"the largest variance of a feature is {largest:.3e}, expected {SMALLEST_VARIANCE:.0e} or more: squares of "
            "such small deviations lose digits (underflow); multiply the features by a large number"
        )
    eigenvalues, axes = _eigen(covariance)
    total = float(eigenvalues.sum())
    ratio = eigenvalues / total if total > 0 else np.zeros_like(eigenvalues)
    full = FittedPca(moments.n, axes, moments.mean, eigenvalues, ratio, scores=scores)
    _check(full, covariance)
    k, warnings = _choose_k(full, variance_target, n_components)
    return replace(full, components=axes[:k].copy(), warnings=warnings)


def smallest_k(explained_variance_ratio: Floats, variance_target: float) -> int | None:
    """Return the fewest components whose cumulative ratio reaches a target, or None if all together do not.

    The tolerance is ``d`` units of rounding, the precision of the eigenvalues. Without it, 0.7 + 0.1 =
    0.7999999999999999 would miss a target of 0.8.

    Parameters
    ----------
    explained_variance_ratio : ndarray of float64, shape (d,)
        Descending.
    variance_target : float
    """
    tolerance = len(explained_variance_ratio) * np.finfo(np.float64).eps
    reached = np.flatnonzero(explained_variance_ratio.cumsum() >= variance_target - tolerance)
    return int(reached[0]) + 1 if len(reached) else None


def _choose_k(full: FittedPca, variance_target: float | None, n_components: int | None) -> tuple[int, tuple[str, ...]]:
    """Return how many components of the full PCA to keep, and the warnings about that number."""
    if not full.explained_variance_ratio.any():
        return _choose_k_without_variance(full, n_components if variance_target is None else None)
    warnings = []
    k = len(full.mean) if n_components is None else n_components
    if variance_target is not None:
        needed = smallest_k(full.explained_variance_ratio, variance_target)
        if needed is None or needed > k:
            warnings.append(_target_warning(full, variance_target, needed, k))
        else:
            k = needed
    if k > full.rank:
        and_so = ", and their whitened scores are 0" if full.scores == WHITENED_SCORES else ""
        warnings.append(
            f"{k - full.rank} of the {k} components explain nothing{and_so}: the features of all {full.n} images "
            f"vary along {full.rank} axes"
        )
    return k, tuple(warnings)


def _choose_k_without_variance(full: FittedPca, n_components: int | None) -> tuple[int, tuple[str, ...]]:
    why = "there is a single image" if full.n == 1 else f"the features of all {full.n} images are alike"
    if full.n > 1 and ((full.mean != 0) & (np.abs(full.mean) < SMALLEST_MEAN)).any():
        why += ", or they differ by so little that the squares of the differences are rounded to 0 (underflow)"
    k = n_components or 1
    kept = "one component, which explains" if k == 1 else f"{k} components, which explain"
    and_so = "; whitened scores are 0" if full.scores == WHITENED_SCORES else ""
    return k, (f"no variance to explain: {why}; kept {kept} 0 % of it{and_so}",)


def _target_warning(full: FittedPca, variance_target: float, needed: int | None, k: int) -> str:
    explained = float(full.explained_variance_ratio[:k].sum())
    if needed is None:
        return (
            f"the target of {variance_target!r} of the variance cannot be reached: all {len(full.mean)} components "
            f"explain {float(full.explained_variance_ratio.sum())!r}; kept {k}, which explain {explained!r}"
        )
    return (
        f"the target of {variance_target!r} of the variance needs {needed} components: kept {k}, the requested upper "
        f"limit, which explain {explained:.4f}"
    )


def _eigen(covariance: Floats) -> tuple[Floats, Floats]:
    """Return eigenvalues, descending, and eigenvectors as rows, with deterministic signs."""
    ascending, columns = np.linalg.eigh(covariance)
    eigenvalues = ascending[::-1].copy()
    axes = np.ascontiguousarray(columns.T[::-1])
    # A covariance has no negative eigenvalue. The error of eigh is of the order of d·eps times the largest eigenvalue:
    # a value down to minus ten times that error counts as zero. A lower one means that the moments are wrong.
    rounding = 10 * len(eigenvalues) * np.finfo(np.float64).eps * max(eigenvalues[0], 0.0)
    if eigenvalues[-1] < -rounding:
        raise ArithmeticError(
            f"the covariance has an eigenvalue of {eigenvalues[-1]:.3e}, the largest is {eigenvalues[0]:.3e}: expected "
            f"none below {-rounding:.3e}"
        )
    loadings = np.abs(axes)
    # The first of loadings that are equal but for rounding.
    largest = (loadings >= loadings.max(axis=1, keepdims=True) * (1 - 1e-9)).argmax(axis=1)
    axes *= np.sign(axes[np.arange(len(axes)), largest])[:, np.newaxis]
    return np.maximum(eigenvalues, 0.0), axes


def _check(full: FittedPca, covariance: Floats) -> None:
    """Check the properties of every PCA on all axes, in every run: wrong components look like right ones.

    The check takes 0.1 s at 1280 dimensions, a fraction of the decomposition.
    """
    axes, eigenvalues, ratio = full.components, full.eigenvalues, full.explained_variance_ratio
    total = float(np.trace(covariance))
    scale = total if total > 0 else 1.0
    captured = np.einsum("ij,ij->i", axes @ covariance, axes)
    errors = {
        "orthonormal components": orthonormality_error(axes),
        "descending ratios": float(np.diff(ratio).max(initial=0.0)),
        "ratios that sum to 1": abs(float(ratio.sum()) - 1) if total > 0 else 0.0,
        "eigenvalues that sum to the trace of the covariance": abs(float(eigenvalues.sum()) - total) / scale,
        "captured variances equal to the eigenvalues": float(np.abs(captured - eigenvalues).max()) / scale,
        "captured variances that sum to the trace": abs(float(captured.sum()) - total) / scale,
    }
    broken = [f"{name}: off by {error:.3e}" for name, error in errors.items() if not error <= TOLERANCE]
    if broken:
        raise ArithmeticError(
            f"the PCA of {full.n} images is wrong, expected errors of at most {TOLERANCE}: {'; '.join(broken)}"
        )
