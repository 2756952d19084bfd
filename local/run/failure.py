"""The message of a local run that failed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from include.autopsy.logs import shorten
from local.run.watch import Failure

MAX_CAUSE = 600

_ERROR = re.compile(r"\b[A-Za-z_.]*(?:Error|Exception)\b: ?.+")


def failure_text(failures: Sequence[Failure], log: Path, report: str | None = None) -> str:
    """Return three sentences about a run that failed: the cause, the remedy, and the place of the log.

    Airflow writes an error several times into its log, and errors of the tasks that fail in consequence. So the cause
    is the one that the first failed task has stored; without one, it is the last error in the log.

    Parameters
    ----------
    failures : sequence of Failure
        The failed tasks, the first failure first; empty if Airflow ended without one.
    log : Path
        Airflow's log.
    report : str or None
        The report's URI; None if the run has none.
    """
    where = f" in {' and '.join(failure.task for failure in failures)}" if failures else ""
    cause = (failures[0].cause if failures else "") or _last_error(log) or "Airflow ended without an error message"
    advice = (failures[0].advice if failures else "") or "Read the end of the log"
    places = f"Airflow's log is {log}"
    if report:
        places = f"The report is {report.removeprefix('file://')}; {places}"
    return "\n".join(
        [f"The run failed{where}: {_sentence(cause)}", f"What to do: {_sentence(advice)}", places],
    )


def _sentence(text: str) -> str:
    return f"{shorten(' '.join(text.split()), MAX_CAUSE).rstrip('.')}."


def _last_error(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    errors = [match.group() for match in _ERROR.finditer(text)]
    return errors[-1] if errors else ""
