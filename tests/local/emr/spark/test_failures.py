"""The message of a failed step is the last error in its output."""

from __future__ import annotations

import re

import pytest

from local.emr.spark.failures import explain, last_error

TRACEBACK = """\
26/11/22 08:33:01 INFO SparkContext: Running Spark version 4.1.1
Traceback (most recent call last):
  File "/app/featurize.py", line 10, in <module>
    fail()
    ^^^^^^
ValueError: 60 of 100 images are rejects:
apple/0.jpg: truncated
26/11/22 08:33:05 INFO ShutdownHookManager: Shutdown hook called
"""
PY4J = """\
Traceback (most recent call last):
  File "/app/x.py", line 10, in <module>
py4j.protocol.Py4JJavaError: An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 1 in stage 1.0 failed 1 times
\tat org.apache.spark.executor.Executor$TaskRunner.run(Executor.scala:719)

Driver stacktrace:
\tat org.apache.spark.scheduler.DAGScheduler.runJob(DAGScheduler.scala:1017)
Caused by: org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "/app/x.py", line 10, in <lambda>
    1 / 0
    ~~^~~
ZeroDivisionError: division by zero

\tat org.apache.spark.api.python.PythonRunner$$anon$3.read(PythonRunner.scala:1029)
\t... 1 more
"""
JVM = """\
WARNING: Using incubator modules: jdk.incubator.vector
Exception in thread "main" org.apache.spark.SparkException: Failed to get main class in JAR
\tat org.apache.spark.deploy.SparkSubmit.main(SparkSubmit.scala)
"""
NO_ERROR = """\
WARNING: Using incubator modules: jdk.incubator.vector
Using Spark's default log4j profile: org/apache/spark/log4j2-defaults.properties
26/11/22 08:33:14 WARN NativeCodeLoader: Unable to load native-hadoop library
"""


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (TRACEBACK, "ValueError: 60 of 100 images are rejects:\napple/0.jpg: truncated"),
        (PY4J, "ZeroDivisionError: division by zero"),
        (JVM, 'Exception in thread "main" org.apache.spark.SparkException: Failed to get main class in JAR'),
        ("usage: featurize [-h]\nfeaturize: error: --run is missing\n", "featurize: error: --run is missing"),
        ("started\n2026-11-22 08:00:01,123 ERROR no images\n", "2026-11-22 08:00:01,123 ERROR no images"),
        (NO_ERROR, ""),
        ("", ""),
    ],
    ids=["traceback", "worker", "jvm", "usage", "log-record", "no-error", "nothing"],
)
def test_the_last_error_is_found(output: str, expected: str) -> None:
    assert last_error(output) == expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (TRACEBACK + "closing the store\n", "ValueError: 60 of 100 images are rejects:\napple/0.jpg: truncated"),
        (
            JVM + "stopping\n",
            'Exception in thread "main" org.apache.spark.SparkException: Failed to get main class in JAR',
        ),
        ("job: error: no such table\ncleaning up\nbye\n", "job: error: no such table"),
        ("2026-11-22 08:00:01,123 ERROR no images\n42 files were kept\n", "2026-11-22 08:00:01,123 ERROR no images"),
        ("bash: line 1: frobnicate: command not found\ndone\n", "bash: line 1: frobnicate: command not found"),
        (
            "ls: cannot access 'x': No such file or directory\ndone\n",
            "ls: cannot access 'x': No such file or directory",
        ),
        ("0 errors in 10 files\nit broke\n", "it broke"),
    ],
    ids=["traceback", "jvm", "program", "log-record", "shell", "tool", "no-error-line"],
)
def test_the_message_is_the_line_that_failed_not_the_last_line_printed(output: str, expected: str) -> None:
    assert last_error(output) == expected


SUBMIT = ["timeout", "-k", "60s", "--signal=TERM", "3h", "spark-submit", "app.py"]


@pytest.mark.parametrize(
    ("argv", "code", "expected"),
    [
        (SUBMIT, 124, r"time limit \(3h\).*exit code 124"),
        (SUBMIT, 137, r"killed: its time limit \(3h\).*exit code 137"),
        (SUBMIT, -9, r"killed: its time limit \(3h\)"),
        (["sleep", "9"], -15, r"signal 15 \(SIGTERM\)"),
        (["sleep", "9"], 139, r"signal 11 \(exit code 139\)"),
        (["sleep", "9"], 3, r"^exit code 3$"),
        (["sleep", "9"], None, r"guarded the command was killed"),
    ],
)
def test_a_time_limit_and_a_signal_are_named_in_the_message(argv: list[str], code: int | None, expected: str) -> None:
    assert re.search(expected, explain(argv, code, stdout="", stderr=""))


def test_the_error_of_a_python_driver_is_on_the_standard_output_of_spark_submit() -> None:
    assert explain(SUBMIT, 1, stdout=PY4J, stderr=NO_ERROR) == "ZeroDivisionError: division by zero"
    assert explain(SUBMIT, 1, stdout="42\n", stderr=JVM).startswith('Exception in thread "main"')
    assert explain(["bash"], 1, stdout="not an error\n", stderr="an error\n") == "an error"


def test_a_message_is_bounded() -> None:
    assert len(explain(["bash"], 1, stdout="", stderr="x" * 100_000)) <= 2_000
