"""The features of a run: the counts of featurize, and the files."""

from __future__ import annotations

from dataclasses import dataclass

from spark_jobs.args import FEATURES_FOLDER, FEATURIZE_SUMMARY_FILE
from spark_jobs.errors import JobError
from spark_jobs.lake import parts, storage
from spark_jobs.lake.parts import FeatureFile


@dataclass(frozen=True)
class Features:
    """The features of a run.

    Attributes
    ----------
    run : str
        URI of the run's folder.
    folder : str
        URI of the features.
    files : list of FeatureFile
    images, dimensions : int
        As counted by featurize.
    """

    run: str
    folder: str
    files: list[FeatureFile]
    images: int
    dimensions: int


def find(run: str) -> Features:
    """Return the features of a run, and check that featurize counted as many. Reads footers only.

    Raises
    ------
    JobError
        If featurize is not complete, counted no images, or counted other rows than the files have.
    """
    uri = storage.join(run, FEATURIZE_SUMMARY_FILE)
    try:
        summary = storage.read_json(uri)
    except FileNotFoundError:
        raise JobError(
            f"featurize has not completed for this run: {uri} does not exist; run featurize on {run} first"
        ) from None
    images, dimensions = int(summary["features"]), int(summary["dimensions"])
    if images == 0:
        raise JobError(
            f"{run} has features of 0 images: expected 1 or more; featurize listed {summary['listed']} files, "
            f"{summary['rejects']} of them are rejects"
        )
    folder = storage.join(run, FEATURES_FOLDER)
    files = parts.files(folder)
    rows = sum(sum(file.rows) for file in files)
    if rows != images:
        raise JobError(f"{folder} has {rows} rows, featurize counted {images}: expected the same; run featurize again")
    return Features(run, folder, files, images, dimensions)
