"""The class of a failure, from captured logs of real steps and from messages of YARN and EMR."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.autopsy.diagnosis import diagnose, diagnose_cluster
from include.autopsy.logs import ContainerLog, StepLogs, last_error, last_traceback
from include.autopsy.symptoms import ADVICE, Kind
from tests.include import captured_steps

EXPECTED = {
    "access_denied": (Kind.ACCESS_DENIED, "AWS Error ACCESS_DENIED during CreateMultipartUpload"),
    "bad_input": (Kind.BAD_INPUT, "3 of 5 images (60.0 %) are rejects, more than the 0.1"),
    "driver_killed": (Kind.OUT_OF_MEMORY, "the driver was killed from outside"),
    "driver_out_of_memory": (Kind.OUT_OF_MEMORY, "java.lang.OutOfMemoryError: Java heap space"),
    "lost_capacity": (Kind.LOST_CAPACITY, "Container released on a *lost* node"),
    "missing_module": (Kind.MISSING_MODULE, "No module named 'spark_jobs'"),
    "time_limit": (Kind.TIME_LIMIT, "after its time limit of 6 s"),
    "worker_killed": (Kind.OUT_OF_MEMORY, "Python worker exited unexpectedly"),
    "wrong_arguments": (Kind.BAD_INPUT, "unrecognized arguments: --no-such-flag=1"),
}


def test_every_captured_failure_is_expected() -> None:
    assert {folder.name for folder in captured_steps.FOLDER.iterdir()} == EXPECTED.keys()


@pytest.mark.parametrize("kind", EXPECTED)
def test_a_real_failure_is_classified(kind: str) -> None:
    expected, cause = EXPECTED[kind]
    diagnosis = diagnose(*captured_steps.load(kind))
    assert diagnosis.kind == expected
    assert cause in diagnosis.cause
    assert diagnosis.advice == ADVICE[expected]
    assert diagnosis.evidence


@pytest.mark.parametrize("kind", EXPECTED)
def test_emrs_own_excerpt_is_classified_if_there_are_no_logs(kind: str) -> None:
    """The endpoint's FailureDetails contain the last error of the output, as EMR's do."""
    step, cluster, _ = captured_steps.load(kind)
    diagnosis = diagnose(step, cluster, StepLogs(folder=""))
    # Spark's last error reports that an executor exited with 137; only the log reports that its instance was lost.
    assert diagnosis.kind == (Kind.OUT_OF_MEMORY if kind == "lost_capacity" else EXPECTED[kind][0])


def test_no_captured_log_names_a_local_folder() -> None:
    here = re.escape(str(captured_steps.FOLDER.parents[2]))
    for path in captured_steps.FOLDER.rglob("*"):
        if path.is_file():
            assert not re.search(rf"/tmp/|/home/|/root/|{here}", path.read_text()), path


def test_the_traceback_of_a_real_failure_is_complete() -> None:
    step, cluster, logs = captured_steps.load("access_denied")
    lines = diagnose(step, cluster, logs).traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    # The capture predates the package spark_jobs/lake: its paths are those of the code that failed.
    assert "spark_jobs/storage.py" in "".join(lines)
    assert lines[-1].startswith("OSError: When initiating multiple part upload")


def test_the_reasons_of_failed_containers_are_returned() -> None:
    diagnosis = diagnose(*captured_steps.load("lost_capacity"))
    assert any(
        "Exit status: -100. Diagnostics: Container released on a *lost* node" in line for line in diagnosis.containers
    )
    assert any(line.startswith("ExecutorLostFailure (executor 0 exited") for line in diagnosis.containers)


# Messages that only YARN writes, from the sources of Spark and Hadoop
# (org.apache.spark.deploy.yarn.YarnAllocator, Spark 4.1.1;
# org.apache.hadoop.yarn.server.nodemanager…ContainersMonitorImpl and …scheduler.SchedulerUtils, Hadoop 3.4).
YARN_MESSAGES = {
    "physical memory": (
        Kind.OUT_OF_MEMORY,
        (
            "ERROR YarnScheduler: Lost executor 3 on ip-1: Container killed by YARN for exceeding physical memory "
            "limits. 5.1 GB of 5 GB physical memory used. Consider boosting spark.executor.memoryOverhead."
        ),
    ),
    "monitor": (
        Kind.OUT_OF_MEMORY,
        (
            "Container [pid=4711,containerID=container_1700000000000_0001_01_000004] is running 139587584B beyond the "
            "'PHYSICAL' memory limit. Current usage: 5.1 GB of 5 GB physical memory used; Killing container."
        ),
    ),
    "exit 137": (
        Kind.OUT_OF_MEMORY,
        (
            "WARN YarnSchedulerBackend$YarnSchedulerEndpoint: Requesting driver to remove executor 2 for reason "
            "Container from a bad node: container_1700000000000_0001_01_000003 on host: ip-1. Exit status: 137. "
            "Diagnostics: Container killed on request. Exit code is 137"
        ),
    ),
    "lost node": (
        Kind.LOST_CAPACITY,
        (
            "ERROR YarnScheduler: Lost executor 5 on ip-10-0-1-9: Container marked as failed: "
            "container_e46_1700000000000_0001_01_000006 on host: ip-1. Exit status: -100. Diagnostics: Container "
            "released on a *lost* node."
        ),
    ),
    "exit 143": (
        Kind.LOST_CAPACITY,
        (
            "WARN YarnAllocator: Container from a bad node: container_1700000000000_0001_01_000002 on host: ip-1. "
            "Exit status: 143. Diagnostics: Container killed on request. Exit code is 143"
        ),
    ),
    "heartbeat": (
        Kind.LOST_CAPACITY,
        (
            "WARN HeartbeatReceiver: Removing executor 4 with no recent heartbeats\n"
            "26/11/22 12:00:00 ERROR YarnScheduler: Lost executor 4 on ip-10-0-1-8: Executor heartbeat timed out"
        ),
    ),
}
JOB_ABORTED = "org.apache.spark.SparkException: Job aborted due to stage failure: Task 7 in stage 0.0 failed 4 times"


def step(state: str = "FAILED", *, seconds: float = 60, limit: str = "3h", **status: Any) -> dict[str, Any]:
    begin = datetime(2026, 11, 22, tzinfo=UTC)
    timeline = {"StartDateTime": begin, "EndDateTime": begin + timedelta(seconds=seconds)}
    arguments = ["timeout", "--signal=TERM", "--kill-after=60s", limit, "spark-submit", "featurize.py"]
    return {"Id": "s-1", "Name": "featurize", "Config": {"Args": arguments}} | {
        "Status": {"State": state, "Timeline": timeline, **status}
    }


def cluster(state: str, code: str = "", message: str = "") -> dict[str, Any]:
    return {"Id": "j-1", "Status": {"State": state, "StateChangeReason": {"Code": code, "Message": message}}}


def logs(stdout: str = "", stderr: str = "", code: int | None = 1, **more: Any) -> StepLogs:
    controller = "" if code is None else f"INFO waitProcessCompletion ended with exit code {code} : hadoop jar"
    return StepLogs("s3://b/logs", stdout, stderr, controller, complete=code is not None, **more)


def test_a_message_of_yarn_explains_an_aborted_job() -> None:
    for name, (kind, line) in YARN_MESSAGES.items():
        diagnosis = diagnose(step(), None, logs(JOB_ABORTED, f"26/11/22 12:00:00 {line}"))
        assert diagnosis.kind == kind, name
        assert any(line.splitlines()[-1][-60:] in shown for shown in diagnosis.evidence), name


def test_the_log_of_a_container_explains_what_the_drivers_does_not() -> None:
    """An executor whose heap is full exits with code 52 (org.apache.spark.util.SparkExitCode.OOM)."""
    text = "26/11/22 12:00:00 ERROR Executor: Exception in task 3.0\njava.lang.OutOfMemoryError: Java heap space\n"
    lost = "26/11/22 12:00:00 WARN TaskSetManager: Lost task 3.0 in stage 0.0 (TID 3): out of sight"
    diagnosis = diagnose(step(), None, logs(JOB_ABORTED, lost, containers=(ContainerLog("container_1", text),)))
    assert (diagnosis.kind, "Java heap space" in diagnosis.cause) == (Kind.OUT_OF_MEMORY, True)


EXHAUSTED_LOGS = {
    "no space left in Python": (Kind.DISK_FULL, "OSError: [Errno 28] No space left on device: '/mnt/x'", ""),
    "no space left, lower case": (Kind.DISK_FULL, "OSError: no space left on device", ""),
    "no space left in a shuffle": (
        Kind.DISK_FULL,
        f"{JOB_ABORTED}: java.io.IOException: No space left on device",
        "26/11/22 12:00:00 ERROR DiskBlockObjectWriter: Uncaught exception while reverting partial writes to file /x",
    ),
    "no space left, then lost executors": (
        Kind.DISK_FULL,
        JOB_ABORTED,
        (
            "java.io.IOException: No space left on device\n"
            "26/11/22 12:00:00 ERROR YarnScheduler: Lost executor 3 on ip-1: Container released on a *lost* node"
        ),
    ),
    "disk quota": (Kind.DISK_FULL, "OSError: [Errno 122] Disk quota exceeded", ""),
    "unhealthy node": (
        Kind.DISK_FULL,
        JOB_ABORTED,
        (
            "26/11/22 12:00:00 WARN x: 1/1 local-dirs usable space is below configured utilization percentage/no more "
            "usable space [ /mnt/yarn : used space above threshold of 90.0% ]"
        ),
    ),
    "no local folder": (
        Kind.DISK_FULL,
        JOB_ABORTED,
        "26/11/22 12:00:00 ERROR DiskBlockManager: Failed to create local dir in /mnt. Ignoring this directory.",
    ),
    "no space left, quoted by a job": (
        Kind.DISK_FULL,
        "spark_jobs.errors.JobError: /x cannot be written ([Errno 28] No space left on device)",
        "",
    ),
    "open files in Python": (Kind.OPEN_FILES, "OSError: [Errno 24] Too many open files: '/x'", ""),
    "open files in Java": (Kind.OPEN_FILES, JOB_ABORTED, "java.net.SocketException: Too many open files"),
    "open files in a library": (
        Kind.OPEN_FILES,
        "ImportError: libx.so: cannot open shared object file: Too many open files",
        "",
    ),
    "open files, Python cannot start": (
        Kind.OPEN_FILES,
        'java.io.IOException: Cannot run program "/usr/bin/python3": error=24, Too many open files',
        "",
    ),
    "open files, then an error of no class": (
        Kind.OPEN_FILES,
        "2026-11-27T03:02:10.570234483Z main ERROR Unrecognized conversion specifier [d]",
        "Caused by: java.lang.Error: java.io.FileNotFoundException: /usr/lib/jvm/lib/tzdb.dat (Too many open files)",
    ),
    "open files, Java cannot start": (
        Kind.OPEN_FILES,
        "",
        'Exception in thread "main" java.lang.InternalError: Error loading java.security file',
    ),
    "open files, then a module": (
        Kind.OPEN_FILES,
        "ModuleNotFoundError: No module named 'spark_jobs'",
        "java.io.FileNotFoundException: /x (Too many open files)",
    ),
}


@pytest.mark.parametrize("name", EXHAUSTED_LOGS)
def test_full_disk_and_limit_of_open_files_are_the_cause_of_what_follows_them(name: str) -> None:
    kind, error, before = EXHAUSTED_LOGS[name]
    diagnosis = diagnose(step(), None, logs(error, before))
    assert diagnosis.kind == kind
    assert diagnosis.advice == ADVICE[kind]


def test_host_name_that_does_not_resolve_is_a_class_of_its_own() -> None:
    """Spark's message on a machine whose own name has no address, as captured."""
    stderr = (
        'Exception in thread "main" java.net.UnknownHostException: nowhere-xyz: nowhere-xyz: Name or service not '
        "known\n"
        "\tat java.base/java.net.InetAddress.getLocalHost(InetAddress.java:1891)\n"
        "Caused by: java.net.UnknownHostException: nowhere-xyz: Name or service not known"
    )
    diagnosis = diagnose(step(), None, logs("", stderr))
    assert (diagnosis.kind, "nowhere-xyz" in diagnosis.cause) == (Kind.UNKNOWN_HOST, True)
    obstore = "spark_jobs.errors.JobError: s3://b: dns error: failed to lookup address information"
    assert diagnose(step(), None, logs(obstore)).kind == Kind.UNKNOWN_HOST


def test_a_problem_that_the_job_survived_is_not_the_cause() -> None:
    survived = "26/11/22 12:00:00 WARN x: Exit status: -100. Diagnostics: Container released on a *lost* node."
    own = "spark_jobs.errors.JobError: no file in s3://b/data matches the pattern '*.jpg': check --images and --pattern"
    assert diagnose(step(), None, logs(own, survived)).kind == Kind.BAD_INPUT
    python = diagnose(step(), None, logs("builtins.ValueError: not a number", survived))
    assert (python.kind, python.cause) == (Kind.UNKNOWN, "builtins.ValueError: not a number")


def test_a_jobs_own_error_may_quote_other_errors() -> None:
    quoting = "spark_jobs.errors.JobError: 9 of 9 images are rejects: 9 decoder died. First: a.jpg: (MemoryError: )"
    assert diagnose(step(), None, logs(quoting)).kind == Kind.BAD_INPUT
    refused = "spark_jobs.errors.JobError: there is no model at s3://b/m (AWS Error ACCESS_DENIED during GetObject)"
    assert diagnose(step(), None, logs(refused)).kind == Kind.ACCESS_DENIED


@pytest.mark.parametrize(
    ("code", "seconds", "kind"),
    [
        (124, 10_800, Kind.TIME_LIMIT),
        (137, 10_860, Kind.TIME_LIMIT),  # killed after the grace period of the limit
        (137, 600, Kind.OUT_OF_MEMORY),  # killed long before the limit: by the kernel
        (139, 600, Kind.UNKNOWN),
    ],
)
def test_the_exit_code_and_the_duration_decide(code: int, seconds: float, kind: Kind) -> None:
    diagnosis = diagnose(
        step(seconds=seconds, limit="3h"), None, logs("progress featurize: 0/9 images (0 %)", code=code)
    )
    # A progress line without a log prefix is not an error of the job.
    quiet = diagnose(step(seconds=seconds, limit="3h"), None, logs("", code=code))
    assert quiet.kind == kind
    assert diagnosis.kind in (kind, Kind.UNKNOWN)


def test_a_passed_time_limit_has_priority_over_its_consequences() -> None:
    broken = "26/11/22 12:00:00 ERROR Executor: Python worker exited unexpectedly (crashed)"
    assert diagnose(step(limit="6s"), None, logs("", broken, code=124)).kind == Kind.TIME_LIMIT


@pytest.mark.parametrize(
    ("state", "ended", "kind"),
    [
        ("CANCELLED", cluster("TERMINATING", "USER_REQUEST", "Terminated by user request"), Kind.CANCELLED),
        ("CANCELLED", cluster("RUNNING"), Kind.CANCELLED),
        ("CANCELLED", None, Kind.CANCELLED),
        ("CANCELLED", cluster("TERMINATED_WITH_ERRORS", "BOOTSTRAP_FAILURE", "On the master"), Kind.BOOTSTRAP),
        ("CANCELLED", cluster("TERMINATED_WITH_ERRORS", "INSTANCE_FLEET_TIMEOUT", "x"), Kind.LOST_CAPACITY),
        ("FAILED", cluster("TERMINATED_WITH_ERRORS", "INSTANCE_FAILURE", "master lost"), Kind.LOST_CAPACITY),
        # The teardown terminates the cluster of every failed step: that is not why the step failed.
        ("FAILED", cluster("TERMINATED", "USER_REQUEST", "Terminated by user request"), Kind.BAD_INPUT),
    ],
)
def test_the_end_of_the_cluster_counts_only_if_it_came_first(state: str, ended: Any, kind: Kind) -> None:
    assert diagnose(step(state), ended, logs("spark_jobs.errors.JobError: no images")).kind == kind


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (
            "BOOTSTRAP_FAILURE",
            "On the master instance (i-1), bootstrap action 1 returned a non-zero return code",
            "BOO",
        ),
        (
            "INTERNAL_ERROR",
            "EC2 is out of capacity for r7g.xlarge in availability zone eu-west-3a. Learn more at",
            "LOS",
        ),
        ("VALIDATION_ERROR", "The requested instance type exceeds the EC2 service quota for that type.", "LOS"),
        ("INSTANCE_FLEET_TIMEOUT", "", "LOS"),
        ("VALIDATION_ERROR", "Service role arn:… is not authorized to perform: ec2:RunInstances", "ACC"),
        ("INTERNAL_ERROR", "An internal error occurred.", "UNK"),
        ("USER_REQUEST", "Terminated by user request", "CAN"),
        ("", "", "UNK"),
    ],
)
def test_the_end_of_a_cluster_is_classified(code: str, message: str, kind: str) -> None:
    diagnosis = diagnose_cluster(cluster("TERMINATED_WITH_ERRORS", code, message))
    assert diagnosis.kind.name.startswith(kind)
    assert message in diagnosis.cause


def test_the_log_of_the_bootstrap_action_is_in_the_cause() -> None:
    ended = cluster("TERMINATED_WITH_ERRORS", "BOOTSTRAP_FAILURE", "bootstrap action 1 returned a non-zero return code")
    diagnosis = diagnose_cluster(
        ended, logs(stderr="Looking in links\nERROR: No matching distribution diagnosis for pillow\n")
    )
    assert "No matching distribution diagnosis for pillow" in diagnosis.cause


@pytest.mark.parametrize("status", [{}, {"FailureDetails": None, "StateChangeReason": None}, {"Timeline": {}}])
def test_no_information_is_unknown(status: dict[str, Any]) -> None:
    bare = {"Id": "s-1", "Status": {"State": "FAILED", **status}}
    diagnosis = diagnose(bare, None, StepLogs(folder=""))
    assert (diagnosis.kind, diagnosis.cause) == (Kind.UNKNOWN, "EMR gives no reason, and there are no logs")


def test_malformed_logs_do_no_harm() -> None:
    garbage = "\x00\ufffd" * 50_000 + "\n" + "x" * 1_000_000 + "\n" + "Traceback (most recent call last):\n" * 100
    diagnosis = diagnose(step(), None, logs(garbage, garbage, containers=(ContainerLog("c", garbage),)))
    assert len(diagnosis.cause) < 2_000
    assert sum(map(len, diagnosis.evidence)) < 20_000


def test_the_last_error_is_not_a_frame_a_record_or_a_notice() -> None:
    assert (
        last_error("ValueError: x\n  at home\n26/11/22 08:33:05 INFO ShutdownHookManager: called\n\n")
        == "ValueError: x"
    )
    assert last_error("26/11/22 08:33:05 WARN x: y\n2026-11-22 08:00:01,123 INFO a: b\n") == ""


def test_an_incomplete_traceback_is_skipped() -> None:
    whole = 'Traceback (most recent call last):\n  File "a", line 1\nKeyError: 1'
    assert last_traceback(f"{whole}\nmore\nTraceback (most recent call last):\n  File") == whole
    within = f"Caused by: org.apache.spark.api.python.PythonException: {whole}\n\n\tat org.apache"
    assert last_traceback(within) == whole
    assert last_traceback("") == ""


def test_every_kind_has_its_advice() -> None:
    assert ADVICE.keys() == set(Kind)
