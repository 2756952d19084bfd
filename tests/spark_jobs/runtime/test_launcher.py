"""How a job ends as a program: exit code and last line."""

from __future__ import annotations

import pytest

from spark_jobs.errors import JobError
from spark_jobs.runtime import launcher, progress

WORKER_TRACE = """An error occurred while calling o42.parquet.
: org.apache.spark.SparkException: Job aborted
Caused by: org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "worker.py", line 1, in main
    process()
spark_jobs.errors.JobError: the model's output is wrong

\tat org.apache.spark.api.python.BasePythonRunner
"""


def test_a_job_that_returns_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert launcher.run(lambda: None) == 0
    assert capsys.readouterr().err == ""


def test_a_known_problem_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise JobError("no folder:\n check it")

    assert launcher.run(fail) == 1
    assert capsys.readouterr().err == "spark_jobs.errors.JobError: no folder: check it\n"


def test_an_unknown_problem_has_its_trace_above_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ValueError("what is this")

    assert launcher.run(fail) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1] == "builtins.ValueError: what is this"


def test_the_workers_error_is_extracted_from_sparks_traces() -> None:
    assert launcher.describe(RuntimeError(WORKER_TRACE)) == "spark_jobs.errors.JobError: the model's output is wrong"


def test_a_progress_line_is_read_back() -> None:
    line = "2026-11-22 08:33:52,041 INFO x: " + progress.PROGRESS_LINE % ("featurize", 512, 960, "images", 53)
    assert "featurize: 512/960 images (53 %)" in line
    match = progress.PROGRESS_PATTERN.search(line)
    assert match is not None
    assert match.groupdict() == {"name": "featurize", "done": "512", "total": "960", "unit": "images", "percent": "53"}
