"""The single pass over the images: tasks write files into a staging folder, which are then gathered into datasets.

Each task attempt writes its rows to new Parquet files in staging and returns their names. Spark accepts one result per
task, even if it retries or duplicates the task, so the results name the valid files. The files of lost attempts are
never read and are deleted with the folder. The job then gathers the tasks' files into a few large ones, in the order of
the listing, and computes the moments of the features while they are in memory.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from spark_jobs.args import FEATURES_FOLDER, MOMENTS_FOLDER, REJECTS_FOLDER, FeaturizeArgs
from spark_jobs.featurize import extraction
from spark_jobs.lake import row_groups, schemas, storage
from spark_jobs.model import mobilenet
from spark_jobs.numerics import stored_moments
from spark_jobs.runtime import workers

if TYPE_CHECKING:
    from pyspark import Broadcast, SparkContext

FOLDER = "staging"

KINDS = {FEATURES_FOLDER: schemas.FEATURES, REJECTS_FOLDER: schemas.REJECTS}
"""Schemas of the two datasets by folder; the folder has the same name in the run and in staging."""

ROWS_PER_FILE = 50_000
"""Approximate number of rows of an output file: 256 MB of features."""

COMPRESSION = "snappy"
"""Codec. Every reader of Parquet has it; pyarrow's lz4 is LZ4_RAW, which Spark before 3.5 cannot read."""

DICTIONARY_COLUMNS = ["label", "reason"]
"""Columns with repeated values; a dictionary of the other columns costs time and saves nothing."""


@dataclass(frozen=True)
class Written:
    """A file that a task has written.

    Attributes
    ----------
    name : str
        Name in its kind's folder in staging; unique to the attempt of the task.
    rows : int
        Number of rows, at least 1.
    """

    name: str
    rows: int


def write(
    sc: SparkContext,
    args: FeaturizeArgs,
    borders: npt.NDArray[np.int64],
    model: Broadcast[mobilenet.Model],
    engine: extraction.Engine,
) -> list[dict[str, Written]]:
    """Read, decode and featurize every listed image; each task processes a range of the listing's rows.

    Tasks receive only numbers and borders, and return only the names and lengths of their files.

    Returns
    -------
    list of dict
        For each task, in order, its file of each kind; a kind without rows is left out.
    """

    def work(number: int) -> dict[str, Written]:
        share = range(int(borders[number]), int(borders[number + 1]))
        return _write_share(args, number, extraction.featurize_share(args, share, model.value, engine))

    return workers.run(sc, range(len(borders) - 1), work)


def _write_share(args: FeaturizeArgs, number: int, batches: Iterator[dict[str, pa.RecordBatch]]) -> dict[str, Written]:
    name = f"part-{number:05d}-{uuid.uuid4().hex}.parquet"
    rows = dict.fromkeys(KINDS, 0)
    with ExitStack() as stack:
        writers: dict[str, pq.ParquetWriter] = {}
        for batch in batches:
            for kind, rows_of_kind in batch.items():
                if kind not in writers:
                    target = storage.join(args.run, FOLDER, kind, name)
                    writers[kind] = stack.enter_context(parquet_file(target, kind))
                writers[kind].write_batch(rows_of_kind)
                rows[kind] += rows_of_kind.num_rows
    return {kind: Written(name, count) for kind, count in rows.items() if count}


@contextmanager
def parquet_file(target: str, kind: str) -> Iterator[pq.ParquetWriter]:
    """Open a writer of one kind's rows; the file is not created if the block raises."""
    schema = KINDS[kind]
    repeating = [name for name in DICTIONARY_COLUMNS if name in schema.names]
    with (
        storage.writing(target) as stream,
        pq.ParquetWriter(stream, schema, use_dictionary=repeating, compression=COMPRESSION) as writer,
    ):
        yield writer


def gather(sc: SparkContext, run: str, written: Sequence[dict[str, Written]]) -> None:
    """Merge the tasks' files into the larger files of the two datasets, in the order of the listing.

    For every file of features, a file of their moments is written too (:mod:`spark_jobs.numerics.stored_moments`).

    pyarrow reads and writes one row group at a time. The name and bytes of an output file depend only on the tasks'
    files, and the file is written atomically: if Spark runs a task twice, the second run replaces the file by an
    equal one. If there is one file of each kind, the driver writes both: this takes a second at most, and starting a
    Spark job takes half a second.

    Parameters
    ----------
    sc : SparkContext
    run : str
        URI of the run's folder.
    written : sequence of dict
        The result of :func:`write`.
    """
    items = [
        (kind, number, names)
        for kind in KINDS
        for number, names in enumerate(share_out([task[kind] for task in written if kind in task]))
    ]

    def work(item: tuple[str, int, list[str]]) -> None:
        kind, number, names = item
        file = schemas.FILE_NAME.format(number)
        rows = row_groups.regroup(_read(run, kind, names), extraction.ROWS_PER_BATCH)
        if kind == FEATURES_FOLDER:
            write_features(run, file, rows)
        else:
            with parquet_file(storage.join(run, kind, file), kind) as writer:
                for batch in rows:
                    writer.write_batch(batch)

    if len(items) == len(KINDS):
        for item in items:
            work(item)
    else:
        workers.run(sc, items, work)


def share_out(files: Sequence[Written]) -> list[list[str]]:
    """Return the names of the tasks' files for each output file, in order; one empty list if there are none."""
    shares: list[list[str]] = [[]]
    rows = 0
    for file in files:
        if shares[-1] and rows + file.rows > ROWS_PER_FILE:
            shares.append([])
            rows = 0
        shares[-1].append(file.name)
        rows += file.rows
    return shares


def _read(run: str, kind: str, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of some of the tasks' files, a row group at a time."""
    for name in names:
        with storage.open_file(storage.join(run, FOLDER, kind, name)) as stream, pq.ParquetFile(stream) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, use_threads=False).cast(KINDS[kind])
                yield from table.combine_chunks().to_batches()


def write_features(run: str, file: str, batches: Iterator[pa.RecordBatch]) -> None:
    """Write a file of features and their moments; each batch becomes a row group."""
    accumulator = stored_moments.Accumulator()
    with parquet_file(storage.join(run, FEATURES_FOLDER, file), FEATURES_FOLDER) as writer:
        for batch in batches:
            writer.write_batch(batch)
            accumulator.add(batch.column("features").flatten().to_numpy().reshape(batch.num_rows, -1))
        if stored := accumulator.result():
            writer.add_key_value_metadata({schemas.VECTORS_DIGEST: stored_moments.overall(stored.digests)})
    if stored:
        stored_moments.write(storage.join(run, MOMENTS_FOLDER), file, stored)
