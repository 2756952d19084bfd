"""The report of a run that found nothing to do."""

from __future__ import annotations

from datetime import UTC, datetime

from include.lake.layout import Lake
from include.lake.manifest import basis_in_use, select_counts
from include.lake.objects import LakePath, write_bytes, write_json
from include.lake.state import current_of, read_pointer
from include.records import FoundChanges, Run, Unchanged
from include.reports.report import report_line
from include.settings.deployment import read_airflow_settings


def report_unchanged(run: Run, found: FoundChanges) -> None:
    """Write the report of a run that found nothing to do, and its row in the table of all reports.

    Parameters
    ----------
    run, found : dict
        What ``open_run`` and ``find_changes`` returned.

    Raises
    ------
    RuntimeError
        If the published state has disappeared since ``find_changes``.
    """
    conn, lake, now = read_airflow_settings().aws_conn_id, Lake(run["lake"]), datetime.now(UTC)
    current = current_of(read_pointer(lake, conn))
    if current is None:
        raise RuntimeError(f"{lake.current} names no state any more: trigger a new run")
    report: Unchanged = {
        "run": found["run"],
        "run_id": run["run_id"],
        "finished_at": now.isoformat(timespec="seconds"),
        "state": "unchanged",
        "published_run": current["run"],
        "images": current["images"],
        "changes": select_counts(found),
        "featurized": 0,
        "duration": round((now - datetime.fromisoformat(run["opened_at"])).total_seconds(), 1),
        "rejects": current["rejects"],
        "k": current["k"],
        "variance_reached": current["variance_reached"],
        "basis": basis_in_use(current.get("basis"), current["run"]),
    }
    write_json(LakePath(lake.run(found["run"]).report_json, conn), report)
    write_bytes(LakePath(lake.report(found["run"]), conn), report_line(report))
