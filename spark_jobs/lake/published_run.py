"""The run whose state was published when another run found its changes."""

from __future__ import annotations

from spark_jobs.args import CHANGES_FILE
from spark_jobs.lake import storage


def find(run: str) -> str | None:
    """Return the URI of the folder of the published run; None if no image is known to be as it was in that run.

    Parameters
    ----------
    run : str
        URI of the run's folder. It has no ``changes.json`` if featurize has computed all images of a folder.
    """
    try:
        folder: str | None = storage.read_json(storage.join(run, CHANGES_FILE)).get("published")
    except FileNotFoundError:
        return None
    return folder
