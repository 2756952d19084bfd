"""What happened in a run, for people and for programs. Pure."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

CHART_LEFT, CHART_RIGHT, CHART_TOP, CHART_BOTTOM = 45, 630, 15, 220
"""Corners of the plot in the SVG's units."""


def build_report(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the report's record from the run's manifest."""
    featurize, pca = manifest["featurize"], manifest["pca"]
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
        "seconds": {"featurize": featurize["seconds"], "pca": pca["seconds"]},
    }


def render_report(report: dict[str, Any]) -> str:
    """Return the report as an HTML page of its own: no script, no file beside it; every text is escaped."""
    chart = _chart(report["explained_variance_ratio"], report["variance_target"])
    return _render("report.html.jinja", chart=chart, **report)


def render_index(slugs: list[str]) -> str:
    """Return a page that links to the reports of these runs."""
    return _render("reports.html.jinja", slugs=slugs)


def _render(template: str, **values: Any) -> str:
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    source = Path(__file__).with_name(template).read_text(encoding="utf-8")
    return environment.from_string(source).render(**values)


def _chart(ratios: list[float], target: float) -> dict[str, Any]:
    def height(share: float) -> float:
        return round(CHART_BOTTOM - share * (CHART_BOTTOM - CHART_TOP), 1)

    step = (CHART_RIGHT - CHART_LEFT) / max(len(ratios) - 1, 1)
    points = [
        f"{CHART_LEFT + index * step:.1f},{height(share)}" for index, share in enumerate(itertools.accumulate(ratios))
    ]
    ticks = [{"y": height(share), "label": f"{share:.0%}"} for share in (0, 0.25, 0.5, 0.75, 1)]
    return {"points": " ".join(points), "ticks": ticks, "target_y": height(target)}
