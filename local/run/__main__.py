"""``make run``: the main job end to end on this machine, through Airflow, the local EMR endpoint and Spark."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from include.settings.dag_ids import FEATURES_DAG
from include.settings.parameters import RunParams
from local.airflow.home import RunError, alone, migrate_database
from local.airflow.orphans import end_orphaned_runs
from local.emr.process import EndpointProcess
from local.environment import LOCAL, local_environment
from local.processes.children import running
from local.run import watch
from local.run.display import Display
from local.run.failure import failure_text
from local.run.lake import LakeError, fill_lake, read_summary
from local.run.store import NOWHERE, local_store, locate_lake
from local.s3.process import StoreError

LOOK_SECONDS = 0.5


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="make run",
        description="Run the main job once on this machine: photos to features and principal components.",
        epilog="As make variables: make run IMAGES=folder LAKE=folder STORE=s3 "
        "PARAMS='variance_target=0.9 images_per_task=32'",
    )
    parser.add_argument(
        "--images",
        type=Path,
        help="folder of photos, <label>/<name>.jpg at any depth; by default ../shared/fruits/Training when it is "
        "there, else a generated sample",
    )
    parser.add_argument(
        "--store",
        choices=("folder", "s3"),
        default="folder",
        help="what the lake is on: a folder, or the local S3 store (SeaweedFS), started for the run (default: folder)",
    )
    parser.add_argument(
        "--lake",
        help="the lake: a folder (default: .local/lake), or with --store s3 a bucket (default: s3://fruits; its data: "
        ".local/s3)",
    )
    parser.add_argument(
        "--state", type=Path, default=LOCAL, help="folder of Airflow's database, logs and models (default: .local)"
    )
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"a parameter of the run, as in the trigger form; any of: {', '.join(RunParams.__dataclass_fields__)}",
    )
    return parser.parse_args(argv)


def read_params(texts: Sequence[str]) -> dict[str, Any]:
    """Turn ``NAME=VALUE`` into the run's configuration: a text as it is, where the parameter is one; else JSON.

    Raises
    ------
    RunError
        When one is not a parameter; the DAG itself checks types and bounds.
    """
    params: dict[str, Any] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or name not in RunParams.__dataclass_fields__:
            known = ", ".join(RunParams.__dataclass_fields__)
            raise RunError(f"--param {text!r}: expected NAME=VALUE with a NAME of {known}")
        params[name] = value
        if not isinstance(getattr(RunParams, name), str):
            with contextlib.suppress(ValueError):
                params[name] = json.loads(value)
    return params


def run_dag(
    environ: dict[str, str], conf: dict[str, Any], database: Path, state_dir: Path, log: Path, display: Display
) -> watch.RunState | None:
    """Run the DAG once through Airflow, and show what it does; return the state it ended in."""
    known = watch.known_runs(database, FEATURES_DAG)
    command = [sys.executable, "-m", "airflow", "dags", "test", FEATURES_DAG, "--conf", json.dumps(conf)]
    with running(command, environ=environ, log=log, cwd=Path(environ["AIRFLOW_HOME"])) as process:
        while process.poll() is None:
            display.show(watch.read_state(database, FEATURES_DAG, known), watch.read_progress(state_dir))
            time.sleep(LOOK_SECONDS)
    end_orphaned_runs(environ, database, log, display.line)
    state = watch.read_state(database, FEATURES_DAG, known)
    display.show(state, None)
    return state


def run(options: argparse.Namespace, console: Console) -> int:
    """Run the main job; return the exit code."""
    conf = read_params(options.param)
    lake, state = locate_lake(options.lake, options.store), options.state.expanduser().absolute()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    log, endpoint_dir = state / "logs" / f"{stamp}.log", state / "emr" / stamp
    log.parent.mkdir(parents=True, exist_ok=True)

    def environment(endpoint_url: str, store_url: str | None = None) -> dict[str, str]:
        return local_environment(
            airflow_home=state / "airflow", endpoint_url=endpoint_url, lake=lake, store_url=store_url
        )

    with (
        alone(state / "run.lock"),
        Display(console) as display,
        local_store(options.store, state / "s3", environment(NOWHERE)) as store_url,
    ):
        nowhere = environment(NOWHERE, store_url)
        if store_url:
            display.line(f"local S3 store at {store_url}; its data: {state / 's3'}")
        pattern = conf.get("image_pattern", RunParams.image_pattern)
        fill_lake(nowhere, lake, options.images, pattern, state, log, display.line)
        database = migrate_database(nowhere, log, display.line)
        end_orphaned_runs(nowhere, database, log, display.line)
        with EndpointProcess(endpoint_dir, environment=nowhere) as endpoint:
            display.line(f"local EMR endpoint at {endpoint.url}; Airflow's log: {log}")
            ended = run_dag(environment(endpoint.url, store_url), conf, database, endpoint_dir, log, display)
        succeeded = ended is not None and ended.state == "success"
        text = read_summary(nowhere, lake) if succeeded else failure_text(ended, log)
    console.print(f"\n{text}", markup=False, highlight=False, soft_wrap=True)
    return 0 if succeeded else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; Ctrl-C and SIGTERM end everything that it has started."""
    options = read_options(argv)
    logging.basicConfig(level=logging.WARNING)
    console = Console()
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        return run(options, console)
    except (RunError, LakeError, StoreError) as error:
        console.print(f"make run: {error}", markup=False, highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print("make run: stopped; everything that it started has ended", markup=False, highlight=False)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
