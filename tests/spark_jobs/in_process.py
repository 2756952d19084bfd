"""A Spark context that runs the tasks in this process: the jobs without Spark, for histories of many runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Broadcast(NamedTuple):
    value: Any


class Here:
    """What the jobs use of a Spark context. Every task runs twice, in any order, as Spark may run it."""

    version = "in this process"
    defaultParallelism = 2  # noqa: N815 (as Spark names it)

    def __init__(self) -> None:
        self._items: Sequence[Any] = ()
        self._work: Callable[[Any], Any] = lambda item: item

    def parallelize(self, items: list[Any], parts: int) -> Here:
        assert len(items) == parts
        self._items = items
        return self

    def map(self, work: Callable[[Any], Any]) -> Here:
        self._work = work
        return self

    def collect(self) -> list[Any]:
        items, work = self._items, self._work
        for item in reversed(items):
            work(item)
        return [work(item) for item in items]

    def broadcast(self, value: Any) -> Broadcast:
        return Broadcast(value)

    def statusTracker(self) -> Here:  # noqa: N802 (as Spark names it)
        return self

    def getActiveJobsIds(self) -> list[int]:  # noqa: N802
        return []

    def stop(self) -> None:
        pass
