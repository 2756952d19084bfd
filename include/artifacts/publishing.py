"""Artifacts of a lake, immutable and named by content: models, code, wheels. Also ``make publish ROOT=s3://bucket``.

The model is exported from Keras's ImageNet weights (in a process of its own: nothing on the Airflow side imports
TensorFlow), checked against Keras, and named in ``models/current.json``. The code bundle goes along, so that a bucket
can be inspected before the first run; every run puts its own there again. The wheelhouse is what nodes install.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError

from include.artifacts.bundle import Bundle, build_bundle
from include.artifacts.weights import DOWNLOAD, WeightsError, find_weights
from include.artifacts.wheelhouse import CACHE, build_wheelhouse, publish_wheelhouse
from include.artifacts.wheels import WheelhouseError
from include.lake.layout import Lake
from include.lake.models import name_published_model
from include.lake.objects import lake_path, write_bytes
from include.settings.deployment import SettingsError
from include.settings.readers import read_location
from spark_jobs.args import MODEL_FILE, MODEL_FOLDER_DIGITS, MODEL_RECORD_FILE

log = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parents[2]


def export_model(weights: str, cache: Path) -> dict[str, Any]:
    """Export a model into a folder on this machine, unless it is there; return its record.

    Raises
    ------
    WeightsError
        When the export fails; the message is its last line.
    """
    command = [sys.executable, "-m", "spark_jobs.model.export", "--weights", weights, "--output", f"file://{cache}"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise WeightsError(f"the model could not be exported from {weights}: {last}")
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return record


def publish_model(lake: Lake, weights: str, cache: Path, aws_conn_id: str | None) -> dict[str, Any]:
    """Export a model, put it into the lake by its digest, and make it the one that runs use.

    Returns
    -------
    dict
        The model's record.

    Raises
    ------
    WeightsError
        When the export fails.
    """
    cache.mkdir(parents=True, exist_ok=True)
    record = export_model(weights, cache)
    folder = record["digest"][:MODEL_FOLDER_DIGITS]
    for name in (MODEL_FILE, MODEL_RECORD_FILE):
        target = lake_path(f"{lake.model(folder)}/{name}", aws_conn_id)
        if not target.exists():
            write_bytes(target, (cache / folder / name).read_bytes())
    name_published_model(lake, record["digest"], aws_conn_id)
    return record


def put_bundle(lake: Lake, bundle: Bundle, aws_conn_id: str | None) -> str:
    """Put a code bundle into the lake, under its digest; return its folder."""
    folder = lake.code(bundle.digest)
    for name, data in bundle.files.items():
        write_bytes(lake_path(f"{folder}/{name}", aws_conn_id), data)
    return folder


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = read_options(argv)
    cache = options.cache.absolute()
    try:
        weights = find_weights(shared=PROJECT.parent / "shared") or DOWNLOAD
        log.info("Weights: %s", weights)
        if options.command == "model":
            cache.mkdir(parents=True, exist_ok=True)
            log.info("Model: %s", cache / export_model(weights, cache)["digest"][:MODEL_FOLDER_DIGITS])
        else:
            publish(options.root, weights, cache, options.wheelhouse.absolute())
    except (SettingsError, WeightsError, WheelhouseError, OSError, BotoCoreError) as error:
        log.error("%s", error)
        return 1
    return 0


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m include.artifacts.publishing",
        description="Make the artifacts that runs use, and publish them into a lake.",
        epilog="Weights: FRUITS_WEIGHTS, Keras's cache, ../shared/weights, or Keras's download, in this order; never "
        "random ones. AWS credentials are boto3's own: a profile, variables or a role.",
    )
    cache = argparse.ArgumentParser(add_help=False)
    cache.add_argument("--cache", type=Path, default=PROJECT / ".local" / "models", help="folder for exported models")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("model", parents=[cache], help="export the model on this machine (make model)")
    command = commands.add_parser(
        "publish", parents=[cache], help="put model, code and wheels into a lake (make publish)"
    )
    command.add_argument("--root", required=True, help="the lake's root, s3://bucket[/folder] or file:///path")
    command.add_argument("--wheelhouse", type=Path, default=CACHE, help="folder for downloaded wheels")
    return parser.parse_args(argv)


def publish(root: str, weights: str, cache: Path, wheelhouse: Path) -> None:
    """Put the model, the code bundle and the wheelhouse into a lake; what is there already stays as it is."""
    try:
        lake = Lake(read_location(root))
    except ValueError as error:
        raise SettingsError([f"ROOT={root!r}: expected {error}"]) from None
    record = publish_model(lake, weights, cache, None)
    folder = record["digest"][:MODEL_FOLDER_DIGITS]
    size = (cache / folder / MODEL_FILE).stat().st_size
    log.info("Model: %s (%s weights), %.1f MB", lake.model(folder), record["weights"]["source"], size / 1e6)
    bundle = build_bundle()
    size = sum(map(len, bundle.files.values()))
    log.info("Code: %s, %.1f MB", put_bundle(lake, bundle, None), size / 1e6)
    wheels = build_wheelhouse(wheelhouse)
    size = sum(path.stat().st_size for path in wheels.rglob("*.whl"))
    log.info("Wheels: %s, %.1f MB", publish_wheelhouse(lake, wheels, None), size / 1e6)


if __name__ == "__main__":
    # By force: Airflow, once imported, has set up its own.
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    raise SystemExit(main())
