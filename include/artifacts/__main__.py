"""The commands ``make model``, ``make wheels`` and ``make publish``: create artifacts and publish them into a lake."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from botocore.exceptions import BotoCoreError

from include.artifacts.bundle import PROJECT, build_bundle
from include.artifacts.publishing import export_model, publish_model, put_bundle
from include.artifacts.weights import DOWNLOAD, WeightsError, find_weights
from include.artifacts.wheelhouse import CACHE, build_wheelhouse, publish_wheelhouse
from include.artifacts.wheels import WheelhouseError
from include.lake.layout import Lake
from include.settings.deployment import SettingsError
from include.settings.readers import read_location
from spark_jobs.args import MODEL_FILE, MODEL_FOLDER_DIGITS

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = read_options(argv)
    try:
        if options.command == "wheels":
            log.info("Wheels: %s", build_wheelhouse(options.wheelhouse.absolute()))
            return 0
        weights = find_weights(shared=PROJECT.parent / "shared") or DOWNLOAD
        log.info("Weights: %s", weights)
        cache = options.cache.absolute()
        if options.command == "model":
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
        prog="python -m include.artifacts",
        description="Create the artifacts that runs read, and publish them into a lake.",
        epilog="Weights: FRUITS_WEIGHTS, Keras's cache, ../shared/weights, or Keras's download, in this order; never "
        "random weights. boto3 finds the AWS credentials: a profile, variables or a role.",
    )
    cache = argparse.ArgumentParser(add_help=False)
    cache.add_argument("--cache", type=Path, default=PROJECT / ".local" / "models", help="folder for exported models")
    wheelhouse = argparse.ArgumentParser(add_help=False)
    wheelhouse.add_argument("--wheelhouse", type=Path, default=CACHE, help="folder for downloaded wheels")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("model", parents=[cache], help="export the model on this machine (make model)")
    commands.add_parser("wheels", parents=[wheelhouse], help="download and check the nodes' wheels (make wheels)")
    command = commands.add_parser(
        "publish", parents=[cache, wheelhouse], help="publish model, code and wheels into a lake (make publish)"
    )
    command.add_argument("--root", required=True, help="the lake's root, s3://bucket[/folder] or file:///path")
    return parser.parse_args(argv)


def publish(root: str, weights: str, cache: Path, wheelhouse: Path) -> None:
    """Publish the model, the code bundle and the wheelhouse into a lake; existing artifacts are not changed."""
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
    # force: importing Airflow has already configured logging.
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    raise SystemExit(main())
