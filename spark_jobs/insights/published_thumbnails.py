"""The thumbnails of the published run, for photos that have not changed since."""

from __future__ import annotations

import base64
import logging

import pyarrow.parquet as pq

from spark_jobs.args import CHANGES_FILE, INSIGHTS_FILE, WORK_FILE
from spark_jobs.insights import thumbnails
from spark_jobs.lake import storage

logger = logging.getLogger(__name__)


def find(run: str) -> dict[str, bytes]:
    """Return the thumbnails that a run can keep, by path; none if the published ones cannot be read.

    Parameters
    ----------
    run : str
        URI of the run's folder. Its ``changes.json`` names the published run.
    """
    try:
        return _find(run)
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.info("no thumbnail of the published run is kept: %s", error)
        return {}


def _find(run: str) -> dict[str, bytes]:
    published = storage.read_json(storage.join(run, CHANGES_FILE))["published"]
    if published is None:
        return {}
    insights = storage.read_json(storage.join(published, INSIGHTS_FILE))
    if insights["thumbnail_side"] != thumbnails.SIDE:
        return {}
    found = {photo["path"]: photo["thumbnail"] for photo in insights["photos"] if photo["thumbnail"] is not None}
    _drop_changed(found, storage.join(run, WORK_FILE))
    return {path: base64.b64decode(encoded) for path, encoded in found.items()}


def _drop_changed(found: dict[str, str], work_list: str) -> None:
    """Remove the photos that are new or have changed; a row group of the work list is in memory at a time."""
    with storage.open_file(work_list) as stream, pq.ParquetFile(stream) as file:
        for batch in file.iter_batches(columns=["path"], use_threads=False):
            for path in batch.column("path").to_pylist():
                found.pop(path, None)
