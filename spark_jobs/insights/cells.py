"""Candidates for duplicates: photos that fall into the same cell of a grid over the first components.

This is locality-sensitive hashing with the random grids of p-stable hashing (Datar et al. 2004). Photos with the same
vector share their cell in every grid; photos that are nearly the same share it in most. Several shifted grids find
nearly every close pair, and their distances are computed afterwards. A cell is known by a hash of 64 bits; if there are
more photos than hashes are kept, only cells with small hashes are considered: a random share of them, the same for
every photo.

References
----------
Datar, M., Immorlica, N., Indyk, P., Mirrokni, V. S. (2004). "Locality-sensitive hashing scheme based on p-stable
distributions", Proceedings of the 20th Symposium on Computational Geometry, 253-262.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spark_jobs.insights.geometry import Floats, Space

Hashes = NDArray[np.uint64]

DIMENSIONS = 8
"""Number of components that a grid uses. Their cells are some millions: few photos share one by chance."""

WIDTHS = (1e-6, 0.15, 0.15, 0.15, 0.15)
"""Width of a cell of each grid, in standard deviations of the features. The first grid finds equal vectors only."""

MAX_HASHES = 1_000_000
"""Number of hashes of each grid that the driver gets: 8 MB."""

LARGEST_HASH = 2**64 - 1

MAX_PHOTOS = 3000
"""Number of photos of each grid whose distances are computed."""

MAX_OF_A_CELL = 20
"""Number of photos of one cell whose distances are computed."""

_FIRST, _SECOND, _STEP = (np.uint64(number) for number in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0x9E3779B97F4A7C15))
"""Constants of SplitMix64 (Steele, Lea, Flood 2014)."""


@dataclass(frozen=True)
class Grids:
    """Shifted grids over the first components.

    Attributes
    ----------
    widths : ndarray of float64, shape (grids,)
    shifts : ndarray of float64, shape (grids, DIMENSIONS)
        From 0 to 1, in cells.
    largest_hash : int
        Cells with larger hashes are ignored.
    """

    widths: Floats
    shifts: Floats
    largest_hash: int

    def hash(self, points: Floats) -> Hashes:
        """Return the hash of each photo's cell in each grid, shape (grids, n)."""
        first = points[:, :DIMENSIONS]
        hashes = np.empty((len(self.widths), len(first)), np.uint64)
        for grid, (width, shift) in enumerate(zip(self.widths, self.shifts, strict=True)):
            cells = np.floor(first / width + shift[: first.shape[1]]).astype(np.int64).view(np.uint64)
            value = np.full(len(first), grid + 1, np.uint64)
            for column in cells.T:
                value = _mix(value * _STEP + column)
            hashes[grid] = value
        return hashes


def make(space: Space, photos: int, seed: int) -> Grids:
    """Return the grids for a number of photos."""
    shifts = np.random.default_rng(seed).random((len(WIDTHS), DIMENSIONS))
    unit = space.deviation or 1.0
    largest = LARGEST_HASH if photos <= MAX_HASHES else LARGEST_HASH * MAX_HASHES // photos
    return Grids(np.array(WIDTHS) * unit, shifts, largest)


def _mix(value: Hashes) -> Hashes:
    """Return the finaliser of SplitMix64."""
    value = (value ^ (value >> np.uint64(30))) * _FIRST
    value = (value ^ (value >> np.uint64(27))) * _SECOND
    return value ^ (value >> np.uint64(31))


@dataclass(frozen=True)
class Shared:
    """The cells of a grid that several photos share, and that are looked at.

    Attributes
    ----------
    hashes : ndarray of uint64, shape (m,)
        Sorted.
    counts : ndarray of int64, shape (m,)
        Number of photos in each.
    complete : bool
        Whether these are all shared cells.
    """

    hashes: Hashes
    counts: NDArray[np.intp]
    complete: bool


def find_shared(parts: Sequence[Hashes]) -> Shared:
    """Return the shared cells of a grid: those with the smallest hashes, with at most ``MAX_PHOTOS`` photos.

    Parameters
    ----------
    parts : sequence of ndarray of uint64
        The hashes of all photos.
    """
    hashes, counts = np.unique(np.concatenate([np.empty(0, np.uint64), *parts]), return_counts=True)
    hashes, counts = hashes[counts > 1], counts[counts > 1]
    kept = int(np.searchsorted(np.cumsum(np.minimum(counts, MAX_OF_A_CELL)), MAX_PHOTOS, side="right"))
    return Shared(hashes[:kept], counts[:kept], kept == len(hashes))
