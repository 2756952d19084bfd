"""The run's features as blocks of rows: which files there are, how they are shared out, and reading them.

pyarrow reads the Parquet files inside the workers: the vectors never cross the JVM, which is most of what a fit through
Spark's own reader costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray
from pyarrow import fs

from spark_jobs import storage
from spark_jobs.errors import JobError
from spark_jobs.schemas import FEATURES

BLOCK_ROWS = 512
"""Rows worked on at once: 5 MB of float64 at 1280 dimensions, enough for BLAS to be at its full speed."""

PART_BYTES = 8 * 1024 * 1024
"""Least size of a part, in bytes of Parquet: below some thousand rows, a task costs more than it saves."""

MAX_PARTS = 32
"""Most parts: each sends 6.6 MB of moments to the driver, whatever the number of rows, and that has 1 GB by default. A
million images are then 30,000 rows a part: seconds of work."""


@dataclass(frozen=True)
class Piece:
    """A Parquet file, or one row group of a large one.

    Attributes
    ----------
    path : str
        In the file system of the features' folder.
    file_bytes : int
        Size of the file, which spares the reader a request.
    row_group : int or None
        None for the whole file.
    bytes : int
        Size of the piece, of a row group in proportion.
    """

    path: str
    file_bytes: int
    row_group: int | None
    bytes: int


def pieces(folder: str) -> list[Piece]:
    """Return what a folder of features is made of, in the features' order: by path, then by row group.

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
    files = [info for info in found if info.type == fs.FileType.File and _is_data(info.path[len(root) :])]
    return [piece for info in sorted(files, key=lambda info: info.path) for piece in _pieces_of(filesystem, info)]


def _is_data(path: str) -> bool:
    return path.endswith(".parquet") and not any(part.startswith(("_", ".")) for part in path.split("/"))


def _pieces_of(filesystem: fs.FileSystem, info: fs.FileInfo) -> list[Piece]:
    if info.size <= PART_BYTES:
        return [Piece(info.path, info.size, None, info.size)]
    # Only a large file's footer is worth a request: there may be thousands of small ones.
    groups = ds.ParquetFileFormat().make_fragment(info.path, filesystem, file_size=info.size).row_groups
    decoded = max(1, sum(group.total_byte_size for group in groups))
    return [Piece(info.path, info.size, group.id, info.size * group.total_byte_size // decoded) for group in groups]


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


def read(folder: str, part: Sequence[Piece], dimensions: int) -> Iterator[tuple[pa.RecordBatch, NDArray[np.float32]]]:
    """Read the rows of some pieces, in order, a bounded number at a time.

    Parameters
    ----------
    folder : str
        URI of the features' folder.
    part : sequence of Piece
    dimensions : int
        Expected length of every vector.

    Yields
    ------
    rows : RecordBatch
        Columns ``path`` and ``label``, at most ``BLOCK_ROWS`` rows.
    vectors : ndarray of float32, shape (rows, dimensions)

    Raises
    ------
    JobError
        When a vector is missing, of another length, or has a value that is null or not finite; the message names the
        image.
    """
    filesystem, _ = storage.locate(folder)
    file_format = ds.ParquetFileFormat()
    schema = pa.schema([FEATURES.field(name) for name in ("path", "label", "features")])
    fragments = [
        file_format.make_fragment(
            piece.path,
            filesystem,
            row_groups=None if piece.row_group is None else [piece.row_group],
            file_size=piece.file_bytes,
        )
        for piece in part
    ]
    dataset = ds.FileSystemDataset(fragments, schema, file_format, filesystem)
    # One thread decodes, as Spark gave this worker one core; requests are in flight ahead of it all the same.
    for batch in dataset.to_batches(batch_size=BLOCK_ROWS, batch_readahead=4, use_threads=False):
        if batch.num_rows:
            yield batch.select(["path", "label"]), _vectors(batch, dimensions)


def _vectors(batch: pa.RecordBatch, dimensions: int) -> NDArray[np.float32]:
    """Return a batch's vectors as one matrix that shares the batch's memory, checked."""
    vectors = batch.column("features")
    lengths = pc.fill_null(pc.list_value_length(vectors), -1).to_numpy(zero_copy_only=False)
    if (lengths != dimensions).any():
        row = int((lengths != dimensions).argmax())
        found = "no vector" if lengths[row] < 0 else f"{lengths[row]} values"
        raise JobError(f"{_name(batch, row)} has {found}: expected {dimensions} features; run featurize again")
    values = vectors.flatten()
    if values.null_count:
        position = values.is_null().to_numpy(zero_copy_only=False).argmax()
        raise _unusable(batch, int(position), dimensions, "null")
    matrix: NDArray[np.float32] = values.to_numpy().reshape(-1, dimensions)
    finite = np.isfinite(matrix)
    if not finite.all():
        position = finite.argmin()
        raise _unusable(batch, int(position), dimensions, str(matrix.flat[position]))
    return matrix


def _unusable(batch: pa.RecordBatch, position: int, dimensions: int, value: str) -> JobError:
    row, feature = divmod(position, dimensions)
    return JobError(
        f"feature {feature} of {_name(batch, row)} is {value}: expected a finite number; run featurize again"
    )


def _name(batch: pa.RecordBatch, row: int) -> str:
    return repr(batch.column("path")[row].as_py())


def refill(matrices: Iterable[NDArray[np.float32]], rows: int = BLOCK_ROWS) -> Iterator[NDArray[np.float64]]:
    """Cut matrices anew into blocks of ``rows`` rows, in float64; the last may be shorter.

    Featurize writes many files of a few dozen rows, and blocks as small would leave BLAS waiting for memory. The blocks
    depend on the rows and their order only, not on how files and readers cut them.

    Parameters
    ----------
    matrices : iterable of ndarray of float32, shape (any, d)
    rows : int

    Yields
    ------
    ndarray of float64, shape (rows, d)
        Overwritten when the next is asked for.
    """
    block: NDArray[np.float64] | None = None
    filled = 0
    for matrix in matrices:
        if block is None:
            block = np.empty((rows, matrix.shape[1]))
        start = 0
        while start < len(matrix):
            taken = min(rows - filled, len(matrix) - start)
            block[filled : filled + taken] = matrix[start : start + taken]
            start, filled = start + taken, filled + taken
            if filled == rows:
                yield block
                filled = 0
    if block is not None and filled:
        yield block[:filled]
