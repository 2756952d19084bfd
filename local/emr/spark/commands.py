"""A step's command as EMR takes it, turned into one that runs on this machine. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SWITCHES = {"--help", "-h", "--supervise", "--usage-error", "--verbose", "-v", "--version", "--load-spark-defaults"}
"""Options of spark-submit that take no value (org.apache.spark.launcher.SparkSubmitOptionParser, Spark 4.1)."""

VALUE_OPTIONS = {
    *("--archives", "--class", "--conf", "-c", "--deploy-mode", "--driver-class-path", "--driver-default-class-path"),
    *("--driver-cores", "--driver-java-options", "--driver-library-path", "--driver-memory", "--exclude-packages"),
    *("--executor-cores", "--executor-memory", "--files", "--jars", "--keytab", "--kill", "--master", "--name"),
    *("--num-executors", "--packages", "--principal", "--properties-file", "--proxy-user", "--py-files", "--queue"),
    *("--remote", "--repositories", "--status", "--total-executor-cores"),
}
"""Options of spark-submit that take a value (the same source)."""

DROPPED_OPTIONS = {"--deploy-mode", "--driver-cores", "--keytab", "--num-executors", "--principal", "--queue"}
"""Options that only a cluster manager understands; client mode is spark-submit's default."""

DROPPED_SETTINGS = (
    "spark.yarn.",
    "spark.hadoop.yarn.",
    "spark.kubernetes.",
    "spark.dynamicAllocation.",
    "spark.shuffle.service.",
    "spark.decommission.",
    "spark.driver.cores",
    "spark.driver.memoryOverhead",
    "spark.executor.instances",
    "spark.executor.memoryOverhead",
    "spark.submit.deployMode",
    # The steps' interpreter is the endpoint's choice, whatever path the nodes of a cluster would have.
    "spark.pyspark.python",
    "spark.pyspark.driver.python",
    "spark.executorEnv.PYSPARK_PYTHON",
    "spark.executorEnv.PYSPARK_DRIVER_PYTHON",
    # Set below, for everyone.
    "spark.driver.host",
    "spark.driver.bindAddress",
)
"""Beginnings of the names of settings that mean nothing here, or that the endpoint sets itself."""

LOOPBACK_SETTINGS = ("spark.driver.host=127.0.0.1", "spark.driver.bindAddress=127.0.0.1")

FILE_OPTIONS = {"--archives", "--files", "--jars", "--py-files"}

LOCAL_CLUSTER = re.compile(r"local-cluster\[\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\]")
MEMORY = re.compile(r"(\d+)\s*([kmgt]?)b?", re.IGNORECASE)
MEBIBYTES = {"k": 1 / 1024, "m": 1, "": 1, "g": 1024, "t": 1024 * 1024}


class CommandError(ValueError):
    """A command that cannot run on this machine; the message says why."""


@dataclass(frozen=True)
class Target:
    """Where a command will run.

    Parameters
    ----------
    spark_submit : str
        Path of the spark-submit to use.
    master : str
        Spark master that stands for YARN.
    driver_memory_cap_mb : int
        Most memory a driver gets, in MiB.
    s3_settings : mapping
        Spark settings that a command which names ``s3://`` gets, where it does not set them itself.
    """

    spark_submit: str
    master: str
    driver_memory_cap_mb: int
    s3_settings: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Submission:
    """What a spark-submit command line asks for, sorted by what becomes of it."""

    kept: list[str] = field(default_factory=list)
    master: str | None = None
    driver_memory: str | None = None
    executor_memory: str | None = None
    executor_cores: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    application: list[str] = field(default_factory=list)


def translate(argv: Sequence[str], target: Target) -> list[str]:
    """Return the command to run for the arguments of a ``command-runner.jar`` step.

    Everything before ``spark-submit`` (``timeout 3h …``) and after the application file is left alone. A command
    without ``spark-submit`` is returned as it is.

    Raises
    ------
    CommandError
        When there is no command, or when it asks for a master that is neither YARN nor local.
    """
    if not argv:
        raise CommandError("command-runner.jar has no arguments: give it a command")
    for position, word in enumerate(argv):
        if word.rpartition("/")[2] == "spark-submit":
            submission = _read(argv[position + 1 :])
            if any("s3://" in word for word in argv):
                submission.settings = {**target.s3_settings, **submission.settings}
            return [*argv[:position], target.spark_submit, *_write(submission, target)]
    return list(argv)


def _read(words: Sequence[str]) -> _Submission:
    submission = _Submission()
    position = 0
    while position < len(words) and words[position].startswith("-"):
        option, equals, value = words[position].partition("=")
        position += 1
        if option in VALUE_OPTIONS and not equals:
            if position == len(words):
                raise CommandError(f"spark-submit: {option} has no value")
            value = words[position]
            position += 1
        _sort(submission, option, value if option in VALUE_OPTIONS else None)
    submission.application = list(words[position:])
    return submission


def _sort(submission: _Submission, option: str, value: str | None) -> None:
    if value is None:
        submission.kept.append(option)  # spark-submit itself rejects what it does not know
    elif option == "--master":
        submission.master = value
    elif option == "--driver-memory":
        submission.driver_memory = value
    elif option == "--executor-memory":
        submission.executor_memory = value
    elif option == "--executor-cores":
        submission.executor_cores = value
    elif option in ("--conf", "-c"):
        name, _, setting = value.partition("=")
        submission.settings[name.strip()] = setting
    elif option in FILE_OPTIONS:
        submission.kept += [option, ",".join(local_path(uri) for uri in value.split(","))]
    elif option not in DROPPED_OPTIONS:
        submission.kept += [option, value]


def _write(submission: _Submission, target: Target) -> list[str]:
    # A flag wins over the setting of the same meaning, as in spark-submit.
    settings = dict(submission.settings)
    master = submission.master or settings.get("spark.master")
    driver_memory = submission.driver_memory or settings.get("spark.driver.memory")
    executor_memory = submission.executor_memory or settings.get("spark.executor.memory")
    executor_cores = submission.executor_cores or settings.get("spark.executor.cores")
    for name in ("spark.master", "spark.driver.memory", "spark.executor.memory", "spark.executor.cores"):
        settings.pop(name, None)
    chosen = _master(master, target.master)
    words = ["--master", chosen, *submission.kept]
    if driver_memory:
        words += ["--driver-memory", at_most(driver_memory, target.driver_memory_cap_mb)]
    cluster = LOCAL_CLUSTER.fullmatch(chosen)
    if cluster:
        # An executor that asks for more than a worker has is never started, and the job waits for ever.
        cores, memory_mb = int(cluster[2]), int(cluster[3])
        words += ["--executor-memory", at_most(executor_memory or f"{memory_mb}m", memory_mb)]
        if executor_cores and executor_cores.isdecimal():
            words += ["--executor-cores", str(min(int(executor_cores), cores))]
    else:
        settings.pop("spark.executor.pyspark.memory", None)  # the size of a whole executor's share on a node
    settings.setdefault("spark.ui.enabled", "false")
    kept = (f"{name}={value}" for name, value in settings.items() if not name.startswith(DROPPED_SETTINGS))
    for setting in (*kept, *LOOPBACK_SETTINGS):
        words += ["--conf", setting]
    return [*words, *(local_path(word) for word in submission.application[:1]), *submission.application[1:]]


def _master(asked: str | None, ours: str) -> str:
    if asked is None or asked.startswith("yarn"):
        return ours
    if asked.startswith("local"):
        return asked
    raise CommandError(f"--master {asked} is out of reach of this endpoint: use yarn, which stands for {ours}")


def at_most(memory: str, cap_mb: int) -> str:
    """Return a JVM memory size, lowered to a cap in MiB; what is not a size is left for Spark to reject."""
    size = MEMORY.fullmatch(memory.strip())
    if size is None or int(size[1]) * MEBIBYTES[size[2].lower()] <= cap_mb:
        return memory
    return f"{cap_mb}m"


def local_path(uri: str) -> str:
    """Return the path of a ``file://`` URI, and anything else as it is.

    Spark would take the URI's spaces, ``%`` and ``#`` for URL syntax; a path it encodes itself.
    """
    return uri.removeprefix("file://") if uri.startswith("file:///") else uri
