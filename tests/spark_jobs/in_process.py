"""A Spark context that runs the tasks in this process: the jobs without Spark, for histories of many runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Broadcast(NamedTuple):
    value: Any


class Items(NamedTuple):
    """What the jobs use of an RDD."""

    context: Here
    items: Sequence[Any]
    work: Callable[[Any], Any] = lambda item: item

    def map(self, work: Callable[[Any], Any]) -> Items:
        return self._replace(work=work)

    def collect(self) -> list[Any]:
        return self.context.run_tasks(self.items, self.work)


class Accumulator:
    """What the tasks have added; unlike Spark, which counts each task once, it counts repetitions too."""

    def __init__(self, value: int) -> None:
        self.value = value

    def add(self, term: int) -> None:
        self.value += term


class Here:
    """What the jobs use of a Spark context. Every task runs twice, in any order, as Spark may run it."""

    version = "in this process"
    defaultParallelism = 2  # noqa: N815 (as Spark names it)

    def parallelize(self, items: list[Any], parts: int) -> Items:
        assert len(items) == parts
        return Items(self, items)

    def run_tasks(self, items: Sequence[Any], work: Callable[[Any], Any]) -> list[Any]:
        """Run the tasks, and return their results in the order of the items."""
        for item in reversed(items):
            work(item)
        return [work(item) for item in items]

    def accumulator(self, value: int) -> Accumulator:
        return Accumulator(value)

    def broadcast(self, value: Any) -> Broadcast:
        return Broadcast(value)

    def statusTracker(self) -> Here:  # noqa: N802 (as Spark names it)
        return self

    def getActiveJobsIds(self) -> list[int]:  # noqa: N802
        return []

    def stop(self) -> None:
        pass
