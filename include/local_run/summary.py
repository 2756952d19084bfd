"""What the local run tells at its end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from include.local_run.watch import RunState
from include.locations import Lake

_ERROR = re.compile(r"\b[A-Za-z_.]*(?:Error|Exception)\b: ?.+")


def success_text(lake: Path, model: dict[str, Any]) -> str:
    """Return the summary of the run that is published in the lake."""
    current = json.loads((lake / "current.json").read_text(encoding="utf-8"))
    run = lake / "runs" / current["run"]
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    target = Lake(str(lake))
    seconds = [
        f"  {job:<11}" + ", ".join(f"{stage} {value:.1f}" for stage, value in stages.items())
        for job, stages in report["seconds"].items()
    ]
    reasons = ", ".join(f"{count} {reason}" for reason, count in report["rejects_by_reason"].items())
    lines = [
        "",
        f"images      {report['images']}",
        f"rejects     {report['rejects']}" + (f" ({reasons}; see {run / 'rejects'})" if reasons else ""),
        f"components  {report['k']} explain {report['variance_reached']:.2%} of the variance",
        "seconds",
        *seconds,
        f"features    {target.results}  (pandas.read_parquet)",
        f"components  {target.results_csv}",
        f"report      {run / 'report.html'}",
        f"run         {run}",
        *(f"WARNING     {warning}" for warning in report["warnings"]),
    ]
    if model["weights"]["source"] == "random":
        lines.append("WARNING     RANDOM WEIGHTS were used: this shows that everything works, nothing more")
    return "\n".join(lines)


def failure_text(state: RunState | None, log: Path) -> str:
    """Return why a run failed: the tasks that failed, and the errors in Airflow's log."""
    failed = sorted(state.first("failed")) if state else []
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    errors = list(dict.fromkeys(match.group(0).strip() for match in _ERROR.finditer(text)))
    lines = ["", f"The run FAILED{' in ' + ', '.join(failed) if failed else ''}."]
    lines += [f"  {error[:600]}" for error in errors[-5:]]
    lines += [f"Airflow's log: {log}", "Published results are as they were before."]
    return "\n".join(lines)
