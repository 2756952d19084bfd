"""``make run``: the main job end to end on this machine, with Airflow, the local EMR endpoint and Spark."""

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
from local.airflow.home import RunError, exclusive_lock
from local.airflow.orphans import end_orphaned_runs
from local.emr.process import EndpointProcess
from local.environment import LOCAL, UNREACHABLE_URL
from local.processes.children import running
from local.run import watch
from local.run.display import Display
from local.run.failure import failure_text
from local.run.lake import LakeError, read_summary
from local.run.preparation import prepared
from local.run.store import locate_lake
from local.s3.process import StoreError

POLL_SECONDS = 0.5


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
        help="folder of photos, <label>/<name>.jpg at any depth; default: ../shared/fruits/Training if it exists, "
        "else a generated sample",
    )
    parser.add_argument(
        "--store",
        choices=("folder", "s3"),
        default="folder",
        help="storage of the lake: a folder, or the local S3 store (SeaweedFS), started for the run (default: folder)",
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
        help=f"a parameter of the run, as in the trigger form; one of: {', '.join(RunParams.__dataclass_fields__)}",
    )
    return parser.parse_args(argv)


def read_params(texts: Sequence[str]) -> dict[str, Any]:
    """Return the configuration of a DAG run, parsed from ``NAME=VALUE`` texts.

    The value of a text parameter is used as it is; other values are parsed as JSON. A value that is not JSON is kept as
    text: the DAG checks types and bounds.

    Raises
    ------
    RunError
        If a text has another form, or names no parameter.
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
    """Run the DAG once with ``airflow dags test`` and show its progress; return its final state."""
    known = watch.known_runs(database, FEATURES_DAG)
    command = [sys.executable, "-m", "airflow", "dags", "test", FEATURES_DAG, "--conf", json.dumps(conf)]
    with running(command, environ=environ, log=log, cwd=Path(environ["AIRFLOW_HOME"])) as process:
        while process.poll() is None:
            display.show(watch.read_state(database, FEATURES_DAG, known), watch.read_progress(state_dir))
            time.sleep(POLL_SECONDS)
    end_orphaned_runs(environ, database, log, display.print_line)
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
    with (
        exclusive_lock(state / "run.lock"),
        Display(console) as display,
        prepared(
            state,
            lake=lake,
            store=options.store,
            images=options.images,
            pattern=conf.get("image_pattern", RunParams.image_pattern),
            include_hidden=conf.get("include_hidden", RunParams.include_hidden) is True,
            log=log,
            report=display.print_line,
        ) as ready,
    ):
        environ = ready.environment(UNREACHABLE_URL)
        with EndpointProcess(endpoint_dir, environment=environ) as endpoint:
            display.print_line(f"local EMR endpoint at {endpoint.url}; Airflow's log: {log}")
            ended = run_dag(ready.environment(endpoint.url), conf, ready.database, endpoint_dir, log, display)
        succeeded = ended is not None and ended.state == "success"
        text = read_summary(environ, lake) if succeeded else failure_text(ended, log)
    console.print(f"\n{text}", markup=False, highlight=False, soft_wrap=True)
    return 0 if succeeded else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; Ctrl-C and SIGTERM stop everything that it started."""
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
        console.print("make run: interrupted; everything that it started has stopped", markup=False, highlight=False)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
