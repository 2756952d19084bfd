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

from include.lake.layout import Lake
from include.settings.dag_ids import FEATURES_DAG
from include.settings.parameters import RunParams
from local.airflow.home import RunError, state_lock
from local.airflow.orphans import end_orphaned_runs
from local.emr.process import EndpointProcess, EndpointProcessError
from local.environment import LOCAL, UNREACHABLE_URL
from local.processes.children import running
from local.run import watch
from local.run.console import PlainTextConsole
from local.run.display import Display
from local.run.failure import failure_text
from local.run.lake import LakeError, read_summary
from local.run.locations import add_locations, resolve_locations
from local.run.preparation import prepared
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
    add_locations(parser)
    parser.add_argument(
        "--state", type=Path, default=LOCAL, help="folder of Airflow's database, logs and models (default: .local)"
    )
    parser.add_argument(
        "--params",
        default="",
        metavar="'NAME=VALUE …'",
        help="parameters of the run, as in the trigger form, separated by spaces; or a JSON object; the names: "
        + ", ".join(RunParams.__dataclass_fields__),
    )
    return parser.parse_args(argv)


def read_params(text: str) -> dict[str, Any]:
    """Return the configuration of a DAG run, parsed from ``NAME=VALUE …`` or from a JSON object.

    The value of a text parameter is used as it is; other values are parsed as JSON. A value that is not JSON is kept as
    text: the DAG checks types and bounds.

    Raises
    ------
    RunError
        If the text has another form, or names no parameter.
    """
    if text.lstrip().startswith("{"):
        try:
            params: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise RunError(f"PARAMS={text}: not a JSON object: {error}") from None
        for name in params:
            _check_name(name, name in RunParams.__dataclass_fields__)
        return params
    params = {}
    for assignment in text.split():
        name, separator, value = assignment.partition("=")
        _check_name(assignment, bool(separator) and name in RunParams.__dataclass_fields__)
        params[name] = value
        if not isinstance(getattr(RunParams, name), str):
            with contextlib.suppress(ValueError):
                params[name] = json.loads(value)
    return params


def _check_name(given: str, valid: bool) -> None:
    if not valid:
        known = ", ".join(RunParams.__dataclass_fields__)
        raise RunError(f"PARAMS: {given!r}: expected NAME=VALUE with a NAME of {known}")


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


def describe_failure(ended: watch.RunState | None, database: Path, log: Path, lake: Lake) -> str:
    """Return why a run failed, what to do, and where its log and its report are."""
    if ended is None:
        return failure_text([], log)
    slug = watch.read_reported_run(database, FEATURES_DAG, ended.run_id)
    failures = watch.read_failures(database, FEATURES_DAG, ended.run_id)
    return failure_text(failures, log, lake.run(slug).report_html if slug else None)


def run(options: argparse.Namespace, console: PlainTextConsole) -> int:
    """Run the main job; return the exit code."""
    conf = read_params(options.params)
    lake, state = options.lake, options.state.expanduser().absolute()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    log, endpoint_dir = state / "logs" / f"{stamp}.log", state / "emr" / stamp
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        state_lock(state),
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
        text = read_summary(environ, lake) if succeeded else describe_failure(ended, ready.database, log, Lake(lake))
    console.print(f"\n{text}")
    return 0 if succeeded else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; Ctrl-C and SIGTERM stop everything that it started."""
    options = read_options(argv)
    logging.basicConfig(level=logging.WARNING)
    console = PlainTextConsole()
    previous = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        resolve_locations(options)
        return run(options, console)
    except (RunError, LakeError, StoreError, EndpointProcessError) as error:
        console.print(f"make run: {error}")
        return 2
    except KeyboardInterrupt:
        console.print("make run: interrupted; everything that it started has stopped")
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)


if __name__ == "__main__":
    raise SystemExit(main())
