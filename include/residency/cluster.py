"""What EMR says that it really made, held against what was asked for and against the allowed regions. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from include.aws.regions import arn_region, zone_region
from include.residency.attestation import Attestation
from include.residency.resource_regions import check_subnets
from include.settings.deployment import Settings

AS_REQUESTED = "End the cluster; EMR has not made what was asked for"


class NotKnownYetError(Exception):
    """EMR does not know this of the cluster yet: to be asked again while the cluster is starting, a failure after."""

    def __init__(self, missing: list[str]) -> None:
        self.missing = missing
        super().__init__(f"EMR's description of the cluster does not hold yet: {', '.join(missing)}")


def attest_cluster(
    settings: Settings, cluster: dict[str, Any], request: dict[str, Any], subnets: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Check a cluster that was made.

    Parameters
    ----------
    settings : Settings
        The deployment settings.
    cluster : dict
        ``Cluster`` of EMR's DescribeCluster.
    request : dict
        The arguments of the RunJobFlow that asked for it.
    subnets : sequence of dict
        EC2's description of the cluster's subnet (:func:`include.residency.resource_regions.describe_subnets`).

    Returns
    -------
    dict
        The attestation, for the manifest.

    Raises
    ------
    NotKnownYetError
        When the description does not hold yet where the nodes are.
    ResidencyError
        When the cluster is elsewhere, or not what was asked for; it has to be ended.
    """
    attestation = Attestation(settings)
    if settings.profile == "local":
        return attestation.record(cluster_id=cluster.get("Id"), note="profile local: the cluster is on this machine")
    if missing := _missing(cluster):
        raise NotKnownYetError(missing)
    _check_place(attestation, cluster, request, subnets)
    _check_request(attestation, cluster, request)
    return attestation.record(cluster_id=cluster["Id"])


def subnet_of(cluster: dict[str, Any]) -> tuple[str, ...]:
    """Return the subnet that the cluster is in; none while EMR has not chosen it."""
    subnet_id = (cluster.get("Ec2InstanceAttributes") or {}).get("Ec2SubnetId")
    return (subnet_id,) if subnet_id else ()


def _missing(cluster: dict[str, Any]) -> list[str]:
    place = cluster.get("Ec2InstanceAttributes") or {}
    known = {
        "ClusterArn": cluster.get("ClusterArn"),
        "Ec2InstanceAttributes.Ec2SubnetId": place.get("Ec2SubnetId"),
        "Ec2InstanceAttributes.Ec2AvailabilityZone": place.get("Ec2AvailabilityZone"),
    }
    return [name for name, value in known.items() if not value]


def _check_place(
    attestation: Attestation, cluster: dict[str, Any], request: dict[str, Any], subnets: Sequence[dict[str, Any]]
) -> None:
    region, place, name = attestation.settings.region, cluster["Ec2InstanceAttributes"], str(cluster.get("Id"))
    arn, zone = cluster["ClusterArn"], place["Ec2AvailabilityZone"]
    attestation.note("region of the cluster's ARN", "cluster", arn, arn_region(arn), region, AS_REQUESTED)
    attestation.note("region of the cluster's zone", "cluster", zone, zone_region(zone), region, AS_REQUESTED)
    attestation.note(
        "outpost of the cluster", "cluster", name, cluster.get("OutpostArn") or "none", "none", AS_REQUESTED
    )
    requested = request.get("Instances", {}).get("Ec2SubnetIds") or []
    if requested:
        attestation.keep(
            "subnet of the cluster",
            "FRUITS_SUBNET_IDS",
            ",".join(requested),
            place["Ec2SubnetId"],
            "one of them",
            AS_REQUESTED,
            allowed=place["Ec2SubnetId"] in requested,
        )
    check_subnets(attestation, list(subnets), subnet_of(cluster))
    zones = {subnet.get("AvailabilityZone") for subnet in subnets if subnet.get("SubnetId") == place["Ec2SubnetId"]}
    attestation.note(
        "zone of the cluster's subnet", "cluster", zone, zones.pop() if zones else None, zone, AS_REQUESTED
    )


def _check_request(attestation: Attestation, cluster: dict[str, Any], request: dict[str, Any]) -> None:
    pairs = {
        "Name": (cluster.get("Name"), request.get("Name")),
        "ReleaseLabel": (cluster.get("ReleaseLabel"), request.get("ReleaseLabel")),
        "LogUri": (_folder(cluster.get("LogUri")), _folder(request.get("LogUri"))),
        "LogEncryptionKmsKeyId": (cluster.get("LogEncryptionKmsKeyId"), request.get("LogEncryptionKmsKeyId")),
        "SecurityConfiguration": (cluster.get("SecurityConfiguration"), request.get("SecurityConfiguration")),
    }
    for name, (made, asked) in pairs.items():
        attestation.note(f"{name} of the cluster", "request", str(asked), str(made), str(asked), AS_REQUESTED)
    tags = {tag.get("Key"): tag.get("Value") for tag in cluster.get("Tags", [])}
    for tag in request.get("Tags", []):
        asked = f"{tag['Key']}={tag['Value']}"
        made = f"{tag['Key']}={tags[tag['Key']]}" if tag["Key"] in tags else "no such tag"
        attestation.note("tag of the cluster", "request", asked, made, asked, AS_REQUESTED)


def _folder(uri: str | None) -> str | None:
    """Return a folder in one way of writing: EMR answers ``s3n://…/`` for ``s3://…`` (EMR API, LogUri)."""
    return None if uri is None else re.sub(r"^s3[an]://", "s3://", uri).rstrip("/") + "/"
