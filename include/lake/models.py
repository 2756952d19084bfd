"""The model that a run uses: the published one, or the one that ``FRUITS_MODEL`` names."""

from __future__ import annotations

from include.lake.layout import Lake
from include.lake.objects import LakePath, read_json, write_json
from include.records import ModelRecord, PublishedModel
from include.settings.deployment import Settings
from spark_jobs.args import MODEL_FILE, MODEL_FOLDER_DIGITS, MODEL_RECORD_FILE
from spark_jobs.records import ModelFile


class ModelError(RuntimeError):
    """The lake contains no usable model, or the profile does not allow the model."""


def find_model(lake: Lake, settings: Settings) -> ModelRecord:
    """Return the model that a run has to use.

    Raises
    ------
    ModelError
        If no model is published, if the model that ``FRUITS_MODEL`` names does not exist, or if the model has random
        weights and the profile is ``aws``.
    """
    folder = lake.model(settings.model or _published_model(lake, settings.aws_conn_id))
    record_path = LakePath(f"{folder}/{MODEL_RECORD_FILE}", settings.aws_conn_id)
    if not record_path.exists() or not LakePath(f"{folder}/{MODEL_FILE}", settings.aws_conn_id).exists():
        raise ModelError(
            f"no model at {folder}: expected {MODEL_FILE} and {MODEL_RECORD_FILE} in this folder. "
            f"Publish it with `make publish ROOT={lake.root}`"
            + (f", or correct FRUITS_MODEL={settings.model!r}" if settings.model else "")
        )
    record: ModelFile = read_json(record_path, "`make publish` writes it with the model")
    if settings.profile == "aws" and record["weights"]["source"] == "random":
        raise ModelError(
            f"the model at {folder} has random weights: it is for demonstrations only, its features have no meaning. "
            f"Publish one with real weights: `make publish ROOT={lake.root}`, with FRUITS_WEIGHTS=FILE if needed"
        )
    return {**record, "uri": folder}


def _published_model(lake: Lake, aws_conn_id: str | None) -> str:
    path = LakePath(lake.published_model, aws_conn_id)
    if not path.exists():
        raise ModelError(
            f"no model is published under {lake.models}: run `make publish ROOT={lake.root}` once, before the first run"
        )
    record: PublishedModel = read_json(path, "`make publish` writes it")
    return record["model"]


def name_published_model(lake: Lake, digest: str, aws_conn_id: str | None) -> None:
    """Publish a model that is already in the lake: runs use it by default from now on."""
    record: PublishedModel = {"model": digest[:MODEL_FOLDER_DIGITS]}
    write_json(LakePath(lake.published_model, aws_conn_id), record)
