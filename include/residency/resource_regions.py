"""What AWS says of where buckets, keys and subnets are. A redirect is an answer, and is not followed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from include.aws.regions import arn_region, bucket_of_arn, location_region, region_or_none, zone_region
from include.aws.retries import is_transient
from include.residency.attestation import Attestation, ResidencyUnansweredError

REDIRECTS = frozenset({"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed"})
"""Error codes with which S3 sends a request to another region (S3 API reference, error responses)."""

MOVE = "Take a bucket in that region, or change the setting"
GRANT = "Allow Airflow's role to ask this (docs/residency.md lists the actions)"


class RedirectedError(Exception):
    """S3 has sent the request elsewhere; ``region`` is where to, when it says so."""

    def __init__(self, region: str | None) -> None:
        self.region = region
        super().__init__(f"redirected to {region or 'a region that S3 does not name'}")


def refuse_redirect(response: tuple[Any, dict[str, Any]] | None = None, **_: Any) -> None:
    """Stop botocore from following S3 to another region; it sends HEAD requests there with status 400, too."""
    if response is None:
        return
    http, parsed = response
    headers = parsed.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    error = parsed.get("Error", {})
    status = getattr(http, "status_code", None)
    told = headers.get("x-amz-bucket-region") or error.get("Region")
    if error.get("Code") in REDIRECTS or status in {301, 302, 303, 307, 308} or (status == 400 and told):
        raise RedirectedError(region_or_none(told))


@dataclass(frozen=True)
class _Answer:
    """What a request brought: its answer, or why there is none."""

    value: Any = None
    error: str | None = None
    code: str | None = None
    elsewhere: str | None = None


def _ask(call: Callable[[], Any]) -> _Answer:
    """Send a request; an error is an answer that nobody can use.

    Raises
    ------
    ResidencyUnansweredError
        When asking again may help.
    """
    try:
        return _Answer(call())
    except RedirectedError as redirect:
        return _Answer(error=str(redirect), code="Redirected", elsewhere=redirect.region)
    except ClientError as error:
        if is_transient(error):
            raise ResidencyUnansweredError(f"{error}: nothing starts before it is known where data would go") from error
        return _Answer(error=str(error), code=error.response.get("Error", {}).get("Code"))
    except Exception as error:  # whatever a parser makes of garbage
        if is_transient(error):
            raise ResidencyUnansweredError(f"{error}: nothing starts before it is known where data would go") from error
        return _Answer(error=f"{type(error).__name__}: {error}")


def check_bucket(attestation: Attestation, client: Any, setting: str, bucket: str) -> None:
    """Note where a bucket is, by two answers, and where its replication rules lead.

    Parameters
    ----------
    attestation : Attestation
        Where the answers are kept.
    client : botocore client
        That of S3, with :func:`refuse_redirect` registered.
    setting : str
        The setting that names the bucket.
    bucket : str
        Its name.
    """
    region = attestation.settings.region
    head = _ask(lambda: client.head_bucket(Bucket=bucket))
    told = head.value or {}
    answer = region_or_none(told.get("BucketRegion"))
    if told.get("AccessPointAlias") or told.get("BucketLocationType"):
        answer = "an access point or a directory bucket"
    attestation.note("region of the bucket, by HeadBucket", setting, bucket, answer, region, _why(head, MOVE))
    where = _ask(lambda: client.get_bucket_location(Bucket=bucket))
    located = location_region(where.value.get("LocationConstraint")) if where.value is not None else None
    attestation.note("region of the bucket, by GetBucketLocation", setting, bucket, located, region, _why(where, MOVE))
    _check_replication(attestation, client, setting, bucket)


def _check_replication(attestation: Attestation, client: Any, setting: str, bucket: str) -> None:
    what = "replication of the bucket"
    found = _ask(lambda: client.get_bucket_replication(Bucket=bucket))
    if found.code == "ReplicationConfigurationNotFoundError":
        attestation.note(what, setting, bucket, "none", "none", "")
        return
    rules = (found.value or {}).get("ReplicationConfiguration", {}).get("Rules")
    if not isinstance(rules, list):
        attestation.note(what, setting, bucket, None, "none, or into allowed regions", _why(found, ""))
        return
    for rule in rules:
        _check_rule(attestation, client, setting, bucket, rule)


def _check_rule(attestation: Attestation, client: Any, setting: str, bucket: str, rule: dict[str, Any]) -> None:
    allowed = attestation.settings.allowed_regions
    arn = rule.get("Destination", {}).get("Bucket")
    what = f"destination of the replication rule {rule.get('ID', '')!r} ({arn})"
    if rule.get("Status") == "Disabled":
        attestation.note(what, setting, bucket, "switched off", "switched off", "")
        return
    destination = bucket_of_arn(arn)
    region, advice = None, "Remove the rule: its ARN is not that of a bucket"
    if destination is not None:
        head = _ask(lambda: client.head_bucket(Bucket=destination))  # in another region, the redirect tells which
        region = head.elsewhere or region_or_none((head.value or {}).get("BucketRegion"))
        advice = _why(head, "Remove the rule, or replicate into a region that is allowed")
    expected = f"one of {','.join(allowed)}"
    attestation.keep(what, setting, bucket, region, expected, advice, allowed=region in allowed)


def check_key(attestation: Attestation, client: Any, key: str) -> None:
    """Check the key, and every copy of a multi-region key: all of them open the same data."""
    settings = attestation.settings
    setting, advice = "FRUITS_KMS_KEY", "Take a key of that region, of a single region if possible"
    attestation.note("region in the ARN of the key", setting, key, arn_region(key), settings.region, advice)
    found = _ask(lambda: client.describe_key(KeyId=key))
    metadata = (found.value or {}).get("KeyMetadata", {})
    attestation.note(
        "region of the key, by DescribeKey",
        setting,
        key,
        arn_region(metadata.get("Arn")),
        settings.region,
        _why(found, advice),
    )
    if found.error or not (metadata.get("MultiRegion") or _is_multi_region(metadata.get("Arn"))):
        return
    expected = f"all in {','.join(settings.allowed_regions)}"
    copies = metadata.get("MultiRegionConfiguration", {})
    regions = [
        copies.get("PrimaryKey", {}).get("Region"),
        *(one.get("Region") for one in copies.get("ReplicaKeys", [])),
    ]
    known = [region for region in regions if region_or_none(region)]
    answer = ",".join(sorted(set(known))) if known and len(known) == len(regions) else None
    attestation.keep(
        "regions of the multi-region key and its replicas",
        setting,
        key,
        answer,
        expected,
        "Delete the replicas outside, or take a key of a single region",
        allowed=set(known) <= set(settings.allowed_regions),
    )


def _is_multi_region(arn: object) -> bool:
    """Tell by the key's id, which begins with ``mrk-`` (KMS Developer Guide, multi-Region keys)."""
    return ":key/mrk-" in str(arn)


def describe_subnets(client: Any, subnet_ids: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return EC2's descriptions of these subnets; of none when EC2 refuses, or knows one of them not.

    Parameters
    ----------
    client : botocore client
        That of EC2.
    subnet_ids : tuple of str
        At least one: without any, EC2 would list all.

    Raises
    ------
    ResidencyUnansweredError
        When AWS does not answer now.
    """
    found = _ask(lambda: client.describe_subnets(SubnetIds=list(subnet_ids)))
    return [] if found.value is None else list(found.value.get("Subnets", []))


def check_subnets(attestation: Attestation, subnets: list[dict[str, Any]], subnet_ids: tuple[str, ...]) -> None:
    """Note where each of these subnets is: its zone, its ARN, and that it is no outpost's."""
    region, known = attestation.settings.region, {subnet.get("SubnetId"): subnet for subnet in subnets}
    for subnet_id in subnet_ids:
        subnet = known.get(subnet_id, {})
        regions = {zone_region(subnet.get("AvailabilityZone")), arn_region(subnet.get("SubnetArn"))}
        answer = regions.pop() if len(regions) == 1 else None
        if subnet.get("OutpostArn"):
            answer = f"the outpost {subnet['OutpostArn']}"
        attestation.note(
            f"region of the subnet (zone {subnet.get('AvailabilityZone')})",
            "FRUITS_SUBNET_IDS",
            subnet_id,
            answer,
            region,
            f"Take a subnet in a zone of {region}, which DescribeSubnets shows to Airflow's role",
        )


def _why(answer: _Answer, advice: str) -> str:
    """Return what the error was, before what to do."""
    if answer.error is None:
        return advice
    return f"{answer.error.rstrip('.')}. {MOVE if answer.code == 'Redirected' else GRANT}"
