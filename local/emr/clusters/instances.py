"""The instances of a cluster: nothing is provisioned, so that they follow from the request and from what was lost."""

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
"""State of the members of a cluster in a state."""


def identify(prefix: str, cluster_id: str, number: int) -> str:
    """Return an id that stays the same from call to call."""
    return f"{prefix}-{hashlib.sha256(f'{prefix} {cluster_id} {number}'.encode()).hexdigest()[:13].upper()}"


def fleets(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the instance fleets of a RunJobFlow request."""
    return list((request.get("Instances") or {}).get("InstanceFleets") or [])


def groups(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the instance groups of a request, the short form (types and a count) spelled out."""
    asked = request.get("Instances") or {}
    if asked.get("InstanceGroups") or asked.get("InstanceFleets"):
        return list(asked.get("InstanceGroups") or [])
    master = asked["MasterInstanceType"]
    found = [{"InstanceRole": "MASTER", "InstanceType": master, "InstanceCount": 1}]
    workers = asked.get("InstanceCount", 1) - 1
    if workers > 0:
        worker = asked.get("SlaveInstanceType", master)
        found.append({"InstanceRole": "CORE", "InstanceType": worker, "InstanceCount": workers})
    return found


def describe(cluster: ClusterState) -> list[dict[str, Any]]:
    """Return the cluster's Instances, of the first type of each fleet: as many as its target needs.

    ``_role``, which EMR does not tell, is MASTER, CORE or TASK.
    """
    if cluster.termination is not None and not cluster.termination.provisioned:
        return []
    members = []
    for number, group in enumerate(groups(cluster.request)):
        owner = {"InstanceGroupId": identify("ig", cluster.id, number), "_role": group["InstanceRole"]}
        members += [owner | _machine(group)] * group["InstanceCount"]
    for number, fleet in enumerate(fleets(cluster.request)):
        owner = {"InstanceFleetId": identify("if", cluster.id, number), "_role": fleet["InstanceFleetType"]}
        first = (fleet.get("InstanceTypeConfigs") or [{}])[0]
        members += [owner | _machine(first)] * _needed(fleet.get("TargetOnDemandCapacity", 0), first)
        members += [owner | _machine(first) | {"Market": "SPOT"}] * _needed(fleet.get("TargetSpotCapacity", 0), first)
    return [_named(cluster, number, member) for number, member in enumerate(members)]


def primary(cluster: ClusterState) -> dict[str, Any]:
    """Return the primary node."""
    return next(instance for instance in describe(cluster) if instance["_role"] == "MASTER")


def next_to_lose(cluster: ClusterState) -> dict[str, Any] | None:
    """Return the worker that EC2 would take first: a spot instance if there is one, of the task fleet before others."""
    left = [
        instance
        for instance in describe(cluster)
        if instance["_role"] != "MASTER" and instance["Id"] not in cluster.lost_instances
    ]
    ranked = sorted(left, key=lambda instance: (instance["Market"] != "SPOT", instance["_role"] != "TASK"))
    return ranked[0] if ranked else None


def capacity(cluster: ClusterState, fleet_number: int, market: str) -> int:
    """Return the units that a fleet has now in a market."""
    fleet = fleets(cluster.request)[fleet_number]
    weight = _weight((fleet.get("InstanceTypeConfigs") or [{}])[0])
    own = identify("if", cluster.id, fleet_number)
    return sum(
        weight
        for instance in describe(cluster)
        if (instance.get("InstanceFleetId"), instance["Market"]) == (own, market)
        and instance["Status"]["State"] == "RUNNING"
    )


def _named(cluster: ClusterState, number: int, member: Mapping[str, Any]) -> dict[str, Any]:
    instance_id = identify("ci", cluster.id, number)
    volumes = [
        {
            "Device": f"/dev/sd{chr(ord('b') + place % 25)}",
            "VolumeId": identify("vol", cluster.id, 100 * number + place),
        }
        for place in range(member["_volumes"])
    ]
    return {
        "Id": instance_id,
        "Ec2InstanceId": identify("i", cluster.id, number),
        "PrivateIpAddress": "127.0.0.1",
        **{key: value for key, value in member.items() if key != "_volumes"},
        **({"EbsVolumes": volumes} if volumes else {}),
        "Status": _status(cluster, instance_id),
    }


def _status(cluster: ClusterState, instance_id: str) -> dict[str, Any]:
    state = "RUNNING" if cluster.state == "TERMINATING" else STATES[cluster.state]  # instances have no such state
    reason: dict[str, Any] = {}
    ended = cluster.ended
    lost = cluster.lost_instances.get(instance_id)
    if lost is not None:
        state, reason = "TERMINATED", {"Code": "INSTANCE_FAILURE", "Message": lost["message"]}
        ended = datetime.fromisoformat(lost["at"])
    elif state == "TERMINATED":
        reason = {"Code": "CLUSTER_TERMINATED", "Message": "Cluster was terminated."}
    timeline = {"CreationDateTime": cluster.created, "ReadyDateTime": cluster.ready, "EndDateTime": ended}
    told = {key: moment for key, moment in timeline.items() if moment is not None}
    return {"State": state, "StateChangeReason": reason, "Timeline": told}


def _machine(source: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "InstanceType": source.get("InstanceType", ""),
        "Market": source.get("Market", "ON_DEMAND"),
        "_volumes": len(volumes(source)),
    }


def volumes(source: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the VolumeSpecification of every volume that each instance of a fleet's type, or of a group, gets."""
    configs = (source.get("EbsConfiguration") or {}).get("EbsBlockDeviceConfigs") or []
    return [config["VolumeSpecification"] for config in configs for _ in range(config.get("VolumesPerInstance", 1))]


def _weight(config: Mapping[str, Any]) -> int:
    return max(1, int(config.get("WeightedCapacity", 1)))


def _needed(target: int, config: Mapping[str, Any]) -> int:
    """Return how many instances reach a target capacity: fleets may exceed it, and never stay below."""
    return -(-int(target) // _weight(config))
