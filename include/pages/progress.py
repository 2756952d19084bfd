"""Live progress: what a job last published of how far it is. Nothing depends on it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from include.lake.layout import Lake
from include.lake.objects import LakePath, read_json
from include.pages.airflow_runs import AirflowRun
from spark_jobs.args import FeaturizeArgs, PcaArgs
from spark_jobs.records import Progress

log = logging.getLogger(__name__)

JOBS = (FeaturizeArgs.program, PcaArgs.program)


@dataclass(frozen=True)
class ShownProgress:
    """How far a job is.

    Attributes
    ----------
    rate : float or None
        Units per second since the stage began; None before the first ones are done.
    seconds_left : float or None
        Time that the others take at this rate.
    """

    stage: str
    done: int
    total: int
    unit: str
    percent: int
    rate: float | None
    seconds_left: float | None
    rejects: int | None
    updated_at: datetime


def read_progress(lake: Lake, run: AirflowRun, aws_conn_id: str | None) -> ShownProgress | None:
    """Return how far the job is that an active run waits for; None if it waits for none, or nothing is known yet."""
    tasks = {task.id: task for task in run.tasks}
    for job in JOBS:
        waits, added = tasks.get(f"wait_{job}"), tasks.get(f"add_{job}")
        if run.slug and waits and waits.is_active and added and added.started_at:
            try:
                record = read_json(LakePath(lake.run(run.slug).progress(job), aws_conn_id), "the job writes it")
                shown = compute(cast("Progress", record))
            except FileNotFoundError:
                return None
            except Exception as error:  # a node writes the file, and the store may not answer: the page does without it
                log.warning("The progress of %s is not shown: %s: %s", run.slug, type(error).__name__, error)
                return None
            # Without this, an attempt that has just begun would show the progress of the attempt before it.
            return shown if shown.updated_at >= added.started_at.replace(microsecond=0) else None
    return None


def compute(record: Progress) -> ShownProgress:
    """Return the rate and the time that is left.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the record is damaged.
    """
    done, total, rejects = int(record["done"]), int(record["total"]), record["rejects"]
    updated_at = datetime.fromisoformat(record["updated_at"])
    seconds = (updated_at - datetime.fromisoformat(record["started_at"])).total_seconds()
    rate = done / seconds if done > 0 and seconds > 0 else None
    return ShownProgress(
        stage=str(record["stage"]),
        done=done,
        total=total,
        unit=str(record["unit"]),
        percent=100 * done // total if total else 100,
        rate=rate,
        seconds_left=(total - done) / rate if rate else None,
        rejects=None if rejects is None else int(rejects),
        updated_at=updated_at,
    )
