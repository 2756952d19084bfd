"""The task of ``fruit_reaper``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException

from include.emr.client import create_hook, open_emr
from include.emr.reaper import Reaper, reap
from include.settings.dag_ids import FEATURES_DAG
from include.settings.deployment import read_airflow_settings


def reap_clusters() -> None:
    """Terminate the orphaned clusters of this lake: those that no queued or running run needs.

    Raises
    ------
    AirflowFailException
        If there were orphaned clusters. They are terminated by then; a person has to find out why they were left. If a
        cluster could not be described or terminated; the others are terminated by then.
    """
    settings, ti = read_airflow_settings(), get_current_context()["ti"]
    reaper = Reaper(
        lake=settings.lake_root,
        now=datetime.now(UTC),
        grace=timedelta(minutes=settings.reaper_grace_minutes),
        is_live_run=lambda run_id: bool(
            ti.get_dr_count(dag_id=FEATURES_DAG, run_ids=[run_id], states=["queued", "running"])
        ),
    )
    reaped = reap(open_emr(create_hook(settings), settings), reaper)
    problems = []
    if reaped.terminated:
        problems.append(
            f"{len(reaped.terminated)} orphaned clusters were terminated. {_listed(reaped.terminated)}. The logs of "
            "terminate_cluster in their runs show why they were left; check what they have cost"
        )
    if reaped.failures:
        problems.append(
            f"{len(reaped.failures)} clusters could not be described or terminated. {_listed(reaped.failures)}. If "
            "they are still live, terminate them in the EMR console; switch termination protection off first"
        )
    if problems:
        raise AirflowFailException(". ".join(problems))


def _listed(by_id: dict[str, str]) -> str:
    return "; ".join(f"{cluster_id}: {text}" for cluster_id, text in by_id.items())
