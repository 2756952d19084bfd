"""The two Spark jobs of featurize: one pass over the images into a staging folder, and from there into datasets.

Features and rejects leave the one expensive pass together, through Spark's own committer, so that neither retries nor a
second write of a lazy DataFrame can run the model twice. The second job, from Parquet to Parquet, gathers the tasks'
files into few large ones in the order of the listing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from spark_jobs import extraction, mobilenet, schemas, storage
from spark_jobs.args import FEATURES_FOLDER, REJECTS_FOLDER, FeaturizeArgs

if TYPE_CHECKING:
    from pyspark import Broadcast
    from pyspark.sql import SparkSession
    from pyspark.sql.types import StructType

FOLDER = "staging"

KINDS = {FEATURES_FOLDER: schemas.FEATURES, REJECTS_FOLDER: schemas.REJECTS}
"""The two datasets that the pass makes: the name of each is its folder and its ``kind`` in the staging dataset."""

ROWS_PER_FILE = 50_000
"""Rows of an output file, about: 256 MB of features."""

ROWS_PER_GROUP = 2048
"""Rows of a row group of an output file: 10 MB of features, which is what a task of pca takes at least."""

FILE_NAME = "part-{:05d}.parquet"
"""Name of an output file: sorted by name, the files are in the order of the listing."""


def write(
    spark: SparkSession,
    args: FeaturizeArgs,
    borders: npt.NDArray[np.int64],
    model: Broadcast[mobilenet.Model],
    engine: extraction.Engine,
) -> None:
    """Read, decode and featurize every listed image, a range of the listing's rows a task, in one pass and one commit.

    Only the tasks' numbers and borders travel to them, so that neither the paths nor a shuffle pass the driver.
    """

    def featurize_shares(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                share = range(int(borders[number]), int(borders[number + 1]))
                yield from extraction.featurize_share(args, share, model.value, engine)

    tasks = len(borders) - 1
    (
        spark.range(0, tasks, 1, tasks)
        .mapInArrow(featurize_shares, _spark_schema(extraction.STAGING))
        .write.partitionBy("kind")
        # Soon read and deleted: neither is worth its time on vectors of floats.
        .options(**{"compression": "none", "parquet.enable.dictionary": "false"})
        .mode("overwrite")
        .parquet(storage.join(args.run, FOLDER))
    )


def gather(spark: SparkSession, run: str, listed: int, tasks: int) -> None:
    """Write the two datasets from the staging rows, in the order of the listing, in files of many tasks' rows.

    A staging file holds what one task made, and its name begins with that task's number: each output file takes a
    range of them, so that nothing is shuffled. pyarrow reads and writes in the workers, since the JVM adds nothing to
    that. It goes round Spark's committer, safely: a file's name and bytes depend on the staging files alone and it is
    put there in one step, so that a task which Spark runs twice replaces a file by its equal.

    Parameters
    ----------
    spark : SparkSession
    run : str
        URI of the run's folder.
    listed : int
        Rows of the listing.
    tasks : int
        Tasks of the pass.
    """
    files = min(tasks, -(-listed // ROWS_PER_FILE))

    def write_file(item: tuple[str, int]) -> None:
        kind, number = item
        share = range(number * tasks // files, (number + 1) * tasks // files)
        source = storage.join(run, FOLDER, f"kind={kind}")
        _write_dataset_file(source, share, KINDS[kind], storage.join(run, kind, FILE_NAME.format(number)))

    items = [(kind, number) for number in range(files) for kind in KINDS]
    # An RDD, since no row passes through Spark: planning a query would take longer than writing some thousand rows.
    spark.sparkContext.parallelize(items, len(items)).foreach(write_file)


def _write_dataset_file(source: str, tasks: range, schema: pa.Schema, target: str) -> None:
    with (
        storage.writing(target) as stream,
        pq.ParquetWriter(stream, schema, use_dictionary=["label", *{"reason"}.intersection(schema.names)]) as writer,
    ):
        for rows in read_task_files(source, tasks, schema):
            writer.write_batch(rows)


def read_task_files(folder: str, tasks: range, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the rows that some tasks wrote, sorted by path, with the columns of a schema."""
    filesystem, path = storage.locate(folder)
    for _, name in sorted(_task_files(filesystem, path, tasks)):
        with pq.ParquetFile(name, filesystem=filesystem) as file:
            for rows in _in_order(file, schema.names):
                yield pa.RecordBatch.from_arrays(
                    [_as_listed(rows.column(field.name), field) for field in schema], schema=schema
                )


def _in_order(file: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield a task's rows sorted by path: as they are where Spark has kept the order in which the task made them."""
    paths = file.read(columns=["path"], use_threads=False)["path"]
    if pc.all(pc.less_equal(paths[:-1], paths[1:])).as_py() is not False:
        yield from file.iter_batches(ROWS_PER_GROUP, columns=columns, use_threads=False)
    else:
        yield from file.read(columns=columns, use_threads=False).sort_by("path").to_batches(ROWS_PER_GROUP)


def _as_listed(column: pa.Array, field: pa.Field) -> pa.Array:
    """Return a staging column in the type of the dataset."""
    return extraction.unpack_features(column) if field.name == "features" else column.cast(field.type)


def _task_files(filesystem: fs.FileSystem, folder: str, tasks: range) -> Iterator[tuple[int, str]]:
    """Yield number and path of the files that some tasks wrote; a kind without a row has no folder."""
    for info in filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
        match = re.match(r"part-(\d+)-.*\.parquet$", info.base_name)
        if match and int(match[1]) in tasks:
            yield int(match[1]), info.path


def _spark_schema(schema: pa.Schema) -> StructType:
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(schema)
