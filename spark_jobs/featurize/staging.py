"""The one pass over the images, into a staging folder, and from there into datasets.

A task writes its rows as Parquet files of its own into staging and returns their names. Spark takes one result of each
task, whatever is tried again or twice, so that the results say which files count: files of tries that were lost are
read by nobody, and go with the folder. Then the tasks' files are gathered into few large ones, in the order of the
listing; the features' moments are made on the way, since the features are in memory then.
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
"""The two datasets that the pass makes: the name of each is its folder, under the run and under staging."""

ROWS_PER_FILE = 50_000
"""Rows of an output file, about: 256 MB of features."""

COMPRESSION = "lz4"
"""Codec of what is read again soon: features decode in 7.6 µs an image, with Parquet's usual snappy in 12.2, and take
2.5 % more space."""

DICTIONARY_COLUMNS = ["label", "reason"]
"""Columns whose values repeat; a dictionary of the others would only cost time."""


@dataclass(frozen=True)
class Written:
    """A file that a task has written.

    Attributes
    ----------
    name : str
        In the folder of its kind under staging; no other try of the task has it.
    rows : int
        Rows in it; one or more.
    """

    name: str
    rows: int


def write(
    spark: SparkContext,
    args: FeaturizeArgs,
    borders: npt.NDArray[np.int64],
    model: Broadcast[mobilenet.Model],
    engine: extraction.Engine,
) -> list[dict[str, Written]]:
    """Read, decode and featurize every listed image, a range of the listing's rows a task.

    Only the tasks' numbers and borders travel to them, and only the names of their files come back.

    Returns
    -------
    list of dict
        For each task, in order, the file of each kind of which it has rows.
    """

    def work(number: int) -> dict[str, Written]:
        share = range(int(borders[number]), int(borders[number + 1]))
        return _write_share(args, number, extraction.featurize_share(args, share, model.value, engine))

    return workers.run(spark, range(len(borders) - 1), work)


def _write_share(args: FeaturizeArgs, number: int, batches: Iterator[dict[str, pa.RecordBatch]]) -> dict[str, Written]:
    name = f"part-{number:05d}-{uuid.uuid4().hex}.parquet"
    rows = dict.fromkeys(KINDS, 0)
    with ExitStack() as stack:
        writers: dict[str, pq.ParquetWriter] = {}
        for batch in batches:
            for kind, of_kind in batch.items():
                if kind not in writers:
                    target = storage.join(args.run, FOLDER, kind, name)
                    writers[kind] = stack.enter_context(parquet_file(target, kind))
                writers[kind].write_batch(of_kind)
                rows[kind] += of_kind.num_rows
    return {kind: Written(name, count) for kind, count in rows.items() if count}


@contextmanager
def parquet_file(target: str, kind: str) -> Iterator[pq.ParquetWriter]:
    """Put a file of rows of one kind there; nothing of it stays when the block raises."""
    schema = KINDS[kind]
    repeating = [name for name in DICTIONARY_COLUMNS if name in schema.names]
    with (
        storage.writing(target) as stream,
        pq.ParquetWriter(stream, schema, use_dictionary=repeating, compression=COMPRESSION) as writer,
    ):
        yield writer


def gather(spark: SparkContext, run: str, written: Sequence[dict[str, Written]]) -> None:
    """Write the two datasets from the tasks' files, in the order of the listing, in files of many tasks' rows.

    Beside every file of features goes one of their moments (:mod:`spark_jobs.numerics.stored_moments`).

    pyarrow reads and writes, a row group at a time. A file's name and bytes depend on the tasks' files alone and it is
    put there in one step, so that a task which Spark runs twice replaces a file by its equal. Where there is one file
    of each kind it is written here: that takes a second at most, and starting a Spark job half as much.

    Parameters
    ----------
    spark : SparkContext
    run : str
        URI of the run's folder.
    written : sequence of dict
        What :func:`write` has returned.
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
        workers.run(spark, items, work)


def share_out(files: Sequence[Written]) -> list[list[str]]:
    """Return the names of the tasks' files by output file, in order; without any, one output file of none."""
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
    filesystem, folder = storage.locate(storage.join(run, FOLDER, kind))
    for name in names:
        with pq.ParquetFile(f"{folder}/{name}", filesystem=filesystem) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, use_threads=False).cast(KINDS[kind])
                yield from table.combine_chunks().to_batches()


def write_features(run: str, file: str, batches: Iterator[pa.RecordBatch]) -> None:
    """Write a file of features, and its moments, each batch being a row group."""
    accumulator = stored_moments.Accumulator()
    with parquet_file(storage.join(run, FEATURES_FOLDER, file), FEATURES_FOLDER) as writer:
        for batch in batches:
            writer.write_batch(batch)
            accumulator.add(batch.column("features").flatten().to_numpy().reshape(batch.num_rows, -1))
        if stored := accumulator.result():
            writer.add_key_value_metadata({schemas.VECTORS_DIGEST: stored_moments.overall(stored.digests)})
    if stored:
        stored_moments.write(storage.join(run, MOMENTS_FOLDER), file, stored)
