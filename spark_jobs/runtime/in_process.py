"""A stand-in for a Spark context that runs the tasks in this process, one after another, where there is no Spark.

The jobs use a context for :func:`spark_jobs.runtime.workers.run`, broadcasts and the progress of tasks only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

S = TypeVar("S")
T = TypeVar("T")


class Broadcast(NamedTuple):
    """A value that all tasks share."""

    value: Any


class _Tasks(Generic[S]):
    def __init__(self, context: InProcess, items: Sequence[S]) -> None:
        self._context, self._items = context, items

    def map(self, work: Callable[[S], T]) -> _Outcomes[S, T]:
        return _Outcomes(self._context, self._items, work)


class _Outcomes(Generic[S, T]):
    def __init__(self, context: InProcess, items: Sequence[S], work: Callable[[S], T]) -> None:
        self._context, self._items, self._work = context, items, work

    def collect(self) -> list[T]:
        return self._context.run_tasks(self._items, self._work)


class InProcess:
    """What the jobs use of a Spark context.

    Attributes
    ----------
    version : str
        The version of Spark that outputs name as their writer's.
    """

    def __init__(self, version: str) -> None:
        self.version = version

    def parallelize(self, items: Sequence[S], _parts: int) -> _Tasks[S]:
        """Return the items, to be mapped and collected in their order."""
        return _Tasks(self, items)

    def run_tasks(self, items: Sequence[S], work: Callable[[S], T]) -> list[T]:
        """Run the tasks, and return their results in the order of the items."""
        return [work(item) for item in items]

    def broadcast(self, value: object) -> Broadcast:
        """Return the value as a broadcast."""
        return Broadcast(value)

    def statusTracker(self) -> InProcess:  # noqa: N802 (as Spark names it)
        """Return the tracker of Spark's jobs: this object, which knows none."""
        return self

    def getActiveJobsIds(self) -> list[int]:  # noqa: N802 (as Spark names it)
        """Return no job."""
        return []

    def getJobIdsForGroup(self) -> list[int]:  # noqa: N802 (as Spark names it)
        """Return no job."""
        return []
