"""A bounded sample of the images, the same whatever their order, files, partitions or cluster.

Every image has a key, a number that its path and the seed alone decide, and the sample is the images with the smallest
keys. Each worker keeps those of its rows whose keys are below a limit, a few more than wanted in all; the driver keeps
the smallest of these.
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
"""How far above the wanted number the expected one is, as in :func:`limit`: fewer come in 1 of 10⁷ runs at most."""


@dataclass(frozen=True)
class Sample:
    """Some images, by ascending key.

    Attributes
    ----------
    keys : ndarray of uint64, shape (m,)
    labels : tuple of str
        ``m`` of them.
    vectors : ndarray of float32, shape (m, d)
    """

    keys: Keys
    labels: tuple[str, ...]
    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.keys)


def keys(paths: Sequence[str], seed: int) -> Keys:
    """Return the images' keys, uniform from 0 to 2⁶⁴ − 1: BLAKE2b of each path (RFC 7693), keyed by the seed.

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

    So many images have one as large at most that fewer than ``sample_images`` are found with a probability below
    exp(−MARGIN² / 2), the Chernoff bound of a binomial's lower tail; what is found is then a smaller sample, not a
    wrong one.

    Parameters
    ----------
    images : int
        How many there are in all.
    sample_images : int
        How many are wanted, 1 or more.

    Raises
    ------
    ValueError
        When ``sample_images`` is less than 1.
    """
    if sample_images < 1:
        raise ValueError(f"a sample of {sample_images} images: expected 1 or more")
    # The expected number e with e − MARGIN·√e = sample_images.
    expected = ((MARGIN + math.sqrt(MARGIN**2 + 4 * sample_images)) / 2) ** 2
    return LARGEST_KEY if expected >= images else int(expected / images * LARGEST_KEY)


def take(
    paths: Sequence[str], labels: Sequence[str], vectors: NDArray[np.float32], *, seed: int, largest_key: int
) -> Sample:
    """Return the rows of a block whose keys are ``largest_key`` at most.

    Parameters
    ----------
    paths, labels : sequence of str
        One a row.
    vectors : ndarray of float32, shape (rows, d)
    seed : int
    largest_key : int
        What :func:`limit` returned.
    """
    found = keys(paths, seed)
    rows = np.flatnonzero(found <= np.uint64(largest_key))
    rows = rows[np.argsort(found[rows], kind="stable")]
    return Sample(found[rows], tuple(labels[row] for row in rows), vectors[rows])


def merge(samples: Sequence[Sample], sample_images: int) -> Sample:
    """Return the images with the smallest keys of some samples.

    Parameters
    ----------
    samples : sequence of Sample
        One or more, of vectors of the same length.
    sample_images : int
        How many images to keep at most.

    Raises
    ------
    ValueError
        When there are no samples, or the vectors' lengths differ.
    """
    found = np.concatenate([sample.keys for sample in samples])
    labels = [label for sample in samples for label in sample.labels]
    rows = np.argsort(found, kind="stable")[:sample_images]
    vectors = np.concatenate([sample.vectors for sample in samples])[rows]
    return Sample(found[rows], tuple(labels[row] for row in rows), vectors)
