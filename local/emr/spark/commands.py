"""Translation of a step's command for EMR to a command for this machine. Pure functions."""

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
    # The endpoint chooses the interpreter of the steps; its path on the nodes of a cluster does not exist here.
    "spark.pyspark.python",
    "spark.pyspark.driver.python",
    "spark.executorEnv.PYSPARK_PYTHON",
    "spark.executorEnv.PYSPARK_DRIVER_PYTHON",
    # Set for all steps: LOOPBACK_SETTINGS.
    "spark.driver.host",
    "spark.driver.bindAddress",
)
"""Prefixes of settings that have no meaning on this machine, or that the endpoint sets itself."""

LOOPBACK_SETTINGS = ("spark.driver.host=127.0.0.1", "spark.driver.bindAddress=127.0.0.1")

FILE_OPTIONS = {"--archives", "--files", "--jars", "--py-files"}

SPARK_BIN = "/usr/lib/spark/bin/"
"""Folder of Spark's commands on a node of EMR."""

PYTHON_EXAMPLES = {"SparkPi": "pi.py"}
"""Spark's examples for ``run-example``, in Python: pyspark contains no compiled examples."""

DEBUGGING_COMMAND = "state-pusher-script"
DEBUGGING_SCRIPT = re.compile(r"s3://[\w.-]*elasticmapreduce/libs/state-pusher/[\w.]+/fetch")
"""The step «Setup Hadoop Debugging»: the argument of command-runner.jar (AWS CLI's ``--enable-debugging``), and that of
script-runner.jar for releases before 4.0."""

LOCAL_CLUSTER = re.compile(r"local-cluster\[\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\]")
MEMORY = re.compile(r"(\d+)\s*([kmgt]?)b?", re.IGNORECASE)
MEBIBYTES = {"k": 1 / 1024, "m": 1, "": 1, "g": 1024, "t": 1024 * 1024}


class CommandError(ValueError):
    """A command cannot run on this machine; the message gives the reason."""


@dataclass(frozen=True)
class Target:
    """Where a command will run.

    Parameters
    ----------
    spark_submit : str
        Path of the spark-submit to use.
    master : str
        Spark master that replaces YARN.
    driver_memory_cap_mb : int
        Maximum memory of a driver, in MiB.
    s3_settings : mapping
        Default Spark settings of commands that contain ``s3://``.
    """

    spark_submit: str
    master: str
    driver_memory_cap_mb: int
    s3_settings: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Submission:
    """The parsed options of a spark-submit command line."""

    kept: list[str] = field(default_factory=list)
    master: str | None = None
    driver_memory: str | None = None
    executor_memory: str | None = None
    executor_cores: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    application: list[str] = field(default_factory=list)


def translate(argv: Sequence[str], target: Target) -> list[str]:
    """Return the command to run for the arguments of a ``command-runner.jar`` step.

    The words before ``spark-submit`` (``timeout 3h …``) and after the application file do not change. A command without
    ``spark-submit`` is returned unchanged, except that ``/usr/lib/spark/bin/`` becomes the local Spark's ``bin``, and
    that the setup of Hadoop's debugging does nothing. ``run-example`` submits the Python version of the example.

    Raises
    ------
    CommandError
        If there is no command, or if its master is neither YARN nor local.
    """
    if not argv:
        raise CommandError("command-runner.jar has no arguments: give it a command")
    for position, word in enumerate(argv):
        if word.rpartition("/")[2] == "spark-submit":
            submission = _read(argv[position + 1 :])
            if any("s3://" in word for word in argv):
                submission.settings = {**target.s3_settings, **submission.settings}
            return [*argv[:position], target.spark_submit, *_write(submission, target)]
        if word.rpartition("/")[2] == "run-example":
            submission = _read(argv[position + 1 :])
            submission.application[:1] = [_python_example(submission.application, target)]
            return [*argv[:position], target.spark_submit, *_write(submission, target)]
    if is_debugging_setup(argv):
        return ["true"]
    spark_bin = target.spark_submit.rpartition("/")[0]
    return [f"{spark_bin}/{word.removeprefix(SPARK_BIN)}" if word.startswith(SPARK_BIN) else word for word in argv]


def _python_example(words: Sequence[str], target: Target) -> str:
    """Return the path of the Python example for the class of ``run-example``."""
    name = words[0].removeprefix("org.apache.spark.examples.") if words else "no class"
    if name not in PYTHON_EXAMPLES:
        raise CommandError(f"run-example: this Spark has no example {name}, only {', '.join(PYTHON_EXAMPLES)}")
    return target.spark_submit.removesuffix("bin/spark-submit") + f"examples/src/main/python/{PYTHON_EXAMPLES[name]}"


def is_debugging_setup(argv: Sequence[str]) -> bool:
    """Return whether a command is that of the step «Setup Hadoop Debugging», which needs a console that EMR offers."""
    return list(argv) == [DEBUGGING_COMMAND] or (len(argv) == 1 and bool(DEBUGGING_SCRIPT.fullmatch(argv[0])))


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
        submission.kept.append(option)  # spark-submit itself rejects unknown options
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
        # Spark never starts an executor that needs more than a worker has, and the job would wait forever.
        cores, memory_mb = int(cluster[2]), int(cluster[3])
        words += ["--executor-memory", at_most(executor_memory or f"{memory_mb}m", memory_mb)]
        if executor_cores and executor_cores.isdecimal():
            words += ["--executor-cores", str(min(int(executor_cores), cores))]
    else:
        settings.pop("spark.executor.pyspark.memory", None)  # sized for the executors of a cluster
    settings.setdefault("spark.ui.enabled", "false")
    kept = (f"{name}={value}" for name, value in settings.items() if not name.startswith(DROPPED_SETTINGS))
    for setting in (*kept, *LOOPBACK_SETTINGS):
        words += ["--conf", setting]
    return [*words, *(local_path(word) for word in submission.application[:1]), *submission.application[1:]]


def _master(requested: str | None, substitute: str) -> str:
    if requested is None or requested.startswith("yarn"):
        return substitute
    if requested.startswith("local"):
        return requested
    raise CommandError(f"the endpoint cannot reach --master {requested}: use yarn, which it replaces by {substitute}")


def at_most(memory: str, cap_mb: int) -> str:
    """Return a JVM memory size, at most a cap in MiB. Invalid sizes do not change: Spark rejects them."""
    size = MEMORY.fullmatch(memory.strip())
    if size is None or int(size[1]) * MEBIBYTES[size[2].lower()] <= cap_mb:
        return memory
    return f"{cap_mb}m"


def local_path(uri: str) -> str:
    """Return the path of a ``file://`` URI; other URIs are returned unchanged.

    In a URI, Spark would parse spaces, ``%`` and ``#`` as URL syntax; it encodes a path itself.
    """
    return uri.removeprefix("file://") if uri.startswith("file:///") else uri
