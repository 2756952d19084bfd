"""The pca job: from a run's features to components, scores, the CSV, and the quality of the components.

The job uses the moments that featurize stored; a pass over the features computes those that are missing or do not
match. The driver then computes one eigendecomposition, and a second pass writes the scores. In both passes the workers
read the Parquet files themselves. One fit gives all eigenvalues, so keeping the smallest k that reaches the variance
target is a slice. If the published basis is kept, the scores are projections on it, and those of unchanged images are
copied; the run's own fit measures the drift.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from spark_jobs.args import (
    CHANGES_FILE,
    CSV_FILE,
    PCA_FIT_FILE,
    PCA_MODEL_FILE,
    PCA_SUMMARY_FILE,
    PROGRESS_FILE,
    SCORES_FOLDER,
    SPARK_ML_MODEL_FOLDER,
    PcaArgs,
)
from spark_jobs.errors import JobError
from spark_jobs.insights import writing
from spark_jobs.lake import features, storage
from spark_jobs.lake.schemas import FILE_NAME
from spark_jobs.numerics.fitted_pca import FittedPca
from spark_jobs.pca import analysis, score_csv, spark_ml
from spark_jobs.pca.analysis import Analysis
from spark_jobs.pca.basis import Choice
from spark_jobs.pca.kept_scores import ADVICE
from spark_jobs.quality import certificate, drift, sampling
from spark_jobs.records import CsvFile, Drift, PcaSummary, Quality
from spark_jobs.runtime import launcher, progress, summary, workers
from spark_jobs.sources import sources_digest

if TYPE_CHECKING:
    from pyspark import SparkContext

logger = logging.getLogger(__name__)

FOLDER = SCORES_FOLDER.partition("/")[0]
"""Folder in the run of everything that the job writes except its summary."""

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


def run(arguments: PcaArgs, sc: SparkContext | None = None, known: Mapping[str, bytes] | None = None) -> PcaSummary:
    """Run the job and return its summary as it is written to ``pca.json``.

    The job first deletes the outputs of an earlier attempt, the summary before everything else, and writes the summary
    last. If a summary exists, the outputs are therefore complete.

    Parameters
    ----------
    arguments : PcaArgs
    sc : SparkContext, optional
        By default, the job starts its own.
    known : mapping of str to bytes, optional
        Thumbnails of photos by path, instead of those of the published run.

    Raises
    ------
    JobError
        If featurize is not complete, there are no images, the features are not those that featurize wrote, or more
        components are requested than there are features.
    ArithmeticError
        If the fit violates a property of every PCA; the message gives the figures.
    """
    stopwatch = summary.Stopwatch()
    for output in (PCA_SUMMARY_FILE, FOLDER):
        storage.delete(storage.join(arguments.run, output))
    run_features = features.find(arguments.run)
    _check_number(arguments, run_features.dimensions)
    if sc is None:
        with stopwatch.stage("start"):
            from spark_jobs.runtime import context

            sc = context.start(PcaArgs.program)
            workers.start(sc, [analysis.__name__])
    with progress.published(
        PcaArgs.program,
        storage.join(arguments.run, PROGRESS_FILE.format(PcaArgs.program)),
        arguments.progress_seconds,
    ):
        result = analysis.run(sc, run_features, arguments, stopwatch)
    basis, collected = result.basis, result.collected
    fitted = basis.model
    copied = sum(part.copied for part in result.projected)
    _check_copied(arguments.run, basis, run_features.images - copied)
    with stopwatch.stage("model"):
        storage.write_bytes(storage.join(arguments.run, PCA_MODEL_FILE), basis.file)
        if basis.kept:
            storage.write_bytes(storage.join(arguments.run, PCA_FIT_FILE), result.fresh.to_npz())
        spark_ml.write(storage.join(arguments.run, SPARK_ML_MODEL_FOLDER), fitted, sc.version)
    with stopwatch.stage("csv"):
        csv = write_csv(sc, arguments.run, len(result.projected), fitted.k)
    if csv["rows"] != run_features.images:
        scores_folder = storage.join(arguments.run, SCORES_FOLDER)
        raise JobError(f"{scores_folder} has {csv['rows']} rows for {run_features.images} images: run the job again")
    with stopwatch.stage("quality"):
        quality = _certify(result, arguments)
    with stopwatch.stage("drift"):
        change = _compare(result, arguments)
    with stopwatch.stage("insights"):
        collected_parts = [part.collected for part in result.projected]
        missing = writing.write(
            sc, arguments.run, result.fresh, result.insights, collected_parts, arguments.seed, known
        )
    # A kept basis has the warnings of its fit, which were about the photos of that day.
    warnings = [*([] if basis.kept else fitted.warnings), *basis.warnings, *change["warnings"]]
    warnings += [missing] if missing else []
    for warning in warnings:
        logger.warning("%s", warning)
    record: PcaSummary = {
        "job": PcaArgs.program,
        "code": sources_digest(),
        "images": run_features.images,
        "dimensions": run_features.dimensions,
        "k": fitted.k,
        "variance_target": arguments.variance_target,
        "n_components": arguments.n_components,
        "scores": arguments.scores,
        "variance_reached": min(1.0, float(basis.ratio.sum())),
        "explained_variance_ratio": basis.ratio.tolist(),
        "csv": csv,
        "moments": {"stored": len(collected.digests), "computed": collected.computed},
        "quality": quality,
        "basis": basis.record(copied),
        "drift": change,
        "warnings": warnings,
        "seconds": stopwatch.seconds(),
        "arguments": asdict(arguments),
    }
    storage.write_json(storage.join(arguments.run, PCA_SUMMARY_FILE), record)
    variance = f"{record['variance_reached']:.4f}"
    counts = {"images": run_features.images, "components": fitted.k, "of the variance": variance}
    counts |= {"scores copied": copied} if basis.kept else {}
    summary.log_line(PcaArgs.program, counts, record["seconds"])
    return record


def _check_number(arguments: PcaArgs, dimensions: int) -> None:
    if arguments.n_components is not None and arguments.n_components > dimensions:
        raise JobError(
            f"--n-components is {arguments.n_components}: the images have {dimensions} features, expected no more"
        )


def _check_copied(run: str, basis: Choice, projected: int) -> None:
    """Raise if scores of unchanged images were not copied, although the basis was kept."""
    if basis.kept and projected > (work := storage.read_json(storage.join(run, CHANGES_FILE))["work"]):
        raise JobError(
            f"{projected} images of {run} were projected, expected at most {work}, those that are new or changed: the "
            f"published scores do not have all others; {ADVICE}"
        )


def write_csv(sc: SparkContext, run_folder: str, parts: int, k: int) -> CsvFile:
    """Write the CSV of the scores.

    Each worker formats one file of scores, and compares its text with them; the driver concatenates the texts.

    Parameters
    ----------
    sc : SparkContext
    run_folder : str
        URI of the run's folder.
    parts : int
        Number of files of scores.
    k : int
        Number of components.
    """
    sources = [storage.join(run_folder, SCORES_FOLDER, FILE_NAME.format(number)) for number in range(parts)]
    texts = [storage.join(run_folder, CSV_PARTS_FOLDER, f"part-{number:05d}.csv") for number in range(parts)]

    def work(item: tuple[str, str]) -> int:
        rows = score_csv.write_part(*item)
        score_csv.check_part(*item)
        return rows

    rows = workers.run(sc, list(zip(sources, texts, strict=True)), work)
    size = score_csv.assemble(texts, k, storage.join(run_folder, CSV_FILE))
    storage.delete(storage.join(run_folder, CSV_PARTS_FOLDER))
    return {"rows": sum(rows), "columns": k + 1, "bytes": size}


def _certify(result: Analysis, arguments: PcaArgs) -> Quality | None:
    """Return the certificate of quality, or None if no sample was requested."""
    samples = [sample for part in result.projected for sample in part.samples]
    if not samples:
        return None
    sample = sampling.merge(samples, arguments.sample_images)
    quality = certificate.certify(sample.vectors, sample.labels, result.basis.model, arguments.seed)
    return {**quality, "images": result.fresh.n, "basis": result.basis.describe()}


def _compare(result: Analysis, arguments: PcaArgs) -> Drift:
    """Return the drift since the previous model; a model that cannot be read does not fail the job."""
    uri = arguments.previous_model
    if uri is None:
        return drift.unavailable("there is no previous model")
    try:
        previous = FittedPca.from_npz(storage.read_bytes(uri))
    except FileNotFoundError:
        return drift.unavailable(f"{uri} does not exist")
    except OSError as error:
        return drift.unavailable(f"{uri} cannot be read: {error}")
    except ValueError as error:
        return drift.unavailable(f"{uri} is {error}")
    return drift.compare(previous, result.fresh, result.collected.total.covariance, arguments.drift_threshold)
