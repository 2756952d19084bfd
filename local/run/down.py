"""``make down``: stop the service."""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path

from include.settings.dag_ids import FEATURES_DAG
from local.airflow.api import AirflowApi
from local.airflow.configuration import USER, read_password
from local.run.console import PlainTextConsole
from local.run.leftovers import stop_leftovers, wait_until
from local.run.record import Record, read_record, record_file

STOP_SECONDS = 120.0


def down(options: argparse.Namespace, console: PlainTextConsole) -> int:
    """Stop the service and all its processes; return the exit code."""
    state = options.state.expanduser().absolute()
    record = read_record(state)
    if record is None:
        console.print("make down: nothing is running")
        return 0
    if not record.alive:
        console.print("make down: it was killed; stopping its processes")
    else:
        console.print(f"stopping Airflow at {record.url} and the local EMR endpoint")
        report_interrupted_runs(record, state, console)
        os.kill(record.pid, signal.SIGINT)
        if not wait_until(lambda: not record.alive, STOP_SECONDS):
            os.kill(record.pid, signal.SIGKILL)
            console.print(f"it did not stop in {STOP_SECONDS:g} s and was killed; see {state / 'logs'}")
    stop_leftovers(record, state)
    record_file(state).unlink(missing_ok=True)
    console.print("make down: everything has stopped; the lake, Airflow's database and the logs are kept")
    return 0


def report_interrupted_runs(record: Record, state: Path, console: PlainTextConsole) -> None:
    """Print the active runs: their clusters stop with the endpoint."""
    api = AirflowApi(record.url, USER, read_password(state / "airflow" / "passwords.json"))
    try:
        active = api.active_runs(FEATURES_DAG)
    except OSError as error:  # Airflow may be starting, or hang; the service is stopped in any case
        console.print(f"(Airflow does not answer: {error})")
        return
    for run_id in active:
        console.print(f"the run {run_id} is interrupted: its cluster stops, and it fails at the next make up")
