"""The state of a run, read from Airflow's database, and the progress of its Spark job, read from the step's log."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from include.records import FAILURE
from local.airflow.home import open_read_only
from spark_jobs.runtime.progress import PROGRESS_PATTERN

CLOSING_TASK = "close_run"
"""The DAG's last task, which writes the report of a failed run."""

TAIL_BYTES = 16 * 1024
"""Only the end of a step's log is read, since a log may be long."""


@dataclass(frozen=True)
class RunState:
    """State of a run, and of its tasks by task id."""

    run_id: str
    state: str
    tasks: dict[str, str]

    def tasks_in(self, *states: str) -> list[str]:
        """Return the ids of the tasks that are in one of these states, in no particular order."""
        return [task for task, state in self.tasks.items() if state in states]


def read_state(database: Path, dag_id: str, known: frozenset[str]) -> RunState | None:
    """Return the state of the newest run that is not among the known ones.

    Parameters
    ----------
    database : Path
        Airflow's SQLite file.
    dag_id : str
        The DAG.
    known : frozenset of str
        Ids of the runs to ignore, as :func:`known_runs` returned them earlier.

    Returns
    -------
    RunState or None
        None if there is no new run, or if the database is locked or has no tables yet.
    """
    if not database.exists():
        return None
    with contextlib.closing(open_read_only(database, timeout=1)) as connection:
        try:
            runs = connection.execute(
                "SELECT run_id, state FROM dag_run WHERE dag_id = ? ORDER BY id DESC", [dag_id]
            ).fetchall()
            new = [(run_id, state) for run_id, state in runs if run_id not in known]
            if not new:
                return None
            run_id, state = new[0]
            rows = connection.execute(
                "SELECT task_id, state FROM task_instance WHERE dag_id = ? AND run_id = ?", [dag_id, run_id]
            ).fetchall()
        except sqlite3.OperationalError:  # locked, or not migrated yet; the caller reads again
            return None
    return RunState(run_id, state, {task: text or "none" for task, text in rows})


def known_runs(database: Path, dag_id: str) -> frozenset[str]:
    """Return the ids of the DAG's runs."""
    if not database.exists():
        return frozenset()
    with contextlib.closing(open_read_only(database, timeout=5)) as connection:
        rows = connection.execute("SELECT run_id FROM dag_run WHERE dag_id = ?", [dag_id]).fetchall()
    return frozenset(run_id for (run_id,) in rows)


def read_reported_run(database: Path, dag_id: str, run_id: str) -> str | None:
    """Return the slug of a failed run if its report is written: ``close_run`` then leaves it as an XCom."""
    with contextlib.closing(open_read_only(database, timeout=5)) as connection:
        row = connection.execute(
            "SELECT value FROM xcom WHERE dag_id = ? AND run_id = ? AND task_id = ? AND key = 'run'",
            [dag_id, run_id, CLOSING_TASK],
        ).fetchone()
    return str(json.loads(row[0])) if row else None


@dataclass(frozen=True)
class Failure:
    """Why a task failed, as its callback stored it (:mod:`include.autopsy.task_failure`)."""

    task: str
    cause: str = ""
    """Empty if the task was ended before it could store the cause."""
    advice: str = ""


def read_failures(database: Path, dag_id: str, run_id: str) -> list[Failure]:
    """Return why tasks of a run failed, the first failure first.

    ``close_run`` is left out, since it fails because of the others, unless no other task has failed.
    """
    with contextlib.closing(open_read_only(database, timeout=5)) as connection:
        rows = connection.execute(
            "SELECT task_id, value FROM task_instance LEFT JOIN ("
            "SELECT task_id, value FROM xcom WHERE dag_id = :dag AND run_id = :run AND key = :key) USING (task_id) "
            "WHERE dag_id = :dag AND run_id = :run AND state = 'failed' ORDER BY end_date",
            {"dag": dag_id, "run": run_id, "key": FAILURE},
        ).fetchall()
    found = [(task, json.loads(value) if value else {}) for task, value in rows]
    failures = [Failure(task, why.get("cause", ""), why.get("advice", "")) for task, why in found]
    return [failure for failure in failures if failure.task != CLOSING_TASK] or failures


@dataclass(frozen=True)
class Progress:
    """Progress of a Spark job or of one of its stages."""

    name: str
    done: int
    total: int
    unit: str


def read_progress(state_dir: Path) -> Progress | None:
    """Return the progress in the last progress line of the newest step's log; None if it has no such line.

    In client mode ``spark-submit`` sends both streams of the Python driver to its own standard output.
    """
    logs = sorted(state_dir.glob("clusters/*/steps/*/stdout"), key=lambda path: path.stat().st_mtime)
    if not logs:
        return None
    with logs[-1].open("rb") as stream:
        stream.seek(max(0, logs[-1].stat().st_size - TAIL_BYTES))
        text = stream.read().decode("utf-8", errors="replace")
    found = list(PROGRESS_PATTERN.finditer(text))
    if not found:
        return None
    last = found[-1]
    return Progress(last["name"], int(last["done"]), int(last["total"]), last["unit"])
