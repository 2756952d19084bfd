"""Publish models and code into a lake. Published artifacts never change; their content names their folder.

The model is exported from Keras's ImageNet weights and checked against Keras, in a process of its own, because nothing
on the Airflow side imports TensorFlow. ``models/current.json`` then names it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from include.artifacts.bundle import PROJECT, Bundle
from include.artifacts.weights import WeightsError
from include.lake.layout import Lake
from include.lake.models import name_published_model
from include.lake.objects import LakePath, write_bytes
from include.records import ModelFile
from spark_jobs.args import MODEL_FILE, MODEL_FOLDER_DIGITS, MODEL_RECORD_FILE


def export_model(weights: str, cache: Path) -> ModelFile:
    """Export a model into a folder on this machine, unless it is already there; return its record.

    Raises
    ------
    WeightsError
        When the export fails; the message is the last line of its output.
    """
    cache.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "spark_jobs.model.export", "--weights", weights, "--output", f"file://{cache}"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last_line = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise WeightsError(f"the model could not be exported from {weights}: {last_line}")
    record: ModelFile = json.loads(done.stdout.splitlines()[-1])
    return record


def publish_model(lake: Lake, weights: str, cache: Path, aws_conn_id: str | None) -> ModelFile:
    """Export a model, upload it into the folder that its digest names, and let runs use it by default.

    Returns
    -------
    ModelFile
        The model's record.

    Raises
    ------
    WeightsError
        When the export fails.
    """
    record = export_model(weights, cache)
    folder = record["digest"][:MODEL_FOLDER_DIGITS]
    for name in (MODEL_FILE, MODEL_RECORD_FILE):
        target = LakePath(f"{lake.model(folder)}/{name}", aws_conn_id)
        if not target.exists():
            write_bytes(target, (cache / folder / name).read_bytes())
    name_published_model(lake, record["digest"], aws_conn_id)
    return record


def put_bundle(lake: Lake, bundle: Bundle, aws_conn_id: str | None) -> str:
    """Upload a code bundle into the folder that its digest names; return the folder's URI.

    Files that exist are kept: the digest names their content, and steps of other runs may be reading them.
    """
    folder = lake.code(bundle.digest)
    for name, data in bundle.files.items():
        target = LakePath(f"{folder}/{name}", aws_conn_id)
        if not target.exists():
            write_bytes(target, data)
    return folder
