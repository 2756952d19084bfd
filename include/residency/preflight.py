"""Check where data may be before anything is written or created. What is unknown counts as outside.

First the clients, without a request: their regions and the addresses that they would call. Then S3 (HeadBucket and
GetBucketLocation, which must agree; replication rules and their destinations), KMS (the key and all its replicas) and
EC2 (subnets). :mod:`include.residency.cluster` checks the cluster after its creation.
"""

from __future__ import annotations

from typing import Any

from include.aws.endpoints import check_clients, check_endpoint
from include.aws.regions import bucket_name, bucket_objection, region_or_none
from include.lake.buckets import file_client
from include.lake.layout import Lake
from include.records import Attestation, JsonObject
from include.residency.checks import ResidencyChecks
from include.residency.resources import check_bucket, check_key, check_subnets, describe_subnets, refuse_redirect
from include.settings.deployment import Settings


def check_residency(settings: Settings, lake: Lake) -> Attestation:
    """Check where everything that the run uses is, before the run writes or creates anything.

    Parameters
    ----------
    settings : Settings
        The deployment settings.
    lake : Lake
        The lake; its code, wheels and models are in the same bucket.

    Returns
    -------
    Attestation
        For the manifest: each check with its setting, answer, time and verdict. With profile ``local``, no request
        is sent to AWS; the attestation contains the addresses, which are on this machine.

    Raises
    ------
    EndpointRefusedError
        If a client resolves to an address that the profile does not allow.
    ResidencyError
        With everything that is outside the region, or whose region is unknown.
    ResidencyUnansweredError
        If AWS does not answer.
    """
    checks = ResidencyChecks(settings)
    if settings.profile == "local":
        endpoints = check_clients(settings)
        for service, url in endpoints.items():
            checks.expect(f"address of {service}", "FRUITS_PROFILE", "local", url, url, "")
        return {**checks.attest(), "endpoints": endpoints, "note": "profile local: nothing leaves this machine"}
    _check_names(checks, lake)
    checks.raise_problems()
    clients = _check_clients(checks, lake)
    checks.raise_problems()  # a client with another region or address must send nothing
    for setting, root in _roots(settings, lake).items():
        check_bucket(checks, clients["s3"], setting, bucket_name(root))
    if settings.kms_key is not None:
        check_key(checks, clients["kms"], settings.kms_key)
    if settings.subnet_ids:
        check_subnets(checks, describe_subnets(clients["ec2"], settings.subnet_ids), settings.subnet_ids)
    endpoints = {service: str(client.meta.endpoint_url) for service, client in clients.items()}
    return {**checks.attest(), "endpoints": endpoints}


def _roots(settings: Settings, lake: Lake) -> dict[str, str]:
    """Return the locations of data, by setting."""
    roots = {"FRUITS_LAKE": lake.root}
    if settings.logs is not None:
        roots["FRUITS_LOGS"] = settings.logs
    return roots


def _check_names(checks: ResidencyChecks, lake: Lake) -> None:
    settings = checks.settings
    checks.add(
        "the cluster's region",
        "FRUITS_REGION",
        settings.region,
        region_or_none(settings.region),
        f"one of FRUITS_ALLOWED_REGIONS={','.join(settings.allowed_regions)}",
        "Set a region that is allowed",
        allowed=settings.region in settings.allowed_regions,
    )
    for setting, root in _roots(settings, lake).items():
        objection = bucket_objection(bucket_name(root)) if root.startswith("s3://") else "not on S3"
        checks.expect(
            "type of the location",
            setting,
            root,
            objection or "a bucket",
            "a bucket",
            "Set s3://bucket[/folder] with the name of a general purpose bucket",
        )


def _check_clients(checks: ResidencyChecks, lake: Lake) -> dict[str, Any]:
    """Create the clients as the tasks do, and check the address that each would call; no request is sent."""
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    settings = checks.settings
    connection, region = settings.aws_conn_id, settings.region
    default = AwsBaseHook(aws_conn_id=connection, client_type="s3")
    _check_connection(checks, default.conn_config.extra_config, default.get_session().region_name)
    services = ["emr", "s3"] + ["kms"] * (settings.kms_key is not None) + ["ec2"] * bool(settings.subnet_ids)
    clients = {
        service: AwsBaseHook(aws_conn_id=connection, client_type=service, region_name=region).conn
        for service in services
    }
    clients["s3"].meta.events.register_first("needs-retry.s3", refuse_redirect)
    named = {**clients, "s3 of files": file_client(connection)}
    for service, client in named.items():
        checks.expect(
            f"region of the client of {service}",
            "FRUITS_AWS_CONN_ID",
            str(connection),
            region_or_none(client.meta.region_name),
            region,
            f"Set region_name={region} in the connection's extra and AWS_DEFAULT_REGION={region}",
        )
        accelerated = bool((client.meta.config.s3 or {}).get("use_accelerate_endpoint"))
        checks.expect(
            f"route of the client of {service}",
            "FRUITS_AWS_CONN_ID",
            str(connection),
            "edge locations around the world" if accelerated else "direct",
            "direct",
            "Remove use_accelerate_endpoint from the connection's config_kwargs",
        )
    checks.raise_problems()
    for service, client in named.items():
        url = str(client.meta.endpoint_url)
        check_endpoint(service.partition(" ")[0], url, settings)
        checks.expect(f"address of {service}", "FRUITS_AWS_CONN_ID", str(connection), url, url, "")
    return clients


def _check_connection(checks: ResidencyChecks, extra: JsonObject, resolved: str | None) -> None:
    """Check the connection's own region: clients without a region of their own use it, as the client of files does."""
    region, connection = checks.settings.region, str(checks.settings.aws_conn_id)
    declared = {
        "region_name": extra.get("region_name"),
        "session_kwargs.region_name": (extra.get("session_kwargs") or {}).get("region_name"),
    }
    for name, value in declared.items():
        if value is not None:
            advice = f"Set it to {region} in the connection, or set FRUITS_REGION to the intended region"
            checks.expect(f"{name} of the connection", "FRUITS_AWS_CONN_ID", connection, str(value), region, advice)
    checks.expect(
        "region of a client without an explicit region",
        "AWS_DEFAULT_REGION",
        str(resolved),
        region_or_none(resolved),
        region,
        f"Set region_name={region} in the extra of the connection {connection!r}, or AWS_DEFAULT_REGION={region}",
    )
