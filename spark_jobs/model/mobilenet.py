"""MobileNetV2 without its top, run by LiteRT: 224x224 RGB pixels in, 1280 features out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spark_jobs.args import FEATURE_DIMENSIONS, MODEL_FILE, MODEL_RECORD_FILE
from spark_jobs.errors import JobError
from spark_jobs.images.decoding import SIDE, Pixels
from spark_jobs.lake import storage
from spark_jobs.records import Weights

Features = npt.NDArray[np.float32]
Extract = Callable[[Pixels], Features]

PUBLISH_HINT = "export it with `python -m spark_jobs.model.export`, or with `make model` or `make publish`"


@dataclass(frozen=True)
class Model:
    """A published model.

    Attributes
    ----------
    digest : str
        SHA-256 of the flatbuffer, 64 hexadecimal digits.
    weights : Weights
        Where the weights come from.
    flatbuffer : bytes
        The LiteRT model.
    """

    digest: str
    weights: Weights
    flatbuffer: bytes


def read(uri: str) -> Model:
    """Read a published model and check it against its record.

    Raises
    ------
    JobError
        If a file is missing, the record is invalid, or the digest or the dimensions do not match.
    """
    try:
        record = json.loads(storage.read_bytes(storage.join(uri, MODEL_RECORD_FILE)))
        flatbuffer = storage.read_bytes(storage.join(uri, MODEL_FILE))
        expected, dimensions, weights = record["digest"], record["dimensions"], record["weights"]
    except FileNotFoundError as error:
        raise JobError(f"there is no model at {uri} ({error}): {PUBLISH_HINT}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise JobError(f"{MODEL_RECORD_FILE} at {uri} is not a model's record ({error!r}): {PUBLISH_HINT}") from error
    found = hashlib.sha256(flatbuffer).hexdigest()
    if found != expected:
        raise JobError(
            f"{MODEL_FILE} at {uri} is not the model that {MODEL_RECORD_FILE} names: its SHA-256 is {found}, expected "
            f"{expected}; delete the folder and {PUBLISH_HINT}"
        )
    if dimensions != FEATURE_DIMENSIONS:
        raise JobError(f"the model at {uri} has {dimensions} features, expected {FEATURE_DIMENSIONS}: {PUBLISH_HINT}")
    return Model(found, weights, flatbuffer)


def preprocess(pixels: Pixels, out: npt.NDArray[np.float32] | None = None) -> npt.NDArray[np.float32]:
    """Scale pixels from 0…255 to -1…1, like Keras's ``preprocess_input`` in mode "tf".

    Parameters
    ----------
    pixels : numpy.ndarray of uint8, any shape
    out : numpy.ndarray of float32, of the same shape, optional
        Receives the result; a new array by default.
    """
    scaled = np.empty(pixels.shape, np.float32) if out is None else out
    scaled[...] = pixels
    scaled /= 127.5
    scaled -= 1.0
    return scaled


class Extractor:
    """A LiteRT interpreter with one thread. It processes one image at a time, which is faster than batches of 8.

    Parameters
    ----------
    flatbuffer : bytes
        A model with one input of shape (1, 224, 224, 3) and one output of shape (1, 1280), both float32.
    """

    def __init__(self, flatbuffer: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_content=flatbuffer, num_threads=1)
        self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()
        _check_tensor("input", self._input, (1, SIDE, SIDE, 3))
        _check_tensor("output", self._output, (1, FEATURE_DIMENSIONS))

    def __call__(self, pixels: Pixels) -> Features:
        """Return the features of one image.

        Parameters
        ----------
        pixels : numpy.ndarray of shape (224, 224, 3), uint8
            As :func:`spark_jobs.images.decoding.decode` returns them.

        Returns
        -------
        numpy.ndarray of shape (1280,), float32
        """
        # Write directly into the interpreter's memory, without temporary arrays or copies.
        preprocess(pixels, self._interpreter.tensor(self._input["index"])()[0])
        self._interpreter.invoke()
        features: Features = self._interpreter.get_tensor(self._output["index"])[0]
        return features


def _check_tensor(name: str, details: dict[str, Any], shape: tuple[int, ...]) -> None:
    found = tuple(int(size) for size in details["shape"])
    if found != shape or details["dtype"] is not np.float32:
        raise JobError(
            f"the model's {name} is {found} of {details['dtype'].__name__}, expected {shape} of float32: {PUBLISH_HINT}"
        )


_extractors: dict[str, Extractor] = {}


def load_extractor(digest: str, flatbuffer: bytes) -> Extract:
    """Return this process's extractor of a model; the first call creates it.

    Spark reuses Python workers, so all tasks of a process share one interpreter.
    """
    if digest not in _extractors:
        _extractors.clear()  # keep one model only, to save memory
        _extractors[digest] = Extractor(flatbuffer)
    return _extractors[digest]
