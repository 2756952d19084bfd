"""Check the cluster that EMR created against the request and the allowed regions; terminate it if it differs.

This happens as soon as EMR knows the cluster's place, and before a step reads data.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from include.aws.regions import arn_region, zone_region
from include.emr.client import ClusterEndedError, Emr
from include.emr.identity import Cluster, cluster_tags, created_at, is_live
from include.records import Attestation, ClusterRequest, JsonObject
from include.residency.checks import ResidencyChecks, ResidencyError
from include.residency.resources import check_subnets, describe_subnets
from include.settings.deployment import Settings

log = logging.getLogger(__name__)

ADVICE = "Terminate the cluster; it is not the one that was requested"

LONGEST_START = timedelta(hours=1)
"""How long EMR may take to report the cluster's place: it searches for spot capacity as long as the fleets allow."""


class PlaceUnknownError(Exception):
    """EMR does not know the cluster's place yet. This is normal while it starts, and a failure afterwards."""

    def __init__(self, missing: list[str]) -> None:
        super().__init__(f"EMR's description of the cluster still lacks {', '.join(missing)}")


def inspect_cluster(emr: Emr, cluster: Cluster, request: ClusterRequest, settings: Settings) -> Attestation:
    """Return the attestation of a cluster; terminate the cluster if a check fails.

    Parameters
    ----------
    emr : Emr
        The EMR API.
    cluster : dict
        ``Cluster`` from DescribeCluster.
    request : dict
        The arguments of the RunJobFlow that created it.
    settings : Settings
        The deployment settings.

    Raises
    ------
    PlaceUnknownError
        While the cluster starts and its place is not known yet. Try again later.
    ResidencyError
        If a check fails, or EMR does not report the cluster's place; the cluster is being terminated.
    ResidencyUnansweredError
        If EC2 does not answer.
    ClusterEndedError
        If the cluster ended while it started.
    """
    if not is_live(cluster):
        raise ClusterEndedError(cluster)
    try:
        return attest_cluster(settings, cluster, request, _describe_subnets(cluster, settings))
    except ResidencyError as error:
        _terminate(emr, cluster, error)
        raise
    except PlaceUnknownError as error:
        if cluster["Status"]["State"] == "STARTING" and datetime.now(UTC) - created_at(cluster) < LONGEST_START:
            raise
        _terminate(emr, cluster, error)
        raise ResidencyError([f"cluster {cluster['Id']} has started, but {error}"]) from error


def attest_cluster(
    settings: Settings, cluster: Cluster, request: ClusterRequest, subnets: Sequence[JsonObject]
) -> Attestation:
    """Check a described cluster; return the attestation for the manifest.

    Parameters
    ----------
    settings, cluster, request
        As for :func:`inspect_cluster`.
    subnets : sequence of dict
        EC2's description of the cluster's subnet (:func:`include.residency.resources.describe_subnets`).

    Raises
    ------
    PlaceUnknownError
        If the description does not contain the nodes' place yet.
    ResidencyError
        If the cluster is elsewhere, or differs from the request; it must be terminated.
    """
    checks = ResidencyChecks(settings)
    if settings.profile == "local":
        note = "profile local: the cluster is on this machine"
        return {**checks.attest(), "cluster_id": cluster.get("Id"), "note": note}
    if missing := _missing(cluster):
        raise PlaceUnknownError(missing)
    _check_place(checks, cluster, request, subnets)
    _check_request(checks, cluster, request)
    return {**checks.attest(), "cluster_id": cluster["Id"]}


def subnet_ids(cluster: Cluster) -> tuple[str, ...]:
    """Return the id of the cluster's subnet; empty until EMR has chosen one."""
    subnet_id = (cluster.get("Ec2InstanceAttributes") or {}).get("Ec2SubnetId")
    return (subnet_id,) if subnet_id else ()


def _missing(cluster: Cluster) -> list[str]:
    place = cluster.get("Ec2InstanceAttributes") or {}
    known = {
        "ClusterArn": cluster.get("ClusterArn"),
        "Ec2InstanceAttributes.Ec2SubnetId": place.get("Ec2SubnetId"),
        "Ec2InstanceAttributes.Ec2AvailabilityZone": place.get("Ec2AvailabilityZone"),
    }
    return [name for name, value in known.items() if not value]


def _check_place(
    checks: ResidencyChecks, cluster: Cluster, request: ClusterRequest, subnets: Sequence[JsonObject]
) -> None:
    region, place, cluster_id = checks.settings.region, cluster["Ec2InstanceAttributes"], str(cluster.get("Id"))
    arn, zone, subnet = cluster["ClusterArn"], place["Ec2AvailabilityZone"], place["Ec2SubnetId"]
    outpost = cluster.get("OutpostArn") or "none"
    checks.expect("region of the cluster's ARN", "cluster", arn, arn_region(arn), region, ADVICE)
    checks.expect("region of the cluster's zone", "cluster", zone, zone_region(zone), region, ADVICE)
    checks.expect("outpost of the cluster", "cluster", cluster_id, outpost, "none", ADVICE)
    requested = request.get("Instances", {}).get("Ec2SubnetIds") or []
    if requested:
        what, listed = "subnet of the cluster", ",".join(requested)
        checks.add(what, "FRUITS_SUBNET_IDS", listed, subnet, "one of them", ADVICE, allowed=subnet in requested)
    check_subnets(checks, list(subnets), (subnet,))
    zones = [known.get("AvailabilityZone") for known in subnets if known.get("SubnetId") == subnet]
    checks.expect("zone of the cluster's subnet", "cluster", zone, zones[0] if zones else None, zone, ADVICE)


def _check_request(checks: ResidencyChecks, cluster: Cluster, request: ClusterRequest) -> None:
    names = ("Name", "ReleaseLabel", "LogUri", "LogEncryptionKmsKeyId", "SecurityConfiguration")
    for name in names:
        actual, requested = (_normalize(name, description.get(name)) for description in (cluster, request))
        checks.expect(f"{name} of the cluster", "request", requested, actual, requested, ADVICE)
    tags = cluster_tags(cluster)
    for tag in request.get("Tags", []):
        requested = f"{tag['Key']}={tag['Value']}"
        actual = f"{tag['Key']}={tags[tag['Key']]}" if tag["Key"] in tags else "no such tag"
        checks.expect("tag of the cluster", "request", requested, actual, requested, ADVICE)


def _normalize(name: str, value: str | None) -> str:
    """Return a value as text, and a log folder in one notation: EMR answers ``s3n://…/`` for ``s3://…`` (EMR API)."""
    if name == "LogUri" and value is not None:
        return re.sub(r"^s3[an]://", "s3://", value).rstrip("/") + "/"
    return str(value)


def _describe_subnets(cluster: Cluster, settings: Settings) -> list[JsonObject]:
    if settings.profile == "local" or not subnet_ids(cluster):
        return []
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    ec2 = AwsBaseHook(aws_conn_id=settings.aws_conn_id, client_type="ec2", region_name=settings.region).conn
    return describe_subnets(ec2, subnet_ids(cluster))


def _terminate(emr: Emr, cluster: Cluster, error: Exception) -> None:
    log.error("Terminating %s: %s", cluster["Id"], error)
    emr.terminate(str(cluster["Id"]))
