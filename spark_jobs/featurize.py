"""The featurize job: every image under a folder becomes features or a reject, and none is lost.

The images are listed into one Parquet file, and a Spark task takes one row group of it: it reads the files, decodes
them and runs the model. Features and rejects leave that one pass together, through Spark's own committer, so that
neither retries nor a second write of a lazy DataFrame can run the model twice. A second pass, from Parquet to Parquet,
gathers the tasks' small files into few large ones in the order of the listing.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from spark_jobs import images, launcher, listing, mobilenet, progress, schemas, storage, summary
from spark_jobs.args import (
    FEATURE_DIMENSIONS,
    FEATURES_FOLDER,
    FEATURIZE_SUMMARY_FILE,
    LISTING_FILE,
    PCA_SUMMARY_FILE,
    REJECTS_FOLDER,
    SCORES_FOLDER,
    FeaturizeArgs,
)
from spark_jobs.errors import JobError
from spark_jobs.images import Reject

if TYPE_CHECKING:
    from pyspark import Broadcast
    from pyspark.sql import SparkSession
    from pyspark.sql.types import StructType

logger = logging.getLogger(__name__)

LoadModel = Callable[[str, bytes], mobilenet.Extract]
"""From a model's digest and flatbuffer to the function that runs it; called once a task, in the worker."""

STAGING_FOLDER = "staging"
PCA_FOLDER = SCORES_FOLDER.partition("/")[0]

KINDS = {FEATURES_FOLDER: schemas.FEATURES, REJECTS_FOLDER: schemas.REJECTS}
"""The two datasets that the pass makes: the name of each is its folder and its ``kind`` in the staging dataset."""

STAGING = pa.schema(
    [
        *schemas.LISTING,
        schemas.FEATURES.field("features").with_nullable(True),
        schemas.REJECTS.field("reason").with_nullable(True),
        schemas.REJECTS.field("detail").with_nullable(True),
        pa.field("kind", pa.string(), nullable=False),
    ]
)

IMAGES_PER_GROUP = 64
"""Rows of a row group of the listing; a worker hands as many to Spark at a time: 330 KB of features."""

ROWS_PER_FILE = 50_000
"""Rows of an output file, about: 256 MB of features."""

EXAMPLES = 20
"""Rejects that the summary and the error message of a failed run show."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job as a program; the exit code is 0, 1 for a failed job, 2 for wrong arguments."""
    args = FeaturizeArgs.from_argv(argv)
    return launcher.run(lambda: _run_program(args))


def _run_program(args: FeaturizeArgs) -> None:
    stopwatch = summary.Stopwatch()
    with stopwatch.stage("start"):
        from spark_jobs import session  # here, so that --help needs no Spark

        spark = session.start(FeaturizeArgs.program)
    try:
        run(spark, args, stopwatch=stopwatch)
    finally:
        spark.stop()


def run(
    spark: SparkSession,
    args: FeaturizeArgs,
    *,
    load_model: LoadModel = mobilenet.load_extractor,
    stopwatch: summary.Stopwatch | None = None,
) -> dict[str, Any]:
    """Featurize a folder of images into a run's folder.

    What an earlier try of the same run left is deleted first, the principal components of its features too. The
    summary is written last: where it is, features and rejects are complete.

    Parameters
    ----------
    spark : SparkSession
        As :func:`spark_jobs.session.start` makes it.
    args : FeaturizeArgs
        Where the images, the model and the run are, and the limits.
    load_model : callable
        How a worker gets the function that runs the model.
    stopwatch : Stopwatch, optional
        Of which time has passed already.

    Returns
    -------
    dict
        The summary, as it is in ``featurize.json``.

    Raises
    ------
    JobError
        When the folder or the model is missing, nothing matches the pattern, there are more rejects than allowed, or
        the outputs do not add up to the listing.
    """
    stopwatch = stopwatch or summary.Stopwatch()
    model = _read_model(args.model)
    delete_outputs(args.run)
    with stopwatch.stage("list"):
        listed = listing.write(
            args.images, args.pattern, storage.join(args.run, LISTING_FILE), rows_per_group=IMAGES_PER_GROUP
        )
        tasks = count_tasks(listed, args.images_per_task, spark.sparkContext.defaultParallelism)
        logger.info("listed %d images under %s, for %d tasks", listed, args.images, tasks)
    with (
        stopwatch.stage("featurize"),
        progress.watch(spark, FeaturizeArgs.program, total=listed, unit="images", per_task=-(-listed // tasks)),
    ):
        write_staging(spark, args, listed, tasks, spark.sparkContext.broadcast(model), load_model)
    with stopwatch.stage("write"):
        for kind in KINDS:
            write_dataset(spark, args, listed, tasks, kind)
        storage.delete(storage.join(args.run, STAGING_FOLDER))
    counts = check_complete(args.run, listed)
    reasons, examples = read_rejects(args.run)
    check_reject_ratio(args, listed, reasons, examples)
    seconds = stopwatch.seconds()
    record = {
        "job": FeaturizeArgs.program,
        "listed": listed,
        **counts,
        "rejects_by_reason": reasons,
        "first_rejects": examples,
        "dimensions": FEATURE_DIMENSIONS,
        "model": {"digest": model.digest, "weights": model.weights},
        "arguments": asdict(args),
        "seconds": seconds,
        "spark_version": spark.version,
    }
    summary.write(storage.join(args.run, FEATURIZE_SUMMARY_FILE), record)
    summary.log_line(FeaturizeArgs.program, {"images listed": listed, **counts}, seconds)
    return record


def delete_outputs(run: str) -> None:
    """Delete what this job writes under a run's folder, and what pca made of it; the summaries go first."""
    for name in (
        FEATURIZE_SUMMARY_FILE,
        PCA_SUMMARY_FILE,
        PCA_FOLDER,
        FEATURES_FOLDER,
        REJECTS_FOLDER,
        STAGING_FOLDER,
        LISTING_FILE,
    ):
        storage.delete(storage.join(run, name))


def _read_model(uri: str) -> mobilenet.Model:
    model = mobilenet.read(uri)
    if model.weights.get("source") == "random":
        logger.warning("the model at %s has random weights: its features are for trials and tests only", uri)
    return model


def count_tasks(listed: int, images_per_task: int, parallelism: int) -> int:
    """Return how many tasks share the listing.

    Parameters
    ----------
    listed : int
        Images listed; more than none.
    images_per_task : int
        The most that one task takes.
    parallelism : int
        Tasks that run at a time. Twice as many are made of a small listing, so that a slow core takes fewer.
    """
    groups = -(-listed // IMAGES_PER_GROUP)
    return max(-(-listed // images_per_task), min(groups, 2 * parallelism))


def write_staging(
    spark: SparkSession,
    args: FeaturizeArgs,
    listed: int,
    tasks: int,
    model: Broadcast[mobilenet.Model],
    load_model: LoadModel,
) -> None:
    """Read, decode and featurize every listed image, a range of the listing's rows a task, in one pass and one commit.

    Only the tasks' numbers travel to them, so that neither the paths nor a shuffle pass the driver.
    """

    def featurize_shares(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        extract = load_model(model.value.digest, model.value.flatbuffer)
        for batch in batches:
            for number in batch.column(0).to_pylist():
                share = range(number * listed // tasks, (number + 1) * listed // tasks)
                yield from featurize_share(args, share, extract)

    (
        spark.range(0, tasks, 1, tasks)
        .mapInArrow(featurize_shares, _spark_schema(STAGING))
        .write.partitionBy("kind")
        .mode("overwrite")
        .parquet(storage.join(args.run, STAGING_FOLDER))
    )


def featurize_share(args: FeaturizeArgs, share: range, extract: mobilenet.Extract) -> Iterator[pa.RecordBatch]:
    """Yield the staging rows of a range of the listing's rows, in its order."""
    source, _ = storage.locate(args.images)
    for batch in read_listing(args.run, share):
        files = zip(batch.column("path").to_pylist(), batch.column("size").to_pylist(), strict=True)
        yield _staging_batch(batch, [featurize_file(source, uri, size, args, extract) for uri, size in files])


def read_listing(run: str, share: range) -> Iterator[pa.RecordBatch]:
    """Yield a range of the listing's rows, reading only the row groups that hold them."""
    filesystem, path = storage.locate(storage.join(run, LISTING_FILE))
    with pq.ParquetFile(path, filesystem=filesystem) as file:
        for group in range(share.start // IMAGES_PER_GROUP, -(-share.stop // IMAGES_PER_GROUP)):
            first = group * IMAGES_PER_GROUP
            begin, end = max(share.start, first) - first, min(share.stop, first + IMAGES_PER_GROUP) - first
            yield from file.read_row_group(group, use_threads=False).slice(begin, end - begin).to_batches()


def featurize_file(
    source: fs.FileSystem, uri: str, size: int, args: FeaturizeArgs, extract: mobilenet.Extract
) -> mobilenet.Features | Reject:
    """Return one image's features, or why there are none.

    Parameters
    ----------
    source : FileSystem
        Where the images are.
    uri : str
        The image's, as listed.
    size : int
        Bytes, as listed.
    """
    data = read_file(source, uri.partition("://")[2], size, args.max_file_bytes)
    if isinstance(data, Reject):
        return data
    pixels = images.decode(data, max_pixels=args.max_pixels)
    if isinstance(pixels, Reject):
        return pixels
    features = extract(pixels)
    if not np.isfinite(features).all():
        return Reject("non_finite_features", f"{int((~np.isfinite(features)).sum())} of {features.size} values")
    return features


def read_file(source: fs.FileSystem, path: str, size: int, max_file_bytes: int) -> bytes | Reject:
    """Return a file's bytes, of which no more than the limit are ever read."""
    if size > max_file_bytes:
        return Reject("file_too_large", f"{size} bytes, more than {max_file_bytes}")
    try:
        # Opening a named pipe would wait for ever, and only a local file system has such things.
        if isinstance(source, fs.LocalFileSystem) and source.get_file_info(path).type == fs.FileType.Unknown:
            return Reject("unreadable", "not a regular file")
        with source.open_input_stream(path) as stream:
            data = bytes(stream.read(max_file_bytes + 1))
    except FileNotFoundError as error:
        return Reject("vanished", str(error))
    except OSError as error:
        return Reject("unreadable", str(error))
    if len(data) > max_file_bytes:
        return Reject("file_too_large", f"grew since it was listed, to more than {max_file_bytes} bytes")
    return data


def _staging_batch(rows: pa.RecordBatch, outcomes: Sequence[mobilenet.Features | Reject]) -> pa.RecordBatch:
    """Put the outcomes beside the listing's rows that they belong to."""
    rejects = [outcome if isinstance(outcome, Reject) else None for outcome in outcomes]
    columns = {
        "features": _features_column(outcomes),
        "reason": pa.array([reject and reject.reason for reject in rejects], pa.string()),
        "detail": pa.array([reject and _storable(reject.detail) for reject in rejects], pa.string()),
        "kind": pa.array([REJECTS_FOLDER if reject else FEATURES_FOLDER for reject in rejects], pa.string()),
    }
    return pa.RecordBatch.from_arrays([*rows.columns, *columns.values()], schema=STAGING)


def _storable(detail: str) -> str:
    """Return a text that is valid UTF-8, whatever bytes of a file an error message quotes."""
    return detail.encode("utf-8", "backslashreplace").decode()


def _features_column(outcomes: Sequence[mobilenet.Features | Reject]) -> pa.ListArray:
    """Return the vectors as one column, null where there is a reject."""
    vectors = [outcome for outcome in outcomes if not isinstance(outcome, Reject)]
    values = np.concatenate(vectors) if vectors else np.empty(0, np.float32)
    lengths = [0 if isinstance(outcome, Reject) else outcome.size for outcome in outcomes]
    return pa.ListArray.from_arrays(
        pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32()),
        pa.array(values, pa.float32()),
        mask=pa.array([isinstance(outcome, Reject) for outcome in outcomes]),
    )


def write_dataset(spark: SparkSession, args: FeaturizeArgs, listed: int, tasks: int, kind: str) -> None:
    """Write one kind of the staging rows as a dataset of its own, in the order of the listing.

    A staging file holds what one task made, and its name begins with that task's number: each output file takes a
    range of them, so that nothing is sorted or shuffled. How many files there are depends on the number of listed
    images alone.
    """
    files = -(-listed // ROWS_PER_FILE)
    folder = storage.join(args.run, STAGING_FOLDER, f"kind={kind}")
    schema = KINDS[kind]

    def gather(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                first, end = number * tasks // files, (number + 1) * tasks // files
                yield from read_staging(folder, range(first, end), schema)

    (
        spark.range(0, files, 1, files)
        .mapInArrow(gather, _spark_schema(schema))
        .write.mode("overwrite")
        .parquet(storage.join(args.run, kind))
    )


def read_staging(folder: str, tasks: range, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the rows that some tasks wrote, sorted by path, with the columns of a schema."""
    filesystem, path = storage.locate(folder)
    for _, name in sorted(_task_files(filesystem, path, tasks)):
        with pq.ParquetFile(name, filesystem=filesystem) as file:
            rows = file.read(columns=schema.names, use_threads=False)
        yield from rows.sort_by("path").cast(schema).to_batches(max_chunksize=IMAGES_PER_GROUP)


def _task_files(filesystem: fs.FileSystem, folder: str, tasks: range) -> Iterator[tuple[int, str]]:
    """Yield number and path of the files that some tasks wrote; a kind without a row has no folder."""
    for info in filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
        match = re.match(r"part-(\d+)-.*\.parquet$", info.base_name)
        if match and int(match[1]) in tasks:
            yield int(match[1]), info.path


def check_complete(run: str, listed: int) -> dict[str, int]:
    """Count the rows that were written, from the Parquet footers, and hold them against the listing.

    Returns
    -------
    dict of str to int
        Rows of ``features`` and of ``rejects``.

    Raises
    ------
    JobError
        When they do not add up to the number of listed images; the message has the first path that differs.
    """
    counts = {kind: count_rows(storage.join(run, kind)) for kind in KINDS}
    if sum(counts.values()) != listed:
        figures = " + ".join(f"{count} {kind}" for kind, count in counts.items())
        raise JobError(
            f"{listed} images were listed, but {figures} = {sum(counts.values())} rows were written to {run}: "
            f"{_first_difference(run)}. Run the job again; if it comes back, keep the folder and report it"
        )
    return counts


def count_rows(folder: str) -> int:
    """Return the rows of a Parquet dataset, from its files' footers."""
    filesystem, paths = _parquet_files(folder)
    return sum(pq.read_metadata(path, filesystem=filesystem).num_rows for path in paths)


def _first_difference(run: str) -> str:
    written = heapq.merge(*(_read_paths(*_parquet_files(storage.join(run, kind))) for kind in KINDS))
    filesystem, path = storage.locate(storage.join(run, LISTING_FILE))
    for expected, found in itertools.zip_longest(_read_paths(filesystem, [path]), written):
        if found is None or (expected is not None and expected < found):
            return f"{expected} is missing"
        if expected != found:
            return f"{found} was not listed, or is there twice"
    return "the paths are the same"


def _read_paths(filesystem: fs.FileSystem, files: Sequence[str]) -> Iterator[str]:
    for name in files:
        with pq.ParquetFile(name, filesystem=filesystem) as file:
            for batch in file.iter_batches(columns=["path"], use_threads=False):
                yield from batch.column(0).to_pylist()


def _parquet_files(folder: str) -> tuple[fs.FileSystem, list[str]]:
    filesystem, path = storage.locate(folder)
    found = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return filesystem, sorted(info.path for info in found if info.base_name.endswith(".parquet"))


def read_rejects(run: str) -> tuple[dict[str, int], list[dict[str, str]]]:
    """Return how many rejects there are of each reason, the most frequent first, and the first few of them.

    Returns
    -------
    reasons : dict of str to int
    examples : list of dict
        With ``path``, ``reason`` and ``detail``.
    """
    filesystem, files = _parquet_files(storage.join(run, REJECTS_FOLDER))
    reasons: Counter[str] = Counter()
    examples: list[dict[str, str]] = []
    for name in files:
        with pq.ParquetFile(name, filesystem=filesystem) as file:
            for batch in file.iter_batches(columns=["path", "reason", "detail"], use_threads=False):
                reasons.update(batch.column("reason").to_pylist())
                examples += batch.slice(0, EXAMPLES - len(examples)).to_pylist()
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))), examples


def check_reject_ratio(
    args: FeaturizeArgs, listed: int, reasons: dict[str, int], examples: Sequence[dict[str, str]]
) -> None:
    """Fail when the rejects are more than the allowed share of the listed images.

    The comparison is exact: 7 rejects of 100 are not more than 0.07, though 0.07 * 100 in floating point is not 7.

    Raises
    ------
    JobError
        With the counts, the reasons and the first rejects.
    """
    rejects = sum(reasons.values())
    if Fraction(rejects, listed) <= Fraction(str(args.max_reject_ratio)):
        return
    counted = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    first = "; ".join(f"{reject['path']}: {reject['reason']} ({reject['detail']})" for reject in examples[:5])
    raise JobError(
        f"{rejects} of {listed} images ({100 * rejects / listed:.1f} %) are rejects, more than the "
        f"{args.max_reject_ratio:g} that --max-reject-ratio allows: {counted}. First: {first}. "
        f"All of them are in {storage.join(args.run, REJECTS_FOLDER)}"
    )


def _spark_schema(schema: pa.Schema) -> StructType:
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(schema)
