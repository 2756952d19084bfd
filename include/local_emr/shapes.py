"""Clusters and steps as the EMR API describes them: plain dicts in the shapes of its documentation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from include.local_emr.clusters import Cluster
from include.local_emr.steps import Step

ECHOED = (
    *("Applications", "AutoScalingRole", "Configurations", "CustomAmiId", "EbsRootVolumeIops", "EbsRootVolumeSize"),
    *("EbsRootVolumeThroughput", "ExtendedSupport", "KerberosAttributes", "LogEncryptionKmsKeyId", "LogUri"),
    *("MonitoringConfiguration", "OSReleaseLabel", "ReleaseLabel", "RepoUpgradeOnBoot", "ScaleDownBehavior"),
    *("SecurityConfiguration", "ServiceRole"),
)
"""Fields of RunJobFlow that DescribeCluster returns under the same name."""

INSTANCE_STATES = {
    "STARTING": "PROVISIONING",
    "BOOTSTRAPPING": "BOOTSTRAPPING",
    "RUNNING": "RUNNING",
    "WAITING": "RUNNING",
    "TERMINATING": "TERMINATING",
    "TERMINATED": "TERMINATED",
    "TERMINATED_WITH_ERRORS": "TERMINATED",
}


def _filled(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if value is not None}


def arn(cluster: Cluster) -> str:
    """Return a cluster's ARN, in the region of its caller."""
    return f"arn:aws:elasticmapreduce:{cluster.region}:{cluster.account}:cluster/{cluster.id}"


def cluster_status(cluster: Cluster) -> dict[str, Any]:
    """Return a ClusterStatus."""
    code, message = cluster.reason
    timeline = {
        "CreationDateTime": cluster.created,
        "ReadyDateTime": cluster.ready,
        "EndDateTime": cluster.ended,
    }
    return {
        "State": cluster.state,
        "StateChangeReason": _filled({"Code": code, "Message": message}),
        "Timeline": _filled(timeline),
    }


def cluster_summary(cluster: Cluster) -> dict[str, Any]:
    """Return a ClusterSummary, as ListClusters gives it."""
    return {
        "Id": cluster.id,
        "Name": cluster.name,
        "Status": cluster_status(cluster),
        "NormalizedInstanceHours": 0,
        "ClusterArn": arn(cluster),
    }


def cluster_details(cluster: Cluster) -> dict[str, Any]:
    """Return a Cluster, as DescribeCluster gives it."""
    request = cluster.request
    instances = request.get("Instances") or {}
    return {
        **cluster_summary(cluster),
        **{name: request[name] for name in ECHOED if name in request},
        "AutoTerminate": not cluster.keep_alive,
        "Ec2InstanceAttributes": _ec2_attributes(instances, request, cluster.region),
        "InstanceCollectionType": "INSTANCE_FLEET" if instances.get("InstanceFleets") else "INSTANCE_GROUP",
        "MasterPublicDnsName": "localhost",
        "StepConcurrencyLevel": cluster.concurrency,
        "Tags": [{"Key": key, "Value": value} for key, value in cluster.tags.items()],
        "TerminationProtected": cluster.termination_protected,
        "UnhealthyNodeReplacement": instances.get("UnhealthyNodeReplacement", False),
        "VisibleToAllUsers": request.get("VisibleToAllUsers", True),
    }


def _ec2_attributes(instances: Mapping[str, Any], request: Mapping[str, Any], region: str) -> dict[str, Any]:
    same = (
        *("Ec2KeyName", "Ec2SubnetId", "EmrManagedMasterSecurityGroup", "EmrManagedSlaveSecurityGroup"),
        *("ServiceAccessSecurityGroup", "AdditionalMasterSecurityGroups", "AdditionalSlaveSecurityGroups"),
    )
    subnets = instances.get("Ec2SubnetIds") or [name for name in [instances.get("Ec2SubnetId")] if name]
    placement = instances.get("Placement") or {}
    return {
        **{name: instances[name] for name in same if name in instances},
        **({"Ec2SubnetId": subnets[0]} if subnets else {}),
        "RequestedEc2SubnetIds": subnets,
        "Ec2AvailabilityZone": placement.get("AvailabilityZone", f"{region}a"),
        "RequestedEc2AvailabilityZones": placement.get("AvailabilityZones", []),
        "IamInstanceProfile": request["JobFlowRole"],
    }


def step_status(step: Step) -> dict[str, Any]:
    """Return a StepStatus."""
    timeline = {
        "CreationDateTime": step.created,
        "StartDateTime": step.started,
        "EndDateTime": step.ended,
    }
    status = {
        "State": step.state,
        "StateChangeReason": {"Code": "NONE", "Message": step.reason} if step.reason else {},
        "Timeline": _filled(timeline),
    }
    if step.state == "FAILED" and step.outcome is not None:
        outcome = step.outcome
        details = {"Reason": outcome.cause, "Message": outcome.message, "LogFile": outcome.log_file}
        status["FailureDetails"] = {key: value for key, value in details.items() if value}
    return status


def step_details(step: Step) -> dict[str, Any]:
    """Return a Step or a StepSummary, which have the same fields."""
    jar = step.config.get("HadoopJarStep") or {}
    config = {
        "Jar": jar.get("Jar"),
        "MainClass": jar.get("MainClass"),
        "Args": step.argv,
        "Properties": {item["Key"]: item.get("Value", "") for item in jar.get("Properties") or []},
    }
    return {
        "Id": step.id,
        "Name": step.name,
        "Config": _filled(config),
        "ActionOnFailure": step.action_on_failure,
        "Status": step_status(step),
    }


def bootstrap_actions(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the Commands of ListBootstrapActions."""
    actions = cluster.request.get("BootstrapActions") or []
    scripts = [(action["Name"], action["ScriptBootstrapAction"]) for action in actions]
    return [{"Name": name, "ScriptPath": script["Path"], "Args": script.get("Args") or []} for name, script in scripts]


def instance_groups(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the cluster's InstanceGroups, all of them provisioned as asked."""
    return [
        _filled(
            {
                "Id": _id("ig", cluster, number),
                "Name": group.get("Name"),
                "Market": group.get("Market", "ON_DEMAND"),
                "InstanceGroupType": group["InstanceRole"],
                "BidPrice": group.get("BidPrice"),
                "InstanceType": group["InstanceType"],
                "RequestedInstanceCount": group["InstanceCount"],
                "RunningInstanceCount": _running(cluster, group["InstanceCount"]),
                "Status": _member_status(cluster),
                "Configurations": group.get("Configurations"),
            }
        )
        for number, group in enumerate(_groups(cluster))
    ]


def instance_fleets(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the cluster's InstanceFleets, all of them provisioned as asked."""
    return [
        _filled(
            {
                "Id": _id("if", cluster, number),
                "Name": fleet.get("Name"),
                "Status": _member_status(cluster),
                "InstanceFleetType": fleet["InstanceFleetType"],
                "TargetOnDemandCapacity": fleet.get("TargetOnDemandCapacity", 0),
                "TargetSpotCapacity": fleet.get("TargetSpotCapacity", 0),
                "ProvisionedOnDemandCapacity": _running(cluster, fleet.get("TargetOnDemandCapacity", 0)),
                "ProvisionedSpotCapacity": _running(cluster, fleet.get("TargetSpotCapacity", 0)),
                "InstanceTypeSpecifications": [
                    {"InstanceType": item["InstanceType"], "WeightedCapacity": item.get("WeightedCapacity", 1)}
                    for item in fleet.get("InstanceTypeConfigs") or []
                ],
                "LaunchSpecifications": fleet.get("LaunchSpecifications"),
                "ResizeSpecifications": fleet.get("ResizeSpecifications"),
                "Context": fleet.get("Context"),
            }
        )
        for number, fleet in enumerate(_fleets(cluster))
    ]


def instances(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the cluster's Instances: one a unit of what was asked for, in the first type of a fleet."""
    members = []
    for number, group in enumerate(_groups(cluster)):
        owner = {"InstanceGroupId": _id("ig", cluster, number), "_role": group["InstanceRole"]}
        members += [owner | _machine(group)] * group["InstanceCount"]
    for number, fleet in enumerate(_fleets(cluster)):
        owner = {"InstanceFleetId": _id("if", cluster, number), "_role": fleet["InstanceFleetType"]}
        first = (fleet.get("InstanceTypeConfigs") or [{}])[0]
        members += [owner | _machine(first)] * fleet.get("TargetOnDemandCapacity", 0)
        members += [owner | _machine(first) | {"Market": "SPOT"}] * fleet.get("TargetSpotCapacity", 0)
    named = [
        {"Id": _id("ci", cluster, number), "Ec2InstanceId": _id("i", cluster, number), "PrivateIpAddress": "127.0.0.1"}
        for number in range(len(members))
    ]
    status = _member_status(cluster)
    if status["State"] == "TERMINATING":
        status["State"] = "RUNNING"  # groups and fleets have such a state, instances do not
    return [name | member | {"Status": status} for name, member in zip(named, members, strict=True)]


def _machine(source: Mapping[str, Any]) -> dict[str, Any]:
    return {"InstanceType": source.get("InstanceType", ""), "Market": source.get("Market", "ON_DEMAND")}


def _fleets(cluster: Cluster) -> list[dict[str, Any]]:
    return list((cluster.request.get("Instances") or {}).get("InstanceFleets") or [])


def _groups(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the groups of a request, the short form (types and a count) spelled out."""
    asked = cluster.request.get("Instances") or {}
    if asked.get("InstanceGroups") or asked.get("InstanceFleets"):
        return list(asked.get("InstanceGroups") or [])
    master = asked["MasterInstanceType"]
    groups = [{"InstanceRole": "MASTER", "InstanceType": master, "InstanceCount": 1}]
    workers = asked.get("InstanceCount", 1) - 1
    if workers > 0:
        worker = asked.get("SlaveInstanceType", master)
        groups.append({"InstanceRole": "CORE", "InstanceType": worker, "InstanceCount": workers})
    return groups


def _running(cluster: Cluster, count: int) -> int:
    return count if cluster.state in ("RUNNING", "WAITING", "TERMINATING") else 0


def _member_status(cluster: Cluster) -> dict[str, Any]:
    status = cluster_status(cluster)
    return {"State": INSTANCE_STATES[cluster.state], "StateChangeReason": {}, "Timeline": status["Timeline"]}


def _id(prefix: str, cluster: Cluster, number: int) -> str:
    """Return an id that stays the same from call to call."""
    return f"{prefix}-{hashlib.sha256(f'{prefix} {cluster.id} {number}'.encode()).hexdigest()[:13].upper()}"
