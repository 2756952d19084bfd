"""A kept state without some rows: new segments, and a new run folder with listing, rejects, fit, scores and CSV.

Nothing is subtracted: the moments of a rewritten segment are computed from the rows that stay, and pca is fitted on
them again. What it writes is what it would have written if the erased photos had never been there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import pyarrow as pa

from spark_jobs.args import (
    FEATURIZE_SUMMARY_FILE,
    LISTING_FILE,
    LIVE_SEGMENTS_FILE,
    REJECTS_FOLDER,
    PcaArgs,
)
from spark_jobs.erasure import rows
from spark_jobs.erasure.rows import Erased
from spark_jobs.featurize import completeness, segments
from spark_jobs.insights import published_thumbnails
from spark_jobs.lake import schemas, storage
from spark_jobs.pca import job as pca_job
from spark_jobs.records import Arguments, FeaturizeSummary, LiveSegments, PcaSummary, Segment
from spark_jobs.runtime.in_process import InProcess


class Outcome(NamedTuple):
    """The summaries of a rewritten run."""

    featurize: FeaturizeSummary
    pca: PcaSummary


def rewrite_segment(folder: str, segment: Segment, prefix: str, number: int, paths: Sequence[str]) -> Segment | None:
    """Write a new segment with the rows of another one that stay; return its record, or None if no row stays.

    Parameters
    ----------
    folder : str
        URI of the folder of all segments.
    segment : Segment
        The segment, which stays as it is.
    prefix : str
        Beginning of the new segment's id, unique to the attempt.
    number : int
        Number of the segment in the attempt.
    paths : sequence of str
        Paths of the rows to leave out.
    """
    target = segments.Target(folder, prefix, segment["fingerprint"])
    return segments.write(target, number, [segments.source(folder, segment)], pa.array(sorted(paths), pa.string()))


def rewrite_run(
    old: str,
    new: str,
    live: LiveSegments,
    erased: Erased,
    featurize: FeaturizeSummary,
    arguments: Arguments,
    previous_model: str | None,
) -> Outcome | None:
    """Write the folder of a run as it would be without the erased photos; return None if no image has features.

    Parameters
    ----------
    old, new : str
        URIs of the run's folder, which stays as it is, and of the new folder.
    live : LiveSegments
        The segments of the new state.
    erased : Erased
    featurize : FeaturizeSummary
        The summary of the run's featurize.
    arguments : dict
        The arguments of the run's pca.
    previous_model : str or None
        URI of the fitted PCA to compare with.

    Raises
    ------
    JobError
        If the segments are not those that were written.
    """
    listed = rows.drop(storage.join(old, LISTING_FILE), storage.join(new, LISTING_FILE), erased)
    storage.write_json(storage.join(new, LIVE_SEGMENTS_FILE), live)
    rejects = storage.join(new, REJECTS_FOLDER, schemas.FILE_NAME.format(0))
    segments.write_rejects(rejects, live["folder"], live["segments"])
    completeness.check(new, live, listed)
    reasons, examples = completeness.read_rejects(new)
    features = sum(segment["features"] for segment in live["segments"])
    if not features:
        return None
    record: FeaturizeSummary = {
        **featurize,
        "listed": listed,
        "segments": len(live["segments"]),
        "features": features,
        "rejects": sum(reasons.values()),
        "rejects_by_reason": reasons,
        "first_rejects": examples,
    }
    storage.write_json(storage.join(new, FEATURIZE_SUMMARY_FILE), record)
    known = {item.name for item in fields(PcaArgs)}
    values: dict[str, Any] = {name: value for name, value in arguments.items() if name in known}
    args = PcaArgs(**{**values, "run": new, "previous_model": previous_model})
    # Pictures of photos that have changed or are gone since then are in the old report only.
    pictures = published_thumbnails.of_run(old)
    summary = pca_job.run(args, InProcess(featurize["spark_version"]), pictures)  # type: ignore[arg-type]
    return Outcome(record, summary)
