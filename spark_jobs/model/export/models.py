"""The folder of exported models: ``<output>/<digest>/`` holds one model and its record."""

from __future__ import annotations

import logging
from typing import cast

from spark_jobs.args import MODEL_FILE, MODEL_FOLDER_DIGITS, MODEL_RECORD_FILE
from spark_jobs.errors import JobError
from spark_jobs.lake import storage
from spark_jobs.model import mobilenet
from spark_jobs.model.export.weights import WeightsOrigin
from spark_jobs.records import ModelFile

logger = logging.getLogger(__name__)


def find_model(output: str, weights: WeightsOrigin) -> ModelFile | None:
    """Return the record of a complete model with these weights in a folder of models, or None."""
    for name in storage.names(output):
        folder = storage.join(output, name)
        if not storage.exists(storage.join(folder, MODEL_RECORD_FILE)):
            continue
        try:
            model = mobilenet.read(folder)
        except JobError as error:
            logger.warning("passing over %s: %s", folder, error)
            continue
        if (model.weights.get("source"), model.weights.get("sha256")) == (weights.source, weights.sha256):
            return cast(ModelFile, storage.read_json(storage.join(folder, MODEL_RECORD_FILE)))
    return None


def write_model(output: str, flatbuffer: bytes, record: ModelFile) -> str:
    """Write a model into a folder of models, and return the URI of the model's own folder."""
    folder = storage.join(output, record["digest"][:MODEL_FOLDER_DIGITS])
    storage.write_bytes(storage.join(folder, MODEL_FILE), flatbuffer)
    # The record is the last file: its existence means that the model is complete.
    storage.write_json(storage.join(folder, MODEL_RECORD_FILE), record)
    return folder
