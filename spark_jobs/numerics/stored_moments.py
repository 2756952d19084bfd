"""The moments that featurize leaves beside the features, a file each, and whether they are theirs.

A fit then reads d² numbers a file of features and not n·d. That the two belong together is told by counts and digests:
of every row group the rows and the digest of the vectors, and over these one digest that the file of features carries
in its footer. Footers are compared before a fit; the vectors themselves when they are read for the scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_jobs.lake import npz, storage
from spark_jobs.lake.parts import FeatureFile
from spark_jobs.numerics import moments
from spark_jobs.numerics.moments import Moments

_NAMES = ("n", "mean", "mean_rest", "m2_upper", "rows", "digests")


class MismatchError(Exception):
    """There are no moments of a file of features that can be trusted; the message says why, after the file's name."""


@dataclass(frozen=True)
class StoredMoments:
    """The moments of a file of features, and what tells that they are its.

    Attributes
    ----------
    moments : Moments
    rows : tuple of int
        Rows of every row group.
    digests : tuple of str
        :class:`VectorsDigest` of every row group.
    """

    moments: Moments
    rows: tuple[int, ...]
    digests: tuple[str, ...]

    def to_npz(self) -> bytes:
        """Return the file: ``m2_upper`` is the upper triangle of M2, row by row; the other arrays have their names."""
        return npz.dump(
            n=np.int64(self.moments.n),
            mean=self.moments.mean,
            mean_rest=self.moments.mean_rest,
            m2_upper=self.moments.upper,
            rows=np.array(self.rows, dtype=np.int64),
            digests=np.array(self.digests, dtype=np.str_),
        )

    @classmethod
    def from_npz(cls, data: bytes) -> StoredMoments:
        """Return what :meth:`to_npz` made bytes of, equal to the bit.

        Raises
        ------
        ValueError
            When the bytes are anything else.
        """
        try:
            found = npz.load(data)
            arrays = {name: found[name] for name in _NAMES}
        except (ValueError, KeyError) as error:
            raise ValueError(f"not a whole file of moments ({error})") from error
        if problem := _problem(arrays):
            raise ValueError(problem)
        return cls(
            moments.from_triangle(int(arrays["n"]), arrays["mean"], arrays["mean_rest"], arrays["m2_upper"]),
            tuple(arrays["rows"].tolist()),
            tuple(arrays["digests"].tolist()),
        )


def _problem(arrays: dict[str, NDArray[Any]]) -> str | None:
    n, mean, rest, upper, rows, digests = (arrays[name] for name in _NAMES)
    floats, dimensions = (mean, rest, upper), mean.size
    triangle = dimensions * (dimensions + 1) // 2
    shapes = ((dimensions,), (dimensions,), (triangle,))
    if any(each.dtype != np.float64 or each.shape != shape for each, shape in zip(floats, shapes, strict=True)):
        return f"{upper.dtype} of shape {upper.shape} and means of {mean.shape} and {rest.shape}, not a triangle of one"
    if not all(np.isfinite(each).all() for each in floats):
        return "moments that are not finite"
    if n.shape or rows.ndim != 1 or rows.shape != digests.shape or int(n) != rows.sum():
        return f"moments of {n} vectors, for row groups of {rows.sum()} rows"
    return None


class Accumulator:
    """Makes the stored moments of a file while its row groups are written."""

    def __init__(self) -> None:
        self._total: Moments | None = None
        self._rows: list[int] = []
        self._digests: list[str] = []

    def add(self, vectors: NDArray[np.floating[Any]]) -> None:
        """Take the vectors of the next row group, shape (1 or more, d)."""
        of_group = moments.of(vectors.astype(np.float64))
        self._total = of_group if self._total is None else moments.merge(self._total, of_group)
        self._rows.append(len(vectors))
        digest = VectorsDigest()
        digest.update(vectors)
        self._digests.append(str(digest))

    def result(self) -> StoredMoments | None:
        """Return the moments of what was taken, None when that is nothing."""
        return None if self._total is None else StoredMoments(self._total, tuple(self._rows), tuple(self._digests))


class VectorsDigest:
    """The digest of the vectors of a row group: SHA-256 of their floats as they are stored, row by row."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, vectors: NDArray[np.floating[Any]]) -> None:
        """Take the next vectors, shape (any, d)."""
        self._hash.update(np.ascontiguousarray(vectors).data)

    def __str__(self) -> str:
        return self._hash.hexdigest()


def overall(digests: Iterable[str]) -> str:
    """Return the one digest of a file that has row groups of these digests."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def location(folder: str, name: str) -> str:
    """Return the URI of the moments of a file of features, by its name in the features' folder."""
    return storage.join(folder, str(PurePosixPath(name).with_suffix(".npz")))


def write(folder: str, name: str, stored: StoredMoments) -> None:
    """Put the moments of a file of features there, in one step."""
    storage.write_bytes(location(folder, name), stored.to_npz())


def read(folder: str, file: FeatureFile, dimensions: int) -> StoredMoments:
    """Return the moments of a file of features.

    Parameters
    ----------
    folder : str
        URI of the folder of moments.
    file : FeatureFile
    dimensions : int
        Expected length of the vectors.

    Raises
    ------
    MismatchError
        When they are not there, damaged, or another file's.
    """
    if file.digest is None:
        raise MismatchError("it carries no digest: featurize has not written it, or something has written it again")
    try:
        stored = StoredMoments.from_npz(storage.read_bytes(location(folder, file.name)))
    except FileNotFoundError:
        raise MismatchError("there are no moments of it") from None
    except ValueError as error:
        raise MismatchError(f"its moments are {error}") from None
    if stored.moments.dimensions != dimensions:
        raise MismatchError(f"its moments have {stored.moments.dimensions} dimensions, not {dimensions}")
    if stored.rows != file.rows:
        raise MismatchError(f"its moments are of row groups of {_shown(stored.rows)} rows, it has {_shown(file.rows)}")
    if overall(stored.digests) != file.digest:
        raise MismatchError("its moments are of vectors of another digest")
    return stored


def _shown(rows: Sequence[int]) -> str:
    return f"{len(rows)} x up to {max(rows)}" if rows else "no"
