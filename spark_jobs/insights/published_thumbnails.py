"""The thumbnails of the published run, for photos that have not changed since."""

from __future__ import annotations

import base64
import logging

import pyarrow.parquet as pq

from spark_jobs.args import INSIGHTS_FILE, WORK_FILE
from spark_jobs.insights import thumbnails
from spark_jobs.lake import published_run, storage

logger = logging.getLogger(__name__)


def find(run: str) -> dict[str, bytes]:
    """Return the thumbnails that a run can keep, by path; none if the published ones cannot be read.

    Parameters
    ----------
    run : str
        URI of the run's folder. Its ``changes.json`` names the published run.
    """
    try:
        folder = published_run.find(run)
        found = {} if folder is None else of_run(folder)
        if found:
            _drop_changed(found, storage.join(run, WORK_FILE))
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.info("no thumbnail of the published run is kept: %s", error)
        return {}
    return found


def of_run(run: str) -> dict[str, bytes]:
    """Return the thumbnails of a run, by path; none if they cannot be read or have another size than today's.

    Parameters
    ----------
    run : str
        URI of the run's folder.
    """
    try:
        insights = storage.read_json(storage.join(run, INSIGHTS_FILE))
        if insights["thumbnail_side"] != thumbnails.SIDE:
            return {}
        found = {photo["path"]: photo["thumbnail"] for photo in insights["photos"] if photo["thumbnail"] is not None}
        return {path: base64.b64decode(encoded) for path, encoded in found.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.info("no thumbnail of %s is kept: %s", run, error)
        return {}


def _drop_changed(found: dict[str, bytes], work_list: str) -> None:
    """Remove the photos that are new or have changed; a row group of the work list is in memory at a time."""
    with storage.open_file(work_list) as stream, pq.ParquetFile(stream) as file:
        for batch in file.iter_batches(columns=["path"], use_threads=False):
            for path in batch.column("path").to_pylist():
                found.pop(path, None)
