"""A Spark context that runs the tasks in this process: the jobs without Spark, for histories of many runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from spark_jobs.runtime.in_process import InProcess


class Accumulator:
    """What the tasks have added; unlike Spark, which counts each task once, it counts repetitions too."""

    def __init__(self, value: int) -> None:
        self.value = value

    def add(self, term: int) -> None:
        self.value += term


class Here(InProcess):
    """Also what featurize uses. Every task runs twice, in any order, as Spark may run it."""

    defaultParallelism = 2  # noqa: N815 (as Spark names it)

    def __init__(self) -> None:
        super().__init__("in this process")

    def parallelize(self, items: Sequence[Any], parts: int) -> Any:
        assert len(items) == parts
        return super().parallelize(items, parts)

    def run_tasks(self, items: Sequence[Any], work: Callable[[Any], Any]) -> list[Any]:
        for item in reversed(items):
            work(item)
        return super().run_tasks(items, work)

    def accumulator(self, value: int) -> Accumulator:
        return Accumulator(value)

    def stop(self) -> None:
        pass
