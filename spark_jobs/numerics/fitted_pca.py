"""A fitted PCA: its scores and its file. numpy only, no Spark.

The file uses scikit-learn's names. numpy reads it in three lines (with float32 features, scores have only 7 digits)::

    model = np.load("model.npz")
    scores = features @ model["components_"].T  # projected, as Spark ML's PCAModel.transform
    scores = (features - model["mean_"]) @ model["components_"].T  # centred; whitened: / sqrt(explained_variance_)

Three lines create a fitted scikit-learn estimator. Its ``transform`` always centres, and whitens if the run did::

    pca = sklearn.decomposition.PCA()
    vars(pca).update({name: array if array.ndim else array.item() for name, array in np.load("model.npz").items()})
    scores = pca.transform(features)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from spark_jobs.args import PROJECTED_SCORES, SCORE_KINDS, WHITENED_SCORES
from spark_jobs.lake import npz

Floats = NDArray[np.float64]

TOLERANCE = 1e-8
"""Largest accepted error of a checked property; errors of variances are relative to the total variance."""

_VECTORS = ("mean_", "eigenvalues", "eigenvalue_ratios")
_NEEDED = ("components_", *_VECTORS, "n_samples_", "scores", "warnings")
"""The arrays that :meth:`FittedPca.from_npz` reads; the rest of the file follows from them."""


@dataclass(frozen=True)
class FittedPca:
    """A fitted PCA, with scikit-learn's names.

    Attributes
    ----------
    n : int
        Number of vectors it was fitted on.
    components : ndarray of float64, shape (k, d)
        Kept principal axes: orthonormal rows by descending variance. The largest absolute loading of each is positive.
    mean : ndarray of float64, shape (d,)
    eigenvalues : ndarray of float64, shape (d,)
        Variances along all axes, kept or not, descending; in the features' unit squared, with n − 1.
    explained_variance_ratio : ndarray of float64, shape (d,)
        ``eigenvalues`` over their sum; zeros if there is no variance.
    warnings : tuple of str
        Warnings about the fit, for people.
    scores : str
        Kind of the scores that :meth:`transform` returns: one of ``SCORE_KINDS``.
    """

    n: int
    components: Floats
    mean: Floats
    eigenvalues: Floats
    explained_variance_ratio: Floats
    warnings: tuple[str, ...] = ()
    scores: str = PROJECTED_SCORES

    @property
    def k(self) -> int:
        """Number of components kept."""
        return len(self.components)

    @property
    def variance_reached(self) -> float:
        """Share of the variance that the kept components explain."""
        return min(1.0, float(self.explained_variance_ratio[: self.k].sum()))

    @property
    def rank(self) -> int:
        """Number of axes, kept or not, whose variance exceeds the rounding error; at most n − 1.

        The computed value of a zero eigenvalue is of the order of ``d·eps`` of the largest, from ``eigh``, plus
        ``√n·eps``, from the sum of n products. A mean that is large compared with the deviations adds nothing, since
        its rounding error enters squared.
        """
        rounding = np.finfo(np.float64).eps * (len(self.mean) + np.sqrt(self.n)) * self.eigenvalues[0]
        return min(self.n - 1, int((self.eigenvalues > rounding).sum()))

    def transform(self, features: NDArray[np.floating[Any]]) -> Floats:
        """Return the scores of vectors.

        With V the components as columns: *projected* scores are x·V, as in Spark ML's ``PCAModel.transform``; *centred*
        scores are (x − mean)·V, as in scikit-learn; *whitened* scores are the centred ones over the square roots of the
        eigenvalues, as with scikit-learn's ``whiten=True``. The whitened score of a component without variance (beyond
        :attr:`rank`) is 0, where a division would amplify rounding errors.

        Parameters
        ----------
        features : ndarray of float32 or float64, shape (n, d)
            Converted to float64.

        Returns
        -------
        ndarray of float64, shape (n, k)
        """
        vectors = np.asarray(features, dtype=np.float64)
        if self.scores == PROJECTED_SCORES:
            return vectors @ self.components.T
        # Not x·V − mean·V, which is the difference of two large numbers if the mean is large.
        centred = (vectors - self.mean) @ self.components.T
        return centred * self._whitening() if self.scores == WHITENED_SCORES else centred

    def _whitening(self) -> Floats:
        """Return the whitening factor of each component."""
        factors = np.zeros(self.k)
        varying = min(self.k, self.rank)
        factors[:varying] = 1 / np.sqrt(self.eigenvalues[:varying])
        return factors

    def to_npz(self) -> bytes:
        """Return the model's file; equal models give equal bytes.

        The arrays are the attributes of a fitted scikit-learn ``PCA`` (``svd_solver="full"``) with k components,
        ``eigenvalues`` and ``eigenvalue_ratios`` of all d axes, ``scores`` and ``warnings``.
        """
        kept, dropped = self.eigenvalues[: self.k], self.eigenvalues[self.k : min(self.n, len(self.mean))]
        return npz.dump(
            components_=self.components,
            mean_=self.mean,
            explained_variance_=kept,
            explained_variance_ratio_=self.explained_variance_ratio[: self.k],
            singular_values_=np.sqrt(kept * (self.n - 1)),
            noise_variance_=np.float64(dropped.mean() if len(dropped) else 0),
            n_components_=np.int64(self.k),
            n_samples_=np.int64(self.n),
            n_features_in_=np.int64(len(self.mean)),
            whiten=np.bool_(self.scores == WHITENED_SCORES),
            eigenvalues=self.eigenvalues,
            eigenvalue_ratios=self.explained_variance_ratio,
            scores=np.str_(self.scores),
            warnings=np.array(self.warnings, dtype=np.str_),
        )

    @classmethod
    def from_npz(cls, data: bytes) -> Self:
        """Return the model from the bytes of :meth:`to_npz`, bit for bit.

        Raises
        ------
        ValueError
            If the bytes are not such a file; the message names what is missing or wrong.
        """
        try:
            arrays = npz.load(data)
            problem = _problem(arrays)
        except ValueError as error:
            problem = str(error)
        if problem:
            raise ValueError(f"not a fitted PCA: {problem}; expected the model.npz of a pca job")
        return cls(
            n=int(arrays["n_samples_"]),
            components=arrays["components_"],
            mean=arrays["mean_"],
            eigenvalues=arrays["eigenvalues"],
            explained_variance_ratio=arrays["eigenvalue_ratios"],
            warnings=tuple(arrays["warnings"].tolist()),
            scores=str(arrays["scores"]),
        )


def orthonormality_error(axes: Floats) -> float:
    """Return the deviation of rows from orthonormality: the largest absolute value of A·Aᵀ − I."""
    products = axes @ axes.T  # one BLAS call (syrk), half of the work of a general product
    np.fill_diagonal(products, products.diagonal() - 1)
    return max(float(products.max()), -float(products.min()))  # NaN stays NaN


def _problem(arrays: dict[str, NDArray[Any]]) -> str | None:
    """Return why the arrays are not a fitted PCA, or None."""
    missing = [name for name in _NEEDED if name not in arrays]
    if missing:
        return f"{', '.join(missing)} missing among {', '.join(arrays) or 'no arrays'}"
    components, n, scores = arrays["components_"], arrays["n_samples_"], arrays["scores"]
    if components.ndim != 2 or not 1 <= components.shape[0] <= components.shape[1]:
        return f"components_ of shape {components.shape}, not (k, d) with 1 ≤ k ≤ d"
    dimensions = components.shape[1]
    for name, shape in {"components_": components.shape, **dict.fromkeys(_VECTORS, (dimensions,))}.items():
        array = arrays[name]
        if array.shape != shape or array.dtype != np.float64 or not np.isfinite(array).all():
            return f"{name} is {array.dtype} of shape {array.shape}, not finite float64 of shape {shape}"
    if n.shape or n.dtype.kind != "i" or n < 1:
        return f"n_samples_ is {n}, not a number of 1 or more"
    if scores.shape or str(scores) not in SCORE_KINDS:
        return f"scores is {scores}, not one of {', '.join(SCORE_KINDS)}"
    if arrays["warnings"].ndim != 1 or arrays["warnings"].dtype.kind != "U":
        return f"warnings is {arrays['warnings'].dtype}, not text"
    error = orthonormality_error(components)
    if not error <= TOLERANCE:
        return f"components_ is not orthonormal: off by {error:.3e}"
    eigenvalues = arrays["eigenvalues"]
    if eigenvalues[-1] < 0 or (np.diff(eigenvalues) > 0).any():
        return "eigenvalues is not descending to 0 or more"
    return None
