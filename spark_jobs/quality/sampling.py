"""A sample of the images of bounded size that does not depend on their order, on files, on parts or on the cluster.

Every image has a key, a number computed from its path and the seed alone. The sample consists of the images with the
smallest keys. Each worker selects its images with keys up to a limit; in total these are a few more than needed. The
driver keeps those with the smallest keys.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

LARGEST_KEY = 2**64 - 1

MARGIN = 6.0
"""Safety margin of :func:`limit`, in standard deviations: fewer images than requested in at most 1 of 10⁷ runs."""


@dataclass(frozen=True)
class Sample:
    """A sample of images, by ascending key.

    Attributes
    ----------
    keys : ndarray of uint64, shape (m,)
    labels : tuple of str
        ``m`` labels.
    vectors : ndarray of float32, shape (m, d)
    """

    keys: Keys
    labels: tuple[str, ...]
    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.keys)


def keys(paths: Sequence[str], seed: int) -> Keys:
    """Return the images' keys, uniform from 0 to 2⁶⁴ − 1: BLAKE2b (RFC 7693) of each path, keyed with the seed.

    Parameters
    ----------
    paths : sequence of str
    seed : int
    """
    secret = hashlib.blake2b(str(seed).encode()).digest()
    digests = [hashlib.blake2b(path.encode(), digest_size=8, key=secret).digest() for path in paths]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def limit(images: int, sample_images: int) -> int:
    """Return the largest key that an image of the sample may have.

    The probability that fewer than ``sample_images`` images have such a key is below exp(−MARGIN² / 2), the Chernoff
    bound of a binomial's lower tail. In that case the sample is smaller, but still correct.

    Parameters
    ----------
    images : int
        Number of all images.
    sample_images : int
        Requested size of the sample, 1 or more.

    Raises
    ------
    ValueError
        If ``sample_images`` is less than 1.
    """
    if sample_images < 1:
        raise ValueError(f"a sample of {sample_images} images: expected 1 or more")
    # The expected number e satisfies e − MARGIN·√e = sample_images.
    expected = ((MARGIN + math.sqrt(MARGIN**2 + 4 * sample_images)) / 2) ** 2
    return LARGEST_KEY if expected >= images else int(expected / images * LARGEST_KEY)


def select(
    paths: Sequence[str], labels: Sequence[str], vectors: NDArray[np.float32], *, seed: int, largest_key: int
) -> Sample:
    """Return the rows of a block whose keys are at most ``largest_key``.

    Parameters
    ----------
    paths, labels : sequence of str
        One per row.
    vectors : ndarray of float32, shape (rows, d)
    seed : int
    largest_key : int
        The result of :func:`limit`.
    """
    row_keys = keys(paths, seed)
    rows = np.flatnonzero(row_keys <= np.uint64(largest_key))
    rows = rows[np.argsort(row_keys[rows], kind="stable")]
    return Sample(row_keys[rows], tuple(labels[row] for row in rows), vectors[rows])


def merge(samples: Sequence[Sample], sample_images: int) -> Sample:
    """Return the images with the smallest keys of all samples.

    Parameters
    ----------
    samples : sequence of Sample
        One or more, whose vectors have the same length.
    sample_images : int
        Maximum number of images to keep.

    Raises
    ------
    ValueError
        If there are no samples, or the vectors' lengths differ.
    """
    all_keys = np.concatenate([sample.keys for sample in samples])
    labels = [label for sample in samples for label in sample.labels]
    rows = np.argsort(all_keys, kind="stable")[:sample_images]
    vectors = np.concatenate([sample.vectors for sample in samples])[rows]
    return Sample(all_keys[rows], tuple(labels[row] for row in rows), vectors)
