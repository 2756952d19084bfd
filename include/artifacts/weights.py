"""Find the weights of MobileNetV2 on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

WEIGHTS_FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
"""Keras's file name for the ImageNet weights without the classifier."""

DOWNLOAD = "imagenet"
RANDOM = "random:0"


class WeightsError(RuntimeError):
    """The requested weights are missing or cannot be exported."""


def find_weights(environ: Mapping[str, str] | None = None, shared: Path | None = None) -> str | None:
    """Return the weights file to use, or None when this machine has no weights.

    Searched in this order: ``FRUITS_WEIGHTS``, Keras's cache, ``../shared/weights``.

    Parameters
    ----------
    environ : mapping, optional
        The environment; default: that of this process.
    shared : Path, optional
        A folder of shared files.

    Raises
    ------
    WeightsError
        When ``FRUITS_WEIGHTS`` does not name a file. Weights that are requested by name are never replaced by others.
    """
    environ = os.environ if environ is None else environ
    named = environ.get("FRUITS_WEIGHTS")
    if named:
        if not Path(named).is_file():
            raise WeightsError(
                f"FRUITS_WEIGHTS={named!r} is not a file; expected {WEIGHTS_FILE} or a file of the same format"
            )
        return named
    home = Path(environ.get("KERAS_HOME") or Path.home() / ".keras")
    candidates = [home / "models" / WEIGHTS_FILE]
    if shared is not None:
        candidates.append(shared / "weights" / WEIGHTS_FILE)
    return next((str(path) for path in candidates if path.is_file()), None)
