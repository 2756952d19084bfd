"""Runs of `airflow dags test` as Airflow's database has them after a kill, and what the scheduler makes of them.

A program for the tests, since Airflow reads its settings when it is imported: ``create`` or ``view``. Its environment
is that of a local run whose DAGs folder has the file of :func:`dag_file`.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

UNFINISHED = ("none", "scheduled", "queued", "running", "restarting", "up_for_retry", "up_for_reschedule", "deferred")
"""States of a task that has not ended, of Airflow 3.3; a test compares them with Airflow's."""

MOMENTS: dict[str, tuple[str, list[str]]] = {
    "created_without_tasks": ("running", []),
    "not_started": ("queued", ["none", "none", "none"]),
    **{f"first_task_{state}": ("running", [state, "none", "none"]) for state in UNFINISHED},
    **{f"second_task_{state}": ("running", ["success", state, "none"]) for state in UNFINISHED},
    "after_a_failure": ("running", ["success", "failed", "upstream_failed"]),
    "before_the_last_task": ("running", ["success", "success", "none"]),
    "before_its_end": ("running", ["success", "success", "success"]),
}
"""State of the run and of its three tasks at the moment of the kill, by DAG: each has one run at a time."""


def dag_file() -> str:
    """Return a DAG file with a DAG for each moment."""
    return f"""
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator

for name in {list(MOMENTS)}:
    with DAG(name, schedule="@daily", max_active_runs=1, catchup=False, is_paused_upon_creation=False) as dag:
        EmptyOperator(task_id="a") >> EmptyOperator(task_id="b") >> EmptyOperator(task_id="c")
    globals()[name] = dag
"""


def parse() -> None:
    """Parse the DAGs folder into the database, as the DAG processor does."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

    manager = DagBundlesManager()
    manager.sync_bundles_to_db()
    for bundle in manager.get_all_dag_bundles():
        bundle.initialize()
        bag = BundleDagBag(dag_folder=bundle.path, bundle_path=bundle.path, bundle_name=bundle.name)
        sync_bag_to_db(bag, bundle.name, bundle.version)


def create_run(dag_id: str, state: str, triggered_by: str, tasks: list[str], session: Any) -> None:
    """Create a run with these states of its tasks."""
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    past = datetime.now(UTC) - timedelta(minutes=1)  # a run is due from then on
    run = SerializedDagModel.get_dag(dag_id, session=session).create_dagrun(
        run_id=f"{triggered_by}__{past.isoformat()}",
        logical_date=past,
        data_interval=(past, past),
        run_after=past,
        run_type=DagRunType.MANUAL,
        state=DagRunState(state),
        triggered_by=DagRunTriggeredByType[triggered_by],
        session=session,
    )
    for task in run.get_task_instances(session=session):
        position = "abc".index(task.task_id)
        if position >= len(tasks):
            session.delete(task)
        else:
            task.state = None if tasks[position] == "none" else tasks[position]


def view(session: Any) -> dict[str, Any]:
    """Return what the scheduler may do next, by Airflow's own queries."""
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.models.pool import Pool
    from sqlalchemy import select

    full = select(DagModel.dag_id).where(DagModel.exceeds_max_non_backfill)
    return {
        "starts": sorted(run.dag_id for run in DagRun.get_queued_dag_runs_to_set_running(session)),
        "continues": sorted(run.dag_id for run in DagRun.get_running_dag_runs_to_examine(session)),
        "active": DagRun.active_runs_of_dags(dag_ids=MOMENTS, exclude_backfill=True, session=session),
        "no_scheduled_run": sorted(session.scalars(full)),
        "occupied": sum(pool["total"] - pool["open"] for pool in Pool.slots_stats(session=session).values()),
    }


def main() -> None:
    """Create the interrupted runs and parse the DAGs again; or trigger each DAG; print the view as JSON."""
    from airflow.utils.session import create_session
    from airflow.utils.state import State

    if sys.argv[1] == "create":
        unfinished = {"none" if state is None else str(state.value) for state in State.unfinished}
        assert unfinished - {"awaiting_input"} == set(UNFINISHED), unfinished  # only tasks that ask a person have it
        parse()
        with create_session() as session:
            for dag_id, (state, tasks) in MOMENTS.items():
                create_run(dag_id, state, "TEST", tasks, session)
    parse()
    with create_session() as session:
        views = [view(session)]
        for dag_id in MOMENTS:
            create_run(dag_id, "queued", "UI", ["none", "none", "none"], session)
        session.flush()
        views.append(view(session))
        session.rollback()
    sys.stdout.write(f"\n{json.dumps(views)}\n")


if __name__ == "__main__":
    main()
