"""Links from task instances to the project's own pages in the Airflow UI; they work wherever the lake is."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import XCom
from airflow.sdk import BaseOperatorLink

from include.records import CLUSTER_ID
from include.settings.addresses import page_path


class ClusterLink(BaseOperatorLink):
    """Link to the page of the task's cluster, which leads to the AWS console if the cluster is there."""

    name = "Cluster"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address; empty if the task has no cluster. The worker calls this when an attempt has ended."""
        known = XCom.get_value(key=CLUSTER_ID, ti_key=ti_key) or getattr(operator, "job_flow_id", None)
        ids = str(known or "").split()  # terminate_cluster has the ids of several tasks
        return page_path(f"clusters/{ids[-1]}") if ids else ""


class StepLogsLink(BaseOperatorLink):
    """Link from a sensor to the logs of its step."""

    name = "Step logs"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address; empty if there is no step."""
        return page_path(f"logs/{operator.job_flow_id}/{operator.step_id}") if operator.step_id else ""


class ReportLink(BaseOperatorLink):
    """Link to the run's report, from the task that published the run, or from the one that closed a failed run."""

    name = "Report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address; empty if the task has written no report."""
        slug = XCom.get_value(key="run", ti_key=ti_key)
        return page_path(slug) if slug else ""
