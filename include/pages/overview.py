"""The table of runs: figures of each, and the trend of each figure. Pure."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from include.pages.sparkline import Sparkline, draw
from include.records import JsonObject
from include.reports.history import history_row

log = logging.getLogger(__name__)

UNKNOWN = "—"

MAX_CAUSE = 240
"""Number of characters of the cause of a failure in the table; the report has all of it."""


@dataclass(frozen=True)
class Column:
    """A figure of the runs.

    Attributes
    ----------
    name : str
        The field of :class:`include.records.HistoryRow`.
    title : str
        Its heading.
    format : callable
        Returns a value as text.
    """

    name: str
    title: str
    format: Callable[[Any], str]


def _count(value: int) -> str:
    return f"{value:,}"


COLUMNS = (
    Column("images", "Images", _count),
    Column("new", "New", _count),
    Column("changed", "Changed", _count),
    Column("gone", "Gone", _count),
    Column("rejected", "Rejected", _count),
    Column("k", "k", _count),
    Column("variance", "Variance", lambda value: f"{value:.1%}"),
    Column("seconds", "Minutes", lambda value: f"{value / 60:,.1f}"),
    Column("eur", "€, at most", lambda value: f"{value:,.2f}"),
)


@dataclass(frozen=True)
class Row:
    """A run in the table.

    Attributes
    ----------
    run : str
        Its slug.
    state : str
        ``success``, ``failed``, or ``unchanged`` if it had nothing to do.
    finished_at : str
        ISO 8601 time.
    published_run : str or None
        The slug of the run whose results it has left published; None if it has published, or if nothing is published.
    figures : dict of str to float
        By name of the column; a figure that is not known has no entry.
    cluster : str or None
        Id of its cluster.
    cause : str
        Of its failure; empty if it has not failed.
    """

    run: str
    state: str
    finished_at: str
    published_run: str | None
    figures: dict[str, float]
    cluster: str | None
    cause: str

    @cached_property
    def texts(self) -> dict[str, str]:
        """The figures as people read them, with an entry for every column."""
        return {
            column.name: column.format(self.figures[column.name]) if column.name in self.figures else UNKNOWN
            for column in COLUMNS
        }

    @property
    def has_published(self) -> bool:
        """Whether the run has published results, also if it failed afterwards."""
        return self.published_run is None and "k" in self.figures


def build_rows(reports: Sequence[JsonObject]) -> list[Row]:
    """Return the table of runs, the newest first.

    Parameters
    ----------
    reports : sequence of dict
        Rows of the table of all reports. One that lacks what every report has is left out, with a line in the log.
    """
    rows = []
    for report in reports:
        try:
            rows.append(_row(report))
        except (KeyError, TypeError, AttributeError) as error:
            log.warning("The report of %s is not shown: %s: %s", report.get("run"), type(error).__name__, error)
    return sorted(rows, key=lambda row: (row.finished_at, row.run), reverse=True)


def _row(report: JsonObject) -> Row:
    figures: JsonObject = {}
    if "k" in report and "changes" in report:
        figures = dict(history_row(report))
    else:  # a failure, or the first version of the lake
        figures = {"images": report.get("images"), "rejected": report.get("rejects")}
        figures |= {"k": report.get("k"), "variance": report.get("variance_reached")}
        figures["eur"] = report.get("cost_eur_at_most")
    failures = report.get("failed_tasks") or []
    cause = f"{failures[0]['task']}: {failures[0]['cause']}" if failures else ""
    return Row(
        run=str(report["run"]),
        state=str(report["state"]),
        finished_at=str(report["finished_at"]),
        published_run=report.get("published_run"),
        figures={column.name: value for column in COLUMNS if (value := figures.get(column.name)) is not None},
        cluster=(report.get("cluster") or {}).get("id") or None,
        cause=cause if len(cause) <= MAX_CAUSE else f"{cause[:MAX_CAUSE]}…",
    )


def draw_trends(rows: Sequence[Row]) -> dict[str, Sparkline | None]:
    """Return the trend of each figure over the runs that have published; the rows are in the table's order."""
    published = [row for row in reversed(rows) if row.has_published]
    trends = {}
    for column in COLUMNS:
        known = [row for row in published if column.name in row.figures]
        values = [row.figures[column.name] for row in known]
        trends[column.name] = draw(values, [row.texts[column.name] for row in known])
    return trends
