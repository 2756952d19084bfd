"""The files of a run's features, their row groups, and how these are shared out to tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow.parquet as pq
from pyarrow import fs

from spark_jobs.errors import JobError
from spark_jobs.lake import storage
from spark_jobs.lake.schemas import VECTORS_DIGEST

PART_BYTES = 32 * 1024 * 1024
"""Least size of a part, in bytes of Parquet, some 8,000 rows or half a second of work: a part's moments cost 50 ms to
send and to merge."""

MAX_PARTS = 32
"""Most parts: each may send 6.6 MB of moments to the driver, whatever the number of rows, and that has 1 GB by default.
A million images are then 30,000 rows a part: seconds of work."""

FOOTERS_AT_ONCE = 16
"""Footers that are read at a time: on S3 each is a request or two, which is mostly waiting."""


@dataclass(frozen=True)
class FeatureFile:
    """A Parquet file of features, as its footer tells of it.

    Attributes
    ----------
    name : str
        Path in the features' folder.
    path : str
        Path in the file system of that folder.
    bytes : int
        Size of the file.
    rows, sizes : tuple of int
        Rows and bytes of every row group.
    digest : str or None
        What its writer has noted of the vectors (``schemas.VECTORS_DIGEST``).
    """

    name: str
    path: str
    bytes: int
    rows: tuple[int, ...]
    sizes: tuple[int, ...]
    digest: str | None


@dataclass(frozen=True)
class Piece:
    """A row group of a file.

    Attributes
    ----------
    path : str
        The file, in the file system of the features' folder.
    file_bytes : int
        Size of the file, which spares the reader a request.
    row_group : int
    rows : int
    bytes : int
        Size of the row group.
    """

    path: str
    file_bytes: int
    row_group: int
    rows: int
    bytes: int


def files(folder: str) -> list[FeatureFile]:
    """Return the files of a folder of features, in the features' order: by path.

    Parameters
    ----------
    folder : str
        URI. Files whose name or folder begins with ``_`` or ``.`` are not data, as for Spark and pandas.

    Raises
    ------
    JobError
        When there is no such folder.
    """
    filesystem, root = storage.locate(folder)
    try:
        found = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
    except FileNotFoundError:
        raise JobError(f"{folder} is not there: expected the features that featurize writes") from None
    data = [info for info in found if info.type == fs.FileType.File and _is_data(info.path[len(root) :])]

    def read(info: fs.FileInfo) -> FeatureFile:
        metadata = pq.read_metadata(info.path, filesystem=filesystem)
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        digest = (metadata.metadata or {}).get(VECTORS_DIGEST)
        columns = range(metadata.num_columns)
        return FeatureFile(
            name=info.path[len(root) + 1 :],
            path=info.path,
            bytes=info.size,
            rows=tuple(group.num_rows for group in groups),
            sizes=tuple(sum(group.column(column).total_compressed_size for column in columns) for group in groups),
            digest=digest.decode() if digest else None,
        )

    with ThreadPoolExecutor(FOOTERS_AT_ONCE) as pool:
        return list(pool.map(read, sorted(data, key=lambda info: info.path)))


def _is_data(path: str) -> bool:
    return path.endswith(".parquet") and not any(part.startswith(("_", ".")) for part in path.split("/"))


def pieces(of: Iterable[FeatureFile]) -> list[Piece]:
    """Return the row groups of some files, in their order; not those without rows."""
    return [
        Piece(file.path, file.bytes, number, rows, size)
        for file in of
        for number, (rows, size) in enumerate(zip(file.rows, file.sizes, strict=True))
        if rows
    ]


def split(all_pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Share pieces out to parts of consecutive pieces and similar size.

    The parts depend on the data only, never on the cluster: the order in which floats are added, and so the last digit
    of every result, is the same on two cores as on two hundred.

    Returns
    -------
    list of list of Piece
        At most ``MAX_PARTS``, none empty; of at least ``PART_BYTES`` each where there are several.
    """
    total = sum(piece.bytes for piece in all_pieces)
    count = max(1, min(MAX_PARTS, total // PART_BYTES))
    parts: list[list[Piece]] = [[] for _ in range(count)]
    before = 0
    for piece in all_pieces:
        parts[min(count - 1, before * count // max(total, 1))].append(piece)
        before += piece.bytes
    return [part for part in parts if part]
