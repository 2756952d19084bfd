"""Command line of the export: ``python -m spark_jobs.model.export --weights PATH --output URI``."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from spark_jobs.args import FEATURE_DIMENSIONS, MODEL_FOLDER_DIGITS
from spark_jobs.images.decoding import SIDE
from spark_jobs.model.export.comparison import check_against_keras
from spark_jobs.model.export.conversion import convert
from spark_jobs.model.export.keras_model import build_keras_model
from spark_jobs.model.export.models import find_model, write_model
from spark_jobs.model.export.tensorflow_setup import import_tensorflow
from spark_jobs.model.export.weights import WeightsOrigin, find_weights
from spark_jobs.records import ModelFile
from spark_jobs.runtime import launcher

logger = logging.getLogger(__name__)


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
    records: list[ModelFile] = []
    with _standard_output_to_error():  # TensorFlow's converter prints
        code = launcher.run(lambda: records.append(export(args.weights, args.output)))
    if code == 0:
        sys.stdout.write(json.dumps(records[0], ensure_ascii=False) + "\n")
    return code


def export(weights: str, output: str) -> ModelFile:
    """Export a model, unless the folder already contains a model with the same weights.

    Parameters
    ----------
    weights : str
        Path of a weights file, ``imagenet``, or ``random:SEED``.
    output : str
        URI of the folder of models.

    Returns
    -------
    ModelFile
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
    folder = write_model(output, flatbuffer, record)
    logger.info("exported %s to %s in %.1f s", found.name, folder, time.monotonic() - started)
    return record


def build(weights: WeightsOrigin) -> tuple[bytes, ModelFile]:
    """Build the Keras model, convert it, and compare the result with Keras.

    Returns
    -------
    flatbuffer : bytes
        A float32 LiteRT model, batch 1, no optimisation.
    record : ModelFile
        The content of ``model.json``.
    """
    tf = import_tensorflow()
    model = build_keras_model(weights)
    flatbuffer = convert(model)
    difference = check_against_keras(model, flatbuffer)
    logger.info("LiteRT and Keras differ by at most %.1e of Keras' largest feature", difference)
    return flatbuffer, {
        "digest": hashlib.sha256(flatbuffer).hexdigest(),
        "weights": weights.record(),
        "dimensions": FEATURE_DIMENSIONS,
        "input": {"height": SIDE, "width": SIDE, "channels": 3, "order": "RGB", "range": [-1, 1]},
        "difference": difference,
        "tensorflow": tf.__version__,
        "keras": tf.keras.__version__,
    }


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
