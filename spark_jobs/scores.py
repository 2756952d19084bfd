"""The scores of the images, and the CSV made of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from spark_jobs import blocks, storage
from spark_jobs.decomposition import FittedPca
from spark_jobs.errors import JobError
from spark_jobs.schemas import SCORES

ROW_GROUP_BYTES = 16 * 1024 * 1024
"""Size of a row group of the scores, before compression."""

CSV_ROWS = 1024
"""Rows of scores in the driver's memory at once: 10 MB where all 1280 components are kept."""


def write(features: str, part: Sequence[blocks.Piece], fitted: FittedPca, destination: str) -> int:
    """Write the scores of a part, as ``schemas.SCORES``, in the features' order.

    It runs in a worker, with no committer: the file's name and bytes depend on the part alone and
    it is put there in one step, so that a task which Spark runs twice replaces a file by its equal.

    Parameters
    ----------
    features : str
        URI of the features' folder.
    part : sequence of Piece
    fitted : FittedPca
    destination : str
        URI of the file.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    JobError
        When a score is NaN or infinite.
    """
    rows = 0
    with (
        storage.writing(destination) as stream,
        pq.ParquetWriter(stream, SCORES, use_dictionary=["label"]) as writer,
    ):
        for group in _groups(_of(features, part, fitted)):
            writer.write_table(group)
            rows += group.num_rows
    return rows


def _of(features: str, part: Sequence[blocks.Piece], fitted: FittedPca) -> Iterator[pa.RecordBatch]:
    for rows, vectors in blocks.read(features, part, len(fitted.mean)):
        scores = fitted.transform(vectors.astype(np.float64))
        if not np.isfinite(scores).all():
            raise JobError(f"scores of {part[0].path} are not finite: the features' values are too large to project")
        offsets = np.arange(0, scores.size + 1, fitted.k, dtype=np.int32)
        components = pa.ListArray.from_arrays(offsets, scores.ravel())
        yield pa.RecordBatch.from_arrays([rows.column("path"), rows.column("label"), components], schema=SCORES)


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Put batches together to row groups of a size that readers like."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(each.nbytes for each in waiting) >= ROW_GROUP_BYTES:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


def write_csv(scores: str, destination: str) -> int:
    """Write the CSV of the scores: the same bytes as ``pandas.to_csv(index=False)``.

    Columns ``F 1`` … ``F k`` and then ``label``; rows in the order of the scores. Floats are the shortest text that
    reads back as the same float.

    Parameters
    ----------
    scores : str
        URI of the folder of the files that :func:`write` made, of one row or more in all.
    destination : str
        URI of the file; it is there once it is complete.

    Returns
    -------
    int
        Number of rows, without the header.
    """
    rows = 0
    with storage.writing(destination) as stream:
        for batch in _batches(scores):
            components = batch.column("components")
            matrix = components.flatten().to_numpy().reshape(len(components), -1)
            text = io.StringIO(newline="")
            writer = csv.writer(text, lineterminator="\n")
            if rows == 0:
                writer.writerow([*(f"F {number}" for number in range(1, matrix.shape[1] + 1)), "label"])
            labels = batch.column("label").to_pylist()
            writer.writerows([*values, label] for values, label in zip(matrix.tolist(), labels, strict=True))
            stream.write(text.getvalue().encode())
            rows += len(labels)
    return rows


def _batches(scores: str) -> Iterator[pa.RecordBatch]:
    filesystem, root = storage.locate(scores)
    found = filesystem.get_file_info(fs.FileSelector(root))
    paths = sorted(info.path for info in found if info.path.endswith(".parquet"))
    dataset = ds.dataset(paths, filesystem=filesystem, schema=SCORES, format="parquet")
    for batch in dataset.to_batches(batch_size=CSV_ROWS, batch_readahead=2, fragment_readahead=1):
        if batch.num_rows:
            yield batch
