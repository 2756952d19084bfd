"""The message of a local run that failed."""

from __future__ import annotations

import re
from pathlib import Path

from local.run.watch import RunState

_ERROR = re.compile(r"\b[A-Za-z_.]*(?:Error|Exception)\b: ?.+")


def failure_text(state: RunState | None, log: Path, report: str | None = None) -> str:
    """Return why a run failed: its failed tasks, the last errors in Airflow's log, and the place of its report.

    Parameters
    ----------
    state : RunState or None
        Final state of the run; None if it does not exist.
    log : Path
        Airflow's log.
    report : str or None
        The report's URI; None if the run has none.
    """
    failed = sorted(state.tasks_in("failed")) if state else []
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    errors = list(dict.fromkeys(match.group(0).strip() for match in _ERROR.finditer(text)))
    lines = ["", f"The run FAILED{' in ' + ', '.join(failed) if failed else ''}."]
    lines += [f"  {error[:600]}" for error in errors[-5:]]
    lines += [f"Report: {report.removeprefix('file://')}"] if report else []
    lines += [f"Airflow's log: {log}", "Published results are as they were before."]
    return "\n".join(lines)
