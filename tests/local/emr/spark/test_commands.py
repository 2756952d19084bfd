"""Commands for EMR are translated to commands for this machine."""

from __future__ import annotations

import pytest

from local.emr.spark.commands import CommandError, Target, at_most, translate

LOOPBACK = [
    *("--conf", "spark.driver.host=127.0.0.1"),
    *("--conf", "spark.driver.bindAddress=127.0.0.1"),
]
NO_UI = ["--conf", "spark.ui.enabled=false"]


def submit(words: list[str], master: str = "local[*]") -> list[str]:
    """Return the translation of WORDS in `spark-submit WORDS app.py`."""
    target = Target(spark_submit="/spark/bin/spark-submit", master=master, driver_memory_cap_mb=2048)
    argv = translate(["spark-submit", *words, "app.py", "--master=untouched"], target)
    assert argv[0] == "/spark/bin/spark-submit"
    assert argv[-2:] == ["app.py", "--master=untouched"], "the application and its arguments do not change"
    return argv[1:-2]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["--master", "local[*]", *NO_UI]),
        (["--master", "yarn"], ["--master", "local[*]", *NO_UI]),
        (["--master=yarn"], ["--master", "local[*]", *NO_UI]),
        (["--conf", "spark.master=yarn"], ["--master", "local[*]", *NO_UI]),
        (["--master", "local[3]"], ["--master", "local[3]", *NO_UI]),
        (["--deploy-mode", "cluster"], ["--master", "local[*]", *NO_UI]),
        (["--deploy-mode=client"], ["--master", "local[*]", *NO_UI]),
        (["--num-executors", "4", "--queue", "q", "--driver-cores", "2"], ["--master", "local[*]", *NO_UI]),
        (["--executor-memory", "8g", "--executor-cores", "4"], ["--master", "local[*]", *NO_UI]),
        (["--conf", "spark.executor.memory=8g"], ["--master", "local[*]", *NO_UI]),
        (["--conf", "spark.executor.instances=4"], ["--master", "local[*]", *NO_UI]),
        (["-c", "spark.dynamicAllocation.enabled=true"], ["--master", "local[*]", *NO_UI]),
        (["--conf=spark.yarn.maxAppAttempts=1"], ["--master", "local[*]", *NO_UI]),
        (["--conf", "spark.executor.memoryOverhead=2g"], ["--master", "local[*]", *NO_UI]),
        (["--conf", "spark.executor.pyspark.memory=2g"], ["--master", "local[*]", *NO_UI]),
        (["--conf", "spark.pyspark.python=/usr/bin/python3"], ["--master", "local[*]", *NO_UI]),
        (["--conf", "spark.executorEnv.PYSPARK_PYTHON=/x"], ["--master", "local[*]", *NO_UI]),
        (["--conf", "spark.driver.host=0.0.0.0"], ["--master", "local[*]", *NO_UI]),
        (
            ["--conf", "spark.executorEnv.MODEL=x"],
            ["--master", "local[*]", "--conf", "spark.executorEnv.MODEL=x", *NO_UI],
        ),
        (
            ["--conf", "spark.ui.enabled=true"],
            ["--master", "local[*]", "--conf", "spark.ui.enabled=true"],
        ),
        (
            ["--conf", "spark.a=b=c d", "--name", "n", "--verbose"],
            ["--master", "local[*]", "--name", "n", "--verbose", "--conf", "spark.a=b=c d", *NO_UI],
        ),
        (["--driver-memory", "1g"], ["--master", "local[*]", "--driver-memory", "1g", *NO_UI]),
        (["--driver-memory", "64g"], ["--master", "local[*]", "--driver-memory", "2048m", *NO_UI]),
        (["--conf", "spark.driver.memory=64g"], ["--master", "local[*]", "--driver-memory", "2048m", *NO_UI]),
        (
            ["--driver-memory", "1g", "--conf", "spark.driver.memory=64g"],
            ["--master", "local[*]", "--driver-memory", "1g", *NO_UI],
        ),
        (
            ["--py-files", "file:///a b/é.zip,s3://bucket/x.zip"],
            ["--master", "local[*]", "--py-files", "/a b/é.zip,s3://bucket/x.zip", *NO_UI],
        ),
    ],
)
def test_yarn_options_become_local_ones(words: list[str], expected: list[str]) -> None:
    assert submit(words) == [*expected, *LOOPBACK]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["--executor-memory", "1024m"]),
        (["--executor-memory", "512m"], ["--executor-memory", "512m"]),
        (["--executor-memory", "8g", "--executor-cores", "4"], ["--executor-memory", "1024m", "--executor-cores", "1"]),
        (["--conf", "spark.executor.memory=8g"], ["--executor-memory", "1024m"]),
        (["--num-executors", "7"], ["--executor-memory", "1024m"]),
    ],
)
def test_an_executor_fits_a_worker_of_a_local_cluster(words: list[str], expected: list[str]) -> None:
    master = "local-cluster[2,1,1024]"
    assert submit(words, master) == ["--master", master, *expected, *NO_UI, *LOOPBACK]


def test_the_words_before_spark_submit_and_the_path_of_the_application_do_not_change() -> None:
    target = Target("/spark/bin/spark-submit", "local[2]", 2048)
    prefix = ["timeout", "--signal=TERM", "--kill-after=60s", "3h"]
    argv = translate([*prefix, "/usr/bin/spark-submit", "file:///my dir/été #1 100%.py", "file:///a b"], target)
    assert argv[:5] == [*prefix, "/spark/bin/spark-submit"]
    assert argv[-2:] == ["/my dir/été #1 100%.py", "file:///a b"]


def test_commands_without_spark_submit_do_not_change() -> None:
    argv = ["bash", "-c", "echo --master yarn; exit 3"]
    assert translate(argv, Target("/s", "local[*]", 1)) == argv


@pytest.mark.parametrize(
    "argv",
    [["state-pusher-script"], ["s3://eu-west-3.elasticmapreduce/libs/state-pusher/0.1/fetch"]],
    ids=["command-runner", "script-runner"],
)
def test_setup_hadoop_debugging_does_nothing(argv: list[str]) -> None:
    assert translate(argv, Target("/s/bin/spark-submit", "local[*]", 1)) == ["true"]


def test_the_commands_of_spark_on_a_node_are_those_of_the_local_spark() -> None:
    target = Target("/spark/bin/spark-submit", "local[2]", 2048)
    argv = ["timeout", "3h", "/usr/lib/spark/bin/spark-sql", "-e", "select 1"]
    assert translate(argv, target) == ["timeout", "3h", "/spark/bin/spark-sql", "-e", "select 1"]
    assert translate(["/usr/lib/spark/bin/spark-submit", "app.py"], target)[0] == "/spark/bin/spark-submit"
    example = translate(["/usr/lib/spark/bin/run-example", "SparkPi", "10"], target)
    assert example[:3] == ["/spark/bin/spark-submit", "--master", "local[2]"]
    assert example[-2:] == ["/spark/examples/src/main/python/pi.py", "10"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "no arguments"),
        (["run-example", "mllib.LDAExample"], "no example mllib.LDAExample, only SparkPi"),
        (["run-example"], "no example no class"),
        (["spark-submit", "--master", "spark://elsewhere:7077", "app.py"], "spark://elsewhere:7077"),
        (["spark-submit", "--master", "k8s://x", "app.py"], "k8s://x"),
        (["spark-submit", "--conf"], "--conf has no value"),
    ],
)
def test_an_impossible_command_is_an_error_with_its_reason(argv: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        translate(argv, Target("/s", "local[*]", 1))


@pytest.mark.parametrize(
    ("memory", "expected"),
    [("512m", "512m"), ("2g", "2g"), ("3g", "2048m"), ("1t", "2048m"), ("3GB", "2048m"), ("4096", "2048m"), ("x", "x")],
)
def test_memory_is_lowered_to_the_cap(memory: str, expected: str) -> None:
    assert at_most(memory, 2048) == expected
