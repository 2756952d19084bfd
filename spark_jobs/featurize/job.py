"""The featurize job: it computes the features of every image in a folder, or writes a reject that gives the reason.

The job lists the images into one Parquet file. Each Spark task processes a range of its rows. The job then gathers the
rows that the tasks wrote into two datasets, checks their number against the listing, and writes the summary last.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spark_jobs.args import (
    FEATURE_DIMENSIONS,
    FEATURES_FOLDER,
    FEATURIZE_SUMMARY_FILE,
    LISTING_FILE,
    MOMENTS_FOLDER,
    PCA_SUMMARY_FILE,
    REJECTS_FOLDER,
    SCORES_FOLDER,
    FeaturizeArgs,
)
from spark_jobs.featurize import completeness, extraction, planning, staging
from spark_jobs.images import listing
from spark_jobs.lake import storage
from spark_jobs.left_out import describe, warn
from spark_jobs.model import mobilenet
from spark_jobs.records import FeaturizeSummary
from spark_jobs.runtime import launcher, progress, summary
from spark_jobs.sources import sources_digest

if TYPE_CHECKING:
    from pyspark import SparkContext

logger = logging.getLogger(__name__)

PCA_FOLDER = SCORES_FOLDER.partition("/")[0]

DEFAULT_ENGINE = extraction.Engine()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job as a program; the exit code is 0, 1 for a failed job, 2 for wrong arguments."""
    args = FeaturizeArgs.from_argv(argv)
    return launcher.run(lambda: _run_program(args))


def _run_program(args: FeaturizeArgs) -> None:
    stopwatch = summary.Stopwatch()
    with stopwatch.stage("start"):
        from spark_jobs.runtime import context

        sc = context.start(FeaturizeArgs.program)
    try:
        run(sc, args, stopwatch=stopwatch)
    finally:
        sc.stop()


def run(
    sc: SparkContext,
    args: FeaturizeArgs,
    *,
    engine: extraction.Engine = DEFAULT_ENGINE,
    stopwatch: summary.Stopwatch | None = None,
) -> FeaturizeSummary:
    """Featurize a folder of images into a run's folder.

    The job first deletes the outputs of an earlier attempt of the same run, including those of pca. It writes the
    summary last: if the summary exists, features and rejects are complete.

    Parameters
    ----------
    sc : SparkContext
        From :func:`spark_jobs.runtime.context.start`.
    args : FeaturizeArgs
        Paths of the images, the model and the run; limits.
    engine : Engine
        How a worker turns bytes into features.
    stopwatch : Stopwatch, optional
        A stopwatch that is already running; by default a new one.

    Returns
    -------
    FeaturizeSummary
        The content of ``featurize.json``.

    Raises
    ------
    JobError
        If the folder or the model is missing, nothing matches the pattern, there are more rejects than allowed, or
        the number of rows differs from the listing.
    """
    stopwatch = stopwatch or summary.Stopwatch()
    model = _read_model(args.model)
    delete_outputs(args.run)
    with stopwatch.stage("list"):
        images = listing.write(
            args.images,
            args.pattern,
            storage.join(args.run, LISTING_FILE),
            rows_per_group=extraction.ROWS_PER_GROUP,
            include_hidden=args.include_hidden,
        )
        warnings = [warning for item in images.left_out for warning in warn(item)]
        listed = len(images.sizes)
        borders = plan_tasks(args, images.sizes, sc.defaultParallelism)
        tasks = len(borders) - 1
        logger.info("listed %d images under %s, for %d tasks", listed, args.images, tasks)
        for line in describe(images.left_out[0]):
            logger.info(line)
        for warning in warnings:
            logger.warning(warning)
    with (
        stopwatch.stage("featurize"),
        progress.track(sc, FeaturizeArgs.program, total=listed, unit="images", per_task=-(-listed // tasks)),
    ):
        written = staging.write(sc, args, borders, sc.broadcast(model), engine)
    with stopwatch.stage("write"):
        staging.gather(sc, args.run, written)
        storage.delete(storage.join(args.run, staging.FOLDER))
    counts = completeness.check(args.run, listed)
    reasons, examples = completeness.read_rejects(args.run)
    completeness.check_reject_ratio(args, listed, reasons, examples)
    seconds = stopwatch.seconds()
    record: FeaturizeSummary = {
        "job": FeaturizeArgs.program,
        "code": sources_digest(),
        "listed": listed,
        "skipped": images.left_out[0]["skipped"],
        "hidden": images.left_out[0]["hidden"],
        "left_out": images.left_out,
        "features": counts[FEATURES_FOLDER],
        "rejects": counts[REJECTS_FOLDER],
        "rejects_by_reason": reasons,
        "first_rejects": examples,
        "warnings": warnings,
        "dimensions": FEATURE_DIMENSIONS,
        "model": {"digest": model.digest, "weights": model.weights},
        "arguments": asdict(args),
        "seconds": seconds,
        "spark_version": sc.version,
    }
    storage.write_json(storage.join(args.run, FEATURIZE_SUMMARY_FILE), record)
    summary.log_line(FeaturizeArgs.program, {"images listed": listed, **counts}, seconds)
    return record


def delete_outputs(run: str) -> None:
    """Delete the outputs of this job and of pca in a run's folder, the summaries first."""
    for name in (
        FEATURIZE_SUMMARY_FILE,
        PCA_SUMMARY_FILE,
        PCA_FOLDER,
        FEATURES_FOLDER,
        REJECTS_FOLDER,
        MOMENTS_FOLDER,
        staging.FOLDER,
        LISTING_FILE,
    ):
        storage.delete(storage.join(run, name))


def _read_model(uri: str) -> mobilenet.Model:
    model = mobilenet.read(uri)
    if model.weights.get("source") == "random":
        logger.warning("the model at %s has random weights: use its features for trials and tests only", uri)
    return model


def plan_tasks(args: FeaturizeArgs, sizes: npt.NDArray[np.int64], parallelism: int) -> npt.NDArray[np.int64]:
    """Return the borders of the tasks' ranges of the listing; files that are too large to be read count as no work."""
    return planning.plan(
        np.where(sizes > args.max_file_bytes, 0, sizes),
        images_per_task=args.images_per_task,
        bytes_per_task=args.bytes_per_task,
        parallelism=parallelism,
    )
