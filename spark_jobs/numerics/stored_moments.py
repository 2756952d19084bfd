"""The moments that featurize stores for each file of features, and the check that they match the file.

A fit then reads d² numbers per file of features instead of n·d. Counts and digests prove that moments match a file: the
stored moments have the number of rows and the digest of the vectors of each row group, and the footer of the features'
file has one digest over these. pca compares footers before a fit, and the vectors when it reads them for the scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_jobs.args import MOMENTS_FILE
from spark_jobs.lake import npz, storage
from spark_jobs.lake.parts import FeatureFile
from spark_jobs.numerics import moments
from spark_jobs.numerics.moments import Moments

_NAMES = ("n", "mean", "mean_rest", "m2_upper", "rows", "digests")


class MismatchError(Exception):
    """A file of features has no valid stored moments. The message gives the reason, to follow the file's name."""


@dataclass(frozen=True)
class StoredMoments:
    """The moments of a file of features, and the data to match them with the file.

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
        """Return the file's bytes; ``m2_upper`` is the upper triangle of M2, row by row."""
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
        """Return the moments from the bytes of :meth:`to_npz`, bit for bit.

        Raises
        ------
        ValueError
            If the bytes are not such a file.
        """
        try:
            content = npz.load(data)
            arrays = {name: content[name] for name in _NAMES}
        except (ValueError, KeyError) as error:
            raise ValueError(f"not an intact file of moments ({error})") from error
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
    """Computes the stored moments of a file while its row groups are written."""

    def __init__(self) -> None:
        self._total: Moments | None = None
        self._rows: list[int] = []
        self._digests: list[str] = []

    def add(self, vectors: NDArray[np.floating[Any]]) -> None:
        """Add the vectors of the next row group, shape (1 or more, d)."""
        group = moments.compute(vectors.astype(np.float64))
        self._total = group if self._total is None else moments.merge(self._total, group)
        self._rows.append(len(vectors))
        digest = VectorsDigest()
        digest.update(vectors)
        self._digests.append(str(digest))

    def result(self) -> StoredMoments | None:
        """Return the moments of all added vectors, or None without any."""
        return None if self._total is None else StoredMoments(self._total, tuple(self._rows), tuple(self._digests))


class VectorsDigest:
    """The digest of the vectors of a row group: SHA-256 of the floats as stored, row by row."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, vectors: NDArray[np.floating[Any]]) -> None:
        """Add the next vectors, shape (any, d)."""
        self._hash.update(np.ascontiguousarray(vectors).data)

    def __str__(self) -> str:
        return self._hash.hexdigest()


def overall(digests: Iterable[str]) -> str:
    """Return the digest of a file from the digests of its row groups."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def location(folder: str, name: str) -> str:
    """Return the URI of the stored moments for the name of a file in the folder of all segments."""
    return storage.join(folder, str(PurePosixPath(name).with_name(MOMENTS_FILE)))


def read(folder: str, file: FeatureFile, dimensions: int) -> StoredMoments:
    """Return the stored moments of a file of features.

    Parameters
    ----------
    folder : str
        URI of the folder of all segments.
    file : FeatureFile
    dimensions : int
        Expected length of the vectors.

    Raises
    ------
    MismatchError
        If they are missing, damaged, or belong to another file.
    """
    if file.digest is None:
        raise MismatchError("its footer has no digest: featurize did not write it, or another program rewrote it")
    try:
        stored = StoredMoments.from_npz(storage.read_bytes(location(folder, file.name)))
    except FileNotFoundError:
        raise MismatchError("it has no stored moments") from None
    except ValueError as error:
        raise MismatchError(f"its stored moments are {error}") from None
    if stored.moments.dimensions != dimensions:
        raise MismatchError(f"its stored moments have {stored.moments.dimensions} dimensions, not {dimensions}")
    if stored.rows != file.rows:
        raise MismatchError(
            f"its stored moments are for row groups of {_format_rows(stored.rows)} rows, it has "
            f"{_format_rows(file.rows)}"
        )
    if overall(stored.digests) != file.digest:
        raise MismatchError("its stored moments are for vectors with another digest")
    return stored


def _format_rows(rows: Sequence[int]) -> str:
    return f"{len(rows)} x up to {max(rows)}" if rows else "no"
