"""The pca job: from a run's features to components, scores, the CSV, and how good the components are.

The moments of the features are those that featurize has left, else a pass over the features makes them; then, after one
eigendecomposition on the driver, a pass writes the scores. In both the workers read the Parquet files themselves. All
eigenvalues are known after one fit, so that keeping the smallest k that reaches the variance target is a slice.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pyspark import SparkContext

from spark_jobs.args import (
    CSV_FILE,
    PCA_MODEL_FILE,
    PCA_SUMMARY_FILE,
    SCORES_FOLDER,
    SPARK_ML_MODEL_FOLDER,
    PcaArgs,
)
from spark_jobs.errors import JobError
from spark_jobs.lake import features, storage
from spark_jobs.lake.schemas import FILE_NAME
from spark_jobs.numerics.fitted_pca import FittedPca
from spark_jobs.pca import analysis, score_csv, spark_ml
from spark_jobs.pca.analysis import Analysis
from spark_jobs.quality import certificate, drift, sampling
from spark_jobs.runtime import context, launcher, summary, workers

logger = logging.getLogger(__name__)

FOLDER = SCORES_FOLDER.partition("/")[0]
"""Everything that the job writes under the run, but its summary."""

CSV_PARTS_FOLDER = f"{FOLDER}/csv"


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
        When featurize is not complete, there are no images, the features are not those that featurize wrote, or more
        components are asked for than there are features.
    ArithmeticError
        When the fit lacks a property that every PCA has; the message gives the figures.
    """
    watch = summary.Stopwatch()
    for output in (PCA_SUMMARY_FILE, FOLDER):
        storage.delete(storage.join(arguments.run, output))
    of_run = features.find(arguments.run)
    _check_number(arguments, of_run.dimensions)
    with watch.stage("start"):
        spark = context.start(PcaArgs.program)
    done = analysis.run(spark, of_run, arguments, watch)
    fitted = done.fitted
    with watch.stage("model"):
        storage.write_bytes(storage.join(arguments.run, PCA_MODEL_FILE), fitted.to_npz())
        spark_ml.write(storage.join(arguments.run, SPARK_ML_MODEL_FOLDER), fitted, spark.version)
    with watch.stage("csv"):
        rows = write_csv(spark, arguments.run, len(done.projected), fitted.k)
    if rows != of_run.images:
        scores_folder = storage.join(arguments.run, SCORES_FOLDER)
        raise JobError(f"{scores_folder} has {rows} rows for {of_run.images} images: run the job again")
    with watch.stage("quality"):
        certificate = _certify(done, arguments)
    with watch.stage("drift"):
        change = _compare(done, arguments)
    warnings = [*fitted.warnings, *change["warnings"]]
    for warning in warnings:
        logger.warning("%s", warning)
    record = {
        "job": PcaArgs.program,
        "images": of_run.images,
        "dimensions": of_run.dimensions,
        "k": fitted.k,
        "variance_target": arguments.variance_target,
        "n_components": arguments.n_components,
        "scores": arguments.scores,
        "variance_reached": fitted.variance_reached,
        "explained_variance_ratio": fitted.explained_variance_ratio[: fitted.k].tolist(),
        "moments": {"stored": len(done.gathered.digests), "computed": done.gathered.computed},
        "quality": certificate,
        "drift": change,
        "warnings": warnings,
        "seconds": watch.seconds(),
        "arguments": asdict(arguments),
    }
    summary.write(storage.join(arguments.run, PCA_SUMMARY_FILE), record)
    counts = {"images": of_run.images, "components": fitted.k, "of the variance": f"{fitted.variance_reached:.4f}"}
    summary.log_line(PcaArgs.program, counts, record["seconds"])
    return record


def _check_number(arguments: PcaArgs, dimensions: int) -> None:
    if arguments.n_components is not None and arguments.n_components > dimensions:
        raise JobError(
            f"--n-components is {arguments.n_components}: the images have {dimensions} features, expected no more"
        )


def write_csv(spark: SparkContext, run_folder: str, parts: int, k: int) -> int:
    """Write the CSV of the scores: the workers make its text, a file of scores each, and the driver puts it together.

    Returns the number of rows, without the header.

    Parameters
    ----------
    spark : SparkContext
    run_folder : str
        URI of the run's folder.
    parts : int
        Number of files of scores.
    k : int
        Number of components.
    """
    sources = [storage.join(run_folder, SCORES_FOLDER, FILE_NAME.format(number)) for number in range(parts)]
    texts = [storage.join(run_folder, CSV_PARTS_FOLDER, f"part-{number:05d}.csv") for number in range(parts)]
    rows = workers.run(spark, list(zip(sources, texts, strict=True)), lambda item: score_csv.write_part(*item))
    score_csv.assemble(texts, k, storage.join(run_folder, CSV_FILE))
    storage.delete(storage.join(run_folder, CSV_PARTS_FOLDER))
    return sum(rows)


def _certify(done: Analysis, arguments: PcaArgs) -> dict[str, Any] | None:
    """Return the certificate of quality, None when no sample was wanted."""
    samples = [sample for part in done.projected for sample in part.samples]
    if not samples:
        return None
    sample = sampling.merge(samples, arguments.sample_images)
    return certificate.certificate(sample.vectors, sample.labels, done.fitted, arguments.seed)


def _compare(done: Analysis, arguments: PcaArgs) -> dict[str, Any]:
    """Return how the features have changed since the previous model; a model that cannot be read is no failure."""
    uri = arguments.previous_model
    if uri is None:
        return drift.unavailable("there is no previous model")
    try:
        previous = FittedPca.from_npz(storage.read_bytes(uri))
    except FileNotFoundError:
        return drift.unavailable(f"{uri} is not there")
    except OSError as error:
        return drift.unavailable(f"{uri} cannot be read: {error}")
    except ValueError as error:
        return drift.unavailable(f"{uri} is {error}")
    return drift.compare(previous, done.fitted, done.gathered.total.covariance, arguments.drift_threshold)
