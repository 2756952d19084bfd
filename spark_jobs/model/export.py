"""Export of MobileNetV2 from Keras to LiteRT: ``python -m spark_jobs.model.export --weights PATH --output URI``.

This runs where a model is published, never on the cluster. It is the only module that imports TensorFlow.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pyarrow import fs

from spark_jobs.args import FEATURE_DIMENSIONS, MODEL_FILE, MODEL_FOLDER_DIGITS, MODEL_RECORD_FILE
from spark_jobs.errors import JobError
from spark_jobs.images.decoding import SIDE, Pixels
from spark_jobs.lake import storage
from spark_jobs.model import mobilenet
from spark_jobs.runtime import launcher

logger = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""Largest accepted difference between LiteRT and Keras, as a share of the largest feature of Keras."""

RANDOM_RECIPE = 1
"""Version of the algorithm for random weights: with another version, the same seed gives another model."""

CALIBRATION_IMAGES = 32
CHECK_IMAGES = 4
RANDOM_DEVIATION = 0.4
"""Mean standard deviation of a feature between pictures, with random weights. With photos it is from 0.1 to 1."""


@dataclass(frozen=True)
class Weights:
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

    def record(self) -> dict[str, Any]:
        """Return the weights' record in ``model.json``, without the path, which is local to this machine."""
        return {name: value for name, value in asdict(self).items() if name != "path"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the export as a program; the last line of standard output is the model's record as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m spark_jobs.model.export",
        description="Export MobileNetV2 without its top from Keras to LiteRT, and check it against Keras.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--weights",
        required=True,
        help="a Keras weights file of MobileNetV2 1.0/224 without top (.h5); `imagenet` for Keras' own, downloaded "
        "when they are not in its cache; or `random:SEED` for seeded random weights, for trials and tests only",
    )
    parser.add_argument(
        "--output", required=True, help="URI of the folder of models: the model is put into <output>/<digest>"
    )
    args = parser.parse_args(argv)
    record: dict[str, Any] = {}
    with _standard_output_to_error():  # TensorFlow's converter prints
        code = launcher.run(lambda: record.update(export(args.weights, args.output)))
    if code == 0:
        sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
    return code


def export(weights: str, output: str) -> dict[str, Any]:
    """Export a model, unless the folder already contains a model with the same weights.

    Parameters
    ----------
    weights : str
        Path of a weights file, ``imagenet``, or ``random:SEED``.
    output : str
        URI of the folder of models.

    Returns
    -------
    dict
        The content of ``<output>/<digest>/model.json``.

    Raises
    ------
    JobError
        If the weights do not exist or do not fit, or if the exported model differs from Keras.
    """
    started = time.monotonic()
    found = find_weights(weights)
    record = find_model(output, found)
    if record is not None:
        logger.info("model %s of weights %s is there already", record["digest"][:MODEL_FOLDER_DIGITS], found.name)
        return record
    flatbuffer, record = build(found)
    folder = storage.join(output, record["digest"][:MODEL_FOLDER_DIGITS])
    storage.write_bytes(storage.join(folder, MODEL_FILE), flatbuffer)
    storage.write_json(
        storage.join(folder, MODEL_RECORD_FILE), record
    )  # last: its existence means that the model is complete
    logger.info("exported %s to %s in %.1f s", found.name, folder, time.monotonic() - started)
    return record


def find_weights(text: str) -> Weights:
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
        return Weights("random", text, digest, seed=int(text.partition(":")[2]))
    path = _imagenet_file() if text == "imagenet" else Path(text)
    if not path.is_file():
        raise JobError(f"there is no weights file {text!r}: give a .h5 file's path, `imagenet` or `random:SEED`")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Weights("imagenet" if text == "imagenet" else "file", path.name, digest, path=path)


def _imagenet_file() -> Path:
    """Return the ImageNet weights file from the cache of Keras, which downloads it if it is missing."""
    keras = _import_keras()
    try:
        keras.applications.MobileNetV2(include_top=False, weights="imagenet", input_shape=(SIDE, SIDE, 3))
    except Exception as error:
        raise JobError(
            f"Keras could not get its ImageNet weights ({error}): give the path of a downloaded file instead"
        ) from error
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
    return Path(keras.config.keras_home()) / "models" / name


def find_model(output: str, weights: Weights) -> dict[str, Any] | None:
    """Return the record of a complete model with these weights in a folder of models, or None."""
    filesystem, path = storage.locate(output)
    for info in filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True)):
        folder = storage.join(output, info.base_name)
        if info.type != fs.FileType.Directory or not storage.exists(storage.join(folder, MODEL_RECORD_FILE)):
            continue
        try:
            model = mobilenet.read(folder)
        except JobError as error:
            logger.warning("passing over %s: %s", folder, error)
            continue
        if (model.weights.get("source"), model.weights.get("sha256")) == (weights.source, weights.sha256):
            return storage.read_json(storage.join(folder, MODEL_RECORD_FILE))
    return None


def build(weights: Weights) -> tuple[bytes, dict[str, Any]]:
    """Build the Keras model, convert it, and compare the result with Keras.

    Returns
    -------
    flatbuffer : bytes
        A float32 LiteRT model, batch 1, no optimisation.
    record : dict
        The content of ``model.json``.
    """
    keras = _import_keras()
    import tensorflow as tf

    model = build_keras_model(weights)
    flatbuffer = _convert(model)
    difference = check_against_keras(model, flatbuffer)
    logger.info("LiteRT and Keras differ by at most %.1e of Keras' largest feature", difference)
    return flatbuffer, {
        "digest": hashlib.sha256(flatbuffer).hexdigest(),
        "weights": weights.record(),
        "dimensions": FEATURE_DIMENSIONS,
        "input": {"height": SIDE, "width": SIDE, "channels": 3, "order": "RGB", "range": [-1, 1]},
        "difference": difference,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }


def build_keras_model(weights: Weights) -> Any:
    """Return the Keras model: MobileNetV2 1.0/224 without its top, averaged over the last layer's 7x7 positions.

    Raises
    ------
    JobError
        If the weights file does not fit the model.
    """
    keras = _import_keras()
    model = keras.applications.MobileNetV2(include_top=False, pooling="avg", weights=None, input_shape=(SIDE, SIDE, 3))
    if weights.path is None:
        assert weights.seed is not None
        _set_random_weights(model, weights.seed)
        return model
    try:
        model.load_weights(weights.path)
    except Exception as error:  # h5py and Keras raise many kinds of errors for other files
        raise JobError(
            f"the weights in {weights.path} do not fit MobileNetV2 1.0/224 without its top: {error}"
        ) from error
    return model


def _set_random_weights(model: Any, seed: int) -> None:
    """Set random weights whose features differ between pictures.

    Kernels are drawn as in He et al. 2015 (normal, variance 2 / fan-in). Every BatchNorm gets the mean and variance of
    its inputs on seeded pictures, so the signal neither vanishes nor explodes in 52 layers. The last BatchNorm is then
    scaled until the features' standard deviation between pictures is like that of trained weights.
    """
    random = np.random.default_rng(seed)
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    for layer in model.layers:
        if layer not in norms and layer.weights:
            layer.set_weights([_he_kernel(random, layer, kernel.shape) for kernel in layer.get_weights()])
    pictures = mobilenet.preprocess(make_pictures(random, CALIBRATION_IMAGES))
    for norm in norms:
        norm.momentum = 0.0  # the next batch alone determines the moving statistics
    model(pictures, training=True)
    last = norms[-1]
    for _ in range(3):  # because of ReLU6 the deviation is not exactly proportional to the scale
        deviation = float(np.std(model(pictures, training=False), axis=0).mean())
        gamma, beta, mean, variance = last.get_weights()
        last.set_weights([gamma * (RANDOM_DEVIATION / deviation), beta, mean, variance])


def _he_kernel(random: np.random.Generator, layer: Any, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return a kernel. The fan-in of a depthwise kernel is one channel, of another kernel its whole third axis."""
    depthwise = type(layer).__name__ == "DepthwiseConv2D"
    fan_in = shape[0] * shape[1] * (1 if depthwise else shape[2])
    return random.normal(0.0, np.sqrt(2.0 / fan_in), shape).astype(np.float32)


def make_pictures(random: np.random.Generator, count: int) -> Pixels:
    """Return seeded pictures that resemble photos: smooth colours, an object on a plain background.

    Returns
    -------
    numpy.ndarray of shape (count, 224, 224, 3), uint8
    """
    from PIL import Image

    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    pictures = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for picture in pictures:
        cells = int(random.integers(2, 12))
        coarse = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        texture = random.normal(0.0, random.uniform(0.0, 20.0), (SIDE, SIDE, 1))
        pixels = np.asarray(coarse.resize((SIDE, SIDE)), np.float64) + texture
        centre, radius = random.uniform(70, 154, 2), random.uniform(50, 120)
        outside = np.hypot(rows - centre[0], columns - centre[1]) > radius
        pixels[outside] = random.integers(0, 256, 3) if random.random() < 0.5 else 255
        picture[:] = np.clip(pixels, 0, 255)
    return pictures


def _convert(model: Any) -> bytes:
    """Convert a model with its weights as constants; converting a Keras model directly takes five times as long."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    call = tf.function(
        lambda image: model(image, training=False),
        input_signature=[tf.TensorSpec((1, SIDE, SIDE, 3), tf.float32)],
    )
    frozen = convert_variables_to_constants_v2(call.get_concrete_function())
    return bytes(tf.lite.TFLiteConverter.from_concrete_functions([frozen]).convert())


def check_against_keras(model: Any, flatbuffer: bytes) -> float:
    """Compare LiteRT with Keras on seeded pictures.

    Returns
    -------
    float
        The largest absolute difference, as a share of the largest absolute feature of Keras.

    Raises
    ------
    JobError
        If it is above the tolerance, or if Keras gives the same features for all pictures, which would make the
        comparison meaningless.
    """
    pictures = make_pictures(np.random.default_rng(0), CHECK_IMAGES)
    expected = np.asarray(model(mobilenet.preprocess(pictures), training=False))
    extract = mobilenet.Extractor(flatbuffer)
    found = np.stack([extract(picture) for picture in pictures])
    largest = float(np.abs(expected).max())
    if not np.std(expected, axis=0).mean() > 1e-3:
        raise JobError("the weights give every picture the same features: they are not a trained model's")
    difference = float(np.abs(found - expected).max()) / largest
    if not difference <= TOLERANCE:
        raise JobError(
            f"the exported model differs from Keras by {difference:.1e} of its largest feature, more than "
            f"{TOLERANCE:.0e}: it was not stored; check the versions of tensorflow and ai-edge-litert"
        )
    return difference


def _import_keras() -> Any:
    """Import Keras without GPU, oneDNN and log messages, so that exports of the same weights have the same bytes."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    import tensorflow as tf

    tf.get_logger().setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    return tf.keras


@contextmanager
def _standard_output_to_error() -> Iterator[None]:
    """Redirect the standard output of this process and its libraries to standard error."""
    sys.stdout.flush()
    saved = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


if __name__ == "__main__":
    raise SystemExit(main())
