"""The history of a lake: a row per successful run, from the table of all reports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from include.lake.layout import SLUG, Lake
from include.lake.manifest import basis_in_use
from include.lake.objects import LakePath, read_json
from include.records import HistoryRow, JsonObject

COLUMNS = (
    *("run", "finished_at", "images", "new", "changed", "gone", "rejected", "featurized"),
    *("k", "variance", "basis", "since", "seconds", "cluster", "eur"),
)


SUCCESSFUL = frozenset({"success", "unchanged"})
"""States of the reports that are rows."""

READERS = 16
"""Number of reports that are read at the same time."""


def read_reports(lake: Lake, aws_conn_id: str | None, newest: int | None = None) -> list[JsonObject]:
    """Return the rows of the table of all reports, in the order of the runs.

    Parameters
    ----------
    lake : Lake
        The lake.
    aws_conn_id : str or None
        Airflow's connection for S3.
    newest : int, optional
        Read only so many, the last ones; all by default.
    """
    folder = LakePath(lake.reports, aws_conn_id)

    def read(name: str) -> JsonObject | None:
        try:
            report: JsonObject = read_json(folder / name / "report.json", "close_run or publish_results writes it")
        except FileNotFoundError:
            return None
        return report

    # A partition is `run=<slug>`, and a slug begins with the time of the run.
    names = folder.names()[-newest if newest else 0 :]
    with ThreadPoolExecutor(READERS) as readers:
        return [report for report in readers.map(read, names) if report is not None]


def read_history(lake: Lake, aws_conn_id: str | None) -> list[HistoryRow]:
    """Return the successful runs of a lake, the first one first; runs with nothing to do are rows too.

    Reports of the first version of the lake do not say what had changed, and are left out.

    Parameters
    ----------
    lake : Lake
        The lake.
    aws_conn_id : str or None
        Airflow's connection for S3.
    """
    reports = read_reports(lake, aws_conn_id)
    rows = [history_row(report) for report in reports if report.get("state") in SUCCESSFUL and "changes" in report]
    return sorted(rows, key=lambda row: (row["finished_at"], row["run"]))


def history_row(report: JsonObject) -> HistoryRow:
    """Return the row of a run that has published or had nothing to do, from its row in the table of all reports."""
    found, is_unchanged = report["changes"], report["state"] == "unchanged"
    basis = basis_in_use(report.get("basis"), report.get("published_run") or report["run"])
    return {
        "run": report["run"],
        "finished_at": report["finished_at"],
        "images": report["images"],
        "new": found["new"],
        "changed": found["changed"],
        "gone": found["gone"],
        "rejected": report["rejects"],
        "featurized": report["featurized"],
        "k": report["k"],
        "variance": report["variance_reached"],
        "basis": basis["digest"],
        "since": basis["since"],
        "seconds": report["duration"],
        "cluster": None if is_unchanged else report["cluster"]["id"],
        "eur": 0.0 if is_unchanged else report.get("cost_eur_at_most"),
    }


def format_json(rows: Iterable[HistoryRow]) -> str:
    """Return the history as a JSON list of objects."""
    return json.dumps(list(rows), indent=2, ensure_ascii=False)


def format_table(rows: Iterable[HistoryRow]) -> str:
    """Return the history as a table with aligned columns."""
    cells = [COLUMNS, *([_text(name, row[name]) for name in COLUMNS] for row in rows)]  # type: ignore[literal-required]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    lines = ("  ".join(_align(cell, width) for cell, width in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(line.rstrip() for line in lines)


def _text(name: str, value: object) -> str:
    if value is None:
        return "-"
    if name == "variance":
        return f"{value:.2%}"
    if name == "eur":
        return f"{value:.2f}"
    if name == "basis":
        return str(value)[:8]
    if name == "since" and re.match(SLUG, str(value)):
        return f"{datetime.strptime(str(value)[:16], '%Y%m%dT%H%M%SZ'):%Y-%m-%d %H:%M}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _align(cell: str, width: int) -> str:
    return cell.rjust(width) if cell[:1].isdecimal() and ":" not in cell and "-" not in cell else cell.ljust(width)
