"""A job's summary line and the seconds of its stages."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

logger = logging.getLogger(__name__)


class Stopwatch:
    """Wall-clock seconds of a job: in total and by stage.

    Attributes
    ----------
    stages : dict of str to float
        Seconds of every finished stage, in order.
    """

    def __init__(self) -> None:
        self._start = time.monotonic()
        self.stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the ``with`` block as a stage; the times of equal names add up."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + time.monotonic() - begin

    def seconds(self) -> dict[str, float]:
        """Return the seconds of every stage and the ``total`` so far, rounded to milliseconds."""
        return {name: round(value, 3) for name, value in {**self.stages, "total": self._elapsed()}.items()}

    def _elapsed(self) -> float:
        return time.monotonic() - self._start


def log_line(job: str, counts: Mapping[str, object], seconds: Mapping[str, float]) -> None:
    """Log a job's summary as one line.

    Parameters
    ----------
    job : str
        The job's name.
    counts : mapping
        Names and values, in the order in which they are logged.
    seconds : mapping
        The result of :meth:`Stopwatch.seconds`.
    """
    stages = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items() if name != "total")
    figures = ", ".join(f"{value} {name}" for name, value in counts.items())
    logger.info("%s done: %s in %.1f s (%s)", job, figures, seconds["total"], stages)
