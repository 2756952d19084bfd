"""Clusters and steps as dicts in the shapes of the EMR API's documentation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from local.emr.api.applications import describe_application
from local.emr.clusters import instances
from local.emr.clusters.cluster import Cluster
from local.emr.clusters.cluster_state import ENDED_STATES
from local.emr.spark.steps import Step

COPIED_FIELDS = (
    *("AutoScalingRole", "Configurations", "CustomAmiId", "EbsRootVolumeIops", "EbsRootVolumeSize"),
    *("EbsRootVolumeThroughput", "ExtendedSupport", "KerberosAttributes", "LogEncryptionKmsKeyId"),
    *("MonitoringConfiguration", "OSReleaseLabel", "ReleaseLabel", "RepoUpgradeOnBoot", "ScaleDownBehavior"),
    *("SecurityConfiguration", "ServiceRole"),
)
"""Fields of RunJobFlow that DescribeCluster returns under the same name."""


def _without_none(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if value is not None}


def arn(cluster: Cluster) -> str:
    """Return the ARN of a cluster."""
    return f"arn:aws:elasticmapreduce:{cluster.region}:{cluster.account}:cluster/{cluster.id}"


def log_uri(cluster: Cluster) -> str | None:
    """Return the LogUri as EMR answers it: ``s3n://bucket/prefix/`` for a folder on S3, whatever its scheme was."""
    scheme, separator, folder = cluster.log_uri.partition("://")
    if scheme in ("s3", "s3n", "s3a"):
        return f"s3n{separator}{folder.rstrip('/')}/"
    return cluster.log_uri or None


def cluster_status(cluster: Cluster) -> dict[str, Any]:
    """Return a ClusterStatus."""
    state, (code, message) = cluster.visible_status
    timeline = {
        "CreationDateTime": cluster.created,
        "ReadyDateTime": cluster.ready if state not in ("STARTING", "BOOTSTRAPPING") else None,
        "EndDateTime": cluster.ended if state in ENDED_STATES else None,
    }
    return {
        "State": state,
        "StateChangeReason": _without_none({"Code": code, "Message": message}),
        "Timeline": _without_none(timeline),
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
    requested = request.get("Instances") or {}
    return {
        **cluster_summary(cluster),
        **{name: request[name] for name in COPIED_FIELDS if name in request},
        **_without_none({"LogUri": log_uri(cluster)}),
        **_applications(request),
        "AutoTerminate": not cluster.keep_alive,
        "Ec2InstanceAttributes": _ec2_attributes(requested, request, cluster.region),
        "InstanceCollectionType": "INSTANCE_FLEET" if requested.get("InstanceFleets") else "INSTANCE_GROUP",
        "MasterPublicDnsName": "localhost",
        "StepConcurrencyLevel": cluster.concurrency,
        "Tags": [{"Key": key, "Value": value} for key, value in cluster.tags.items()],
        "TerminationProtected": cluster.termination_protected,
        "UnhealthyNodeReplacement": requested.get("UnhealthyNodeReplacement", False),
        "VisibleToAllUsers": request.get("VisibleToAllUsers", True),
    }


def _applications(request: Mapping[str, Any]) -> dict[str, Any]:
    requested, release = request.get("Applications") or [], str(request.get("ReleaseLabel"))
    return {"Applications": [describe_application(item, release) for item in requested]}


def _ec2_attributes(requested: Mapping[str, Any], request: Mapping[str, Any], region: str) -> dict[str, Any]:
    copied = (
        *("Ec2KeyName", "Ec2SubnetId", "EmrManagedMasterSecurityGroup", "EmrManagedSlaveSecurityGroup"),
        *("ServiceAccessSecurityGroup", "AdditionalMasterSecurityGroups", "AdditionalSlaveSecurityGroups"),
    )
    subnets = requested.get("Ec2SubnetIds") or [name for name in [requested.get("Ec2SubnetId")] if name]
    placement = requested.get("Placement") or {}
    return {
        **{name: requested[name] for name in copied if name in requested},
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
        "Timeline": _without_none(timeline),
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
        "Config": _without_none(config),
        "ActionOnFailure": step.action_on_failure,
        "Status": step_status(step),
        **{name: step.config[name] for name in ("ExecutionRoleArn",) if name in step.config},
    }


def bootstrap_actions(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the Commands of ListBootstrapActions."""
    actions = cluster.request.get("BootstrapActions") or []
    scripts = [(action["Name"], action["ScriptBootstrapAction"]) for action in actions]
    return [{"Name": name, "ScriptPath": script["Path"], "Args": script.get("Args") or []} for name, script in scripts]


def instance_groups(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the InstanceGroups of a cluster; all are provisioned as requested."""
    return [
        _without_none(
            {
                "Id": instances.identify("ig", cluster.id, number),
                "Name": group.get("Name"),
                "Market": group.get("Market", "ON_DEMAND"),
                "InstanceGroupType": group["InstanceRole"],
                "BidPrice": group.get("BidPrice"),
                "InstanceType": group["InstanceType"],
                "RequestedInstanceCount": group["InstanceCount"],
                "RunningInstanceCount": _running(cluster, group["InstanceCount"]),
                "Status": _member_status(cluster),
                "Configurations": group.get("Configurations"),
                "EbsBlockDevices": _block_devices(group),
                "EbsOptimized": (group.get("EbsConfiguration") or {}).get("EbsOptimized"),
                "AutoScalingPolicy": auto_scaling_policy(cluster, group.get("AutoScalingPolicy")),
                "CustomAmiId": group.get("CustomAmiId"),
            }
        )
        for number, group in enumerate(instances.groups(cluster.request))
    ]


def instance_fleets(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the InstanceFleets of a cluster; all are provisioned as requested."""
    return [
        _without_none(
            {
                "Id": instances.identify("if", cluster.id, number),
                "Name": fleet.get("Name"),
                "Status": _member_status(cluster),
                "InstanceFleetType": fleet["InstanceFleetType"],
                "TargetOnDemandCapacity": fleet.get("TargetOnDemandCapacity", 0),
                "TargetSpotCapacity": fleet.get("TargetSpotCapacity", 0),
                "ProvisionedOnDemandCapacity": instances.capacity(cluster, number, "ON_DEMAND"),
                "ProvisionedSpotCapacity": instances.capacity(cluster, number, "SPOT"),
                "InstanceTypeSpecifications": [
                    _type_specification(item) for item in fleet.get("InstanceTypeConfigs") or []
                ],
                "LaunchSpecifications": fleet.get("LaunchSpecifications"),
                "ResizeSpecifications": fleet.get("ResizeSpecifications"),
                "Context": fleet.get("Context"),
            }
        )
        for number, fleet in enumerate(instances.fleets(cluster.request))
    ]


def auto_scaling_policy(cluster: Cluster, policy: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return an AutoScalingPolicyDescription, with the cluster's id for its variable; None if there is no policy."""
    if not policy:
        return None
    resolved = json.loads(json.dumps(policy).replace("${emr.clusterId}", cluster.id))
    return {**resolved, "Status": {"State": "ATTACHED", "StateChangeReason": {}}}


def _block_devices(source: Mapping[str, Any]) -> list[dict[str, Any]]:
    volumes = instances.volumes(source)
    return [{"VolumeSpecification": volume, "Device": instances.device(n)} for n, volume in enumerate(volumes)]


def _type_specification(config: Mapping[str, Any]) -> dict[str, Any]:
    copied = ("BidPrice", "BidPriceAsPercentageOfOnDemandPrice", "Configurations", "CustomAmiId", "Priority")
    ebs = config.get("EbsConfiguration") or {}
    return {
        "InstanceType": config["InstanceType"],
        "WeightedCapacity": config.get("WeightedCapacity", 1),
        **{name: config[name] for name in copied if name in config},
        "EbsBlockDevices": _block_devices(config),
        "EbsOptimized": ebs.get("EbsOptimized", True),
    }


def _running(cluster: Cluster, count: int) -> int:
    return count if cluster.state in ("RUNNING", "WAITING", "TERMINATING") else 0


def _member_status(cluster: Cluster) -> dict[str, Any]:
    status = cluster_status(cluster)
    return {"State": instances.STATES[status["State"]], "StateChangeReason": {}, "Timeline": status["Timeline"]}
