"""Runs of the DAG as Airflow's database has them. The API server, where the pages run, may read it; a task may not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select
from sqlalchemy.orm import Session

from include.records import CLUSTER_ID
from include.settings.dag_ids import FEATURES_DAG

ACTIVE = ("queued", "running")
"""States of the runs that have not ended."""


@dataclass(frozen=True)
class Task:
    """A task of a run; ``state`` is None before Airflow has scheduled it."""

    id: str
    state: str | None
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def is_active(self) -> bool:
        """Whether it runs, or waits for its next poke."""
        return self.state in {"queued", "running", "scheduled", "up_for_reschedule", "up_for_retry", "deferred"}


@dataclass(frozen=True)
class AirflowRun:
    """A run of the DAG.

    Attributes
    ----------
    run_id : str
        Airflow's id.
    state : str
        Airflow's state of the run.
    run_after, started_at : datetime or None
    slug : str or None
        Name of its folder in the lake; None until ``find_changes`` has named it or, if that fails, ``close_run`` has
        written the report.
    cluster : str or None
        Id of its last cluster.
    tasks : tuple of Task
        Those that have started, in that order, then the others.
    """

    run_id: str
    state: str
    run_after: datetime | None
    started_at: datetime | None
    slug: str | None
    cluster: str | None
    tasks: tuple[Task, ...]

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return self.state in ACTIVE


def find_run(run_id: str) -> AirflowRun | None:
    """Return a run of the DAG, or None if Airflow has no such run."""
    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.dag_id == FEATURES_DAG, DagRun.run_id == run_id))
        return _read(session, run) if run else None


def active_runs() -> list[AirflowRun]:
    """Return the runs of the DAG that have not ended, the newest first."""
    with create_session() as session:
        wanted = select(DagRun).where(DagRun.dag_id == FEATURES_DAG, DagRun.state.in_(ACTIVE))
        return [_read(session, run) for run in session.scalars(wanted.order_by(DagRun.run_after.desc()))]


def _read(session: Session, run: DagRun) -> AirflowRun:
    instances = session.scalars(
        select(TaskInstance).where(TaskInstance.dag_id == run.dag_id, TaskInstance.run_id == run.run_id)
    )
    tasks = [
        Task(item.task_id, str(item.state) if item.state else None, item.start_date, item.end_date)
        for item in instances
    ]
    tasks.sort(key=lambda task: (task.started_at is None, task.started_at.timestamp() if task.started_at else 0))
    return AirflowRun(
        run_id=run.run_id,
        state=str(run.state),
        run_after=run.run_after,
        started_at=run.start_date,
        slug=_xcom(session, run, "run"),
        cluster=_xcom(session, run, CLUSTER_ID),
        tasks=tuple(tasks),
    )


def _xcom(session: Session, run: DagRun, key: str) -> str | None:
    """Return the last text that any task has left under a key."""
    wanted = select(XComModel).where(XComModel.dag_id == run.dag_id, XComModel.run_id == run.run_id)
    wanted = wanted.where(XComModel.key == key).order_by(XComModel.timestamp.desc())
    found = session.scalars(wanted.limit(1)).first()
    return str(XComModel.deserialize_value(found)) if found else None
