"""Progress of a running Spark job: log lines for people and for programs, and a small file in the lake.

This module imports the standard library only at its level, so a program that parses the lines does not need Spark.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from spark_jobs.records import Progress

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


@dataclass
class Target:
    """Where a job publishes its progress.

    Attributes
    ----------
    job : str
        Name of the job.
    uri : str
        The file.
    seconds : float
        Least time between two writes.
    """

    job: str
    uri: str
    seconds: float
    _written_at: float | None = field(default=None, init=False)
    _has_failed: bool = field(default=False, init=False)

    def is_due(self) -> bool:
        """Return whether the file may be written again."""
        return self._written_at is None or time.monotonic() - self._written_at >= self.seconds

    def write(self, record: Progress) -> None:
        """Write the file. The first failure is logged; none has a consequence, since nothing depends on the file."""
        from spark_jobs.lake import storage

        self._written_at = time.monotonic()
        try:
            storage.write_json(self.uri, record)
        except Exception as error:
            if not self._has_failed:
                logger.warning("the progress is not published: %s: %s", type(error).__name__, error)
            self._has_failed = True


_target: ContextVar[Target | None] = ContextVar("target", default=None)


@contextmanager
def published(job: str, uri: str, seconds: float) -> Iterator[None]:
    """Publish the progress of what is tracked within the ``with`` block.

    The file is written only if it would differ, and never more than once in ``seconds``. Nothing is published if
    ``seconds`` is 0.
    """
    token = _target.set(Target(job, uri, seconds) if seconds else None)
    try:
        yield
    finally:
        _target.reset(token)


@contextmanager
def track(
    sc: SparkContext,
    name: str,
    *,
    total: int,
    unit: str,
    per_task: int,
    seconds: float = 2.0,
    rejects: Callable[[], int] | None = None,
) -> Iterator[None]:
    """Log, and publish, the progress of the Spark job that runs within the ``with`` block.

    Parameters
    ----------
    sc : SparkContext
        Its status tracker reports the completed tasks. Only one Spark job without a job group may be active.
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
    rejects : callable, optional
        Returns how many units are rejected so far.
    """
    finished, target, started_at = threading.Event(), _target.get(), _now()

    def report() -> None:
        last, shown = 0, None
        while not finished.wait(seconds):
            done = min(total, completed_tasks(sc) * per_task)
            if done > last:
                log(name, done, total, unit)
                last = done
            if target is None:
                continue
            figures = (done, rejects() if rejects else None)
            if figures != shown and target.is_due():
                target.write(
                    {
                        "job": target.job,
                        "stage": name,
                        "done": done,
                        "total": total,
                        "unit": unit,
                        "rejects": figures[1],
                        "started_at": started_at,
                        "updated_at": _now(),
                    }
                )
                shown = figures

    thread = threading.Thread(target=report, name=f"progress-{name}", daemon=True)
    log(name, 0, total, unit)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
    log(name, total, total, unit)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def log(name: str, done: int, total: int, unit: str) -> None:
    """Log one progress line."""
    logger.info(PROGRESS_LINE, name, done, total, unit, 100 * done // total if total else 100)


def completed_tasks(sc: SparkContext) -> int:
    """Return how many tasks of the active Spark jobs are complete; jobs of a job group do not count."""
    tracker = sc.statusTracker()
    jobs = set(tracker.getActiveJobsIds()).intersection(tracker.getJobIdsForGroup())
    stages = {stage for job in jobs for stage in _stages(tracker.getJobInfo(job))}
    details = [tracker.getStageInfo(stage) for stage in stages]
    return sum(stage.numCompletedTasks for stage in details if stage is not None)


def _stages(job: object) -> list[int]:
    """Return the ids of a job's stages; none if the job finished after it was listed."""
    return list(getattr(job, "stageIds", ()))
