"""Steps and clusters that go wrong in the middle."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from local.emr.spark import limits

BY_SHARES = 'for n in 0 50 100; do echo "progress featurize: $n/100 images ($n %)"; sleep 0.3; done; echo done'
"""A job that makes progress by halves."""


def test_a_limit_is_split_off_and_shortened() -> None:
    command = ["spark-submit", "--conf", "a=b", "app.py"]
    limit = ["timeout", "--signal=TERM", "--kill-after=60s", "3h"]
    assert limits.split([*limit, *command]) == (limit, command)
    assert limits.split(["/usr/bin/timeout", "-k", "60s", "-s", "TERM", "3h", "x"])[1] == ["x"]
    assert limits.split(command) == ([], command)
    assert limits.duration([*limit, *command]) == "3h"
    assert limits.shorten(limit, 2) == ["timeout", "--signal=TERM", "--kill-after=2s", "2s"]
    assert limits.shorten(["timeout", "-k", "60s", "3h"], 0.5) == ["timeout", "-k", "0.5s", "0.5s"]


@pytest.mark.parametrize(("ignores_term", "code"), [(False, 124), (True, 137)])
def test_a_hanging_step_is_ended_by_the_real_limit_of_its_command(emr: Any, ignores_term: bool, code: int) -> None:
    fault = {"name": "pca", "hangs": True, "limit_seconds": 0.5, "ignores_term": ignores_term}
    emr.set_faults({"steps": [fault]})
    cluster = emr.create()
    argv = ["timeout", "--signal=TERM", "--kill-after=60s", "3h", "true"]
    [step] = emr.add(cluster, emr.step(*argv, name="pca"))
    details = emr.await_step(cluster, step)["FailureDetails"]
    assert "time limit (3h)" in details["Message"]
    controller = (emr.folder(cluster, step) / "controller").read_text()
    assert f"waitProcessCompletion ended with exit code {code}" in controller


def test_a_step_stops_in_the_middle_and_its_limit_ends_it(emr: Any) -> None:
    fault = {"name": "featurize", "hangs": True, "at_percent": 50, "limit_seconds": 1}
    emr.set_faults({"steps": [fault]})
    cluster = emr.create()
    [step] = emr.add(cluster, emr.step("timeout", "-k", "60s", "3h", "bash", "-c", BY_SHARES, name="featurize"))
    details = emr.await_step(cluster, step)["FailureDetails"]
    assert "exit code 124" in details["Message"]
    stdout = (emr.folder(cluster, step) / "stdout").read_text()
    assert "(50 %)" in stdout
    assert "done" not in stdout


@pytest.mark.parametrize(("percent", "seen", "unseen"), [(0, "(0 %)", "(50 %)"), (50, "(50 %)", "(100 %)")])
def test_the_driver_is_killed_when_its_job_has_made_so_much_progress(
    emr: Any, percent: int, seen: str, unseen: str
) -> None:
    tag = f"tag-{os.getpid()}-{percent}"
    emr.set_faults({"steps": [{"name": "featurize", "kills": "driver", "at_percent": percent}]})
    cluster = emr.create()
    [step] = emr.add(cluster, emr.step("timeout", "3h", "bash", "-c", f"{BY_SHARES} # {tag}", name="featurize"))
    status = emr.await_step(cluster, step)
    assert status["State"] == "FAILED"
    assert "killed" in status["FailureDetails"]["Message"]
    stdout = (emr.folder(cluster, step) / "stdout").read_text()
    assert seen in stdout
    assert unseen not in stdout
    assert emr.tagged(tag) == []


def test_only_the_progress_of_the_phase_that_is_named_counts(emr: Any) -> None:
    emr.set_faults({"steps": [{"name": "pca", "kills": "driver", "at_percent": 99, "progress": "pca-scores"}]})
    script = (
        'echo "progress pca-moments: 5/5 images (100 %)"; sleep 0.5; echo "progress pca-scores: 5/5 images (100 %)"'
    )
    cluster = emr.create()
    [step] = emr.add(cluster, emr.bash(f"{script}; sleep 60", name="pca"))
    assert emr.await_step(cluster, step)["State"] == "FAILED"
    assert "pca-scores" in (emr.folder(cluster, step) / "stdout").read_text()


def test_a_kill_at_once_waits_until_there_is_something_to_kill(emr: Any) -> None:
    emr.set_faults({"steps": [{"name": "featurize", "kills": "driver"}]})
    cluster = emr.create()
    [step] = emr.add(cluster, emr.step("timeout", "3h", "sleep", "600", name="featurize"))
    assert emr.await_step(cluster, step)["State"] == "FAILED"


def test_someone_ends_the_cluster_in_the_middle_of_a_step(emr: Any) -> None:
    emr.set_faults({"clusters": [{"fails": "terminated", "at_percent": 50}]})
    cluster = emr.create()
    [step] = emr.add(cluster, emr.bash(f"{BY_SHARES}; sleep 600"))
    status = emr.await_cluster(cluster, "TERMINATED")
    assert status["StateChangeReason"] == {"Code": "USER_REQUEST", "Message": "Terminated by user request"}
    assert emr.status(cluster, step)["State"] == "CANCELLED"


def test_a_cluster_is_lost_at_a_share_of_progress(emr: Any) -> None:
    emr.set_faults({"clusters": [{"fails": "lost", "at_percent": 50}]})
    cluster = emr.create()
    [step] = emr.add(cluster, emr.bash(f"{BY_SHARES}; sleep 600"))
    assert emr.await_cluster(cluster, "TERMINATED_WITH_ERRORS")["StateChangeReason"]["Code"] == "INSTANCE_FAILURE"
    assert emr.await_step(cluster, step)["State"] == "FAILED"


def test_there_is_no_capacity_and_never_was_an_instance(emr: Any) -> None:
    emr.set_faults({"clusters": [{"fails": "capacity"}]})
    cluster = emr.create(Steps=[emr.bash("true")])
    status = emr.await_cluster(cluster, "TERMINATED_WITH_ERRORS")
    reason = status["StateChangeReason"]
    assert reason["Code"] == "INTERNAL_ERROR"
    assert reason["Message"].startswith("EC2 is out of capacity for m6g.xlarge in availability zone eu-west-3a")
    assert "ReadyDateTime" not in status["Timeline"]
    assert emr.client.list_instances(ClusterId=cluster)["Instances"] == []
    told = {"code": "INSTANCE_FLEET_TIMEOUT", "message": "told so"}
    emr.set_faults({"clusters": [{"fails": "capacity", **told}]})
    reason = emr.await_cluster(emr.create(), "TERMINATED_WITH_ERRORS")["StateChangeReason"]
    assert reason == {"Code": "INSTANCE_FLEET_TIMEOUT", "Message": "told so"}


def test_the_log_of_a_failed_bootstrap_action_is_where_emr_puts_it(emr: Any) -> None:
    emr.set_faults({"clusters": [{"fails": "bootstrap", "stderr": "No matching distribution", "exit_code": 7}]})
    cluster = emr.create()
    message = emr.await_cluster(cluster, "TERMINATED_WITH_ERRORS")["StateChangeReason"]["Message"]
    [instance] = emr.client.list_instances(ClusterId=cluster)["Instances"]
    assert instance["Status"]["State"] == "TERMINATED"
    assert message == (
        f"On the master instance ({instance['Ec2InstanceId']}), bootstrap action 1 returned a non-zero return code"
    )
    folder = emr.delivered(cluster, "node", instance["Ec2InstanceId"], "bootstrap-actions", "1")
    texts = {path.name: gzip.decompress(path.read_bytes()).decode() for path in folder.iterdir()}
    assert texts.keys() == {"stdout.gz", "stderr.gz", "controller.gz"}
    assert texts["stderr.gz"] == "No matching distribution"
    assert "exit code 7" in texts["controller.gz"]


def test_a_step_fails_with_given_outputs_and_a_containers_log(emr: Any) -> None:
    fault = {"name": "step", "exit_code": 52, "stdout": "to stdout", "stderr": "", "container_stderr": "OutOfMemory"}
    emr.set_faults({"steps": [fault]})
    cluster = emr.create()
    [step] = emr.add(cluster, emr.bash("true"))
    assert emr.await_step(cluster, step)["State"] == "FAILED"
    assert gzip.decompress(emr.delivered(cluster, "steps", step, "stdout.gz").read_bytes()) == b"to stdout\n"
    [log] = emr.delivered(cluster, "containers").glob("application_*_0001/container_*_0001_01_000003/stderr.gz")
    assert gzip.decompress(log.read_bytes()) == b"OutOfMemory"


def test_logs_come_late(emr: Any) -> None:
    emr.set_faults({"logs": [{"delay_seconds": 1800}]})  # 3 s on this clock
    cluster = emr.create()
    [step] = emr.add(cluster, emr.bash("echo out"))
    emr.await_step(cluster, step)
    log = emr.delivered(cluster, "steps", step, "stdout.gz")
    assert not log.exists()
    emr.await_true(log.exists, "the log comes")
    assert gzip.decompress(log.read_bytes()) == b"out\n"


def test_logs_that_are_refused_never_come_and_the_step_is_the_same(emr: Any) -> None:
    emr.set_faults({"logs": [{"refused": True, "times": 2}]})
    cluster = emr.create()
    refused, also, other = emr.add(cluster, emr.bash("exit 3"), emr.bash("true"), emr.bash("true"))
    assert emr.await_step(cluster, refused)["State"] == "FAILED"
    assert emr.await_step(cluster, other)["State"] == "COMPLETED"
    emr.await_true(emr.delivered(cluster, "steps", other, "controller.gz").exists, "the third is delivered")
    assert sorted(path.name for path in emr.delivered(cluster, "steps").iterdir()) == [other]
    assert emr.status(cluster, also)["State"] == "COMPLETED"


FLEETS = [
    {
        "InstanceFleetType": "MASTER",
        "TargetOnDemandCapacity": 1,
        "InstanceTypeConfigs": [{"InstanceType": "m7g.xlarge"}],
    },
    {
        "InstanceFleetType": "CORE",
        "TargetOnDemandCapacity": 9,
        "InstanceTypeConfigs": [
            {
                "InstanceType": "r7g.xlarge",
                "WeightedCapacity": 4,
                "EbsConfiguration": {
                    "EbsBlockDeviceConfigs": [
                        {"VolumeSpecification": {"VolumeType": "gp3", "SizeInGB": 64}, "VolumesPerInstance": 2}
                    ]
                },
            }
        ],
    },
    {
        "InstanceFleetType": "TASK",
        "TargetSpotCapacity": 2,
        "InstanceTypeConfigs": [{"InstanceType": "c7g.xlarge", "WeightedCapacity": 1}],
    },
]


def test_instances_tell_what_accounting_needs(emr: Any) -> None:
    cluster = emr.client.run_job_flow(
        **emr.request(Instances={"InstanceFleets": FLEETS, "KeepJobFlowAliveWhenNoSteps": True})
    )["JobFlowId"]
    emr.await_cluster(cluster, "WAITING")
    fleets = {
        fleet["InstanceFleetType"]: fleet
        for fleet in emr.client.list_instance_fleets(ClusterId=cluster)["InstanceFleets"]
    }
    machines = emr.client.list_instances(ClusterId=cluster)["Instances"]
    by_fleet = {kind: [m for m in machines if m["InstanceFleetId"] == fleet["Id"]] for kind, fleet in fleets.items()}
    assert {kind: len(members) for kind, members in by_fleet.items()} == {"MASTER": 1, "CORE": 3, "TASK": 2}
    assert fleets["CORE"]["ProvisionedOnDemandCapacity"] == 12, "three instances of four units reach nine"
    assert fleets["TASK"]["ProvisionedSpotCapacity"] == 2
    assert {(m["InstanceType"], m["Market"]) for m in by_fleet["TASK"]} == {("c7g.xlarge", "SPOT")}
    [specification] = fleets["CORE"]["InstanceTypeSpecifications"]
    assert [block["VolumeSpecification"]["SizeInGB"] for block in specification["EbsBlockDevices"]] == [64, 64]
    assert [len(m["EbsVolumes"]) for m in by_fleet["CORE"]] == [2, 2, 2]
    assert len({volume["VolumeId"] for m in by_fleet["CORE"] for volume in m["EbsVolumes"]}) == 6
    for machine in machines:
        assert machine["Status"]["Timeline"].keys() == {"CreationDateTime", "ReadyDateTime"}
    emr.client.terminate_job_flows(JobFlowIds=[cluster])
    emr.await_cluster(cluster, "TERMINATED")
    for machine in emr.client.list_instances(ClusterId=cluster)["Instances"]:
        timeline = machine["Status"]["Timeline"]
        assert machine["Status"]["State"] == "TERMINATED"
        assert timeline["CreationDateTime"] <= timeline["ReadyDateTime"] <= timeline["EndDateTime"]


APPLICATION = """\
import sys, time
from pyspark import SparkContext

context = SparkContext.getOrCreate()
context.setLogLevel("WARN")
print("progress featurize: 0/4 images (0 %)", flush=True)

def work(number):
    time.sleep(1)
    return number

print("sum", sum(context.parallelize(range(4), 4).map(work).collect()))
"""


@pytest.mark.slow
def test_a_spot_instance_is_lost_and_the_step_survives(start_endpoint: Any, tmp_path: Path) -> None:
    application = tmp_path / "app.py"
    application.write_text(APPLICATION)
    _, emr = start_endpoint("--master", "local-cluster[2,1,1024]", "--clock-rate", "600")
    emr.set_faults({"steps": [{"name": "featurize", "kills": "executor", "at_percent": 0, "losses": 2}]})
    cluster = emr.client.run_job_flow(
        **emr.request(Instances={"InstanceFleets": FLEETS, "KeepJobFlowAliveWhenNoSteps": True})
    )["JobFlowId"]
    argv = ["timeout", "10m", "spark-submit", "--master", "yarn", f"file://{application}"]
    [step] = emr.add(cluster, emr.step(*argv, name="featurize"))
    status = emr.await_step(cluster, step)
    stdout, stderr = ((emr.folder(cluster, step) / name).read_text() for name in ("stdout", "stderr"))
    assert status["State"] == "COMPLETED", (status, stdout, stderr)
    assert "sum 6" in stdout.splitlines()
    assert stderr.count("Exit status: -100. Diagnostics: Container released on a *lost* node.") == 2
    lost = emr.client.list_instances(ClusterId=cluster, InstanceStates=["TERMINATED"])["Instances"]
    assert [(m["Market"], m["Status"]["StateChangeReason"]["Code"]) for m in lost] == [("SPOT", "INSTANCE_FAILURE")] * 2
    for machine in lost:
        timeline = machine["Status"]["Timeline"]
        assert timeline["ReadyDateTime"] <= timeline["EndDateTime"]
    [task] = [f for f in emr.client.list_instance_fleets(ClusterId=cluster)["InstanceFleets"] if "TASK" in f.values()]
    assert task["ProvisionedSpotCapacity"] == 0
    logs = list(emr.delivered(cluster, "containers").glob("application_*_0001/container_*/stderr.gz"))
    assert len(logs) >= 3, "two that were lost, and those that came in their place"
    assert any(b"CoarseGrainedExecutorBackend" in gzip.decompress(log.read_bytes()) for log in logs)
    application_id = logs[0].parent.parent.name
    assert f"Submitted application {application_id}" in stderr
