"""Links of task instances to the project's own pages in the Airflow UI: they work wherever the lake is."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import XCom, conf
from airflow.sdk import BaseOperatorLink

PAGES = "/fruit-reports"
"""Where the plugin puts its pages."""


def page(path: str) -> str:
    """Return where a page of the plugin is on the UI's own host: links are kept, and host and port may change."""
    root = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
    return f"{root}{PAGES}/{path}"


class StepLogsLink(BaseOperatorLink):
    """From a sensor to the logs of its step."""

    name = "Step logs"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address; the worker asks for it when the task's templates are rendered."""
        return page(f"logs/{operator.job_flow_id}/{operator.step_id}")


class ReportLink(BaseOperatorLink):
    """From the task that publishes to the run's report."""

    name = "Report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address; empty when the task has not published."""
        slug = XCom.get_value(key="run", ti_key=ti_key)
        return page(slug) if slug else ""
