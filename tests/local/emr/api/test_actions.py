"""The EMR actions: what was requested is described and listed, and wrong requests are rejected."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.include.golden.regenerate import cluster_requests


def test_the_request_of_the_dag_is_described(emr: Any) -> None:
    request = cluster_requests()["cluster_custom.json"]
    request["LogUri"] = f"file://{emr.log_dir}"
    emr.ensure_security_configuration(request["SecurityConfiguration"])
    cluster_id = emr.client.run_job_flow(**request)["JobFlowId"]
    found = emr.cluster(cluster_id)
    for name in ("Name", "ReleaseLabel", "ServiceRole", "SecurityConfiguration", "LogEncryptionKmsKeyId"):
        assert found[name] == request[name]
    for name in ("EbsRootVolumeSize", "ScaleDownBehavior", "StepConcurrencyLevel", "Tags"):
        assert found[name] == request[name]
    attributes, requested = found["Ec2InstanceAttributes"], request["Instances"]
    assert attributes["RequestedEc2SubnetIds"] == requested["Ec2SubnetIds"]
    assert attributes["Ec2SubnetId"] in requested["Ec2SubnetIds"]
    for name in ("EmrManagedMasterSecurityGroup", "EmrManagedSlaveSecurityGroup", "ServiceAccessSecurityGroup"):
        assert attributes[name] == requested[name]
    scaling = emr.client.get_managed_scaling_policy(ClusterId=cluster_id)["ManagedScalingPolicy"]
    assert scaling == request["ManagedScalingPolicy"]
    idle = emr.client.get_auto_termination_policy(ClusterId=cluster_id)["AutoTerminationPolicy"]
    assert idle == request["AutoTerminationPolicy"]
    fleets = {fleet["Name"]: fleet for fleet in emr.client.list_instance_fleets(ClusterId=cluster_id)["InstanceFleets"]}
    assert (fleets["core"]["TargetOnDemandCapacity"], fleets["task"]["TargetSpotCapacity"]) == (7, 20)
    assert fleets["task"]["LaunchSpecifications"] == requested["InstanceFleets"][2]["LaunchSpecifications"]
    specifications = fleets["task"]["InstanceTypeSpecifications"]
    assert [item["WeightedCapacity"] for item in specifications] == [1, 2, 1]
    volume = specifications[0]["EbsBlockDevices"][0]["VolumeSpecification"]
    assert (volume["VolumeType"], volume["SizeInGB"]) == ("gp3", 100)


def test_a_request_with_fleets_is_described(emr: Any) -> None:
    fleets = [
        {
            "InstanceFleetType": "MASTER",
            "Name": "primary",
            "TargetOnDemandCapacity": 1,
            "InstanceTypeConfigs": [{"InstanceType": "m7g.xlarge"}],
        },
        {
            "InstanceFleetType": "CORE",
            "TargetSpotCapacity": 2,
            "InstanceTypeConfigs": [{"InstanceType": "r7g.xlarge", "WeightedCapacity": 1}],
        },
    ]
    scaling = {
        "ComputeLimits": {
            "UnitType": "InstanceFleetUnits",
            "MinimumCapacityUnits": 1,
            "MaximumCapacityUnits": 4,
        }
    }
    configurations = [{"Classification": "spark-env", "Configurations": [], "Properties": {"a": "b"}}]
    action = {"Name": "install", "ScriptBootstrapAction": {"Path": "s3://bucket/install.sh", "Args": ["x"]}}
    emr.ensure_security_configuration("encrypted")
    cluster = emr.client.run_job_flow(
        **emr.request(
            Instances={"InstanceFleets": fleets, "KeepJobFlowAliveWhenNoSteps": True, "Ec2SubnetIds": ["subnet-1"]},
            Tags=[{"Key": "run", "Value": "é"}],
            Configurations=configurations,
            SecurityConfiguration="encrypted",
            ManagedScalingPolicy=scaling,
            AutoTerminationPolicy={"IdleTimeout": 604_800},
            BootstrapActions=[action],
            Applications=[{"Name": "Spark"}],
            StepConcurrencyLevel=3,
        )
    )["JobFlowId"]
    described = emr.cluster(cluster)
    assert described["Tags"] == [{"Key": "run", "Value": "é"}]
    assert described["Configurations"] == configurations
    assert described["SecurityConfiguration"] == "encrypted"
    assert described["LogUri"] == f"file://{emr.log_dir}"
    assert described["ReleaseLabel"] == "emr-spark-8.1.0"
    assert described["Applications"] == [{"Name": "Spark", "Version": "4.1.1"}]
    assert described["StepConcurrencyLevel"] == 3
    assert described["InstanceCollectionType"] == "INSTANCE_FLEET"
    assert described["Ec2InstanceAttributes"]["Ec2SubnetId"] == "subnet-1"
    client = emr.client
    assert client.get_managed_scaling_policy(ClusterId=cluster)["ManagedScalingPolicy"] == scaling
    assert client.get_auto_termination_policy(ClusterId=cluster)["AutoTerminationPolicy"] == {"IdleTimeout": 604_800}
    assert client.list_bootstrap_actions(ClusterId=cluster)["BootstrapActions"] == [
        {"Name": "install", "ScriptPath": "s3://bucket/install.sh", "Args": ["x"]}
    ]
    emr.await_cluster(cluster, "WAITING")
    types = {
        fleet["InstanceFleetType"]: fleet for fleet in client.list_instance_fleets(ClusterId=cluster)["InstanceFleets"]
    }
    assert types["CORE"]["ProvisionedSpotCapacity"] == 2
    machines = client.list_instances(ClusterId=cluster)["Instances"]
    assert sorted(machine["InstanceType"] for machine in machines) == ["m7g.xlarge", "r7g.xlarge", "r7g.xlarge"]
    assert [m["Market"] for m in client.list_instances(ClusterId=cluster, InstanceFleetType="CORE")["Instances"]] == [
        "SPOT",
        "SPOT",
    ]


def test_instance_groups_are_listed(emr: Any) -> None:
    groups = [
        {"InstanceRole": "MASTER", "InstanceType": "m6g.xlarge", "InstanceCount": 1},
        {"InstanceRole": "CORE", "InstanceType": "m6g.2xlarge", "InstanceCount": 2, "Market": "SPOT"},
    ]
    cluster = emr.client.run_job_flow(
        **emr.request(Instances={"InstanceGroups": groups, "KeepJobFlowAliveWhenNoSteps": True})
    )["JobFlowId"]
    emr.await_cluster(cluster, "WAITING")
    listed = emr.client.list_instance_groups(ClusterId=cluster)["InstanceGroups"]
    assert [(g["InstanceGroupType"], g["InstanceType"], g["RunningInstanceCount"]) for g in listed] == [
        ("MASTER", "m6g.xlarge", 1),
        ("CORE", "m6g.2xlarge", 2),
    ]
    assert len(emr.client.list_instances(ClusterId=cluster, InstanceGroupTypes=["CORE"])["Instances"]) == 2


def test_clusters_are_listed_newest_first_by_state_and_time_and_in_pages(emr: Any) -> None:
    tokyo = emr.client_of("ap-northeast-1")
    begin = datetime.now(UTC)
    created = [tokyo.run_job_flow(**emr.request(Name=f"{n}"))["JobFlowId"] for n in range(53)]
    # EMR's timestamps have milliseconds, so the first may seem to be as old as `begin`.
    after = begin - timedelta(seconds=1)
    listed = [
        summary["Id"]
        for page in tokyo.get_paginator("list_clusters").paginate(CreatedAfter=after)
        for summary in page["Clusters"]
    ]
    assert listed == created[::-1]
    assert len(tokyo.list_clusters()["Clusters"]) == 50
    assert tokyo.list_clusters(CreatedBefore=after)["Clusters"] == []
    for cluster in created[1:]:
        tokyo.terminate_job_flows(JobFlowIds=[cluster])
        emr.await_true(
            lambda c=cluster: tokyo.describe_cluster(ClusterId=c)["Cluster"]["Status"]["State"] == "TERMINATED", "end"
        )
    alive = tokyo.list_clusters(ClusterStates=["STARTING", "WAITING"])["Clusters"]
    assert [summary["Id"] for summary in alive] == created[:1]
    assert alive[0]["ClusterArn"].startswith("arn:aws:elasticmapreduce:ap-northeast-1:")
    tokyo.terminate_job_flows(JobFlowIds=created[:1])


def test_tags_are_added_changed_and_removed(emr: Any) -> None:
    cluster = emr.create(Tags=[{"Key": "a", "Value": "1"}])
    emr.client.add_tags(ResourceId=cluster, Tags=[{"Key": "a", "Value": "2"}, {"Key": "b", "Value": "3"}])
    emr.client.remove_tags(ResourceId=cluster, TagKeys=["a", "unknown"])
    assert emr.cluster(cluster)["Tags"] == [{"Key": "b", "Value": "3"}]


def test_release_labels_of_the_region(emr: Any) -> None:
    labels = emr.release_labels()
    assert {"emr-spark-8.1.0", "emr-7.14.0"} <= set(labels)
    assert emr.client.list_release_labels(Filters={"Prefix": "emr-spark"})["ReleaseLabels"] == [
        "emr-spark-8.0.0",
        "emr-spark-8.1.0",
    ]


def test_unknown_ids_and_actions_are_named(emr: Any) -> None:
    step, cluster = emr.bash("true"), emr.create()
    client, unknown = emr.client, {"ClusterId": "j-UNKNOWN"}
    on_unknown_cluster = (
        lambda: client.describe_cluster(**unknown),
        lambda: client.list_steps(**unknown),
        lambda: client.describe_step(**unknown, StepId="s-UNKNOWN"),
        lambda: client.cancel_steps(**unknown, StepIds=["s-UNKNOWN"]),
        lambda: client.list_instances(**unknown),
        lambda: client.modify_cluster(**unknown, StepConcurrencyLevel=2),
    )
    on_unknown_job_flow = (
        lambda: client.add_job_flow_steps(JobFlowId="j-UNKNOWN", Steps=[step]),
        lambda: client.terminate_job_flows(JobFlowIds=["j-UNKNOWN"]),
        lambda: client.set_termination_protection(JobFlowIds=["j-UNKNOWN"], TerminationProtected=True),
    )
    on_unknown_step = (
        lambda: client.describe_step(ClusterId=cluster, StepId="s-UNKNOWN"),
        lambda: client.list_steps(ClusterId=cluster, StepIds=["s-UNKNOWN"]),
        lambda: client.cancel_steps(ClusterId=cluster, StepIds=["s-UNKNOWN"]),
    )
    for calls, message, exception, code in (
        (on_unknown_cluster, r"Cluster id 'j-UNKNOWN' is not valid\.", "InvalidRequestException", "NoSuchCluster"),
        (on_unknown_job_flow, r"Specified job flow ID does not exist\.", "ValidationException", None),
        (on_unknown_step, r"Step id 's-UNKNOWN' is not valid\.", "InvalidRequestException", None),
    ):
        for call in calls:
            with pytest.raises(ClientError, match=message) as refused:
                call()
            assert refused.value.response["Error"]["Code"] == exception
            assert refused.value.response.get("ErrorCode") == code
    with pytest.raises(ClientError, match="does not offer ListStudios") as refused:
        client.list_studios()
    assert refused.value.response["Error"]["Code"] == "UnknownOperationException"


def test_a_rejected_request_creates_no_cluster(emr: Any) -> None:
    name = uuid.uuid4().hex
    with pytest.raises(ClientError, match="ServiceRole is required") as refused:
        emr.create(Name=name, ServiceRole=None)
    assert refused.value.response["Error"]["Code"] == "ValidationException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert name not in [summary["Name"] for summary in emr.client.list_clusters()["Clusters"]]


@pytest.mark.parametrize("given", ["s3://bucket/logs", "s3://bucket/logs/", "s3n://bucket/logs"])
def test_a_log_folder_on_s3_is_answered_as_emr_does_with_s3n_and_a_slash(emr: Any, given: str) -> None:
    assert emr.cluster(emr.create(LogUri=given))["LogUri"] == "s3n://bucket/logs/"


@pytest.mark.parametrize(
    ("jar", "argument"),
    [
        ("command-runner.jar", "state-pusher-script"),
        (
            "s3://eu-west-3.elasticmapreduce/libs/script-runner/script-runner.jar",
            "s3://eu-west-3.elasticmapreduce/libs/state-pusher/0.1/fetch",
        ),
    ],
)
def test_setup_hadoop_debugging_succeeds_and_the_next_step_runs(emr: Any, jar: str, argument: str) -> None:
    setup = {
        "Name": "Setup Hadoop Debugging",
        "ActionOnFailure": "TERMINATE_CLUSTER",
        "HadoopJarStep": {"Jar": jar, "Args": [argument]},
    }
    cluster = emr.create(Steps=[setup])
    [step] = emr.add(cluster, emr.step("true"))
    assert emr.await_step(cluster, step)["State"] == "COMPLETED"
    states = [item["Status"]["State"] for item in emr.client.list_steps(ClusterId=cluster)["Steps"]]
    assert states == ["COMPLETED", "COMPLETED"]
