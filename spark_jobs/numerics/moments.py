"""Count, mean and centred sum of products of vectors: all that a PCA needs, and mergeable.

The moments of two sets give those of their union (Chan, Golub and LeVeque 1983). So each worker reduces its part of the
rows to one small object, whatever their number, and only these objects travel to the driver.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Moments of ``n`` vectors of ``d`` values.

    Attributes
    ----------
    n : int
        Number of vectors; may be 0.
    mean : ndarray of float64, shape (d,)
        Zeros when ``n`` is 0.
    m2 : ndarray of float64, shape (d, d)
        Σ (x − mean)(x − mean)ᵀ, exactly symmetric.
    mean_rest : ndarray of float64, shape (d,)
        Rounding error of ``mean``, zeros by default: merging needs the difference of two means, which loses digits if
        the means are large compared with the deviations.
    """

    n: int
    mean: Floats
    m2: Floats
    mean_rest: Floats = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        if not self.mean_rest.size:
            object.__setattr__(self, "mean_rest", np.zeros_like(self.mean))

    @property
    def dimensions(self) -> int:
        """Length of the vectors."""
        return len(self.mean)

    @property
    def upper(self) -> Floats:
        """The upper triangle of ``m2``, row by row, which determines ``m2``: shape (d * (d + 1) / 2,)."""
        return self.m2.ravel()[_triangle_indices(self.dimensions)[0]]

    @property
    def covariance(self) -> Floats:
        """The sample covariance ``m2 / (n − 1)``, as in Spark ML and scikit-learn; zeros if ``n`` is 1.

        Raises
        ------
        ValueError
            If ``n`` is 0.
        """
        if self.n == 0:
            raise ValueError("the covariance of no vectors is not defined: expected the moments of 1 or more")
        return self.m2 / max(self.n - 1, 1)


def empty(dimensions: int) -> Moments:
    """Return the moments of no vectors, the neutral element of :func:`merge`."""
    return Moments(0, np.zeros(dimensions), np.zeros((dimensions, dimensions)))


def compute(block: Floats) -> Moments:
    """Return the moments of the rows of a block, in two passes.

    The first row is subtracted before the mean is computed. Constant columns then have an ``m2`` of exactly zero, and a
    mean that is large compared with the deviations costs no digits.

    Parameters
    ----------
    block : ndarray of float64, shape (n, d)
        Temporary memory has the size of two blocks.
    """
    if len(block) == 0:
        return empty(block.shape[1])
    origin = block[0].copy()
    shifted = block - origin
    shifted_mean = shifted.mean(axis=0)
    shifted -= shifted_mean
    mean, rest = two_sum(origin, shifted_mean)
    # The product of a matrix's transpose with itself is one BLAS call (syrk): half of the work, exactly symmetric.
    return Moments(len(block), mean, shifted.T @ shifted, rest)


def two_sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Return the rounded sum of two arrays and its exact rounding error.

    References
    ----------
    Knuth, D. E. (1997). The Art of Computer Programming, vol. 2, 3rd ed., section 4.2.2, theorem B.
    """
    total = a + b
    b_part = total - a
    return total, (a - (total - b_part)) + (b - b_part)


def merge(a: Moments, b: Moments) -> Moments:
    """Return the moments of the union of two sets of vectors.

    Parameters
    ----------
    a, b : Moments
        Moments of vectors of the same length.

    Raises
    ------
    ValueError
        If the lengths differ.

    References
    ----------
    Chan, T. F., Golub, G. H. and LeVeque, R. J. (1983). "Algorithms for computing the sample variance: analysis and
    recommendations", The American Statistician 37(3), 242-247: the pairwise update, here with outer products.
    """
    if a.dimensions != b.dimensions:
        raise ValueError(f"moments of {a.dimensions} and of {b.dimensions} dimensions cannot be merged")
    if a.n == 0 or b.n == 0:
        return a if b.n == 0 else b
    n = a.n + b.n
    delta = (b.mean - a.mean) + (b.mean_rest - a.mean_rest)
    # The outer product of one vector with itself, scaled by the square root of the weight: exactly symmetric.
    scaled = delta * np.sqrt(a.n * (b.n / n))
    mean, rest = two_sum(a.mean, a.mean_rest + delta * (b.n / n))
    return Moments(n, mean, a.m2 + b.m2 + np.outer(scaled, scaled), rest)


def accumulate(blocks: Iterable[Floats], dimensions: int) -> Moments:
    """Return the moments of all rows of the blocks, merged in the order of the blocks.

    Parameters
    ----------
    blocks : iterable of ndarray of float64, shape (any, d)
        Consumed one at a time; the next iteration may overwrite a block.
    dimensions : int
        ``d``; needed if there are no blocks.
    """
    total = empty(dimensions)
    for block in blocks:
        total = merge(total, compute(block))
    return total


def pack(moments: Moments) -> bytes:
    """Return moments as bytes, with the upper triangle of ``m2`` only: 6.6 MB at 1280 dimensions."""
    return np.concatenate(([float(moments.n)], moments.mean, moments.mean_rest, moments.upper)).astype("<f8").tobytes()


def unpack(data: bytes, dimensions: int) -> Moments:
    """Return the moments from the bytes of :func:`pack`, bit for bit.

    Raises
    ------
    ValueError
        If the bytes have the wrong length for that number of dimensions.
    """
    expected = 8 * (1 + 2 * dimensions + dimensions * (dimensions + 1) // 2)
    if len(data) != expected:
        raise ValueError(f"{len(data)} bytes are not moments of {dimensions} dimensions: expected {expected}")
    values = np.frombuffer(data, dtype="<f8").astype(np.float64)
    n, mean, rest, upper = np.split(values, np.cumsum([1, dimensions, dimensions]))
    return from_triangle(int(n[0]), mean.copy(), rest.copy(), upper)


def from_triangle(n: int, mean: Floats, mean_rest: Floats, upper: Floats) -> Moments:
    """Return moments with the given upper triangle of ``m2``.

    Parameters
    ----------
    n : int
    mean, mean_rest : ndarray of float64, shape (d,)
    upper : ndarray of float64, shape (d * (d + 1) / 2,)
        Row by row.
    """
    m2 = np.empty(len(mean) ** 2)
    above, below = _triangle_indices(len(mean))
    m2[above] = upper
    m2[below] = upper
    return Moments(n, mean, m2.reshape(len(mean), -1), mean_rest)


@functools.lru_cache(maxsize=1)
def _triangle_indices(dimensions: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the flat indices of a matrix's upper triangle, row by row, and of the mirrored elements."""
    rows, columns = np.triu_indices(dimensions)
    return rows * dimensions + columns, columns * dimensions + rows
