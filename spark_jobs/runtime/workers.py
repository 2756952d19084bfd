"""Run functions in Spark's Python workers: one task per item, results in the order of the items.

This uses an RDD, not a DataFrame, since no row passes through Spark: planning and code generation of the first SQL
query would take longer than the work on a thousand images.
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
import zipimport
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

from spark_jobs.errors import JobError
from spark_jobs.runtime import hidden_pandas

if TYPE_CHECKING:
    from pyspark import SparkContext

logger = logging.getLogger(__name__)

S = TypeVar("S")
T = TypeVar("T")


def run(sc: SparkContext, items: Sequence[S], work: Callable[[S], T]) -> list[T]:
    """Call a function with every item, one task per item.

    Parameters
    ----------
    sc : SparkContext
    items : sequence
        The input of the tasks. Without items, no Spark job starts.
    work : callable
        Called in a worker with one item, possibly more than once per item.

    Returns
    -------
    list
        The results, in the order of the items.

    Raises
    ------
    JobError
        The first one that ``work`` raised, after all tasks have finished. Spark does not retry the task, since the
        error would be the same.
    """
    if not items:
        return []

    def task(item: S) -> tuple[T | None, JobError | None]:
        hidden_pandas.hide_in_worker()
        try:
            return work(item), None
        except JobError as error:
            return None, error
        finally:
            forget_archives()

    outcomes = sc.parallelize(list(items), len(items)).map(task).collect()
    for _, error in outcomes:
        if error is not None:
            raise error
    return [cast(T, result) for result, _ in outcomes]


def start(sc: SparkContext, modules: Sequence[str]) -> threading.Thread:
    """Start the workers in the background: they import modules while the driver does something else.

    A worker takes 0.8 s to start and to import what a job needs. If it cannot, the next tasks will say why.

    Parameters
    ----------
    sc : SparkContext
    modules : sequence of str
        Names of the modules.

    Returns
    -------
    Thread
        It ends when the workers have started.
    """

    def work(_: int) -> None:
        for name in modules:
            importlib.import_module(name)

    def start_all() -> None:
        try:
            sc.setJobGroup("start-workers", "start of the workers")  # of this thread: it is nobody's progress
            run(sc, range(sc.defaultParallelism), work)
        except Exception as error:  # it only saves time
            logger.info("workers were not started ahead: %s", error)

    thread = threading.Thread(target=start_all, name="start-workers", daemon=True)
    thread.start()
    return thread


def forget_archives() -> None:
    """Drop this process's importers of zip archives; the next import from an archive creates its importer again.

    Before each task, PySpark's worker calls ``importlib.invalidate_caches``. Before Python 3.12, every zip importer
    then reads its archive's directory again: 16 reads of ``pyspark.zip`` and ``spark-core.jar``, 0.12 s of CPU per task
    (https://github.com/python/cpython/issues/103200).
    """
    for path, importer in list(sys.path_importer_cache.items()):
        if isinstance(importer, zipimport.zipimporter):
            del sys.path_importer_cache[path]
