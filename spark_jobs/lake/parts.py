"""The files of a run's features, their row groups, and the distribution of row groups to tasks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow.parquet as pq

from spark_jobs.errors import JobError
from spark_jobs.lake import storage
from spark_jobs.lake.schemas import VECTORS_DIGEST

PART_ROWS = 8_192
"""Minimum rows of a part: half a second of work. Sending and merging a part's moments costs 50 ms. Bytes would not say
how much work it is: equal vectors take a twentieth of the space."""

MAX_PARTS = 32
"""Maximum number of parts. Each may send 6.6 MB of moments to the driver, whatever its number of rows, and the driver
has 1 GB by default. With a million images a part has 30,000 rows: seconds of work."""

FOOTERS_AT_ONCE = 16
"""Number of footers to read concurrently: on S3 each takes one or two requests, mostly waiting time."""


@dataclass(frozen=True)
class FeatureFile:
    """A Parquet file of features, as described by its footer.

    Attributes
    ----------
    name : str
        Path in the folder of all segments.
    bytes : int
        Size of the file.
    rows : tuple of int
        Rows of every row group.
    digest : str or None
        Digest of the vectors in the footer (``schemas.VECTORS_DIGEST``).
    """

    name: str
    bytes: int
    rows: tuple[int, ...]
    digest: str | None


@dataclass(frozen=True)
class Piece:
    """A row group of a file.

    Attributes
    ----------
    path : str
        The file, in the folder of all segments.
    file_bytes : int
        Size of the file; it saves the reader a request.
    row_group : int
    rows : int
    """

    path: str
    file_bytes: int
    row_group: int
    rows: int


def files(folder: str, names: Sequence[str]) -> list[FeatureFile]:
    """Return files of features, as their footers describe them, in the order of the names.

    Parameters
    ----------
    folder : str
        URI.
    names : sequence of str
        Paths in the folder.

    Raises
    ------
    JobError
        If a file does not exist.
    """

    def read(name: str) -> FeatureFile:
        uri = storage.join(folder, name)
        try:
            with storage.open_file(uri) as stream:
                metadata = pq.read_metadata(stream)
                size = stream.seek(0, os.SEEK_END)
        except FileNotFoundError:
            raise JobError(f"{uri} does not exist: expected the features that featurize writes") from None
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        digest = (metadata.metadata or {}).get(VECTORS_DIGEST)
        return FeatureFile(
            name=name,
            bytes=size,
            rows=tuple(group.num_rows for group in groups),
            digest=digest.decode() if digest else None,
        )

    with ThreadPoolExecutor(FOOTERS_AT_ONCE) as pool:
        return list(pool.map(read, names))


def pieces(feature_files: Iterable[FeatureFile]) -> list[Piece]:
    """Return the row groups of the files, in order, without empty ones."""
    return [
        Piece(file.name, file.bytes, number, rows)
        for file in feature_files
        for number, rows in enumerate(file.rows)
        if rows
    ]


def split(all_pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Group pieces into parts of consecutive pieces and similar size.

    The parts depend on the data only, never on the cluster. The order in which floats are added, and therefore the last
    digit of every result, is the same on two cores as on two hundred.

    Returns
    -------
    list of list of Piece
        At most ``MAX_PARTS`` parts, none empty. If there are several, each has about ``PART_ROWS`` or more.
    """
    total = sum(piece.rows for piece in all_pieces)
    count = max(1, min(MAX_PARTS, total // PART_ROWS))
    parts: list[list[Piece]] = [[] for _ in range(count)]
    before = 0
    for piece in all_pieces:
        parts[min(count - 1, before * count // max(total, 1))].append(piece)
        before += piece.rows
    return [part for part in parts if part]
