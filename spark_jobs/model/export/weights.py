"""Where the weights of an export come from: a file, the cache of Keras, or a seed."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from spark_jobs.errors import JobError
from spark_jobs.images.decoding import SIDE
from spark_jobs.model.export.random_weights import RANDOM_RECIPE
from spark_jobs.model.export.tensorflow_setup import import_tensorflow
from spark_jobs.records import Weights


@dataclass(frozen=True)
class WeightsOrigin:
    """Where a model's weights come from.

    Attributes
    ----------
    source : str
        ``imagenet`` (from the cache of Keras, or downloaded by Keras), ``file`` or ``random``.
    name : str
        The file's name, or ``random:SEED``.
    sha256 : str
        Of the file; of seed and recipe if the weights are random.
    seed : int or None
        Of random weights.
    path : Path or None
        The file.
    """

    source: str
    name: str
    sha256: str
    seed: int | None = None
    path: Path | None = None

    def record(self) -> Weights:
        """Return the weights' record in ``model.json``, without the path, which is local to this machine."""
        return {"source": self.source, "name": self.name, "sha256": self.sha256, "seed": self.seed}


def find_weights(text: str) -> WeightsOrigin:
    """Return the weights for the value of ``--weights``.

    Raises
    ------
    JobError
        If the text is neither ``imagenet`` nor ``random:SEED`` nor the path of a file.
    """
    if text.startswith("random:"):
        if not re.fullmatch(r"random:\d{1,9}", text):
            raise JobError(f"{text!r} is not random:SEED: the seed must be an integer of up to 9 digits")
        digest = hashlib.sha256(f"{text} recipe {RANDOM_RECIPE}".encode()).hexdigest()
        return WeightsOrigin("random", text, digest, seed=int(text.partition(":")[2]))
    path = _imagenet_file() if text == "imagenet" else Path(text)
    if not path.is_file():
        raise JobError(f"there is no weights file {text!r}: give a .h5 file's path, `imagenet` or `random:SEED`")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return WeightsOrigin("imagenet" if text == "imagenet" else "file", path.name, digest, path=path)


def _imagenet_file() -> Path:
    """Return the ImageNet weights file from the cache of Keras, which downloads it if it is missing."""
    keras = import_tensorflow().keras
    try:
        keras.applications.MobileNetV2(include_top=False, weights="imagenet", input_shape=(SIDE, SIDE, 3))
    except Exception as error:
        raise JobError(
            f"Keras could not get its ImageNet weights ({error}): give the path of a downloaded file instead"
        ) from error
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
    return Path(keras.config.keras_home()) / "models" / name
