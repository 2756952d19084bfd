"""The autopsy of failures at the endpoint, whose logs are in the same places as EMR's, and late or missing."""

from __future__ import annotations

from typing import Any

import pytest

from include.autopsy.examination import brief, examine_cluster, examine_step, render
from include.autopsy.symptoms import Kind


def autopsy(emr: Any, cluster: str, step: str, wait: float = 60.0) -> Any:
    described = emr.client.describe_step(ClusterId=cluster, StepId=step)["Step"]
    return examine_step(described, emr.cluster(cluster), None, wait)


FAILURES = {
    "out of memory": ({"exit_code": 1, "stderr": "java.lang.OutOfMemoryError: Java heap space"}, Kind.OUT_OF_MEMORY),
    "disk full": ({"exit_code": 1, "stderr": "OSError: [Errno 28] No space left on device"}, Kind.DISK_FULL),
    "missing module": ({"exit_code": 1, "stderr": "ModuleNotFoundError: No module named 'x'"}, Kind.MISSING_MODULE),
    "access denied": ({"exit_code": 1, "stderr": "OSError: AWS Error ACCESS_DENIED"}, Kind.ACCESS_DENIED),
    "bad input": ({"exit_code": 1, "stdout": "spark_jobs.errors.JobError: no images"}, Kind.BAD_INPUT),
    "container": (
        {
            "exit_code": 1,
            "stdout": "org.apache.spark.SparkException: Job aborted",
            "container_stderr": "java.lang.OutOfMemoryError: Java heap space\n",
        },
        Kind.OUT_OF_MEMORY,
    ),
    "killed": ({"kills": "driver"}, Kind.OUT_OF_MEMORY),
    "hangs": ({"hangs": True, "limit_seconds": 0.2}, Kind.TIME_LIMIT),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_step_is_classified_from_its_delivered_logs(emr: Any, failure: str) -> None:
    fault, kind = FAILURES[failure]
    emr.set_faults({"steps": [{"name": "featurize", **fault}]})
    cluster = emr.create()
    [step] = emr.add(cluster, emr.step("timeout", "0.2h", "sleep", "600", name="featurize"))
    emr.await_step(cluster, step)
    if failure == "hangs":
        # The fault shortens the real time limit: only the exit code shows that it was reached.
        assert "time limit" in emr.status(cluster, step)["FailureDetails"]["Message"]
    found = autopsy(emr, cluster, step)
    assert found.diagnosis.kind == kind, render(found)
    assert found.logs.complete
    assert brief(found).startswith(f"{kind}: ")


def test_the_autopsy_waits_for_late_logs(emr: Any) -> None:
    fault = {"name": "featurize", "exit_code": 1, "stderr": "", "stdout": "spark_jobs.errors.JobError: no images"}
    emr.set_faults({"steps": [fault], "logs": [{"delay_seconds": 1200}]})  # 2 s on this clock
    cluster = emr.create()
    [step] = emr.add(cluster, emr.bash("true", name="featurize"))
    emr.await_step(cluster, step)
    found = autopsy(emr, cluster, step)
    assert found.logs.complete
    assert "JobError" in found.logs.stdout


def test_missing_logs_are_reported_and_the_failure_details_are_classified(emr: Any) -> None:
    fault = {"name": "featurize", "exit_code": 1, "stderr": "ModuleNotFoundError: No module named 'x'"}
    emr.set_faults({"steps": [fault], "logs": [{"refused": True}]})
    cluster = emr.create()
    [step] = emr.add(cluster, emr.bash("true", name="featurize"))
    emr.await_step(cluster, step)
    found = autopsy(emr, cluster, step, wait=0.5)
    assert found.diagnosis.kind == Kind.MISSING_MODULE
    text = render(found)
    assert "arrived within 0.5 s" in text
    assert f"The logs are in file://{emr.delivered(cluster, 'steps', step)}" in text


def test_a_cluster_that_failed_before_its_first_step_is_examined_with_its_steps(emr: Any) -> None:
    emr.set_faults({"clusters": [{"fails": "bootstrap", "stderr": "ERROR: No matching distribution for pillow"}]})
    cluster = emr.create(Steps=[emr.bash("true")])
    emr.await_cluster(cluster, "TERMINATED_WITH_ERRORS")
    found = examine_cluster(emr.cluster(cluster), None, 60)
    assert found.diagnosis.kind == Kind.BOOTSTRAP
    assert "No matching distribution for pillow" in brief(found)
    assert "bootstrap-actions/1/stderr.gz" in render(found)
    [step] = emr.client.list_steps(ClusterId=cluster)["Steps"]
    assert autopsy(emr, cluster, step["Id"]).diagnosis == found.diagnosis


@pytest.mark.parametrize(("fails", "kind"), [("terminated", Kind.CANCELLED), ("lost", Kind.LOST_CAPACITY)])
def test_the_termination_of_the_cluster_explains_its_step(emr: Any, fails: str, kind: Kind) -> None:
    emr.set_faults({"clusters": [{"fails": fails, "after_seconds": 60}]})
    cluster = emr.create()
    [step] = emr.add(cluster, emr.bash("sleep 600"))
    emr.await_cluster(cluster, "TERMINATED", "TERMINATED_WITH_ERRORS")
    assert autopsy(emr, cluster, step).diagnosis.kind == kind
