"""The features of a run's state: the counts of featurize, and the files of its segments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spark_jobs.args import FEATURES_FILE, FEATURIZE_SUMMARY_FILE, LIVE_SEGMENTS_FILE
from spark_jobs.errors import JobError
from spark_jobs.lake import parts, storage
from spark_jobs.lake.parts import FeatureFile


@dataclass(frozen=True)
class Features:
    """The features of a run's state.

    Attributes
    ----------
    run : str
        URI of the run's folder.
    folder : str
        URI of the folder of all segments.
    files : list of FeatureFile
        The files of the live segments, in order.
    images, dimensions : int
        As counted by featurize.
    """

    run: str
    folder: str
    files: list[FeatureFile]
    images: int
    dimensions: int


def find(run: str) -> Features:
    """Return the features of a run's state, and check that featurize counted as many. Reads footers only.

    Raises
    ------
    JobError
        If featurize is not complete, counted no images, or counted other rows than the files have.
    """
    summary, live = (_read(run, name) for name in (FEATURIZE_SUMMARY_FILE, LIVE_SEGMENTS_FILE))
    images, dimensions = int(summary["features"]), int(summary["dimensions"])
    if images == 0:
        raise JobError(
            f"{run} has features of 0 images: expected 1 or more; featurize listed {summary['listed']} files, "
            f"{summary['rejects']} of them are rejects"
        )
    folder = live["folder"]
    names = [f"{segment['id']}/{FEATURES_FILE}" for segment in live["segments"] if segment["features"]]
    files = parts.files(folder, names)
    rows = sum(sum(file.rows) for file in files)
    if rows != images:
        raise JobError(
            f"the segments of {run} have {rows} rows of features, featurize counted {images}: expected the same; run "
            "featurize again"
        )
    return Features(run, folder, files, images, dimensions)


def _read(run: str, name: str) -> dict[str, Any]:
    uri = storage.join(run, name)
    try:
        return storage.read_json(uri)
    except FileNotFoundError:
        raise JobError(
            f"featurize has not completed for this run: {uri} does not exist; run featurize on {run} first"
        ) from None
