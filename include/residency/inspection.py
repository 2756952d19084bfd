"""What EMR has really made, looked at as soon as EMR tells and before a step reads anything; what is wrong is ended."""

from __future__ import annotations

import logging
import time
from typing import Any

from include.emr.client import ClusterEndedError, Emr
from include.emr.identity import is_live
from include.residency.attestation import ResidencyError
from include.residency.cluster import NotKnownYetError, attest_cluster, subnet_of
from include.residency.resource_regions import describe_subnets
from include.settings.deployment import Settings

log = logging.getLogger(__name__)

LONGEST_START_SECONDS = 3600.0
"""How long EMR may take to say where a cluster is: it looks for spot capacity for as long as its fleets allow."""


def inspect_cluster(emr: Emr, cluster: dict[str, Any], request: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the attestation of a cluster, waiting while it starts; end it when it is not where, or what, it should be.

    Parameters
    ----------
    emr : Emr
        EMR.
    cluster : dict
        ``Cluster`` of DescribeCluster.
    request : dict
        The arguments of the RunJobFlow that asked for it.
    settings : Settings
        The deployment settings.

    Raises
    ------
    ResidencyError
        When it is elsewhere, or EMR does not say where: it is being ended.
    ResidencyUnansweredError
        When EC2 does not answer now.
    ClusterEndedError
        When it ended while it started.
    """
    deadline = time.monotonic() + LONGEST_START_SECONDS
    while True:
        if not is_live(cluster):
            raise ClusterEndedError(cluster)
        try:
            return attest_cluster(settings, cluster, request, _subnets(cluster, settings))
        except ResidencyError as error:
            _end(emr, cluster, error)
            raise
        except NotKnownYetError as error:
            if cluster["Status"]["State"] != "STARTING" or time.monotonic() > deadline:
                _end(emr, cluster, error)
                raise ResidencyError([f"cluster {cluster['Id']} has started, and {error}"]) from error
            log.info("%s; looking again in %g s", error, settings.poke_interval_seconds)
            time.sleep(settings.poke_interval_seconds)
            cluster = emr.describe(cluster["Id"])


def _subnets(cluster: dict[str, Any], settings: Settings) -> list[dict[str, Any]]:
    if settings.profile == "local" or not subnet_of(cluster):
        return []
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    ec2 = AwsBaseHook(aws_conn_id=settings.aws_conn_id, client_type="ec2", region_name=settings.region).conn
    return describe_subnets(ec2, subnet_of(cluster))


def _end(emr: Emr, cluster: dict[str, Any], error: Exception) -> None:
    log.error("Ending %s: %s", cluster["Id"], error)
    emr.terminate([cluster["Id"]])
