"""The model of a local run: real weights where there are any, else seeded random ones, said loudly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from include.artifacts.publishing import publish_model
from include.artifacts.weights import DOWNLOAD, RANDOM, WeightsError, find_weights
from include.lake.layout import Lake
from include.records import ModelFile

DOWNLOAD_FAILED = "download_failed"
"""Mark beside the exported models: Keras's download failed once; later runs start without trying again."""


def choose_model(lake: str, cache: Path, shared: Path, say: Callable[[str], None]) -> ModelFile:
    """Put a model into the lake and return its record.

    Parameters
    ----------
    lake : str
        The lake's root.
    cache : Path
        Folder of exported models on this machine.
    shared : Path
        Folder of shared files beside the project, which need not exist.
    say : callable
        Tells a person one line.

    Raises
    ------
    WeightsError
        When weights that are there cannot be exported.
    """
    target = Lake(lake)
    weights = find_weights(shared=shared)
    if weights is not None:
        first = "" if any(cache.glob("*/*.json")) else " (exported to LiteRT now, once: half a minute)"
        say(f"model: weights {weights}{first}")
        return publish_model(target, weights, cache, None)
    mark = cache / DOWNLOAD_FAILED
    if not mark.exists():
        say("model: no weights on this machine; Keras downloads them")
        try:
            return publish_model(target, DOWNLOAD, cache, None)
        except WeightsError as error:
            say(f"model: {error}")
            mark.touch()
    say("model: WITH RANDOM WEIGHTS: the features will mean nothing. For real ones set FRUITS_WEIGHTS=file.h5,")
    say(f"       or delete {mark} to try the download again")
    return publish_model(target, RANDOM, cache, None)
