"""The message of a local run that failed."""

from __future__ import annotations

import re
from pathlib import Path

from local.run.watch import RunState

_ERROR = re.compile(r"\b[A-Za-z_.]*(?:Error|Exception)\b: ?.+")


def failure_text(state: RunState | None, log: Path) -> str:
    """Return why a run failed: its failed tasks, and the last errors in Airflow's log."""
    failed = sorted(state.tasks_in("failed")) if state else []
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    errors = list(dict.fromkeys(match.group(0).strip() for match in _ERROR.finditer(text)))
    lines = ["", f"The run FAILED{' in ' + ', '.join(failed) if failed else ''}."]
    lines += [f"  {error[:600]}" for error in errors[-5:]]
    lines += [f"Airflow's log: {log}", "Published results are as they were before."]
    return "\n".join(lines)
