"""Principal component analysis from moments: numpy only, no Spark.

The fitted model's file is read anywhere with::

    with numpy.load("model.npz") as file:
        model = {name: file[name] for name in file.files}
    scores = features @ model["components"].T  # not centred, as Spark ML's PCAModel.transform
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spark_jobs.moments import Moments

Floats = NDArray[np.float64]

TOLERANCE = 1e-8
"""Largest error of a checked property, relative to the total variance where it is a variance."""


@dataclass(frozen=True)
class FittedPca:
    """A fitted PCA; names are scikit-learn's.

    Attributes
    ----------
    n : int
        Number of vectors it was fitted on.
    components : ndarray of float64, shape (k, d)
        Kept principal axes: orthonormal rows, by descending variance; the largest absolute loading of each is positive.
    mean : ndarray of float64, shape (d,)
    eigenvalues : ndarray of float64, shape (d,)
        Variances along all axes, kept or not, descending; in the features' unit squared, with n − 1.
    explained_variance_ratio : ndarray of float64, shape (d,)
        ``eigenvalues`` over their sum; zeros when there is no variance.
    warnings : tuple of str
        What a person should know about the fit.
    """

    n: int
    components: Floats
    mean: Floats
    eigenvalues: Floats
    explained_variance_ratio: Floats
    warnings: tuple[str, ...] = ()

    @property
    def k(self) -> int:
        """Number of components kept."""
        return len(self.components)

    @property
    def variance_reached(self) -> float:
        """Share of the variance that the kept components explain."""
        return min(1.0, float(self.explained_variance_ratio[: self.k].sum()))

    def transform(self, features: Floats) -> Floats:
        """Return the scores of some vectors, *not* centred, as Spark ML's ``PCAModel.transform`` gives them.

        Parameters
        ----------
        features : ndarray of float64, shape (n, d)

        Returns
        -------
        ndarray of float64, shape (n, k)
        """
        return features @ self.components.T

    def to_npz(self) -> bytes:
        """Return the model's file: the same bytes for the same model."""
        file = io.BytesIO()
        np.savez(
            file,
            components=self.components,
            mean=self.mean,
            eigenvalues=self.eigenvalues,
            explained_variance_ratio=self.explained_variance_ratio,
            n=np.int64(self.n),
        )
        return file.getvalue()


def fit(moments: Moments, variance_target: float) -> FittedPca:
    """Fit a PCA and keep the fewest components that explain enough of the variance.

    Parameters
    ----------
    moments : Moments
        Of one vector or more. A single vector, or vectors that are all alike, have no variance: one component is kept,
        its ratio is 0, and a warning says so.
    variance_target : float
        Between 0 and 1, both excluded.

    Raises
    ------
    ValueError
        When there are no vectors, or moments are not finite.
    ArithmeticError
        When the result lacks a property that every PCA has; the message gives the figures.
    """
    covariance = moments.covariance
    if not np.isfinite(covariance).all():
        raise ValueError("the covariance has values that are not finite: expected features of moderate size")
    eigenvalues, components = _eigen(covariance)
    total = float(eigenvalues.sum())
    ratio = eigenvalues / total if total > 0 else np.zeros_like(eigenvalues)
    k, warnings = _keep(ratio, moments.n, variance_target)
    fitted = FittedPca(moments.n, components[:k].copy(), moments.mean, eigenvalues, ratio, warnings)
    _check(fitted, covariance)
    return fitted


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


def _keep(ratio: Floats, n: int, variance_target: float) -> tuple[int, tuple[str, ...]]:
    if not ratio.any():
        why = "there is a single image" if n == 1 else f"the features of all {n} images are alike"
        return 1, (f"no variance to explain: {why}; kept one component, which explains 0 % of it",)
    k = smallest_k(ratio, variance_target)
    if k is not None:
        return k, ()
    warning = (
        f"the target of {variance_target!r} of the variance cannot be reached: all {len(ratio)} components explain "
        f"{float(ratio.sum())!r}; kept them all"
    )
    return len(ratio), (warning,)


def _eigen(covariance: Floats) -> tuple[Floats, Floats]:
    """Return eigenvalues, descending, and eigenvectors as rows, with deterministic signs."""
    ascending, columns = np.linalg.eigh(covariance)
    eigenvalues = ascending[::-1].copy()
    components = np.ascontiguousarray(columns.T[::-1])
    # A covariance has no negative eigenvalue; eigh's error is of the order of d·eps times the largest, so what is below
    # zero by no more than ten times that is a zero. More is wrong moments.
    rounding = 10 * len(eigenvalues) * np.finfo(np.float64).eps * max(eigenvalues[0], 0.0)
    if eigenvalues[-1] < -rounding:
        raise ArithmeticError(
            f"the covariance has an eigenvalue of {eigenvalues[-1]:.3e}, the largest is {eigenvalues[0]:.3e}: expected "
            f"none below {-rounding:.3e}"
        )
    loadings = np.abs(components)
    # The first of equals, where rounding must not decide which of two is the larger.
    largest = (loadings >= loadings.max(axis=1, keepdims=True) * (1 - 1e-9)).argmax(axis=1)
    signs = np.sign(components[np.arange(len(components)), largest])
    return np.maximum(eigenvalues, 0.0), components * signs[:, np.newaxis]


def _check(fitted: FittedPca, covariance: Floats) -> None:
    """Check what holds for every PCA, each time: it costs milliseconds, and wrong components look like right ones."""
    components, eigenvalues, ratio = fitted.components, fitted.eigenvalues, fitted.explained_variance_ratio
    total = float(np.trace(covariance))
    scale = total if total > 0 else 1.0
    along = np.einsum("ij,ij->i", components @ covariance, components)
    errors = {
        "orthonormal components": float(np.abs(components @ components.T - np.eye(fitted.k)).max()),
        "descending eigenvalues": float(np.diff(eigenvalues).max(initial=0.0)) / scale,
        "ratios that sum to 1": abs(float(ratio.sum()) - 1) if total > 0 else 0.0,
        "eigenvalues that sum to the trace of the covariance": abs(float(eigenvalues.sum()) - total) / scale,
        "captured variances equal to the eigenvalues": float(np.abs(along - eigenvalues[: fitted.k]).max()) / scale,
    }
    broken = [f"{name}: off by {error:.3e}" for name, error in errors.items() if not error <= TOLERANCE]
    if broken:
        raise ArithmeticError(
            f"the PCA of {fitted.n} images is wrong, expected errors of at most {TOLERANCE}: {'; '.join(broken)}"
        )
