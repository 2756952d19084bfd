"""The report of a run, for people and for programs. Pure."""

from __future__ import annotations

import functools
import itertools
import json
import statistics
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.cost.money import describe_amount
from include.records import FailureReport, Manifest, Report, TaskFailure, Unchanged
from spark_jobs.left_out import describe
from spark_jobs.records import Change, Drift, LabelAccuracy, Measure, Quality

if TYPE_CHECKING:
    import jinja2

CHART_LEFT, CHART_RIGHT, CHART_TOP, CHART_BOTTOM = 45, 630, 15, 220
"""Edges of the plot area in the SVG's units."""

MAX_LABELS = 10
"""Number of labels in the page's table of labels with the largest loss."""

NESTED_RECORDS = ("residency", "attestations", "forecast", "cost")
"""Parts of the report that are not columns of the table of all reports."""


def build_report(manifest: Manifest) -> Report:
    """Return the report of a run from its manifest."""
    featurize, pca, previous = manifest["featurize"], manifest["pca"], manifest["previous"]
    drift = pca["drift"]
    if previous["note"]:  # the job only knows that it has no previous model
        drift = {**drift, "reason": previous["note"]}
    return {
        "run": manifest["run"],
        "run_id": manifest["run_id"],
        "finished_at": manifest["finished_at"],
        "state": "success",
        "failed_tasks": [],
        "images_folder": manifest["images_folder"],
        "params": manifest["params"],
        "region": manifest["region"],
        "code": manifest["code"],
        "model": manifest["model"],
        "cluster": manifest["cluster"],
        "warnings": manifest["warnings"],
        "images": featurize["features"],
        "changes": manifest["changes"],
        "featurized": featurize["featurized"],
        "duration": _seconds_between(manifest["opened_at"], manifest["finished_at"]),
        "rejects": featurize["rejects"],
        "rejects_by_reason": featurize["rejects_by_reason"],
        "first_rejects": featurize["first_rejects"],
        "skipped": sum(item["skipped"] for item in featurize["left_out"]),
        "hidden": sum(item["hidden"] for item in featurize["left_out"]),
        "left_out": featurize["left_out"],
        "k": pca["k"],
        "variance_target": pca["variance_target"],
        "variance_reached": pca["variance_reached"],
        "explained_variance_ratio": pca["explained_variance_ratio"],
        "quality": pca["quality"],
        "previous_run": previous["run"],
        "drift": drift,
        "seconds": {"featurize": featurize["seconds"], "pca": pca["seconds"]},
        "residency": manifest["residency"],
        "forecast": manifest["forecast"],
        "cost": manifest["cost"],
    }


def _seconds_between(start: str, end: str) -> float:
    return round((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds(), 1)


def add_failures(report: Report, failed_tasks: list[TaskFailure]) -> Report:
    """Return the report of a run that failed although its results are published."""
    return {**report, "state": "failed", "failed_tasks": failed_tasks}


def report_line(report: Report | FailureReport | Unchanged) -> bytes:
    """Return the report as one line of JSON: its row in the table of all reports, which Spark can read.

    The line is ASCII, since some readers split lines at other characters too. The field ``run`` and the partition
    ``run`` have the same value, so Spark treats them as one column. Amounts of money are flat columns of numbers. An
    unknown amount has no column, since a file in which a column is always null gives that column no type; neither
    has what a failed run does not know.
    """
    failed = "tasks_not_run" in report
    row = {
        name: value
        for name, value in report.items()
        if name not in NESTED_RECORDS and not (failed and value in (None, {}, []))
    }
    money = {} if report["state"] == "unchanged" else _money_columns(report)
    return (json.dumps(row | money, sort_keys=True) + "\n").encode()


def _money_columns(report: Report | FailureReport) -> dict[str, float]:
    cost, forecast = report["cost"], report["forecast"]
    columns: dict[str, float | None] = {}
    if forecast:
        columns["forecast_eur_at_most"] = forecast["expected"]["eur"]["high"]
    if cost:
        columns |= {
            "cost_eur_at_least": cost["eur"]["low"],
            "cost_eur_at_most": cost["eur"]["high"],
            "cost_usd_at_least": cost["usd"]["low"],
            "cost_usd_at_most": cost["usd"]["high"],
            "images_per_eur_at_least": cost["images_per_eur"]["low"],
            "instance_hours": cost["instance_hours"],
            "storage_eur_per_month_at_most": cost["storage"]["eur_per_month"]["high"],
        }
    return {name: float(value) for name, value in columns.items() if value is not None}


def render_report(report: Report) -> str:
    """Return the report as one HTML page without scripts or other files; every text is escaped."""
    return _render(
        "report.html.jinja",
        **report,
        chart=_chart(report["explained_variance_ratio"], report["variance_target"]),
        describe_left_out=describe,
        worst_labels=_worst_labels(report["quality"]),
        drift_rows=_drift_rows(report["drift"]),
        money=describe_amount,
    )


def render_failure(report: FailureReport) -> str:
    """Return the report of a failed run as one HTML page; every text is escaped."""
    return _render("failure.html.jinja", **report, describe_left_out=describe, money=describe_amount)


def render_index(slugs: list[str]) -> str:
    """Return a page that links to the reports of these runs."""
    return _render("page.html.jinja", slugs=slugs)


def _render(template: str, **values: Any) -> str:
    return str(_template(template).render(**values))


@functools.cache
def _template(name: str) -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


@dataclass(frozen=True)
class Chart:
    """Coordinates of the cumulative explained variance, in the SVG's units; y grows downwards."""

    points: str
    ticks: list[tuple[float, str]]
    """y and label of each horizontal line."""
    target_y: float | None


def _chart(ratios: list[float], target: float | None) -> Chart:
    def height(share: float) -> float:
        return round(CHART_BOTTOM - share * (CHART_BOTTOM - CHART_TOP), 1)

    step = (CHART_RIGHT - CHART_LEFT) / max(len(ratios) - 1, 1)
    points = [
        f"{CHART_LEFT + index * step:.1f},{height(share)}" for index, share in enumerate(itertools.accumulate(ratios))
    ]
    ticks = [(height(share), f"{share:.0%}") for share in (0, 0.25, 0.5, 0.75, 1)]
    return Chart(" ".join(points), ticks, None if target is None else height(target))


def _worst_labels(quality: Quality | None) -> list[LabelAccuracy]:
    """Return the labels for which the components are less accurate than all features, the largest loss first."""
    losses = [
        (label["features"] - label["components"], label)
        for label in (quality["by_label"] if quality else [])
        if label["features"] is not None and label["components"] is not None
    ]
    losses.sort(key=lambda item: -item[0])
    return [label for loss, label in losses if loss > 0][:MAX_LABELS]


@dataclass(frozen=True)
class DriftRow:
    """A row of the comparison with the previous run."""

    measure: str
    value: str
    by_chance: str = ""
    warns: bool = False


def _drift_rows(drift: Drift) -> list[DriftRow]:
    """Return the rows of the comparison with the previous run; none if there is no comparison."""
    threshold = drift["threshold"]
    if drift["reason"] or threshold is None:
        return []
    rows = [
        _pair_row("images", drift["images"]),
        _pair_row("components", drift["k"]),
        _measure_row("shift of the mean, in standard deviations", drift["mean_shift"], threshold, "{:.3f}"),
        _measure_row("change of the total variance", drift["variance_change"], threshold, "{:+z.1%}", "± {:.1%}"),
        _measure_row("variance that the previous components miss", drift["variance_missed"], threshold, "{:.1%}"),
    ]
    if drift["principal_angles"]:
        median = statistics.median(drift["principal_angles"])
        largest = f"median {median:.1f}°, largest {drift['largest_angle']:.1f}°"
        rows.append(DriftRow("principal angles between the components", largest))
        rows.append(DriftRow("distance between the subspaces, from 0 to 1", f"{drift['subspace_distance']:.3f}"))
    return rows


def _pair_row(measure: str, pair: Change | None) -> DriftRow:
    return DriftRow(measure, f"{pair['previous']:,} → {pair['current']:,}" if pair else "—")


def _measure_row(
    name: str, measure: Measure | None, threshold: float, form: str, form_of_chance: str | None = None
) -> DriftRow:
    if measure is None or measure["value"] is None or measure["by_chance"] is None:
        return DriftRow(name, "not defined: there is no variance")
    value, chance = measure["value"], measure["by_chance"]
    warns = abs(value) - chance > threshold
    return DriftRow(name, form.format(value), (form_of_chance or form).format(chance), warns)
