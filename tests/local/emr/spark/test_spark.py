"""Steps that run spark-submit."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

APPLICATION = """\
import os, sys
from pyspark.sql import SparkSession

spark = SparkSession.builder.appName("probe").getOrCreate()
context = spark.sparkContext

def probe(number):
    import only_in_the_zip
    return only_in_the_zip.double(number), sys.flags.dont_write_bytecode, os.environ.get("LC_ALL")

doubled = context.parallelize(range(10), 4).map(probe).collect()
print("sum", sum(number for number, _, _ in doubled))
print("workers", sorted({(quiet, locale) for _, quiet, locale in doubled}))
print("master", context.master)
print("address", spark.conf.get("spark.driver.host"), context.uiWebUrl)
print("arguments", sys.argv[1:])
folders = [os.path.join(path, "spark_jobs", "entrypoints") for path in sys.path if path]
print("sees the repository", any(os.path.isdir(folder) for folder in folders))
if "fail" in sys.argv:
    context.parallelize([0], 1).map(lambda number: 1 / number).collect()
spark.stop()
"""


@pytest.fixture
def submission(tmp_path: Path) -> Any:
    """A function that returns the argv of a step as the DAG submits it, its files in a folder with an awkward name."""
    folder = tmp_path / "été 100% #1"
    folder.mkdir()
    with zipfile.ZipFile(folder / "spark jobs é.zip", "w") as bundle:
        bundle.writestr("only_in_the_zip.py", "def double(number):\n    return 2 * number\n")
    (folder / "the app.py").write_text(APPLICATION)

    def argv(*arguments: str) -> list[str]:
        return [
            *("timeout", "--signal=TERM", "--kill-after=60s", "10m", "spark-submit"),
            *("--master", "yarn", "--deploy-mode", "client", "--num-executors", "2", "--executor-memory", "8g"),
            *("--conf", "spark.dynamicAllocation.enabled=true", "--conf", "spark.pyspark.python=/nowhere/python"),
            *("--py-files", f"file://{folder}/spark jobs é.zip", f"file://{folder}/the app.py", *arguments),
        ]

    return argv, folder


def outcome(emr: Any, argv: list[str]) -> tuple[dict[str, Any], str, Path]:
    cluster = emr.create()
    [step] = emr.add(cluster, emr.step(*argv))
    emr.await_true(lambda: emr.status(cluster, step)["State"] == "RUNNING", "the step runs")
    status = emr.await_step(cluster, step)
    folder = emr.folder(cluster, step)
    return status, (folder / "stdout").read_text(), folder


def test_spark_submit_runs_on_this_machine_with_only_its_zip(emr: Any, submission: Any) -> None:
    argv, folder = submission
    before = sorted(folder.rglob("*"))
    status, stdout, step_folder = outcome(emr, argv("--images=file:///a b/é"))
    assert status["State"] == "COMPLETED", (status, stdout)
    lines = stdout.splitlines()
    assert "sum 90" in lines
    assert "workers [(1, 'C.UTF-8')]" in lines
    assert "master local[1]" in lines
    assert "address 127.0.0.1 None" in lines
    assert "arguments ['--images=file:///a b/é']" in lines
    assert "sees the repository False" in lines
    assert sorted(folder.rglob("*")) == before, "no file is written in the folder of the job"
    assert not (step_folder / "scratch").exists()


def test_the_message_of_a_failed_job_is_the_error_of_its_worker(emr: Any, submission: Any) -> None:
    argv, _ = submission
    status, _, _ = outcome(emr, argv("fail"))
    assert status["State"] == "FAILED"
    assert status["FailureDetails"]["Message"] == "ZeroDivisionError: division by zero"
