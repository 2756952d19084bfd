"""Writing of a run's report, with what the lake has of the run's photos and of the runs before it."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any, cast

from include.lake.layout import Lake
from include.lake.objects import LakePath, read_json, write_bytes, write_json
from include.records import Report
from include.reports.report import render_report, report_line
from spark_jobs.records import Insights

log = logging.getLogger(__name__)

CHARTED_RUNS = 30
"""Number of runs in the charts of quality and drift."""


def write_report(lake: Lake, report: Report, aws_conn_id: str | None) -> None:
    """Write the report of a run that has published, for programs and for people.

    Parameters
    ----------
    lake : Lake
    report : Report
    aws_conn_id : str or None
        Airflow's connection for S3.
    """
    page = render_page(lake, report, aws_conn_id)
    locations = lake.run(report["run"])
    write_json(LakePath(locations.report_json, aws_conn_id), report)
    write_bytes(LakePath(locations.report_html, aws_conn_id), page.encode())


def render_page(lake: Lake, report: Report, aws_conn_id: str | None) -> str:
    """Return the page of a run that has published; if its photos or charts cannot be shown, the page says so.

    Parameters
    ----------
    lake : Lake
    report : Report
    aws_conn_id : str or None
        Airflow's connection for S3.
    """
    try:
        insights = read_insights(lake, report["run"], aws_conn_id)
        return render_report(report, insights, [*_read_before(lake, report["run"], aws_conn_id), _row(report)])
    except Exception as error:  # pictures and charts are an addition: without them, the report is still a report
        log.exception("The report has no pictures and no charts of runs before")
        warning = f"the report has no map and no photos: {type(error).__name__}: {error}"
        return render_report({**report, "warnings": [*report["warnings"], warning]}, None, [_row(report)])


def read_insights(lake: Lake, run: str, aws_conn_id: str | None) -> Insights | None:
    """Return what the report of a run shows of the photos; None if the run has nothing of the kind."""
    path = LakePath(lake.run(run).insights, aws_conn_id)
    try:
        return cast("Insights", read_json(path, "pca writes it"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        log.warning("The report of %s shows no photos: %s", run, error)
        return None


def _row(report: Report) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(report_line(report)))


def _read_before(lake: Lake, run: str, aws_conn_id: str | None) -> Sequence[dict[str, Any]]:
    """Return the rows of the last runs that have published before a run, the oldest first."""
    folder = LakePath(lake.reports, aws_conn_id)
    rows: list[dict[str, Any]] = []
    # A partition is `run=<slug>`, and a slug begins with the time of the run.
    for name in reversed([name for name in folder.names() if name < f"run={run}"]):
        if len(rows) == CHARTED_RUNS - 1:
            break
        try:
            row = read_json(folder / name / "report.json", "close_run or publish_results writes it")
        except (FileNotFoundError, ValueError):
            continue
        if row.get("state") == "success":
            rows.append(row)
    return rows[::-1]
