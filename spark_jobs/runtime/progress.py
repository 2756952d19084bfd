"""Progress of a running Spark job, as log lines that a person and a parent process can read.

Standard library only when imported, so that a program that reads the lines does not need Spark.
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
"""Format of a line: job or stage, done, total, unit, percent, as in ``progress featurize: 512/960 images (53 %)``."""

PROGRESS_PATTERN = re.compile(
    r"progress (?P<name>\S+): (?P<done>\d+)/(?P<total>\d+) (?P<unit>\S+) \((?P<percent>\d+) %\)"
)
"""Finds such a line, wherever the log format puts it."""


@contextmanager
def watch(
    spark: SparkContext, name: str, *, total: int, unit: str, per_task: int, seconds: float = 2.0
) -> Iterator[None]:
    """Log the progress of the Spark job that runs within the ``with`` block.

    Parameters
    ----------
    spark : SparkContext
        Its status tracker is asked how many tasks are complete. Only one Spark job may be active.
    name : str
        Who makes progress, without spaces.
    total : int
        Things to do in all.
    unit : str
        What the things are, without spaces.
    per_task : int
        Things that one task does; the last task may have fewer.
    seconds : float
        Time between two lines. A line is logged only when there is progress.
    """
    finished = threading.Event()

    def report() -> None:
        last = 0
        while not finished.wait(seconds):
            done = min(total, completed_tasks(spark) * per_task)
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
    """Log one line of progress."""
    logger.info(PROGRESS_LINE, name, done, total, unit, 100 * done // total if total else 100)


def completed_tasks(spark: SparkContext) -> int:
    """Return how many tasks of the active Spark jobs are complete."""
    tracker = spark.statusTracker()
    stages = {stage for job in tracker.getActiveJobsIds() for stage in _stages(tracker.getJobInfo(job))}
    details = [tracker.getStageInfo(stage) for stage in stages]
    return sum(stage.numCompletedTasks for stage in details if stage is not None)


def _stages(job: object) -> list[int]:
    """Return a job's stages; none when the job has ended since it was listed."""
    return list(getattr(job, "stageIds", ()))
