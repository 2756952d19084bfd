"""Which model a run uses: the published one, or the one that is set."""

from __future__ import annotations

from typing import Any

from include.lake.layout import Lake
from include.lake.objects import lake_path, read_json, write_json
from include.settings.deployment import Settings
from spark_jobs.args import MODEL_FILE, MODEL_FOLDER_DIGITS, MODEL_RECORD_FILE


class ModelError(RuntimeError):
    """There is no model to run with, or one that this profile does not allow."""


def find_model(lake: Lake, settings: Settings) -> dict[str, Any]:
    """Return the record of the model that a run has to use.

    Returns
    -------
    dict
        ``model.json``, and ``uri``: the model's folder.

    Raises
    ------
    ModelError
        When no model is published, the one that is set is not there, or it has random weights with profile ``aws``.
    """
    folder = lake.model(settings.model or _published_model(lake, settings.aws_conn_id))
    record_path = lake_path(f"{folder}/{MODEL_RECORD_FILE}", settings.aws_conn_id)
    if not record_path.exists() or not lake_path(f"{folder}/{MODEL_FILE}", settings.aws_conn_id).exists():
        raise ModelError(
            f"no model at {folder}: expected {MODEL_FILE} and {MODEL_RECORD_FILE} there. "
            f"Publish it with `make publish ROOT={lake.root}`"
            + (f", or correct FRUITS_MODEL={settings.model!r}" if settings.model else "")
        )
    record = read_json(record_path, "`make publish` writes it with the model")
    if settings.profile == "aws" and record["weights"]["source"] == "random":
        raise ModelError(
            f"the model at {folder} has random weights, for demonstrations: its features mean nothing. "
            f"Publish one with real weights: `make publish ROOT={lake.root}`, with FRUITS_WEIGHTS=FILE if needed"
        )
    return record | {"uri": folder}


def _published_model(lake: Lake, aws_conn_id: str | None) -> str:
    path = lake_path(lake.published_model, aws_conn_id)
    if not path.exists():
        raise ModelError(
            f"no model is published under {lake.models}: run `make publish ROOT={lake.root}` once, before the first run"
        )
    return str(read_json(path, "`make publish` writes it")["model"])


def name_published_model(lake: Lake, digest: str, aws_conn_id: str | None) -> None:
    """Make a model, already in the lake, the one that runs use."""
    write_json(lake_path(lake.published_model, aws_conn_id), {"model": digest[:MODEL_FOLDER_DIGITS]})
