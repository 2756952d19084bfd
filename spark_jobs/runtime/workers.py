"""Work in Spark's Python workers: one task an item, results in the order of the items.

An RDD and not a DataFrame, since no row passes through Spark: planning and code generation of a first SQL query take
longer than the work on a thousand images does.
"""

from __future__ import annotations

import sys
import zipimport
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

from spark_jobs.errors import JobError

if TYPE_CHECKING:
    from pyspark import SparkContext

S = TypeVar("S")
T = TypeVar("T")


def run(spark: SparkContext, items: Sequence[S], work: Callable[[S], T]) -> list[T]:
    """Do some work on every item, a task each.

    Parameters
    ----------
    spark : SparkContext
    items : sequence
        What tasks get; none of them is no Spark job.
    work : callable
        Called with an item, in a worker, perhaps more than once for one item.

    Returns
    -------
    list
        What the work returned, in the order of the items.

    Raises
    ------
    JobError
        The first that the work has raised, once all tasks have ended: Spark does not try it again, since it would be
        the same.
    """
    if not items:
        return []

    def task(item: S) -> tuple[T | None, JobError | None]:
        try:
            return work(item), None
        except JobError as error:
            return None, error
        finally:
            forget_archives()

    outcomes = spark.parallelize(list(items), len(items)).map(task).collect()
    for _, error in outcomes:
        if error is not None:
            raise error
    return [cast(T, result) for result, _ in outcomes]


def forget_archives() -> None:
    """Drop this process's importers of zip archives, which the next import from one makes again.

    Before each task, PySpark's worker calls ``importlib.invalidate_caches``, and until Python 3.12 every zip importer
    then reads its archive's directory anew: 16 times those of ``pyspark.zip`` and ``spark-core.jar``, 0.12 s of CPU a
    task (https://github.com/python/cpython/issues/103200).
    """
    for path, importer in list(sys.path_importer_cache.items()):
        if isinstance(importer, zipimport.zipimporter):
            del sys.path_importer_cache[path]
