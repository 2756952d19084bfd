"""The two engines of every rival: Keras, and the LiteRT model that our pipeline uses.

The rivals' workers import this module in their own environments, so it must not import the project's packages.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 224
DIMENSIONS = 1280

Pixels = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]
Predict = Callable[[Pixels], Features]
"""A function from pixels of shape (n, 224, 224, 3) to features of shape (n, 1280)."""


@dataclass(frozen=True)
class Arguments:
    """The arguments of every rival.

    Attributes
    ----------
    images : Path
        Folder of <label>/*.jpg.
    output : Path
        Folder for Parquet files with the columns path, label and features; it exists and is empty.
    engine : str
        ``keras`` or ``litert``.
    model : str
        File of the LiteRT model.
    weights : str
        Keras file of the same weights.
    """

    images: Path
    output: Path
    engine: str
    model: str
    weights: str


def parse(description: str | None) -> Arguments:
    """Return the arguments of a rival's command line."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of <label>/*.jpg")
    parser.add_argument("--output", type=Path, required=True, help="empty folder for the Parquet files")
    parser.add_argument("--engine", choices=("keras", "litert"), required=True)
    parser.add_argument("--model", required=True, help="LiteRT flatbuffer")
    parser.add_argument("--weights", required=True, help="Keras weights of MobileNetV2 without its top")
    args = parser.parse_args()
    return Arguments(args.images.resolve(), args.output.resolve(), args.engine, args.model, args.weights)


def load(engine: str, *, model: str, weights: str, threads: int | None = None) -> Predict:
    """Load an engine and return its predict function. Loading is slow: call this once per worker.

    Parameters
    ----------
    engine : str
        ``keras`` or ``litert``.
    model, weights : str
        Files, as in :class:`Arguments`.
    threads : int, optional
        Number of TensorFlow's threads; by default one per core. LiteRT always has one.
    """
    return _load_litert(model) if engine == "litert" else _load_keras(weights, threads)


def decode(data: bytes) -> Pixels:
    """Decode a photo as the notebook does: Pillow's default resampling to 224 x 224."""
    return resize(Image.open(io.BytesIO(data)))


def resize(image: Image.Image) -> Pixels:
    """Return an image as 224 x 224 pixels, with Pillow's default resampling, which is bicubic."""
    return np.asarray(image.resize((SIDE, SIDE)))


def _preprocess(pixels: Pixels) -> Features:
    """Scale 0…255 to -1…1, as Keras' ``mobilenet_v2.preprocess_input`` does."""
    scaled = pixels.astype(np.float32)
    scaled /= 127.5
    scaled -= 1.0
    return scaled


def _load_keras(weights: str, threads: int | None) -> Predict:
    import tensorflow as tf

    if threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    model = tf.keras.applications.MobileNetV2(
        weights=weights, include_top=False, pooling="avg", input_shape=(SIDE, SIDE, 3)
    )

    def predict(pixels: Pixels) -> Features:
        features: Features = model.predict_on_batch(_preprocess(pixels))
        return features

    return predict


def _load_litert(file: str) -> Predict:
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_path=file, num_threads=1)
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    (target,) = interpreter.get_output_details()

    def predict(pixels: Pixels) -> Features:
        features = np.empty((len(pixels), DIMENSIONS), np.float32)
        # The model is exported for one photo at a time; larger batches are slower.
        for number, photo in enumerate(_preprocess(pixels)):
            interpreter.set_tensor(source["index"], photo[np.newaxis])
            interpreter.invoke()
            features[number] = interpreter.get_tensor(target["index"])[0]
        return features

    return predict
