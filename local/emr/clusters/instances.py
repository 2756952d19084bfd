"""The instances of a cluster, derived from its request and its lost instances: nothing is provisioned."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from local.emr.clusters.cluster_state import ClusterState

STATES = {
    "STARTING": "PROVISIONING",
    "BOOTSTRAPPING": "BOOTSTRAPPING",
    "RUNNING": "RUNNING",
    "WAITING": "RUNNING",
    "TERMINATING": "TERMINATING",
    "TERMINATED": "TERMINATED",
    "TERMINATED_WITH_ERRORS": "TERMINATED",
}
"""State of the instances, groups and fleets for each state of the cluster."""


def identify(prefix: str, cluster_id: str, number: int) -> str:
    """Return an id that is the same in every call."""
    return f"{prefix}-{hashlib.sha256(f'{prefix} {cluster_id} {number}'.encode()).hexdigest()[:13].upper()}"


def fleets(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the instance fleets of a RunJobFlow request."""
    return list((request.get("Instances") or {}).get("InstanceFleets") or [])


def groups(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the instance groups of a request; the short form (types and a count) is converted to groups."""
    requested = request.get("Instances") or {}
    if requested.get("InstanceGroups") or requested.get("InstanceFleets"):
        return list(requested.get("InstanceGroups") or [])
    master = requested["MasterInstanceType"]
    found = [{"InstanceRole": "MASTER", "InstanceType": master, "InstanceCount": 1}]
    workers = requested.get("InstanceCount", 1) - 1
    if workers > 0:
        worker = requested.get("SlaveInstanceType", master)
        found.append({"InstanceRole": "CORE", "InstanceType": worker, "InstanceCount": workers})
    return found


def describe(cluster: ClusterState) -> list[dict[str, Any]]:
    """Return the Instances of a cluster. A fleet has as many instances of its first type as its target needs.

    ``_role`` (MASTER, CORE or TASK) and ``_number`` (among the instances of its group, or of its fleet and market) are
    not fields of the API. An instance keeps its ids when its group or another one is resized.
    """
    if cluster.termination is not None and not cluster.termination.provisioned:
        return []
    members = []
    for number, group in enumerate(groups(cluster.request)):
        owner = {"InstanceGroupId": identify("ig", cluster.id, number), "_role": group["InstanceRole"]}
        members += _numbered(owner | _machine(group), group["InstanceCount"])
    for number, fleet in enumerate(fleets(cluster.request)):
        owner = {"InstanceFleetId": identify("if", cluster.id, number), "_role": fleet["InstanceFleetType"]}
        first = (fleet.get("InstanceTypeConfigs") or [{}])[0]
        members += _numbered(owner | _machine(first), _instance_count(fleet.get("TargetOnDemandCapacity", 0), first))
        spot = owner | _machine(first) | {"Market": "SPOT"}
        members += _numbered(spot, _instance_count(fleet.get("TargetSpotCapacity", 0), first))
    return [_with_ids(cluster, member) for member in members]


def primary(cluster: ClusterState) -> dict[str, Any]:
    """Return the primary node."""
    return next(instance for instance in describe(cluster) if instance["_role"] == "MASTER")


def next_to_lose(cluster: ClusterState) -> dict[str, Any] | None:
    """Return the worker that is lost next: spot instances first, and of these the task fleet; None if none is left."""
    candidates = [
        instance
        for instance in describe(cluster)
        if instance["_role"] != "MASTER" and instance["Id"] not in cluster.lost_instances
    ]
    ranked = sorted(candidates, key=lambda instance: (instance["Market"] != "SPOT", instance["_role"] != "TASK"))
    return ranked[0] if ranked else None


def capacity(cluster: ClusterState, fleet_number: int, market: str) -> int:
    """Return the capacity units that a fleet has in a market."""
    fleet = fleets(cluster.request)[fleet_number]
    weight = _weight((fleet.get("InstanceTypeConfigs") or [{}])[0])
    fleet_id = identify("if", cluster.id, fleet_number)
    return sum(
        weight
        for instance in describe(cluster)
        if (instance.get("InstanceFleetId"), instance["Market"]) == (fleet_id, market)
        and instance["Status"]["State"] == "RUNNING"
    )


def _numbered(member: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    return [{**member, "_number": number} for number in range(count)]


def _with_ids(cluster: ClusterState, member: Mapping[str, Any]) -> dict[str, Any]:
    owner = member.get("InstanceGroupId") or f"{member['InstanceFleetId']} {member['Market']}"
    number = member["_number"]
    instance_id = identify("ci", owner, number)
    volumes = [
        {"Device": device(index), "VolumeId": identify("vol", owner, 100 * number + index)}
        for index in range(member["_volumes"])
    ]
    return {
        "Id": instance_id,
        "Ec2InstanceId": identify("i", owner, number),
        "PublicDnsName": "localhost",
        "PublicIpAddress": "127.0.0.1",
        "PrivateDnsName": "localhost",
        "PrivateIpAddress": "127.0.0.1",
        **{key: value for key, value in member.items() if key not in ("_volumes", "_number")},
        **({"EbsVolumes": volumes} if volumes else {}),
        "Status": _status(cluster, instance_id),
    }


def device(number: int) -> str:
    """Return the device name of an EBS volume of an instance."""
    return f"/dev/sd{chr(ord('b') + number % 25)}"


def _status(cluster: ClusterState, instance_id: str) -> dict[str, Any]:
    state = "RUNNING" if cluster.state == "TERMINATING" else STATES[cluster.state]  # no state of instances
    reason: dict[str, Any] = {}
    ended = cluster.ended
    lost = cluster.lost_instances.get(instance_id)
    if lost is not None:
        state, reason = "TERMINATED", {"Code": "INSTANCE_FAILURE", "Message": lost["message"]}
        ended = datetime.fromisoformat(lost["at"])
    elif state == "TERMINATED":
        reason = {"Code": "CLUSTER_TERMINATED", "Message": "Cluster was terminated."}
    timeline = {"CreationDateTime": cluster.created, "ReadyDateTime": cluster.ready, "EndDateTime": ended}
    known = {key: time for key, time in timeline.items() if time is not None}
    return {"State": state, "StateChangeReason": reason, "Timeline": known}


def _machine(source: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "InstanceType": source.get("InstanceType", ""),
        "Market": source.get("Market", "ON_DEMAND"),
        "_volumes": len(volumes(source)),
    }


def volumes(source: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the VolumeSpecification of each EBS volume of an instance, from its group or its type in a fleet."""
    configs = (source.get("EbsConfiguration") or {}).get("EbsBlockDeviceConfigs") or []
    return [config["VolumeSpecification"] for config in configs for _ in range(config.get("VolumesPerInstance", 1))]


def _weight(config: Mapping[str, Any]) -> int:
    return max(1, int(config.get("WeightedCapacity", 1)))


def _instance_count(target: int, config: Mapping[str, Any]) -> int:
    """Return how many instances reach a target capacity; a fleet may exceed it."""
    return -(-int(target) // _weight(config))
