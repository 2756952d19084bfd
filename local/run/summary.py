"""The summary of the last successful run. ``python -m local.run.summary LAKE`` prints it."""

from __future__ import annotations

import sys
from typing import Any

from include.lake.layout import Lake
from include.lake.objects import LakePath, read_json
from spark_jobs.left_out import describe


def success_text(lake: Lake) -> str:
    """Return the summary of the published run of a lake; one line if the last run had nothing to do.

    Raises
    ------
    FileNotFoundError
        If no run is published.
    """
    current = read_json(LakePath(lake.current), "a run writes it when it publishes")
    run = lake.run(current["run"])
    if _is_last_unchanged(lake):
        return (
            f"\nnothing to do: no photo has changed since state {current['state']} ({current['images']} images, in "
            f"{_shown(lake.results)}); no cluster was created, and full_run=true computes everything again"
        )
    report = read_json(LakePath(run.report_json), "a run writes it before it publishes")
    seconds = [
        f"  {job:<11}" + ", ".join(f"{stage} {value:.1f}" for stage, value in stages.items())
        for job, stages in report["seconds"].items()
    ]
    reasons = ", ".join(f"{count} {reason}" for reason, count in report["rejects_by_reason"].items())
    lines = [
        "",
        f"images      {report['images']}",
        f"rejects     {report['rejects']}" + (f" ({reasons}; see {_shown(run.rejects)})" if reasons else ""),
        *(f"left out    {line}" for item in report["left_out"] for line in describe(item)),
        f"components  {report['k']} explain {report['variance_reached']:.2%} of the variance",
        *_quality(report.get("quality")),
        "seconds",
        *seconds,
        f"features    {_shown(lake.results)}  (pandas.read_parquet)",
        f"components  {_shown(lake.results_csv)}",
        f"report      {_shown(run.report_html)}",
        f"run         {_shown(run.root)}",
        *(f"WARNING     {warning}" for warning in report["warnings"]),
    ]
    if report["model"]["weights"]["source"] == "random":
        lines.append("WARNING     RANDOM WEIGHTS were used: this shows that everything works, nothing more")
    return "\n".join(lines)


def _is_last_unchanged(lake: Lake) -> bool:
    """Return whether the last run that has a report had nothing to do."""
    reports = LakePath(lake.reports)
    names = reports.names()  # run=<slug>, which sort by time
    return bool(names) and read_json(reports / names[-1] / "report.json", "a run writes it")["state"] == "unchanged"


def _quality(quality: dict[str, Any] | None) -> list[str]:
    accuracy = (quality or {}).get("knn_accuracy", {})
    if accuracy.get("components") is None:
        return []
    named, by_all = accuracy["components"], accuracy["features"]
    return [f"quality     neighbours name the label of {named:.2%} of the images, by all features of {by_all:.2%}"]


def _shown(uri: str) -> str:
    return uri.removeprefix("file://")


if __name__ == "__main__":
    sys.stdout.write(f"{success_text(Lake(sys.argv[1]))}\n")
