"""The report of a run, for people and for programs. Pure."""

from __future__ import annotations

import functools
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.cost.money import describe_amount
from include.records import AmountRecord, FailureReport, Manifest, Report, TaskFailure, Unchanged
from include.reports import translation
from include.reports.page_data import TARGETS, build_page_data, name_below, takes
from include.reports.policy import content_policy
from include.reports.translation import Translated, localize, say
from spark_jobs.args import DUPLICATES_FILE, FEATURE_DIMENSIONS, OUTLIERS_FILE, UNLIKE_LABEL_FILE
from spark_jobs.left_out import describe
from spark_jobs.records import Change, Drift, Insights, LabelAccuracy, Measure, Quality

if TYPE_CHECKING:
    import jinja2
    import markupsafe

LISTS = {"unlike": UNLIKE_LABEL_FILE, "outliers": OUTLIERS_FILE, "duplicates": DUPLICATES_FILE}
"""The lists beside the report, as paths in the run's folder."""

LIBRARY = "d3-7.9.0.min.js"
"""The library that draws the charts, unchanged from npm."""

MAX_AXES = 20
"""Number of old components in the page's map of the axes."""

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
        "basis": pca.get("basis"),
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


def render_report(report: Report, insights: Insights | None, history: Sequence[Mapping[str, Any]]) -> str:
    """Return the report as one HTML page that needs no other file; every text is escaped.

    Parameters
    ----------
    report : Report
    insights : Insights or None
        None if the run has none: the page has neither map nor photos.
    history : sequence of mapping
        The rows of the last runs in the table of all reports, the oldest first; the last one is this run.
    """
    curve = insights["variance_curve"] if insights else []
    library, script, style = _asset(LIBRARY), _asset("report.js"), _asset("report.css")
    return _render(
        "report.html.jinja",
        **report,
        insights=insights,
        lists=LISTS,
        dimensions=FEATURE_DIMENSIONS,
        needed=[(target, count) for target in TARGETS if (count := takes(curve, target))],
        history_runs=len(history),
        describe_left_out=describe,
        worst_labels=_worst_labels(report["quality"]),
        drift_rows=_drift_rows(report["drift"]),
        basis_rows=_drift_rows(report["basis"]["drift"]) if report["basis"] and report["basis"]["drift"] else [],
        max_axes=MAX_AXES,
        name_of=functools.partial(name_below, folder=report["images_folder"]),
        policy=content_policy([library, script], style),
        style=_verbatim(style),
        library=_verbatim(library),
        script=_verbatim(script),
        data=_verbatim(build_page_data(report, insights, history)),
    )


def render_failure(report: FailureReport) -> str:
    """Return the report of a failed run as one HTML page; every text is escaped."""
    style = _asset("report.css")
    return _render(
        "failure.html.jinja",
        **report,
        describe_left_out=describe,
        policy=content_policy([], style),
        style=_verbatim(style),
    )


def report_policies() -> tuple[str, ...]:
    """Return the content security policies of the pages that this version writes: of reports, and of failures."""
    style = _asset("report.css")
    return content_policy([_asset(LIBRARY), _asset("report.js")], style), content_policy([], style)


@functools.cache
def _asset(name: str) -> str:
    return Path(__file__).with_name("assets").joinpath(name).read_text(encoding="utf-8")


def _verbatim(text: str) -> markupsafe.Markup:
    """Return a text that the page contains as it is: our own files, and JSON that is escaped already."""
    import markupsafe

    return markupsafe.Markup(text)


def _money(record: AmountRecord, currency: str = "€") -> translation.Translated:
    """Return an amount of money in both languages."""
    return translation.amount(describe_amount(record, currency))


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
    environment.globals |= {
        "t": say,
        "number": translation.number,
        "share": translation.share,
        "plural": translation.plural,
        "isolate": translation.isolate,
        "money": _money,
    }
    environment.filters["extract"] = lambda number, items: items[number]
    return environment.get_template(name)


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

    measure: Translated
    value: Translated
    by_chance: Translated | str = ""
    warns: bool = False


def _drift_rows(drift: Drift) -> list[DriftRow]:
    """Return the rows of the comparison with the previous run; none if there is no comparison."""
    threshold = drift["threshold"]
    if drift["reason"] or threshold is None:
        return []
    shift = say("shift of the mean, in standard deviations", "décalage de la moyenne, en écarts-types")
    change = say("change of the total variance", "variation de la variance totale")
    missed = say("variance that the previous components miss", "variance que les composantes précédentes manquent")
    rows = [
        _pair_row(say("images", "images"), drift["images"]),
        _pair_row(say("components", "composantes"), drift["k"]),
        _measure_row(shift, drift["mean_shift"], threshold, "{:.3f}"),
        _measure_row(change, drift["variance_change"], threshold, "{:+z.1%}", "± {:.1%}"),
        _measure_row(missed, drift["variance_missed"], threshold, "{:.1%}"),
    ]
    if drift["principal_angles"]:
        median, largest = statistics.median(drift["principal_angles"]), drift["largest_angle"]
        angles = say("principal angles between the components", "angles principaux entre les composantes")
        distance = say("distance between the subspaces, from 0 to 1", "distance entre les sous-espaces, de 0 à 1")
        found = say(
            "median {median}°, largest {largest}°",
            "médiane {median}°, maximum {largest}°",
            median=localize(f"{median:.1f}"),
            largest=localize(f"{largest:.1f}"),
        )
        rows.append(DriftRow(angles, found))
        rows.append(DriftRow(distance, localize(f"{drift['subspace_distance']:.3f}")))
    return rows


def _pair_row(measure: Translated, pair: Change | None) -> DriftRow:
    return DriftRow(measure, localize(f"{pair['previous']:,} → {pair['current']:,}" if pair else "—"))


def _measure_row(
    name: Translated, measure: Measure | None, threshold: float, form: str, form_of_chance: str | None = None
) -> DriftRow:
    if measure is None or measure["value"] is None or measure["by_chance"] is None:
        return DriftRow(name, say("not defined: there is no variance", "non définie : il n’y a pas de variance"))
    value, chance = measure["value"], measure["by_chance"]
    warns = abs(value) - chance > threshold
    return DriftRow(name, localize(form.format(value)), localize((form_of_chance or form).format(chance)), warns)
