from __future__ import annotations

import importlib.util
import os
import sys
import zipfile
import zipimport
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from spark_jobs.errors import JobError
from spark_jobs.runtime import workers

pytestmark = [
    pytest.mark.slow,
    # PySpark's RDD.collect drops its side of a loopback connection without closing it first.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


def test_results_are_in_the_order_of_the_items_and_from_other_processes(spark: SparkSession) -> None:
    found = workers.run(spark.sparkContext, ["c", "a", "b"], lambda item: (item * 2, os.getpid()))
    assert [item for item, _ in found] == ["cc", "aa", "bb"]
    assert os.getpid() not in {process for _, process in found}


def test_no_items_are_no_job() -> None:
    assert workers.run(None, [], lambda item: item) == []  # type: ignore[arg-type]


def test_a_known_problem_is_raised_here_and_not_tried_again(spark: SparkSession, tmp_path: Path) -> None:
    def work(number: int) -> int:
        (tmp_path / f"{number}-{os.urandom(4).hex()}").touch()
        if number == 2:
            raise JobError("image 2 is broken: expected another; run featurize again")
        return number

    with pytest.raises(JobError, match="image 2 is broken"):
        workers.run(spark.sparkContext, [0, 1, 2, 3], work)
    assert sorted(path.name[0] for path in tmp_path.iterdir()) == ["0", "1", "2", "3"]


def test_a_worker_never_imports_pandas(spark: SparkSession) -> None:
    """pyarrow would, when it converts a value."""

    def convert(number: int) -> tuple[int, bool]:
        return pa.scalar(number).as_py(), "pandas" in sys.modules

    assert workers.run(spark.sparkContext, [3, 4], convert) == [(3, False), (4, False)]


def test_workers_that_are_started_ahead_have_imported_the_modules(spark: SparkSession) -> None:
    sc = spark.sparkContext
    name = "xml.dom.pulldom"  # that no other task imports
    workers.start(sc, [name]).join()
    assert any(workers.run(sc, [1, 2], lambda _: name in sys.modules))


def test_a_failure_to_start_workers_ahead_is_logged_and_the_next_tasks_run(
    spark: SparkSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    workers.start(spark.sparkContext, ["spark_jobs.no_such_module"]).join()
    assert "workers were not started ahead" in caplog.text
    assert workers.run(spark.sparkContext, [1, 2], lambda item: item) == [1, 2]


def test_a_worker_keeps_no_importer_of_archives_between_tasks(spark: SparkSession) -> None:
    def importers(_: int) -> list[str]:
        return [path for path, each in sys.path_importer_cache.items() if isinstance(each, zipimport.zipimporter)]

    def import_something(number: int) -> list[str]:
        assert importlib.util.find_spec("pyspark.there_is_no_such_module") is None
        return importers(number)

    assert all(workers.run(spark.sparkContext, list(range(8)), import_something))  # PySpark's own archives
    assert not any(workers.run(spark.sparkContext, list(range(8)), importers))


def test_modules_of_a_forgotten_archive_can_still_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "modules.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("one_of_a_zip.py", "value = 1")
        file.writestr("two_of_a_zip.py", "value = 2")
    monkeypatch.syspath_prepend(str(archive))
    import one_of_a_zip  # type: ignore[import-not-found]

    assert str(archive) in sys.path_importer_cache
    workers.forget_archives()
    assert str(archive) not in sys.path_importer_cache
    import two_of_a_zip  # type: ignore[import-not-found]

    assert (one_of_a_zip.value, two_of_a_zip.value) == (1, 2)
    monkeypatch.delitem(sys.modules, "one_of_a_zip")
    monkeypatch.delitem(sys.modules, "two_of_a_zip")
