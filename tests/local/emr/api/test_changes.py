"""Actions that change or describe what a cluster consists of: groups, fleets, scaling policies, roles, releases."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

VOLUMES = {"VolumeSpecification": {"VolumeType": "gp3", "SizeInGB": 64}, "VolumesPerInstance": 2}
ROLE = "arn:aws:iam::123456789012:role/step"


def group(role: str, count: int, **more: Any) -> dict[str, Any]:
    return {"InstanceRole": role, "InstanceType": "m6g.xlarge", "InstanceCount": count, **more}


def fleet(kind: str, capacity: int) -> dict[str, Any]:
    types = [{"InstanceType": "m6g.xlarge"}]
    return {"InstanceFleetType": kind, "TargetOnDemandCapacity": capacity, "InstanceTypeConfigs": types}


def ids(emr: Any, cluster: str, role: str) -> list[str]:
    listed = emr.client.list_instances(ClusterId=cluster, InstanceGroupTypes=[role])["Instances"]
    return [instance["Id"] for instance in listed]


def test_groups_are_added_and_resized_and_other_instances_keep_their_ids(emr: Any) -> None:
    client = emr.client
    cluster = emr.create(instances={"InstanceGroups": [group("MASTER", 1), group("CORE", 3)]})
    task = group("TASK", 2, Name="spare", Market="SPOT", EbsConfiguration={"EbsBlockDeviceConfigs": [VOLUMES]})
    [added] = client.add_instance_groups(JobFlowId=cluster, InstanceGroups=[task])["InstanceGroupIds"]
    groups = {
        item["InstanceGroupType"]: item for item in client.list_instance_groups(ClusterId=cluster)["InstanceGroups"]
    }
    assert groups["TASK"]["Id"] == added
    assert [device["Device"] for device in groups["TASK"]["EbsBlockDevices"]] == ["/dev/sdb", "/dev/sdc"]
    assert groups["TASK"]["EbsBlockDevices"][0]["VolumeSpecification"] == VOLUMES["VolumeSpecification"]
    core, spare = ids(emr, cluster, "CORE"), ids(emr, cluster, "TASK")
    client.modify_instance_groups(
        InstanceGroups=[
            {"InstanceGroupId": groups["CORE"]["Id"], "InstanceCount": 1},
            {"InstanceGroupId": added, "InstanceCount": 3},
        ]
    )
    assert ids(emr, cluster, "CORE") == core[:1]
    assert ids(emr, cluster, "TASK")[:2] == spare
    for change, message in (
        ({"InstanceGroupId": "ig-UNKNOWN", "InstanceCount": 1}, "'ig-UNKNOWN' is not valid"),
        ({"InstanceGroupId": groups["CORE"]["Id"], "InstanceCount": 0}, "CORE group must be at least 1"),
        ({"InstanceGroupId": groups["MASTER"]["Id"], "InstanceCount": 3}, "MASTER group cannot be resized"),
    ):
        with pytest.raises(ClientError, match=message):
            client.modify_instance_groups(InstanceGroups=[change])
    with pytest.raises(ClientError, match="at most one CORE group"):
        client.add_instance_groups(JobFlowId=cluster, InstanceGroups=[group("CORE", 1)])
    machine = client.list_instances(ClusterId=cluster)["Instances"][0]
    assert (machine["PublicDnsName"], machine["PrivateDnsName"]) == ("localhost", "localhost")


def test_a_fleet_is_added_and_its_targets_change(emr: Any) -> None:
    client = emr.client
    cluster = emr.create(
        Instances={"InstanceFleets": [fleet("MASTER", 1), fleet("CORE", 1)]} | {"KeepJobFlowAliveWhenNoSteps": True}
    )
    added = client.add_instance_fleet(ClusterId=cluster, InstanceFleet=fleet("TASK", 2))["InstanceFleetId"]
    client.modify_instance_fleet(
        ClusterId=cluster,
        InstanceFleet={"InstanceFleetId": added, "TargetOnDemandCapacity": 0, "TargetSpotCapacity": 4},
    )
    emr.await_cluster(cluster, "WAITING")
    [task] = [item for item in client.list_instance_fleets(ClusterId=cluster)["InstanceFleets"] if item["Id"] == added]
    assert (task["TargetOnDemandCapacity"], task["TargetSpotCapacity"], task["ProvisionedSpotCapacity"]) == (0, 4, 4)
    with pytest.raises(client.exceptions.InvalidRequestException, match="at most one TASK fleet"):
        client.add_instance_fleet(ClusterId=cluster, InstanceFleet=fleet("TASK", 1))
    with pytest.raises(client.exceptions.InvalidRequestException, match="'if-UNKNOWN' is not valid"):
        client.modify_instance_fleet(ClusterId=cluster, InstanceFleet={"InstanceFleetId": "if-UNKNOWN"})


def test_an_automatic_scaling_policy_is_described_until_it_is_removed(emr: Any) -> None:
    client = emr.client
    cluster = emr.create(instances={"InstanceGroups": [group("MASTER", 1), group("CORE", 2)]})
    alarm = {
        "ComparisonOperator": "LESS_THAN",
        "MetricName": "YARNMemoryAvailablePercentage",
        "Period": 300,
        "Threshold": 15.0,
        "Dimensions": [{"Key": "JobFlowId", "Value": "${emr.clusterId}"}],
    }
    rule = {
        "Name": "more",
        "Action": {"SimpleScalingPolicyConfiguration": {"ScalingAdjustment": 1}},
        "Trigger": {"CloudWatchAlarmDefinition": alarm},
    }
    policy = {"Constraints": {"MinCapacity": 2, "MaxCapacity": 10}, "Rules": [rule]}

    def core() -> dict[str, Any]:
        [found] = [
            g
            for g in client.list_instance_groups(ClusterId=cluster)["InstanceGroups"]
            if g["InstanceGroupType"] == "CORE"
        ]
        return dict(found)

    created = emr.create(instances={"InstanceGroups": [group("MASTER", 1), group("CORE", 2, AutoScalingPolicy=policy)]})
    names = {"ClusterId": cluster, "InstanceGroupId": core()["Id"]}
    put = client.put_auto_scaling_policy(**names, AutoScalingPolicy=policy)
    assert put["AutoScalingPolicy"] == core()["AutoScalingPolicy"]
    described = core()["AutoScalingPolicy"]
    assert described["Status"]["State"] == "ATTACHED"
    assert described["Constraints"] == policy["Constraints"]
    [dimension] = described["Rules"][0]["Trigger"]["CloudWatchAlarmDefinition"]["Dimensions"]
    assert dimension["Value"] == cluster
    groups = client.list_instance_groups(ClusterId=created)["InstanceGroups"]
    assert created in str([item.get("AutoScalingPolicy") for item in groups])
    client.remove_auto_scaling_policy(**names)
    assert "AutoScalingPolicy" not in core()


def test_settings_of_the_cluster_and_roles_of_steps_are_recorded(emr: Any) -> None:
    client = emr.client
    cluster = emr.create(VisibleToAllUsers=False, StepExecutionRoleArn=ROLE, Steps=[emr.bash("true")])
    client.set_visible_to_all_users(JobFlowIds=[cluster], VisibleToAllUsers=True)
    client.set_unhealthy_node_replacement(JobFlowIds=[cluster], UnhealthyNodeReplacement=True)
    described = emr.cluster(cluster)
    assert (described["VisibleToAllUsers"], described["UnhealthyNodeReplacement"]) == (True, True)
    other = f"{ROLE}-2"
    step_ids = client.add_job_flow_steps(JobFlowId=cluster, Steps=[emr.bash("true")], ExecutionRoleArn=other)["StepIds"]
    [first] = [step["Id"] for step in client.list_steps(ClusterId=cluster)["Steps"] if step["Id"] not in step_ids]
    roles = [client.describe_step(ClusterId=cluster, StepId=s)["Step"]["ExecutionRoleArn"] for s in (first, *step_ids)]
    assert roles == [ROLE, other]


def test_releases_are_filtered_paged_and_described(emr: Any) -> None:
    client, labels = emr.client, emr.release_labels()
    with_spark = emr.release_labels(Filters={"Application": "spark"})
    assert {"emr-7.9.0", "emr-spark-8.1.0"} <= set(with_spark) <= set(labels)
    assert emr.release_labels(Filters={"Application": "Spark@3.5.5", "Prefix": "emr-7"}) == ["emr-7.10.0", "emr-7.9.0"]
    assert emr.release_labels(Filters={"Application": "HBase@0.1"}) == []
    assert emr.release_labels(MaxResults=7) == labels
    assert len(client.list_release_labels(MaxResults=7)["ReleaseLabels"]) == 7
    described = client.describe_release_label(ReleaseLabel="emr-7.9.0")
    assert {"Name": "Spark", "Version": "3.5.5"} in described["Applications"]
    with pytest.raises(client.exceptions.InvalidRequestException, match=r"'emr-0\.0\.0' is not valid"):
        client.describe_release_label(ReleaseLabel="emr-0.0.0")


def test_the_block_of_public_access_is_the_default_until_it_is_changed(emr: Any) -> None:
    client = emr.client_of("eu-north-1")
    default = client.get_block_public_access_configuration()["BlockPublicAccessConfiguration"]
    assert default["PermittedPublicSecurityGroupRuleRanges"] == [{"MinRange": 22, "MaxRange": 22}]
    client.put_block_public_access_configuration(
        BlockPublicAccessConfiguration={"BlockPublicSecurityGroupRules": False}
    )
    changed = client.get_block_public_access_configuration()["BlockPublicAccessConfiguration"]
    assert changed["BlockPublicSecurityGroupRules"] is False
