"""Distances between photos: Euclidean, in the space of the first components. numpy only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_jobs.args import PROJECTED_SCORES, WHITENED_SCORES
from spark_jobs.numerics.fitted_pca import FittedPca

Floats = NDArray[np.float64]
Points = NDArray[np.float32]
Integers = NDArray[np.intp]

MAX_COMPONENTS = 128
"""Number of components that distances use at most: it bounds the cost of a comparison."""


@dataclass(frozen=True)
class Space:
    """The space of the first components, with the mean of the features as its origin.

    Attributes
    ----------
    offset : ndarray of float64, shape (c,)
        Scores of the mean.
    scale : ndarray of float64, shape (c,)
        Factors that undo the whitening; ones for other kinds of scores.
    deviation : float
        Standard deviation of the features: the square root of their total variance. It is the unit of thresholds.
    """

    offset: Floats
    scale: Floats
    deviation: float

    @property
    def components(self) -> int:
        """Number of components of the space."""
        return len(self.offset)

    def place(self, scores: NDArray[np.floating[Any]]) -> Floats:
        """Return the centred scores of the first components, whatever the kind of the scores.

        Parameters
        ----------
        scores : ndarray of float, shape (n, k)
            As the job writes them.

        Returns
        -------
        ndarray of float64, shape (n, c)
        """
        first = np.asarray(scores[:, : self.components], dtype=np.float64)
        return (first - self.offset) * self.scale


def space_of(fitted: FittedPca) -> Space:
    """Return the space of a fit's first components."""
    kept = min(fitted.k, MAX_COMPONENTS)
    offset = fitted.components[:kept] @ fitted.mean if fitted.scores == PROJECTED_SCORES else np.zeros(kept)
    variances = np.maximum(fitted.eigenvalues[:kept], 0)
    scale = np.sqrt(variances) if fitted.scores == WHITENED_SCORES else np.ones(kept)
    return Space(offset, scale, math.sqrt(max(0.0, float(fitted.eigenvalues.sum()))))


def squared_distances(points: Points, others: Points) -> Points:
    """Return the squared distances of all pairs, shape (n, m); their error is some 1e-6 of the squared norms."""
    squares = np.einsum("ij,ij->i", points, points)[:, None] + np.einsum("ij,ij->i", others, others)
    squared: Points = np.maximum(squares - 2 * (points @ others.T), 0)
    return squared


def nearest(squared: Points, count: int) -> tuple[Integers, Points]:
    """Return the columns of the ``count`` smallest values of each row, ascending, and these values.

    The minima are searched one after the other, which is faster than sorting for a few. ``squared`` is overwritten.

    Parameters
    ----------
    squared : ndarray of float32, shape (n, m)
    count : int
        At most m.
    """
    rows = np.arange(len(squared))
    columns = np.empty((len(squared), count), np.intp)
    values = np.empty((len(squared), count), np.float32)
    for rank in range(count):
        columns[:, rank] = squared.argmin(axis=1)
        values[:, rank] = squared[rows, columns[:, rank]]
        squared[rows, columns[:, rank]] = np.inf
    return columns, values
