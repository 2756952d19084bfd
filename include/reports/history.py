"""The history of a lake: a row per successful run, from the table of all reports."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from include.lake.layout import Lake
from include.lake.objects import LakePath, read_json
from include.records import HistoryRow

COLUMNS = (
    *("run", "finished_at", "images", "new", "changed", "gone", "rejected", "featurized"),
    *("k", "variance", "seconds", "cluster", "eur"),
)


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
    folder = LakePath(lake.reports, aws_conn_id)
    rows = []
    for name in folder.names():
        try:
            report = read_json(folder / name / "report.json", "close_run or publish_results writes it")
        except FileNotFoundError:
            continue
        if report.get("state") in {"success", "unchanged"} and "changes" in report:
            rows.append(_row(report))
    return sorted(rows, key=lambda row: (row["finished_at"], row["run"]))


def _row(report: dict[str, Any]) -> HistoryRow:
    found, is_unchanged = report["changes"], report["state"] == "unchanged"
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
    return f"{value:,}" if isinstance(value, int) else str(value)


def _align(cell: str, width: int) -> str:
    return cell.rjust(width) if cell[:1].isdecimal() and ":" not in cell and "-" not in cell else cell.ljust(width)
