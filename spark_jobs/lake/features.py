"""The features of a run: what featurize says of them, and what is there."""

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
        As featurize has counted them.
    """

    run: str
    folder: str
    files: list[FeatureFile]
    images: int
    dimensions: int


def find(run: str) -> Features:
    """Return the features of a run, which are as many as featurize has counted.

    Only footers are read.

    Raises
    ------
    JobError
        When featurize is not complete, has counted no image or other rows than there are.
    """
    uri = storage.join(run, FEATURIZE_SUMMARY_FILE)
    try:
        counted = storage.read_json(uri)
    except FileNotFoundError:
        raise JobError(
            f"featurize has not completed for this run: {uri} is not there; run featurize on {run} first"
        ) from None
    images, dimensions = int(counted["features"]), int(counted["dimensions"])
    if images == 0:
        raise JobError(
            f"{run} has features of 0 images: expected 1 or more; featurize listed {counted['listed']} files, "
            f"{counted['rejects']} of them are rejects"
        )
    folder = storage.join(run, FEATURES_FOLDER)
    files = parts.files(folder)
    rows = sum(sum(file.rows) for file in files)
    if rows != images:
        raise JobError(f"{folder} has {rows} rows, featurize counted {images}: expected the same; run featurize again")
    return Features(run, folder, files, images, dimensions)
