"""The featurize job: it computes the features of the images that are new or changed, or a reject that gives the reason.

The work list names these images. Each Spark task processes a range of its rows. The job then gathers the rows that the
tasks wrote into segments, takes rows that are gone out of the published segments, checks the number of rows against the
listing, and writes the summary last.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from spark_jobs import fingerprint
from spark_jobs.args import (
    FEATURE_DIMENSIONS,
    FEATURIZE_SUMMARY_FILE,
    GONE_FILE,
    LIVE_SEGMENTS_FILE,
    PCA_SUMMARY_FILE,
    PROGRESS_FILE,
    REJECTS_FOLDER,
    SCORES_FOLDER,
    SEGMENTS_FOLDER,
    WORK_FILE,
    FeaturizeArgs,
)
from spark_jobs.errors import JobError
from spark_jobs.featurize import completeness, extraction, planning, renewal, segments, staging
from spark_jobs.images import changes
from spark_jobs.lake import schemas, storage
from spark_jobs.left_out import describe, warn
from spark_jobs.model import mobilenet
from spark_jobs.records import Changes, FeaturizeSummary, Fingerprint, LiveSegments, Segment
from spark_jobs.runtime import launcher, progress, summary
from spark_jobs.sources import sources_digest

if TYPE_CHECKING:
    from pyspark import SparkContext

logger = logging.getLogger(__name__)

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
    # Until its executor ended, an attempt of a task that was slower than another one may have written.
    storage.delete(storage.join(args.run, staging.FOLDER))


def run(
    sc: SparkContext,
    args: FeaturizeArgs,
    *,
    engine: extraction.Engine = DEFAULT_ENGINE,
    stopwatch: summary.Stopwatch | None = None,
) -> FeaturizeSummary:
    """Featurize the images of a work list, and write the segments of the run's state.

    The job first deletes the outputs of an earlier attempt of the same run, including those of pca, but no segment. It
    writes the summary last: if the summary exists, the segments are complete.

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
        If the folder, the model or the record of the changes is missing, nothing matches the pattern, there are more
        rejects than allowed, or the number of rows differs from the listing.
    """
    stopwatch = stopwatch or summary.Stopwatch()
    model = _read_model(args.model)
    delete_outputs(args.run)
    features_of = fingerprint.installed(model.digest, args)
    with stopwatch.stage("list"):
        found = _read_changes(args) if args.changes else _list_all(args, features_of)
        warnings = [warning for item in found["left_out"] for warning in warn(item)]
        for line in _describe(found):
            logger.info(line)
        for warning in warnings:
            logger.warning(warning)
    folder = args.segments or storage.join(args.run, SEGMENTS_FOLDER)
    prefix = f"{args.run.rstrip('/').rpartition('/')[2]}-{uuid.uuid4().hex[:8]}"
    target = segments.Target(folder, prefix, features_of["digest"])
    with stopwatch.stage("featurize"):
        written = _compute(sc, args, found, model, engine)
    with stopwatch.stage("write"):
        new = staging.gather(sc, args.run, target, written)
        storage.delete(storage.join(args.run, staging.FOLDER))
        live, rewritten = _renew(sc, args, target, found, new)
        storage.write_json(storage.join(args.run, LIVE_SEGMENTS_FILE), cast(dict[str, object], live))
        rejects = storage.join(args.run, REJECTS_FOLDER, schemas.FILE_NAME.format(0))
        segments.write_rejects(rejects, folder, live["segments"])
    completeness.check(args.run, live, found["listed"])
    reasons, examples = completeness.read_rejects(args.run)
    completeness.check_reject_ratio(args, found["listed"], reasons, examples)
    seconds = stopwatch.seconds()
    features = sum(segment["features"] for segment in live["segments"])
    record: FeaturizeSummary = {
        "job": FeaturizeArgs.program,
        "code": sources_digest(),
        "fingerprint": features_of,
        "listed": found["listed"],
        "featurized": found["work"],
        "rewritten": rewritten,
        "segments": len(live["segments"]),
        "skipped": found["left_out"][0]["skipped"],
        "hidden": found["left_out"][0]["hidden"],
        "left_out": found["left_out"],
        "features": features,
        "rejects": sum(reasons.values()),
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
    counts = {
        "images listed": found["listed"],
        "computed": found["work"],
        "features": features,
        "rejects": record["rejects"],
    }
    summary.log_line(FeaturizeArgs.program, counts, seconds)
    return record


def _read_changes(args: FeaturizeArgs) -> Changes:
    try:
        return cast(Changes, storage.read_json(args.changes or ""))
    except FileNotFoundError:
        raise JobError(f"{args.changes} does not exist: check --changes, or use none to compute all images") from None


def _list_all(args: FeaturizeArgs, features_of: Fingerprint) -> Changes:
    folder = changes.Folder(args.images, args.pattern, args.include_hidden)
    return changes.find(folder, args.run, features_of, None)


def _describe(found: Changes) -> list[str]:
    """Return the lines for the log that say what has changed."""
    why = f", since {found['everything']}" if found["everything"] else ""
    counts = f"{found['new']} new, {found['changed']} changed, {found['gone']} gone; computing {found['work']}{why}"
    return [f"{found['listed']} images in {found['folder']}: {counts}", *describe(found["left_out"][0])]


def _compute(
    sc: SparkContext, args: FeaturizeArgs, found: Changes, model: mobilenet.Model, engine: extraction.Engine
) -> list[dict[str, staging.Written]]:
    """Process the work list; return the files of each task."""
    if not found["work"]:
        return []
    work_list = storage.join(args.run, WORK_FILE)
    borders = plan_tasks(args, read_sizes(work_list), sc.defaultParallelism)
    tasks = len(borders) - 1
    logger.info("computing %d images in %d tasks", found["work"], tasks)
    per_task = -(-found["work"] // tasks)
    rejects, name = sc.accumulator(0), FeaturizeArgs.program
    with (
        progress.published(name, storage.join(args.run, PROGRESS_FILE.format(name)), args.progress_seconds),
        progress.track(
            sc, name, total=found["work"], unit="images", per_task=per_task, rejects=lambda: int(rejects.value)
        ),
    ):
        return staging.write(sc, args, borders, work_list, sc.broadcast(model), engine, rejects)


def read_sizes(work_list: str) -> npt.NDArray[np.int64]:
    """Return the sizes of the images of a work list, in its order."""
    with storage.open_file(work_list) as stream:
        sizes: npt.NDArray[np.int64] = pq.read_table(stream, columns=["size"]).column(0).to_numpy()
    return sizes


def _renew(
    sc: SparkContext, args: FeaturizeArgs, target: segments.Target, found: Changes, new: list[Segment]
) -> tuple[LiveSegments, int]:
    """Return the segments of the run's state, and how many published ones were replaced."""
    published, gone = found["segments"], storage.join(args.run, GONE_FILE)
    start = len(new)
    kept, shortened = renewal.remove_gone(sc, target, range(start, start + len(published)), published, gone)
    start += len(published)
    if found["first_version"]:
        adopted, start = renewal.adopt(sc, target, start, found["first_version"], gone)
        kept += adopted
    adds_only = not (found["changed"] or found["gone"] or found["everything"] or found["first_version"])
    live, merged = renewal.compact(sc, target, start, [*kept, *new], most=args.small_segments, keep_results=adds_only)
    ids = {segment["id"] for segment in live}
    rewritten = sum(segment["id"] not in ids for segment in published)
    sources = renewal.trace(published, (shortened, merged), live)
    return {"folder": target.folder, "segments": live, "sources": sources}, rewritten


def delete_outputs(run: str) -> None:
    """Delete the outputs of this job and of pca in a run's folder, the summaries first."""
    for name in (
        FEATURIZE_SUMMARY_FILE,
        PCA_SUMMARY_FILE,
        SCORES_FOLDER.partition("/")[0],
        REJECTS_FOLDER,
        LIVE_SEGMENTS_FILE,
        staging.FOLDER,
    ):
        storage.delete(storage.join(run, name))


def _read_model(uri: str) -> mobilenet.Model:
    model = mobilenet.read(uri)
    if model.weights.get("source") == "random":
        logger.warning("the model at %s has random weights: use its features for trials and tests only", uri)
    return model


def plan_tasks(args: FeaturizeArgs, sizes: npt.NDArray[np.int64], parallelism: int) -> npt.NDArray[np.int64]:
    """Return the borders of the tasks' ranges of the work list; files that are too large to be read are no work."""
    return planning.plan(
        np.where(sizes > args.max_file_bytes, 0, sizes),
        images_per_task=args.images_per_task,
        bytes_per_task=args.bytes_per_task,
        parallelism=parallelism,
    )
