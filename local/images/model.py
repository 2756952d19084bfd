"""The model of a local run: real weights if possible, else seeded random ones with a clear warning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from include.artifacts.publishing import publish_model
from include.artifacts.weights import DOWNLOAD, RANDOM, WeightsError, find_weights
from include.lake.layout import Lake
from include.records import ModelFile

DOWNLOAD_FAILED = "download_failed"
"""Name of a file in the model cache. It records that Keras's download failed, so that later runs skip the download."""


def choose_model(lake: str, cache: Path, shared: Path, report: Callable[[str], None]) -> ModelFile:
    """Publish a model to the lake and return its record.

    Parameters
    ----------
    lake : str
        The lake's root.
    cache : Path
        Folder of exported models on this machine.
    shared : Path
        Folder of shared files next to the project; it may be missing.
    report : callable
        Prints one line for the user.

    Raises
    ------
    WeightsError
        If existing weights cannot be exported.
    """
    target = Lake(lake)
    weights = find_weights(shared=shared)
    if weights is not None:
        note = "" if any(cache.glob("*/*.json")) else " (exporting to LiteRT, once: about 30 s)"
        report(f"model: weights {weights}{note}")
        return publish_model(target, weights, cache, None)
    mark = cache / DOWNLOAD_FAILED
    if not mark.exists():
        report("model: no weights on this machine; downloading them with Keras")
        try:
            return publish_model(target, DOWNLOAD, cache, None)
        except WeightsError as error:
            report(f"model: {error}")
            mark.touch()
    report("model: RANDOM WEIGHTS: the features have no meaning. For real weights, set FRUITS_WEIGHTS=file.h5,")
    report(f"       or delete {mark} to retry the download")
    return publish_model(target, RANDOM, cache, None)
