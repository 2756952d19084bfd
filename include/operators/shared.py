"""What the EMR operators share: XCom keys, and the run's cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from airflow.sdk import Context

from include.autopsy.examination import brief, examine_cluster, render
from include.autopsy.task_failure import DiagnosedError
from include.emr.client import ClusterEndedError, Emr
from include.emr.identity import Cluster, RunIdentity
from include.records import ClusterRequest, Run
from include.settings.deployment import read_airflow_settings

SENDING = "sending"
"""XCom key: true while it is unknown whether a RunJobFlow created a cluster."""

CLEAR_ADVICE = "with all downstream tasks: this creates one new cluster, and keeps the output of completed steps"


@contextmanager
def explaining_ended_cluster(operator: Any) -> Iterator[None]:
    """Fail a task without retries if the cluster of this round has ended, and report why.

    Raises
    ------
    AirflowFailException
        With the cause, and what to do.
    """
    try:
        yield
    except ClusterEndedError as error:
        autopsy = examine_cluster(error.cluster, operator.aws_conn_id, read_airflow_settings().log_wait_seconds)
        operator.log.error("%s", render(autopsy))
        raise DiagnosedError(
            f"the cluster has ended. {brief(autopsy)}. Correct the cause, then clear the first task that failed, "
            f"{CLEAR_ADVICE}",
            autopsy.diagnosis,
        ) from error


def find_or_create_cluster(emr: Emr, run: Run, request: Any, context: Context) -> Cluster:
    """Return the run's cluster; create it if this round has none."""
    ti = context["ti"]

    def report_pending(pending: bool) -> None:
        ti.xcom_push(key=SENDING, value=pending)

    # Airflow deletes the XComs of a task before each attempt: SENDING does not show what an earlier attempt has sent.
    return emr.find_or_create_cluster(
        RunIdentity.from_run(run), cast("ClusterRequest", request), report_pending, is_retry=ti.try_number > 1
    )
