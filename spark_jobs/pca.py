"""The pca job: from a run's features to components, scores and the CSV.

Two passes over the features, each one Spark job in which the workers read the Parquet files themselves: the moments,
then, after one eigendecomposition on the driver, the scores. All eigenvalues are known after one fit, so that keeping
the smallest k that reaches the variance target is a slice.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from pyspark import SparkContext

from spark_jobs import args as job_args
from spark_jobs import blocks, context, decomposition, launcher, moments, progress, schemas, scores, storage, summary
from spark_jobs.args import PcaArgs
from spark_jobs.errors import JobError

logger = logging.getLogger(__name__)

T = TypeVar("T")

FOLDER = job_args.SCORES_FOLDER.partition("/")[0]
"""Everything that the job writes under the run, but its summary."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job as a program.

    Parameters
    ----------
    argv : sequence of str, optional
        ``args.PcaArgs`` as flags; this process's by default.

    Returns
    -------
    int
        Exit code: 0, or 1 with the cause as the last line of standard error.
    """
    arguments = PcaArgs.from_argv(argv)
    return launcher.run(functools.partial(run, arguments))


def run(arguments: PcaArgs) -> dict[str, Any]:
    """Run the job, and return its summary as it is written.

    What an earlier try has left is deleted first, the summary before all, so that a summary always tells of complete
    outputs.

    Raises
    ------
    JobError
        When featurize is not complete, there are no images, or the features are not those that featurize wrote.
    """
    watch = summary.Stopwatch()
    for output in (job_args.PCA_SUMMARY_FILE, FOLDER):
        storage.delete(storage.join(arguments.run, output))
    images, dimensions = _expected(arguments.run)
    features = storage.join(arguments.run, job_args.FEATURES_FOLDER)
    parts = blocks.split(blocks.pieces(features))
    with watch.stage("start"):
        spark = context.start(PcaArgs.program)
    # A task of the progress lines is a part; parts are of similar size.
    follow = functools.partial(
        progress.watch, spark, total=images, unit="images", per_task=-(-images // max(1, len(parts)))
    )
    with watch.stage("moments"), follow("pca-moments"):
        fitted_on = gather(spark, features, parts, dimensions)
    if fitted_on.n != images:
        raise JobError(
            f"{features} has {fitted_on.n} rows, featurize counted {images}: expected the same; run featurize again"
        )
    with watch.stage("fit"):
        fitted = decomposition.fit(fitted_on, arguments.variance_target)
        storage.write_bytes(storage.join(arguments.run, job_args.PCA_MODEL_FILE), fitted.to_npz())
    for warning in fitted.warnings:
        logger.warning("%s", warning)
    scores_folder = storage.join(arguments.run, job_args.SCORES_FOLDER)
    with watch.stage("scores"), follow("pca-scores"):
        project(spark, features, parts, fitted, scores_folder)
    with watch.stage("csv"):
        rows = scores.write_csv(scores_folder, storage.join(arguments.run, job_args.CSV_FILE))
    if rows != images:
        raise JobError(f"{scores_folder} has {rows} rows for {images} images: run the job again")
    record = {
        "job": PcaArgs.program,
        "images": images,
        "dimensions": dimensions,
        "k": fitted.k,
        "variance_target": arguments.variance_target,
        "variance_reached": fitted.variance_reached,
        "explained_variance_ratio": fitted.explained_variance_ratio[: fitted.k].tolist(),
        "warnings": list(fitted.warnings),
        "seconds": watch.seconds(),
        "arguments": asdict(arguments),
    }
    summary.write(storage.join(arguments.run, job_args.PCA_SUMMARY_FILE), record)
    counts = {"images": images, "components": fitted.k, "of the variance": f"{fitted.variance_reached:.4f}"}
    summary.log_line(PcaArgs.program, counts, record["seconds"])
    return record


def _expected(run_folder: str) -> tuple[int, int]:
    """Return how many images featurize counted, and how many features it gave each."""
    uri = storage.join(run_folder, job_args.FEATURIZE_SUMMARY_FILE)
    try:
        counted = storage.read_json(uri)
    except FileNotFoundError:
        raise JobError(
            f"featurize has not completed for this run: {uri} is not there; run featurize on {run_folder} first"
        ) from None
    images, dimensions = int(counted["features"]), int(counted["dimensions"])
    if images == 0:
        raise JobError(
            f"{run_folder} has features of 0 images: expected 1 or more; featurize listed {counted['listed']} files, "
            f"{counted['rejects']} of them are rejects"
        )
    return images, dimensions


def gather(
    spark: SparkContext, features: str, parts: Sequence[Sequence[blocks.Piece]], dimensions: int
) -> moments.Moments:
    """Return the moments of all features: those of each part from a worker, merged here in the order of the parts.

    Parameters
    ----------
    spark : SparkContext
    features : str
        URI of the features' folder.
    parts : sequence of sequence of Piece
        What each task reads.
    dimensions : int

    Raises
    ------
    JobError
        When a vector cannot be used; the message names the image.
    """
    total = moments.empty(dimensions)
    for packed in _in_workers(spark, parts, lambda _, part: _reduced(features, part, dimensions)):
        if isinstance(packed, str):
            raise JobError(packed)
        total = moments.merge(total, moments.unpack(packed, dimensions))
    return total


def _reduced(features: str, part: Sequence[blocks.Piece], dimensions: int) -> bytes | str:
    """Return a part's moments as bytes, or as text what is wrong with it: a retry of the task would find the same."""
    vectors = (matrix for _, matrix in blocks.read(features, part, dimensions))
    try:
        return moments.pack(moments.accumulate(blocks.refill(vectors), dimensions))
    except JobError as error:
        return str(error)


def project(
    spark: SparkContext,
    features: str,
    parts: Sequence[Sequence[blocks.Piece]],
    fitted: decomposition.FittedPca,
    folder: str,
) -> int:
    """Write the scores of all features in parallel, one file a part, and return the number of rows.

    Parameters
    ----------
    spark : SparkContext
    features : str
        URI of the features' folder.
    parts : sequence of sequence of Piece
        What each task reads and writes.
    fitted : FittedPca
    folder : str
        URI of the scores' folder.
    """

    def write(number: int, part: Sequence[blocks.Piece]) -> int:
        return scores.write(features, part, fitted, storage.join(folder, schemas.FILE_NAME.format(number)))

    return sum(_in_workers(spark, parts, write))


def _in_workers(
    spark: SparkContext, parts: Sequence[Sequence[blocks.Piece]], work: Callable[[int, Sequence[blocks.Piece]], T]
) -> list[T]:
    """Do some work on every part, a task each, and return the results in the order of the parts.

    An RDD and not a DataFrame, since no row passes through Spark: planning and code generation of a first SQL query
    take longer than the work on a thousand images does.
    """
    if not parts:
        return []
    numbered = spark.parallelize(list(enumerate(parts)), len(parts))
    return numbered.map(lambda item: work(*item)).collect()
