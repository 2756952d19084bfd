"""The reference: a bounded sample of the photos with as many of each label as possible, to compare every photo with.

Every photo has a key (:func:`spark_jobs.quality.sampling.keys`). Of each label, the reference has the photos with the
smallest keys, up to a number that is the same for all labels. It does not depend on the order of the photos, on files
or on the cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spark_jobs.insights.geometry import Points
from spark_jobs.quality.sampling import Keys

REFERENCE_PHOTOS = 4096
"""Number of photos in the reference: comparing a photo with them takes some 20 µs."""

UNLIMITED = 2**62

Strings = NDArray[np.object_]


@dataclass(frozen=True)
class Photos:
    """Some photos: one row per photo in every field.

    Attributes
    ----------
    keys : ndarray of uint64, shape (m,)
    paths, labels : ndarray of str objects, shape (m,)
    points : ndarray of float32, shape (m, c)
        In the space of the components.
    """

    keys: Keys
    paths: Strings
    labels: Strings
    points: Points

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: NDArray[np.intp] | slice) -> Photos:
        """Return some rows."""
        return Photos(self.keys[rows], self.paths[rows], self.labels[rows], self.points[rows])


def join(parts: Sequence[Photos]) -> Photos:
    """Return the rows of one or more parts, in order."""
    return Photos(
        np.concatenate([part.keys for part in parts]),
        np.concatenate([part.paths for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.points for part in parts]),
    )


@dataclass(frozen=True)
class Reference:
    """A balanced sample.

    Attributes
    ----------
    photos : Photos
        By label, then by key.
    per_label : int
        Largest number of photos of a label; ``UNLIMITED`` if no photo was left out.
    """

    photos: Photos
    per_label: int


def balance(parts: Sequence[Reference], most: int = REFERENCE_PHOTOS) -> Reference:
    """Return the balanced sample of the photos of some samples: at most ``most`` photos.

    Balancing samples of parts gives the same as balancing all photos at once. If there are more labels than ``most``,
    the sample has one photo of each of the labels whose smallest keys are the smallest.

    Parameters
    ----------
    parts : sequence of Reference
        One or more.
    most : int
    """
    photos = join([part.photos for part in parts])
    names, codes = np.unique(photos.labels, return_inverse=True)
    order = np.lexsort((photos.keys, codes))
    counts = np.bincount(codes, minlength=len(names))
    ranks = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    per_label = min(_largest_cap(counts, most), *(part.per_label for part in parts))
    if per_label == 0:
        firsts = order[ranks == 0]
        kept = np.sort(firsts[np.argsort(photos.keys[firsts], kind="stable")[:most]])
        kept = kept[np.argsort(codes[kept], kind="stable")]
        return Reference(photos.take(kept), 1)
    return Reference(photos.take(order[ranks < per_label]), per_label)


def _largest_cap(counts: NDArray[np.intp], most: int) -> int:
    """Return the largest number c with Σ min(count, c) ≤ most; ``UNLIMITED`` if all photos fit."""
    if counts.sum() <= most:
        return UNLIMITED
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(counts, middle).sum() <= most:
            low = middle
        else:
            high = middle - 1
    return low
