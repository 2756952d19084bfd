"""Progress of a running Spark job, as log lines for people and for programs.

This module imports the standard library only, so a program that parses the lines does not need Spark.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark import SparkContext

logger = logging.getLogger(__name__)

PROGRESS_LINE = "progress %s: %d/%d %s (%d %%)"
"""Format of a progress line: job or stage, done, total, unit, percent, such as
``progress featurize: 512/960 images (53 %)``."""

PROGRESS_PATTERN = re.compile(
    r"progress (?P<name>\S+): (?P<done>\d+)/(?P<total>\d+) (?P<unit>\S+) \((?P<percent>\d+) %\)"
)
"""Matches a progress line anywhere in a log line."""


@contextmanager
def track(sc: SparkContext, name: str, *, total: int, unit: str, per_task: int, seconds: float = 2.0) -> Iterator[None]:
    """Log the progress of the Spark job that runs within the ``with`` block.

    Parameters
    ----------
    sc : SparkContext
        Its status tracker reports the completed tasks. Only one Spark job may be active.
    name : str
        Name of the job or stage, without spaces.
    total : int
        Total number of units.
    unit : str
        Name of the unit, in the plural, without spaces.
    per_task : int
        Units per task; the last task may have fewer.
    seconds : float
        Interval between two lines. A line is logged only if there is progress.
    """
    finished = threading.Event()

    def report() -> None:
        last = 0
        while not finished.wait(seconds):
            done = min(total, completed_tasks(sc) * per_task)
            if done > last:
                log(name, done, total, unit)
                last = done

    thread = threading.Thread(target=report, name=f"progress-{name}", daemon=True)
    log(name, 0, total, unit)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
    log(name, total, total, unit)


def log(name: str, done: int, total: int, unit: str) -> None:
    """Log one progress line."""
    logger.info(PROGRESS_LINE, name, done, total, unit, 100 * done // total if total else 100)


def completed_tasks(sc: SparkContext) -> int:
    """Return how many tasks of the active Spark jobs are complete."""
    tracker = sc.statusTracker()
    stages = {stage for job in tracker.getActiveJobsIds() for stage in _stages(tracker.getJobInfo(job))}
    details = [tracker.getStageInfo(stage) for stage in stages]
    return sum(stage.numCompletedTasks for stage in details if stage is not None)


def _stages(job: object) -> list[int]:
    """Return the ids of a job's stages; none if the job finished after it was listed."""
    return list(getattr(job, "stageIds", ()))
