"""A cluster's life, as boto3 sees it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError


def test_a_cluster_waits_for_steps_and_lives_in_its_callers_region(emr: Any) -> None:
    answer = emr.client.run_job_flow(**emr.request())
    cluster = answer["JobFlowId"]
    assert answer["ClusterArn"] == f"arn:aws:elasticmapreduce:eu-west-3:123456789012:cluster/{cluster}"
    emr.await_cluster(cluster, "WAITING")
    timeline = emr.cluster(cluster)["Status"]["Timeline"]
    assert timeline["CreationDateTime"] <= timeline["ReadyDateTime"]
    assert abs(timeline["CreationDateTime"] - datetime.now(UTC)) < timedelta(minutes=5)
    assert "EndDateTime" not in timeline
    with pytest.raises(ClientError, match="is not valid"):
        emr.client_of("us-east-1").describe_cluster(ClusterId=cluster)


def test_the_states_of_a_cluster_that_takes_its_time(start_endpoint: Any) -> None:
    _, emr = start_endpoint("--boot-seconds", "2")
    cluster = emr.create()
    assert emr.state(cluster) == "STARTING"
    [step] = emr.add(cluster, emr.bash("true"))
    assert emr.status(cluster, step)["State"] == "PENDING"
    emr.await_cluster(cluster, "BOOTSTRAPPING")
    emr.await_cluster(cluster, "RUNNING", "WAITING")
    assert emr.await_step(cluster, step)["State"] == "COMPLETED"


def test_the_request_is_echoed(emr: Any) -> None:
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
    assert described["Applications"] == [{"Name": "Spark"}]
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


def test_a_cluster_that_need_not_stay_ends_when_its_steps_are_done(emr: Any) -> None:
    cluster = emr.create(
        instances={"KeepJobFlowAliveWhenNoSteps": False}, Steps=[emr.bash("true"), emr.bash("exit 1"), emr.bash("true")]
    )
    status = emr.await_cluster(cluster, "TERMINATED", "TERMINATED_WITH_ERRORS")
    assert status["State"] == "TERMINATED"
    assert status["StateChangeReason"] == {"Code": "ALL_STEPS_COMPLETED", "Message": "Steps completed with errors"}
    assert status["Timeline"]["ReadyDateTime"] <= status["Timeline"]["EndDateTime"]
    states = [step["Status"]["State"] for step in emr.client.list_steps(ClusterId=cluster)["Steps"]]
    assert states == ["COMPLETED", "FAILED", "COMPLETED"]


def test_a_cluster_may_be_told_later_that_it_need_not_stay(emr: Any) -> None:
    cluster = emr.create()
    emr.await_cluster(cluster, "WAITING")
    emr.client.set_keep_job_flow_alive_when_no_steps(JobFlowIds=[cluster], KeepJobFlowAliveWhenNoSteps=False)
    assert emr.await_cluster(cluster, "TERMINATED")["StateChangeReason"]["Code"] == "ALL_STEPS_COMPLETED"


def test_an_idle_cluster_ends_and_a_busy_one_does_not(emr: Any, tmp_path: Any) -> None:
    gate = tmp_path / "gate"
    policy = {"IdleTimeout": 60}
    idle = emr.create(AutoTerminationPolicy=policy)
    busy = emr.create(AutoTerminationPolicy=policy, Steps=[emr.bash(f'until [ -e "{gate}" ]; do sleep 0.05; done')])
    status = emr.await_cluster(idle, "TERMINATED")
    assert "idle" in status["StateChangeReason"]["Message"]
    assert emr.state(busy) == "RUNNING", "both have the same age, but one has a running step"
    gate.touch()
    emr.await_cluster(busy, "TERMINATED")


def test_an_idle_policy_can_be_removed_and_put_back(emr: Any) -> None:
    cluster = emr.create(AutoTerminationPolicy={"IdleTimeout": 604_800})
    emr.client.remove_auto_termination_policy(ClusterId=cluster)
    assert "AutoTerminationPolicy" not in emr.client.get_auto_termination_policy(ClusterId=cluster)
    emr.client.put_auto_termination_policy(ClusterId=cluster, AutoTerminationPolicy={"IdleTimeout": 60})
    emr.await_cluster(cluster, "TERMINATED")


def test_termination_is_by_the_user_and_idempotent(emr: Any) -> None:
    cluster = emr.create()
    emr.client.terminate_job_flows(JobFlowIds=[cluster])
    assert emr.await_cluster(cluster, "TERMINATED")["StateChangeReason"] == {
        "Code": "USER_REQUEST",
        "Message": "Terminated by user request",
    }
    emr.client.terminate_job_flows(JobFlowIds=[cluster])
    assert emr.state(cluster) == "TERMINATED"


def test_a_protected_cluster_is_not_terminated_and_the_others_are(emr: Any) -> None:
    protected, free = emr.create(instances={"TerminationProtected": True}), emr.create()
    with pytest.raises(ClientError, match="termination protected") as refused:
        emr.client.terminate_job_flows(JobFlowIds=[protected, free])
    assert refused.value.response["Error"]["Code"] == "ValidationException"
    emr.await_cluster(free, "TERMINATED")
    emr.await_cluster(protected, "WAITING")
    emr.client.set_termination_protection(JobFlowIds=[protected], TerminationProtected=False)
    emr.client.terminate_job_flows(JobFlowIds=[protected])
    emr.await_cluster(protected, "TERMINATED")


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
    tokyo.terminate_job_flows(JobFlowIds=created[1:])
    for cluster in created[1:]:
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
    labels = emr.client.list_release_labels()["ReleaseLabels"]
    assert {"emr-spark-8.1.0", "emr-7.14.0"} <= set(labels)
    assert emr.client.list_release_labels(Filters={"Prefix": "emr-spark"})["ReleaseLabels"] == [
        "emr-spark-8.0.0",
        "emr-spark-8.1.0",
    ]


BASE = {"MasterInstanceType": "m6g.xlarge", "InstanceCount": 1}
MASTER = {"InstanceRole": "MASTER", "InstanceType": "m6g.xlarge", "InstanceCount": 1}
FLEET = {
    "InstanceFleetType": "MASTER",
    "TargetOnDemandCapacity": 1,
    "InstanceTypeConfigs": [{"InstanceType": "m6g.xlarge"}],
}
JAR = {"Name": "s", "ActionOnFailure": "CONTINUE", "HadoopJarStep": {"Jar": "s3://b/my.jar"}}
LIMITS = {"UnitType": "Instances", "MinimumCapacityUnits": 1, "MaximumCapacityUnits": 2}


def step(action: str) -> dict[str, Any]:
    return {"Name": "s", "ActionOnFailure": action, "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["true"]}}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"ReleaseLabel": None}, "release label is invalid"),
        ({"ReleaseLabel": "emr-99.0.0"}, "The supplied release label is invalid: emr-99.0.0."),
        ({"ReleaseLabel": "7.14.0"}, "release label is invalid"),
        ({"ServiceRole": None}, "ServiceRole is required"),
        ({"JobFlowRole": None}, "InstanceProfile is required"),
        ({"Instances": {}}, "InstanceGroups, InstanceFleets"),
        ({"Instances": {"InstanceGroups": [MASTER], "InstanceFleets": [FLEET]}}, "mutually exclusive"),
        ({"Instances": {"InstanceGroups": [MASTER, MASTER]}}, "exactly one MASTER"),
        ({"Instances": {"InstanceGroups": [MASTER | {"InstanceRole": "CORE"}]}}, "exactly one MASTER"),
        ({"Instances": {"InstanceGroups": [MASTER | {"InstanceCount": 0}]}}, "at least 1"),
        ({"Instances": {"InstanceFleets": [FLEET | {"TargetOnDemandCapacity": 0}]}}, "capacity of at least 1"),
        ({"Instances": BASE | {"MasterInstanceType": "m6g.huge"}}, "'m6g.huge' is not supported"),
        ({"LogUri": "/tmp/logs"}, "LogUri"),
        ({"StepConcurrencyLevel": 0}, "between 1 and 256"),
        ({"StepConcurrencyLevel": 257}, "between 1 and 256"),
        ({"StepConcurrencyLevel": 2, "Steps": [step("TERMINATE_CLUSTER")]}, "TERMINATE_CLUSTER is not allowed"),
        ({"StepConcurrencyLevel": 2, "Steps": [step("CANCEL_AND_WAIT")]}, "CANCEL_AND_WAIT is not allowed"),
        ({"Steps": [step("PANIC")]}, "Member must satisfy enum value set"),
        ({"Steps": [JAR]}, "command-runner.jar only"),
        ({"Steps": [step("CONTINUE")] * 257}, "Maximum number of active steps"),
        ({"AutoTerminationPolicy": {"IdleTimeout": 59}}, "between 60 and 604800"),
        ({"AutoTerminationPolicy": {"IdleTimeout": 604_801}}, "between 60 and 604800"),
        ({"ManagedScalingPolicy": {"ComputeLimits": LIMITS | {"MinimumCapacityUnits": 3}}}, "minimum <= maximum"),
        ({"ManagedScalingPolicy": {"ComputeLimits": LIMITS | {"UnitType": "InstanceFleetUnits"}}}, "instance groups"),
    ],
)
def test_a_request_that_emr_rejects_is_rejected_and_makes_no_cluster(
    emr: Any, overrides: dict[str, Any], message: str
) -> None:
    name = uuid.uuid4().hex
    with pytest.raises(ClientError, match=message) as refused:
        emr.create(Name=name, **overrides)
    assert refused.value.response["Error"]["Code"] == "ValidationException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert name not in [summary["Name"] for summary in emr.client.list_clusters()["Clusters"]]


@pytest.mark.parametrize(
    ("action", "arguments"),
    [
        ("describe_cluster", {"ClusterId": "j-UNKNOWN"}),
        ("add_job_flow_steps", {"JobFlowId": "j-UNKNOWN", "Steps": [step("CONTINUE")]}),
        ("list_steps", {"ClusterId": "j-UNKNOWN"}),
        ("describe_step", {"ClusterId": "j-UNKNOWN", "StepId": "s-UNKNOWN"}),
        ("cancel_steps", {"ClusterId": "j-UNKNOWN", "StepIds": ["s-UNKNOWN"]}),
        ("terminate_job_flows", {"JobFlowIds": ["j-UNKNOWN"]}),
        ("list_instances", {"ClusterId": "j-UNKNOWN"}),
        ("modify_cluster", {"ClusterId": "j-UNKNOWN", "StepConcurrencyLevel": 2}),
    ],
)
def test_an_unknown_cluster_is_named(emr: Any, action: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ClientError, match=r"Cluster id 'j-UNKNOWN' is not valid\.") as refused:
        getattr(emr.client, action)(**arguments)
    assert refused.value.response["Error"]["Code"] == "InvalidRequestException"


def test_an_unknown_step_is_named(emr: Any) -> None:
    cluster = emr.create()
    for call in (
        lambda: emr.client.describe_step(ClusterId=cluster, StepId="s-UNKNOWN"),
        lambda: emr.client.list_steps(ClusterId=cluster, StepIds=["s-UNKNOWN"]),
        lambda: emr.client.cancel_steps(ClusterId=cluster, StepIds=["s-UNKNOWN"]),
    ):
        with pytest.raises(ClientError, match=r"Step id 's-UNKNOWN' is not valid\.") as refused:
            call()
        assert refused.value.response["Error"]["Code"] == "InvalidRequestException"


def test_a_terminated_cluster_is_not_modified(emr: Any) -> None:
    cluster = emr.create()
    emr.client.terminate_job_flows(JobFlowIds=[cluster])
    emr.await_cluster(cluster, "TERMINATED")
    for call in (
        lambda: emr.add(cluster, emr.bash("true")),
        lambda: emr.client.modify_cluster(ClusterId=cluster, StepConcurrencyLevel=2),
        lambda: emr.client.put_auto_termination_policy(ClusterId=cluster, AutoTerminationPolicy={"IdleTimeout": 60}),
    ):
        with pytest.raises(ClientError, match="may not be modified") as refused:
            call()
        assert refused.value.response["Error"]["Code"] == "ValidationException"


def test_an_action_that_is_not_offered_is_refused(emr: Any) -> None:
    with pytest.raises(ClientError, match="does not offer ListStudios") as refused:
        emr.client.list_studios()
    assert refused.value.response["Error"]["Code"] == "UnknownOperationException"
