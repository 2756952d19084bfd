"""Garbage collection: what no kept state names is deleted when it is old enough.

Kept are the published state and some states before it. Age protects what a run is still writing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from include.lake.layout import FIRST_VERSION_MANIFEST, Lake
from include.lake.objects import LakePath
from include.lake.publication import segment_of
from include.lake.state import MissingManifestError, current_of, read_manifest, read_pointer
from include.records import Manifest
from spark_jobs import args
from spark_jobs.lake.storage import delete, is_local, list_files, list_local_folder

log = logging.getLogger(__name__)

AGE = timedelta(days=2)
"""Longer than any run: two steps of 12 hours each, and the start of the cluster."""

TEMPORARY_NAME = re.compile(r"\..+\.[0-9a-f]{32}")
"""Names that :func:`spark_jobs.lake.locations.temporary_path` gives."""

KEPT_OF_A_RUN = frozenset(
    {
        "cost.json",
        "report.html",
        "report.json",
        args.DUPLICATES_FILE,
        args.FEATURIZE_SUMMARY_FILE,
        args.INSIGHTS_FILE,
        args.OUTLIERS_FILE,
        args.PCA_FIT_FILE,
        args.PCA_MODEL_FILE,
        args.PCA_SUMMARY_FILE,
        args.UNLIKE_LABEL_FILE,
    }
)
"""Files of every run that are never deleted: they are small, and people look at them."""


@dataclass(frozen=True)
class Reachable:
    """What the kept states name: ids of segments, paths of manifests, slugs of runs."""

    segments: frozenset[str]
    manifests: frozenset[str]
    runs: frozenset[str]


def find_reachable(lake: Lake, kept_states: int, aws_conn_id: str | None) -> Reachable | None:
    """Return what the kept states name, or None if no state is published.

    Parameters
    ----------
    lake : Lake
        The lake.
    kept_states : int
        Number of states to keep: the published one, and those before it.
    aws_conn_id : str or None
        Airflow's connection for S3.

    Raises
    ------
    DamagedLakeError
        If the manifest of the published state is missing, or that of a kept state is damaged.
    """
    manifests = dict(kept_manifests(lake, kept_states, aws_conn_id))
    if not manifests:
        return None
    segments = {segment["id"] for manifest in manifests.values() for segment in manifest["segments"]}
    segments |= {segment_of(name) for manifest in manifests.values() for name in manifest["results"]}
    runs = {manifest["run"] for manifest in manifests.values()}
    return Reachable(frozenset(segments), frozenset(manifests), frozenset(runs))


def kept_manifests(lake: Lake, kept_states: int, aws_conn_id: str | None) -> Iterator[tuple[str, Manifest]]:
    """Yield the manifests of the kept states with their paths, the published one first.

    Raises
    ------
    DamagedLakeError
        As :func:`find_reachable`.
    """
    current = current_of(read_pointer(lake, aws_conn_id))
    path = current["manifest"] if current else None
    for number in range(kept_states):
        if path is None:
            return
        try:
            manifest = read_manifest(lake, path, aws_conn_id)
        except MissingManifestError:
            if number == 0:
                raise
            return  # fewer states were kept before
        yield path, manifest
        path = manifest["previous_manifest"]


def collect_garbage(lake: Lake, kept_states: int, aws_conn_id: str | None, *, age: timedelta = AGE) -> list[str]:
    """Delete what no kept state names; return the paths of the deleted files and segments, relative to the lake's root.

    Parameters
    ----------
    lake, kept_states, aws_conn_id
        As for :func:`find_reachable`.
    age : timedelta
        Younger files stay; a segment is as old as its youngest file.

    Raises
    ------
    DamagedLakeError
        If the manifest of the published state is missing, or that of a kept state is damaged; nothing is deleted.
    """
    reachable = find_reachable(lake, kept_states, aws_conn_id)
    if reachable is None:
        return []
    before = int((datetime.now(UTC) - age).timestamp() * 1_000_000)
    garbage = [
        *_old_segments(lake, reachable, before, aws_conn_id),
        *_old_manifests(lake, reachable, before, aws_conn_id),
        *_old_files_of_runs(lake, reachable, before, aws_conn_id),
        *_old_temporary_files(lake, before, aws_conn_id),
    ]
    for path in garbage:
        delete(path.uri, path.buckets)
    if garbage:
        log.info("Deleted %d files and segments that none of the last %d states needs", len(garbage), kept_states)
    return [lake.relative(path.uri) for path in garbage]


def _old_segments(lake: Lake, reachable: Reachable, before: int, aws_conn_id: str | None) -> Iterator[LakePath]:
    root = LakePath(lake.segments, aws_conn_id)
    youngest: dict[str, int] = {}
    for file in list_files(root.uri, root.buckets):
        id_ = file.path.partition("/")[0]
        youngest[id_] = max(youngest.get(id_, 0), file.modified)
    for id_, modified in youngest.items():
        if id_ not in reachable.segments and modified <= before:
            yield root / id_


def _old_manifests(lake: Lake, reachable: Reachable, before: int, aws_conn_id: str | None) -> Iterator[LakePath]:
    root = LakePath(lake.manifests, aws_conn_id)
    for file in list_files(root.uri, root.buckets):
        if file.modified <= before and lake.relative(f"{root.uri}/{file.path}") not in reachable.manifests:
            yield root / file.path


def _old_files_of_runs(lake: Lake, reachable: Reachable, before: int, aws_conn_id: str | None) -> Iterator[LakePath]:
    root = LakePath(lake.runs, aws_conn_id)
    files = list(list_files(root.uri, root.buckets))
    # What the first version of the lake has published stays: people may read it, and nothing else has it.
    kept = {file.path.partition("/")[0] for file in files if file.path.endswith(f"/{FIRST_VERSION_MANIFEST}")}
    for file in files:
        run, _, path = file.path.partition("/")
        is_needed = run in reachable.runs and not _is_working_file(path)
        if file.modified <= before and run not in kept and not is_needed and path not in KEPT_OF_A_RUN:
            yield root / file.path


def _is_working_file(path: str) -> bool:
    """Return whether a file of a run's folder is of no use once the run's state is published."""
    return (
        path in {args.CHANGES_FILE, args.GONE_FILE, args.WORK_FILE}
        or path.startswith(("staging/", f"{args.PROGRESS_FOLDER}/"))
        or is_temporary(path)
    )


def is_temporary(path: str) -> bool:
    """Return whether a file in a folder of this machine was not renamed to its name, because its writer was killed."""
    return TEMPORARY_NAME.fullmatch(path.rpartition("/")[2]) is not None


def _old_temporary_files(lake: Lake, before: int, aws_conn_id: str | None) -> Iterator[LakePath]:
    """Yield those beside the pointer, the CSV and the reports; other folders have rules of their own."""
    if not is_local(lake.root):
        return
    for uri in (lake.root, lake.results_csv.rpartition("/")[0], *_report_folders(lake, aws_conn_id)):
        for file in list_local_folder(uri):
            if is_temporary(file.path) and file.modified <= before:
                yield LakePath(f"{uri}/{file.path}", aws_conn_id)


def _report_folders(lake: Lake, aws_conn_id: str | None) -> list[str]:
    root = LakePath(lake.reports, aws_conn_id)
    return [(root / name).uri for name in root.names()]
