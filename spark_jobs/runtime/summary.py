"""What a job reports when it is complete: its summary file and its summary line, with the seconds of each stage."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from spark_jobs.lake import storage

logger = logging.getLogger(__name__)


class Stopwatch:
    """Wall-clock seconds of a job, in all and by stage.

    Attributes
    ----------
    stages : dict of str to float
        Seconds of every stage that has ended, in order.
    """

    def __init__(self) -> None:
        self._start = time.monotonic()
        self.stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the block as a stage; a name used twice adds up."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + time.monotonic() - begin

    def seconds(self) -> dict[str, float]:
        """Return the seconds of every stage and the ``total`` until now, to the millisecond."""
        return {name: round(value, 3) for name, value in {**self.stages, "total": self._elapsed()}.items()}

    def _elapsed(self) -> float:
        return time.monotonic() - self._start


def write(uri: str, record: dict[str, Any]) -> None:
    """Put a job's summary there, in one step and last of all: where it is, the job's outputs are complete."""
    storage.write_json(uri, record)


def log_line(job: str, counts: Mapping[str, object], seconds: Mapping[str, float]) -> None:
    """Log a job's one summary line.

    Parameters
    ----------
    job : str
        The job's name.
    counts : mapping
        Names and values, in the order in which they are to be read.
    seconds : mapping
        What :meth:`Stopwatch.seconds` returns.
    """
    stages = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items() if name != "total")
    figures = ", ".join(f"{value} {name}" for name, value in counts.items())
    logger.info("%s done: %s in %.1f s (%s)", job, figures, seconds["total"], stages)
