"""Runs of ``airflow dags test`` that ended early: Airflow's database still says that they run.

``dags test`` is its own scheduler: if it is killed, nobody else sets the state of its run. Such a run counts against
``max_active_runs``, so that the scheduler of a later ``make up`` starts no other run of the DAG.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from local.airflow.home import RunError, open_read_only
from local.processes.children import running

UNFINISHED = ("queued", "running")
"""States of an active run (``airflow.utils.state.State.unfinished_dr_states``)."""

TRIGGERED_BY = "TEST"
"""What Airflow stores for a run of ``dags test``: the name of ``airflow.utils.types.DagRunTriggeredByType.TEST``."""


def end_orphaned_runs(environ: Mapping[str, str], database: Path, log: Path, report: Callable[[str], None]) -> None:
    """Set interrupted runs of ``airflow dags test``, and their unfinished tasks, to failed.

    Parameters
    ----------
    environ : mapping
        Environment of the local Airflow. No other process may use its database: the caller holds the lock.
    database : Path
        Airflow's SQLite file.
    log : Path
        File for Airflow's output.
    report : callable
        Prints one line for the user.

    Raises
    ------
    RunError
        If Airflow cannot set the states.
    """
    orphans = find_orphaned_runs(database)
    if not orphans:
        return
    report(f"an earlier run was interrupted: {', '.join(orphans)} is set to failed")
    command = [sys.executable, "-m", "local.airflow.orphans"]
    with running(command, environ=dict(environ), log=log, cwd=Path(environ["AIRFLOW_HOME"])) as process:
        code = process.wait()
    if code != 0:
        raise RunError(f"the interrupted run {', '.join(orphans)} cannot be set to failed; see {log}")


def find_orphaned_runs(database: Path) -> list[str]:
    """Return the ids of the runs of ``airflow dags test`` that have not finished, oldest first.

    The database is read directly, since an import of Airflow takes seconds.
    """
    with contextlib.closing(open_read_only(database, timeout=5)) as connection:
        rows = connection.execute(
            "SELECT run_id FROM dag_run WHERE triggered_by = ? AND state IN (?, ?) ORDER BY id",
            [TRIGGERED_BY, *UNFINISHED],
        )
        return [run_id for (run_id,) in rows]


def main() -> None:
    """Set the states through Airflow's own models."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, State, TaskInstanceState
    from airflow.utils.types import DagRunTriggeredByType
    from sqlalchemy import select

    with create_session() as session:
        interrupted = select(DagRun).where(
            DagRun.triggered_by == DagRunTriggeredByType.TEST, DagRun.state.in_(State.unfinished_dr_states)
        )
        for run in session.scalars(interrupted):
            for task in run.get_task_instances(session=session):
                if task.state in State.unfinished:
                    task.set_state(TaskInstanceState.FAILED, session=session)
            run.set_state(DagRunState.FAILED)


if __name__ == "__main__":
    main()
