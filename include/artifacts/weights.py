"""Where the weights of MobileNetV2 come from on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

WEIGHTS_FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
"""Keras's name of the ImageNet weights without the top."""

DOWNLOAD = "imagenet"
RANDOM = "random:0"


class WeightsError(RuntimeError):
    """The weights that were asked for cannot be had."""


def find_weights(environ: Mapping[str, str] | None = None, shared: Path | None = None) -> str | None:
    """Return the weights file to use, or None when there is none on this machine.

    The order: ``FRUITS_WEIGHTS``, Keras's cache, ``../shared/weights``.

    Parameters
    ----------
    environ : mapping, optional
        The environment; this process's by default.
    shared : Path, optional
        A folder of shared files beside the project.

    Raises
    ------
    WeightsError
        When ``FRUITS_WEIGHTS`` names no file: what was asked for by name is not replaced by something else.
    """
    environ = os.environ if environ is None else environ
    named = environ.get("FRUITS_WEIGHTS")
    if named:
        if not Path(named).is_file():
            raise WeightsError(f"FRUITS_WEIGHTS={named!r} is not a file; expected {WEIGHTS_FILE} or one like it")
        return named
    home = Path(environ.get("KERAS_HOME") or Path.home() / ".keras")
    candidates = [home / "models" / WEIGHTS_FILE]
    if shared is not None:
        candidates.append(shared / "weights" / WEIGHTS_FILE)
    return next((str(path) for path in candidates if path.is_file()), None)
