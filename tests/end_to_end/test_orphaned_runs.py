"""A run of `airflow dags test` that was killed does not block later runs of the DAG."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.airflow.orphans import end_orphaned_runs, find_orphaned_runs
from local.environment import local_environment
from tests.end_to_end.conftest import copy_database

pytestmark = pytest.mark.slow

TIMEOUT_SECONDS = 120

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
