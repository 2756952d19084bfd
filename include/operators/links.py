"""Links from task instances to the project's own pages in the Airflow UI; they work wherever the lake is."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import XCom, conf
from airflow.sdk import BaseOperatorLink

PAGES = "/fruit-reports"
"""Path of the plugin's pages."""


def page_path(path: str) -> str:
    """Return the path of a plugin page on the UI's own host: links are stored, and host and port may change."""
    root = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
    return f"{root}{PAGES}/{path}"


class StepLogsLink(BaseOperatorLink):
    """Link from a sensor to the logs of its step."""

    name = "Step logs"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address; the worker calls this when the task's templates are rendered."""
        return page_path(f"logs/{operator.job_flow_id}/{operator.step_id}")


class ReportLink(BaseOperatorLink):
    """Link to the run's report, from the task that published the run, or from the one that closed a failed run."""

    name = "Report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address; empty if the task has written no report."""
        slug = XCom.get_value(key="run", ti_key=ti_key)
        return page_path(slug) if slug else ""
