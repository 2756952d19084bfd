"""The instances of fleets, and the loss of spot instances during a step."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

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


def test_instances_have_the_fields_that_the_cost_needs(emr: Any) -> None:
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


@pytest.mark.soak  # the cells of the fault matrix lose spot instances during the jobs
def test_a_step_survives_the_loss_of_spot_instances(start_endpoint: Any, tmp_path: Path) -> None:
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
    assert len(logs) >= 3, "two lost executors and their replacements"
    assert any(b"CoarseGrainedExecutorBackend" in gzip.decompress(log.read_bytes()) for log in logs)
    application_id = logs[0].parent.parent.name
    assert f"Submitted application {application_id}" in stderr
    assert emr.tagged(str(emr.state_dir / "clusters")) == [], "the executors' processes end with the step"
