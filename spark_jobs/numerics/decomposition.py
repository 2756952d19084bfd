"""Principal component analysis from moments: numpy only, no Spark."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from spark_jobs.args import PROJECTED_SCORES, WHITENED_SCORES
from spark_jobs.numerics.fitted_pca import KINDS_OF_SCORES, TOLERANCE, FittedPca, orthonormality_error
from spark_jobs.numerics.moments import Moments

__all__ = ["FittedPca", "fit", "smallest_k"]

Floats = NDArray[np.float64]


def fit(
    moments: Moments,
    variance_target: float | None = None,
    n_components: int | None = None,
    scores: str = PROJECTED_SCORES,
) -> FittedPca:
    """Fit a PCA and keep as many components as are asked for, by a share of the variance, a number, or both.

    Parameters
    ----------
    moments : Moments
        Of one vector or more. A single vector, or vectors that are all alike, have no variance: ``n_components``
        components are kept, or one where there is a target; their ratio is 0, and a warning says so.
    variance_target : float, optional
        Keep the fewest components that explain so much of the variance; between 0 and 1, both excluded.
    n_components : int, optional
        Keep so many components, or with a target at most so many, with a warning where that stops short of it. There
        may be more than the data vary along: a warning says that these explain nothing.
    scores : str
        What the model's scores are: one of ``args.PROJECTED_SCORES``, ``CENTRED_SCORES`` and ``WHITENED_SCORES``.

    Raises
    ------
    ValueError
        When there are no vectors, moments are not finite, or what is asked for is impossible.
    ArithmeticError
        When the result lacks a property that every PCA has; the message gives the figures.
    """
    _check_request(moments.dimensions, variance_target, n_components, scores)
    covariance = moments.covariance
    if not np.isfinite(covariance).all():
        raise ValueError("the covariance has values that are not finite: expected features of moderate size")
    eigenvalues, axes = _eigen(covariance)
    total = float(eigenvalues.sum())
    ratio = eigenvalues / total if total > 0 else np.zeros_like(eigenvalues)
    whole = FittedPca(moments.n, axes, moments.mean, eigenvalues, ratio, scores=scores)
    _check(whole, covariance)
    k, warnings = _keep(whole, variance_target, n_components)
    return replace(whole, components=axes[:k].copy(), warnings=warnings)


def _check_request(dimensions: int, variance_target: float | None, n_components: int | None, scores: str) -> None:
    if variance_target is None and n_components is None:
        raise ValueError("neither a variance target nor a number of components: expected one of them or both")
    if variance_target is not None and not 0 < variance_target < 1:
        raise ValueError(f"a variance target of {variance_target!r}: expected more than 0 and less than 1")
    if n_components is not None and not 1 <= n_components <= dimensions:
        raise ValueError(
            f"{n_components} components of vectors of {dimensions} dimensions: expected between 1 and {dimensions}"
        )
    if scores not in KINDS_OF_SCORES:
        raise ValueError(f"scores of the kind {scores!r}: expected one of {', '.join(KINDS_OF_SCORES)}")


def smallest_k(explained_variance_ratio: Floats, variance_target: float) -> int | None:
    """Return the fewest components whose cumulative ratio reaches a target, or None when all together do not.

    A target is reached at a distance of ``d`` units of rounding: the eigenvalues are not known any better, and a target
    of 0.8 would otherwise be missed by 0.7 + 0.1 = 0.7999999999999999.

    Parameters
    ----------
    explained_variance_ratio : ndarray of float64, shape (d,)
        Descending.
    variance_target : float
    """
    tolerance = len(explained_variance_ratio) * np.finfo(np.float64).eps
    reached = np.flatnonzero(explained_variance_ratio.cumsum() >= variance_target - tolerance)
    return int(reached[0]) + 1 if len(reached) else None


def _keep(whole: FittedPca, variance_target: float | None, n_components: int | None) -> tuple[int, tuple[str, ...]]:
    """Return how many components of a PCA that has them all to keep, and what a person should know about that."""
    if not whole.explained_variance_ratio.any():
        return _keep_of_nothing(whole, n_components if variance_target is None else None)
    warnings = []
    k = len(whole.mean) if n_components is None else n_components
    if variance_target is not None:
        needed = smallest_k(whole.explained_variance_ratio, variance_target)
        if needed is None or needed > k:
            warnings.append(_short_of_target(whole, variance_target, needed, k))
        else:
            k = needed
    if k > whole.rank:
        and_so = ", and their whitened scores are 0" if whole.scores == WHITENED_SCORES else ""
        warnings.append(
            f"{k - whole.rank} of the {k} components explain nothing{and_so}: the features of all {whole.n} images "
            f"vary along {whole.rank} axes"
        )
    return k, tuple(warnings)


def _keep_of_nothing(whole: FittedPca, n_components: int | None) -> tuple[int, tuple[str, ...]]:
    why = "there is a single image" if whole.n == 1 else f"the features of all {whole.n} images are alike"
    k = n_components or 1
    kept = "one component, which explains" if k == 1 else f"{k} components, which explain"
    and_so = "; whitened scores are 0" if whole.scores == WHITENED_SCORES else ""
    return k, (f"no variance to explain: {why}; kept {kept} 0 % of it{and_so}",)


def _short_of_target(whole: FittedPca, variance_target: float, needed: int | None, k: int) -> str:
    explained = float(whole.explained_variance_ratio[:k].sum())
    if needed is None:
        return (
            f"the target of {variance_target!r} of the variance cannot be reached: all {len(whole.mean)} components "
            f"explain {float(whole.explained_variance_ratio.sum())!r}; kept {k}, which explain {explained!r}"
        )
    return (
        f"the target of {variance_target!r} of the variance takes {needed} components: kept {k}, the most that were "
        f"asked for, which explain {explained:.4f}"
    )


def _eigen(covariance: Floats) -> tuple[Floats, Floats]:
    """Return eigenvalues, descending, and eigenvectors as rows, with deterministic signs."""
    ascending, columns = np.linalg.eigh(covariance)
    eigenvalues = ascending[::-1].copy()
    axes = np.ascontiguousarray(columns.T[::-1])
    # A covariance has no negative eigenvalue; eigh's error is of the order of d·eps times the largest, so what is below
    # zero by no more than ten times that is a zero. More is wrong moments.
    rounding = 10 * len(eigenvalues) * np.finfo(np.float64).eps * max(eigenvalues[0], 0.0)
    if eigenvalues[-1] < -rounding:
        raise ArithmeticError(
            f"the covariance has an eigenvalue of {eigenvalues[-1]:.3e}, the largest is {eigenvalues[0]:.3e}: expected "
            f"none below {-rounding:.3e}"
        )
    loadings = np.abs(axes)
    # The first of equals, where rounding must not decide which of two is the larger.
    largest = (loadings >= loadings.max(axis=1, keepdims=True) * (1 - 1e-9)).argmax(axis=1)
    axes *= np.sign(axes[np.arange(len(axes)), largest])[:, np.newaxis]
    return np.maximum(eigenvalues, 0.0), axes


def _check(whole: FittedPca, covariance: Floats) -> None:
    """Check what holds for every PCA, of all its axes and each time, since wrong components look like right ones.

    It costs a fraction of the decomposition: 0.1 s at 1280 dimensions.
    """
    axes, eigenvalues, ratio = whole.components, whole.eigenvalues, whole.explained_variance_ratio
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
            f"the PCA of {whole.n} images is wrong, expected errors of at most {TOLERANCE}: {'; '.join(broken)}"
        )
