"""A run's features as blocks of rows: read, check and resize them.

pyarrow reads the Parquet files inside the workers. The vectors never cross the JVM, which would be most of the cost of
a fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spark_jobs.errors import JobError
from spark_jobs.lake import storage
from spark_jobs.lake.parts import Piece

Vectors = NDArray[np.floating[Any]]

BLOCK_ROWS = 2048
"""Rows per block: 21 MB of float64 at 1280 dimensions. With 512, merging and BLAS start-up add half of the time of the
matrix products; with 4096 the overhead is not smaller than with 2048."""

COLUMNS = ["path", "label", "features"]


@dataclass(frozen=True)
class Block:
    """Some consecutive rows of a row group.

    Attributes
    ----------
    piece : Piece
        The row group.
    rows : RecordBatch
        Columns ``path`` and ``label``.
    vectors : ndarray of float16, float32 or float64, shape (rows, dimensions)
        As they are stored.
    """

    piece: Piece
    rows: pa.RecordBatch
    vectors: Vectors


def read(folder: str, part: Sequence[Piece], dimensions: int) -> Iterator[Block]:
    """Read the rows of the pieces in order, at most ``BLOCK_ROWS`` at a time.

    Parameters
    ----------
    folder : str
        URI of the folder of all segments.
    part : sequence of Piece
    dimensions : int
        Expected length of every vector.

    Raises
    ------
    JobError
        If the features are not lists of floats, or if a vector is missing, has another length, or contains a value that
        is null or not finite. The message names the image.
    """
    for path, of_file in groupby(part, lambda piece: storage.join(folder, piece.path)):
        with storage.open_file(path) as stream, pq.ParquetFile(stream, pre_buffer=True) as file:
            _check_type(file.schema_arrow, path)
            for piece in of_file:
                # Decode in one thread, since Spark gives each worker one core.
                batches = file.iter_batches(BLOCK_ROWS, [piece.row_group], COLUMNS, use_threads=False)
                for batch in batches:
                    yield Block(piece, batch.select(["path", "label"]), _vectors(batch, dimensions))


def _check_type(schema: pa.Schema, path: str) -> None:
    missing = [name for name in COLUMNS if name not in schema.names]
    if missing:
        raise JobError(
            f"{path} has no column {', '.join(missing)}: expected {', '.join(COLUMNS)}, as featurize writes them"
        )
    found = schema.field("features").type
    is_list = pa.types.is_list(found) or pa.types.is_large_list(found) or pa.types.is_fixed_size_list(found)
    if not is_list or not pa.types.is_floating(found.value_type):
        raise JobError(f"the features in {path} have type {found}: expected lists of floats, as featurize writes them")


def _vectors(batch: pa.RecordBatch, dimensions: int) -> Vectors:
    """Check a batch's vectors and return them as one matrix that shares the batch's memory."""
    vectors = batch.column("features")
    lengths = pc.fill_null(pc.list_value_length(vectors), -1).to_numpy(zero_copy_only=False)
    if (lengths != dimensions).any():
        row = int((lengths != dimensions).argmax())
        found = "no vector" if lengths[row] < 0 else f"{lengths[row]} values"
        raise JobError(f"{_name(batch, row)} has {found}: expected {dimensions} features; run featurize again")
    values = vectors.flatten()
    if values.null_count:
        position = values.is_null().to_numpy(zero_copy_only=False).argmax()
        raise _invalid_value(batch, int(position), dimensions, "null")
    matrix: Vectors = values.to_numpy().reshape(-1, dimensions)
    finite = np.isfinite(matrix)
    if not finite.all():
        position = finite.argmin()
        raise _invalid_value(batch, int(position), dimensions, str(matrix.flat[position]))
    return matrix


def _invalid_value(batch: pa.RecordBatch, position: int, dimensions: int, value: str) -> JobError:
    row, feature = divmod(position, dimensions)
    return JobError(
        f"feature {feature} of {_name(batch, row)} is {value}: expected a finite number; run featurize again"
    )


def _name(batch: pa.RecordBatch, row: int) -> str:
    return repr(batch.column("path")[row].as_py())


def refill(matrices: Iterable[Vectors], rows: int = BLOCK_ROWS) -> Iterator[NDArray[np.float64]]:
    """Copy the rows of the matrices into float64 blocks of ``rows`` rows; the last may be shorter.

    Other writers may use row groups of a few dozen rows, with which BLAS would be limited by memory bandwidth. The
    blocks depend only on the rows and their order, not on the sizes of files and batches.

    Parameters
    ----------
    matrices : iterable of ndarray of floats, shape (any, d)
    rows : int

    Yields
    ------
    ndarray of float64, shape (rows, d)
        The next iteration overwrites it.
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
