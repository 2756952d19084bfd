"""What happened in a run, for people and for programs. Pure."""

from __future__ import annotations

import itertools
import json
import statistics
from pathlib import Path
from typing import Any

from include.cost.money import describe_amount

CHART_LEFT, CHART_RIGHT, CHART_TOP, CHART_BOTTOM = 45, 630, 15, 220
"""Corners of the plot in the SVG's units."""

LOSING_LABELS = 10
"""Most labels that the page shows of those that the components lose."""


def build_report(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the report's record from the run's manifest."""
    featurize, pca, previous = manifest["featurize"], manifest["pca"], manifest["previous"]
    copied = (
        "run",
        "run_id",
        "finished_at",
        "images_folder",
        "params",
        "region",
        "code",
        "model",
        "cluster",
        "warnings",
    )
    return {name: manifest[name] for name in copied} | {
        "images": featurize["features"],
        "rejects": featurize["rejects"],
        "rejects_by_reason": featurize["rejects_by_reason"],
        "first_rejects": featurize["first_rejects"],
        "k": pca["k"],
        "variance_target": pca["variance_target"],
        "variance_reached": pca["variance_reached"],
        "explained_variance_ratio": pca["explained_variance_ratio"],
        "quality": pca.get("quality"),
        "previous_run": previous["run"],
        "drift": _drift(pca.get("drift"), previous["note"]),
        "seconds": {"featurize": featurize["seconds"], "pca": pca["seconds"]},
        "residency": manifest.get("residency"),
        "forecast": manifest.get("forecast"),
        "cost": manifest.get("cost"),
    }


def _drift(drift: dict[str, Any] | None, note: str | None) -> dict[str, Any] | None:
    """Return the comparison with the previous run; when there was no model for it, the DAG knows better why."""
    return drift | {"reason": note} if drift and note else drift


def report_line(report: dict[str, Any]) -> bytes:
    """Return the record as one line of JSON, as Spark reads it: a row of the table of all runs' reports.

    In ASCII, since there are readers that break lines at other characters, too. The record's own ``run`` and the
    partition of that name have the same value, which Spark takes for one column. Money is in flat columns that are
    numbers always: what a run cannot tell has no column in its line, since a file whose only value is null has no type.
    """
    row = {name: value for name, value in report.items() if name not in NESTED_RECORDS}
    return (json.dumps(row | _money_columns(report), sort_keys=True) + "\n").encode()


NESTED_RECORDS = ("residency", "forecast", "cost")
"""Parts of the report that are for its own file, not for the table of all runs."""


def _money_columns(report: dict[str, Any]) -> dict[str, float]:
    cost, expected = report["cost"] or {}, (report["forecast"] or {}).get("expected") or {}
    columns = {
        "cost_eur_at_least": cost.get("eur", {}).get("low"),
        "cost_eur_at_most": cost.get("eur", {}).get("high"),
        "cost_usd_at_least": cost.get("usd", {}).get("low"),
        "cost_usd_at_most": cost.get("usd", {}).get("high"),
        "forecast_eur_at_most": expected.get("eur", {}).get("high"),
        "images_per_eur_at_least": cost.get("images_per_eur", {}).get("low"),
        "instance_hours": cost.get("instance_hours"),
        "storage_eur_per_month_at_most": cost.get("storage", {}).get("eur_per_month", {}).get("high"),
    }
    return {name: float(value) for name, value in columns.items() if value is not None}


def render_report(report: dict[str, Any]) -> str:
    """Return the report as an HTML page of its own: no script, no file beside it; every text is escaped."""
    chart = _chart(report["explained_variance_ratio"], report["variance_target"])
    views = {
        "losing_labels": _losing_labels(report["quality"]),
        "comparison": _comparison(report["drift"]),
        "places": _places(report["residency"]),
        "money": describe_amount,
    }
    return _render("report.html.jinja", chart=chart, **views, **report)


def _places(residency: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the attestations, before the start and of the cluster, with their checks; none of an older run."""
    found = residency or {}
    titles = {"before": "before anything was created", "cluster": "the cluster, as EMR has made it"}
    return [{"title": title, **found[part]} for part, title in titles.items() if found.get(part)]


def render_index(slugs: list[str]) -> str:
    """Return a page that links to the reports of these runs."""
    return _render("page.html.jinja", slugs=slugs)


def _render(template: str, **values: Any) -> str:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = Path(__file__).with_name(template).read_text(encoding="utf-8")
    return environment.from_string(source).render(**values)


def _chart(ratios: list[float], target: float | None) -> dict[str, Any]:
    def height(share: float) -> float:
        return round(CHART_BOTTOM - share * (CHART_BOTTOM - CHART_TOP), 1)

    step = (CHART_RIGHT - CHART_LEFT) / max(len(ratios) - 1, 1)
    points = [
        f"{CHART_LEFT + index * step:.1f},{height(share)}" for index, share in enumerate(itertools.accumulate(ratios))
    ]
    ticks = [{"y": height(share), "label": f"{share:.0%}"} for share in (0, 0.25, 0.5, 0.75, 1)]
    return {"points": " ".join(points), "ticks": ticks, "target_y": None if target is None else height(target)}


def _losing_labels(quality: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the labels whose images are named less often by the components, those that lose most first."""
    labels = [label for label in (quality or {}).get("by_label", []) if label["components"] is not None]
    lost = [label for label in labels if label["components"] < label["features"]]
    return sorted(lost, key=lambda label: label["components"] - label["features"])[:LOSING_LABELS]


def _comparison(drift: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the lines of the comparison with the previous run: what, its figure, that of chance, whether it warns."""
    if not drift or drift["reason"]:
        return []
    lines = [
        _pair("images", drift["images"], "{:,}"),
        _pair("components kept", drift["k"], "{:,}"),
        _line("shift of the mean, in standard deviations", drift["mean_shift"], "{:.3f}", drift["threshold"]),
        _line("change of the total variance", drift["variance_change"], "{:+z.1%}", drift["threshold"], "± {:.1%}"),
        _line("variance that the previous components miss", drift["variance_missed"], "{:.1%}", drift["threshold"]),
    ]
    if drift["principal_angles"]:
        median = statistics.median(drift["principal_angles"])
        figure = f"median {median:.1f}°, largest {drift['largest_angle']:.1f}°"
        lines.append({"what": "principal angles between the components", "figure": figure})
        lines.append({"what": "distance of the subspaces, from 0 to 1", "figure": f"{drift['subspace_distance']:.3f}"})
    return [{"chance": "", "over": False} | line for line in lines]


def _pair(what: str, values: dict[str, int], form: str) -> dict[str, Any]:
    return {"what": what, "figure": f"{form.format(values['previous'])} → {form.format(values['current'])}"}


def _line(
    what: str, measure: dict[str, Any], form: str, threshold: float, form_of_chance: str | None = None
) -> dict[str, Any]:
    value, chance = measure["value"], measure["by_chance"]
    if value is None:
        return {"what": what, "figure": "not defined: there is no variance"}
    return {
        "what": what,
        "figure": form.format(value),
        "chance": (form_of_chance or form).format(chance),
        "over": abs(value) - chance > threshold,
    }
