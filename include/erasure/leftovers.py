"""What is left of the photos outside the kept states: deleted, or rewritten where people look at it for ever.

A run that no kept state names is unpublished, in progress, or older than the kept states. Its large files go if they
may have something of the photos. A fitted PCA goes too: the means of two sets that differ by a photo give away its
vector. Reports, lists of photos and small records of runs stay without the photos.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from include.erasure import scrubbing
from include.erasure.names import Names
from include.erasure.search import DERIVED, Findings, Wanted
from include.erasure.states import Attempt
from include.erasure.stored import delete_stored, list_stored
from include.lake.garbage import KEPT_OF_A_RUN
from include.lake.layout import FIRST_VERSION_MANIFEST, Lake
from include.lake.objects import LakePath, write_bytes
from include.records import Manifest
from include.reports.publishing import render_page
from include.reports.report import render_failure
from spark_jobs import args
from spark_jobs.erasure import rows
from spark_jobs.lake.storage import is_local

log = logging.getLogger(__name__)

RECORDS = KEPT_OF_A_RUN - {args.PCA_MODEL_FILE, args.PCA_FIT_FILE} | {FIRST_VERSION_MANIFEST}
"""The files of a run that people look at; all of them are JSON, HTML or lists of photos."""


@dataclass(frozen=True)
class Judgement:
    """What happens to the derived files outside the kept states; paths are relative to the lake's root.

    Attributes
    ----------
    deleted : set of str
        Files to delete with all versions.
    filtered : set of str
        Parquet files that stay without the rows of the photos.
    scrubbed : set of str
        JSON files, HTML files and lists of photos that stay without the names.
    """

    deleted: set[str]
    filtered: set[str]
    scrubbed: set[str]


def judge(found: Findings, kept: Iterable[tuple[str, Manifest]], attempts: Iterable[Attempt]) -> Judgement:
    """Decide what happens to each file that no kept state needs.

    Parameters
    ----------
    found : Findings
        What was found after the kept states were rewritten.
    kept : iterable of (str, Manifest)
        The kept states with the paths of their manifests.
    attempts : iterable of Attempt
        The attempts of this erasure: what they have written and no kept state names goes too.
    """
    result = Judgement(set(), set(), set())
    manifests = dict(kept)
    segments = {segment["id"] for manifest in manifests.values() for segment in manifest["segments"]}
    runs = {manifest["run"] for manifest in manifests.values()}
    found_segments = {path.split("/")[1] for path in found.derived_files if path.startswith("segments/")}
    by_run: dict[str, list[str]] = {}
    tried = list(attempts)
    for path in found.files:
        place, _, rest = path.partition("/")
        name = rest.partition("/")[0]
        is_of_attempt = name.startswith(tuple(attempt.prefix for attempt in tried))
        if place == "segments" and (name in found_segments or is_of_attempt) and name not in segments:
            result.deleted.add(path)
        elif place == "runs":
            by_run.setdefault(name, []).append(path)
        elif place == "manifests" and path not in manifests:
            # A manifest that is not in the chain any more, or was written by a run that has lost the race.
            result.deleted.add(path)
        elif path in found.texts and (place == "reports" or path == args.LOADED_IMAGES_FILE):
            result.scrubbed.add(path)
    abandoned = {attempt.slug(run) for attempt in tried for run in by_run} - runs
    for run in abandoned & set(by_run):
        result.deleted.update(by_run.pop(run))
    for run, files in by_run.items():
        _judge_run(run, files, found, result, is_kept=run in runs)
    return result


def _judge_run(run: str, files: list[str], found: Findings, result: Judgement, *, is_kept: bool) -> None:
    root = f"runs/{run}/"
    is_first_version = f"{root}{FIRST_VERSION_MANIFEST}" in files
    is_found = any(path in found.derived_files for path in files)
    # Without a listing, it cannot be known which photos the run has seen.
    is_suspect = not is_kept and (is_found or f"{root}{args.LISTING_FILE}" not in files)
    # A page is made from the other two.
    is_page_old = any(f"{root}{name}" in found.texts for name in (args.INSIGHTS_FILE, "report.json", "report.html"))
    for path in files:
        name = path.removeprefix(root)
        if name in RECORDS:
            if path in found.texts or (name == "report.html" and is_page_old):
                result.scrubbed.add(path)
        elif path in found.rows and (is_kept or is_first_version):
            result.filtered.add(path)
        elif is_suspect and (not is_first_version or not path.endswith((".parquet", ".json"))):
            result.deleted.add(path)
        elif path in found.texts:
            result.scrubbed.add(path)


def delete_photos(lake: Lake, found: Findings, aws_conn_id: str | None) -> None:
    """Delete the photos that were found with all their versions, and in a folder the labels' folders if they are empty.

    Parameters
    ----------
    lake : Lake
        The lake.
    found : Findings
        What was found.
    aws_conn_id : str or None
        Airflow's connection for S3.
    """
    delete_stored(lake, [file for versions in found.photos.values() for file in versions], aws_conn_id)
    if is_local(lake.root):
        for folder in {Path(lake.absolute(path).removeprefix("file://")).parent for path in found.photos}:
            with suppress(OSError):  # it is not empty, or is gone
                folder.rmdir()


def remove(lake: Lake, judgement: Judgement, wanted: Wanted, aws_conn_id: str | None) -> None:
    """Delete and rewrite files as judged, and delete all old versions and temporary files of the derived places.

    Parameters
    ----------
    lake : Lake
        The lake.
    judgement : Judgement
        What happens to each file.
    wanted : Wanted
        What was searched for.
    aws_conn_id : str or None
        Airflow's connection for S3.
    """
    for path in sorted(judgement.filtered):
        uri = lake.absolute(path)
        with suppress(FileNotFoundError):
            rows.drop(uri, uri, wanted.erased)
    # A page is made anew from its report and its photos, so these come first.
    for path in sorted(judgement.scrubbed, key=lambda path: (path.endswith(".html"), path)):
        with suppress(FileNotFoundError):
            _scrub(lake, path, wanted.names, judgement.deleted, aws_conn_id)
    deleted = [
        file
        for place in DERIVED
        for file in list_stored(lake, place, aws_conn_id)
        if file.path in judgement.deleted or file.is_temporary or file.is_marker or not file.is_current
    ]
    delete_stored(lake, deleted, aws_conn_id)
    log.info(
        "%d files rewritten, %d files and old versions deleted",
        len(judgement.filtered) + len(judgement.scrubbed),
        len(deleted),
    )


def _scrub(lake: Lake, path: str, names: Names, deleted: set[str], aws_conn_id: str | None) -> None:
    file = LakePath(lake.absolute(path), aws_conn_id)
    if path.endswith(".html"):
        page = _render_again(lake, path, aws_conn_id)
        if page is None or names.is_in_page(page):
            deleted.add(path)
        else:
            write_bytes(file, page)
        return
    try:
        scrubbed = scrubbing.scrub(path, file.read_bytes(), names)
    except ValueError:  # it is damaged
        deleted.add(path)
        return
    if scrubbed is not None:
        write_bytes(file, scrubbed)


def _render_again(lake: Lake, path: str, aws_conn_id: str | None) -> bytes | None:
    """Return the page of a report; None if the report is missing or cannot be shown."""
    try:
        record = json.loads(LakePath(lake.absolute(f"{path.removesuffix('.html')}.json"), aws_conn_id).read_bytes())
        page = render_failure(record) if "tasks_not_run" in record else render_page(lake, record, aws_conn_id)
    except Exception:  # a report of an earlier version may lack what the template shows
        log.warning("%s cannot be rendered again: it is deleted", path, exc_info=True)
        return None
    return page.encode()
