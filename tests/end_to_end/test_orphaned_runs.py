"""A run of `airflow dags test` that was killed, at any moment, does not block later runs of the DAG."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.airflow.orphans import end_orphaned_runs, find_orphaned_runs
from local.environment import local_environment
from tests.end_to_end.conftest import copy_database
from tests.end_to_end.interrupted_runs import MOMENTS, dag_file

pytestmark = pytest.mark.slow

TIMEOUT_SECONDS = 600

DAG = """
import time
from airflow.sdk import dag, task

@dag(schedule=None, max_active_runs=1)
def killed():
    @task
    def quick():
        pass

    @task
    def long():
        time.sleep(600)

    @task
    def last():
        pass

    quick() >> long() >> last()

killed()
"""


def query(home: Path, sql: str) -> list[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(home / "airflow.db", timeout=10)) as connection:
        return connection.execute(sql).fetchall()


def task_states(home: Path) -> dict[str, str]:
    return dict(query(home, "SELECT task_id, coalesce(state, 'none') FROM task_instance WHERE dag_id = 'killed'"))


@pytest.fixture
def airflow(database, tmp_path) -> tuple[Path, dict[str, str]]:
    """A home of Airflow whose only DAG has a long task, and its environment."""
    home, dags = tmp_path / "airflow", tmp_path / "dags"
    copy_database(database, home)
    dags.mkdir()
    (dags / "killed.py").write_text(DAG, encoding="utf-8")
    environ = local_environment(airflow_home=home, endpoint_url="http://127.0.0.1:1", lake=f"file://{tmp_path}")
    return home, environ | {"AIRFLOW__CORE__DAGS_FOLDER": str(dags)}


@contextlib.contextmanager
def dags_test(home: Path, environ: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `airflow dags test` until its long task runs, then yield its process."""
    command = [sys.executable, "-m", "airflow", "dags", "test", "killed"]
    with log.open("wb") as stream, subprocess.Popen(command, env=environ, stdout=stream, stderr=stream) as process:
        try:
            deadline = time.monotonic() + TIMEOUT_SECONDS
            while task_states(home).get("long") != "running":
                assert process.poll() is None, log.read_text(errors="replace")
                assert time.monotonic() < deadline, log.read_text(errors="replace")
                time.sleep(0.2)
            yield process
        finally:
            process.kill()


def test_a_killed_run_is_set_to_failed_and_runs_of_others_stay(airflow, tmp_path):
    home, environ = airflow
    with dags_test(home, environ, tmp_path / "log") as process:
        process.kill()
        process.wait(TIMEOUT_SECONDS)
    orphans = find_orphaned_runs(home / "airflow.db")
    assert len(orphans) == 1
    assert task_states(home) == {"quick": "success", "long": "running", "last": "none"}

    lines: list[str] = []
    end_orphaned_runs(environ, home / "airflow.db", tmp_path / "log", lines.append)
    assert query(home, "SELECT run_id, state FROM dag_run") == [(orphans[0], "failed")]
    assert task_states(home) == {"quick": "success", "long": "failed", "last": "failed"}
    assert orphans[0] in lines[0]

    with contextlib.closing(sqlite3.connect(home / "airflow.db")) as connection:
        connection.execute("UPDATE dag_run SET state = 'running', triggered_by = 'UI'")
        connection.commit()
    end_orphaned_runs(environ, home / "airflow.db", tmp_path / "log", lines.append)
    assert query(home, "SELECT state FROM dag_run") == [("running",)], "a run of the scheduler continues"
    assert len(lines) == 1


def views(environ: dict[str, str], action: str) -> list[dict[str, Any]]:
    """Return what Airflow's scheduler would do, without further runs and with a triggered run of each DAG."""
    command = [sys.executable, "-m", "tests.end_to_end.interrupted_runs", action]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_killed_at_each_moment_the_scheduler_starts_the_next_run(airflow, tmp_path):
    """The reference is Airflow's scheduler: its queries for the runs to start, to continue and to create."""
    home, environ = airflow
    environ = environ | {"AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE": "100"}
    (tmp_path / "dags" / "killed.py").write_text(dag_file(), encoding="utf-8")
    alone, triggered = views(environ, "create")
    blocked = sorted(moment for moment, (state, _) in MOMENTS.items() if state == "running")
    assert alone["continues"] == blocked
    assert alone["no_scheduled_run"] == sorted(MOMENTS)
    assert alone["occupied"] > 0
    assert set(triggered["starts"]) == {"not_started"}, "the triggered runs of the others stay queued"

    lines: list[str] = []
    end_orphaned_runs(environ, home / "airflow.db", tmp_path / "log", lines.append)
    assert len(lines) == 1
    alone, triggered = views(environ, "view")
    assert alone == {"starts": [], "continues": [], "active": {}, "no_scheduled_run": [], "occupied": 0}
    assert triggered["starts"] == sorted(MOMENTS)


def test_killed_in_a_transaction_the_run_is_as_before_it(airflow):
    """Killed while the run is being created: the database stays readable, without the half of the transaction."""
    home, _ = airflow
    insert = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA cache_size = 1")  # so that pages are written before the commit
connection.execute("BEGIN")
connection.execute("CREATE TABLE filler (text)")
connection.executemany("INSERT INTO filler VALUES (?)", [["x" * 4096]] * 200)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", insert, home / "airflow.db"], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (home / "airflow.db-wal").stat().st_size > 200 * 4096
    assert find_orphaned_runs(home / "airflow.db") == []
    assert query(home, "SELECT count(*) FROM sqlite_master WHERE name = 'filler'") == [(0,)]
