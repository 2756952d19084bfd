"""The regions of buckets, keys and subnets, as AWS reports them. A redirect is an answer, and is not followed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from include.aws.regions import arn_region, bucket_of_arn, location_region, region_or_none, zone_region
from include.aws.retries import is_transient
from include.records import JsonObject
from include.residency.checks import ResidencyChecks, ResidencyUnansweredError

REDIRECTS = frozenset({"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed"})
"""Error codes with which S3 sends a request to another region (S3 API reference, error responses)."""

MOVE = "Use a bucket in that region, or change the setting"
GRANT = "Allow Airflow's role to send this request (docs/residency.md lists the actions)"


class RedirectedError(Exception):
    """S3 redirected the request; ``region`` is the destination, if S3 names it."""

    def __init__(self, region: str | None) -> None:
        self.region = region
        super().__init__(f"redirected to {region or 'a region that S3 does not name'}")


def refuse_redirect(response: tuple[Any, JsonObject] | None = None, **_: Any) -> None:
    """Stop botocore from following a redirect to another region; S3 also redirects HEAD requests with status 400."""
    if response is None:
        return
    http, parsed = response
    headers = parsed.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    error = parsed.get("Error", {})
    status = getattr(http, "status_code", None)
    region = headers.get("x-amz-bucket-region") or error.get("Region")
    if error.get("Code") in REDIRECTS or status in {301, 302, 303, 307, 308} or (status == 400 and region):
        raise RedirectedError(region_or_none(region))


@dataclass(frozen=True)
class _Outcome:
    """The outcome of a request: its answer, or the error."""

    value: Any = None
    error: str | None = None
    code: str | None = None
    redirect_region: str | None = None


def _send(call: Callable[[], Any]) -> _Outcome:
    """Send a request; an error that a retry cannot change is an outcome too.

    Raises
    ------
    ResidencyUnansweredError
        If a retry may help.
    """
    try:
        return _Outcome(call())
    except RedirectedError as redirect:
        return _Outcome(error=str(redirect), code="Redirected", redirect_region=redirect.region)
    except ClientError as error:
        if is_transient(error):
            raise ResidencyUnansweredError(f"{error}: nothing starts before the region of all data is known") from error
        return _Outcome(error=str(error), code=error.response.get("Error", {}).get("Code"))
    except Exception as error:  # a parser may raise anything for a malformed answer
        if is_transient(error):
            raise ResidencyUnansweredError(f"{error}: nothing starts before the region of all data is known") from error
        return _Outcome(error=f"{type(error).__name__}: {error}")


def check_bucket(checks: ResidencyChecks, client: Any, setting: str, bucket: str) -> None:
    """Check the region of a bucket by two requests, and the destinations of its replication rules.

    Parameters
    ----------
    checks : ResidencyChecks
        Receives the answers.
    client : botocore client
        S3, with :func:`refuse_redirect` registered.
    setting : str
        The setting that names the bucket.
    bucket : str
        Its name.
    """
    region = checks.settings.region
    head = _send(lambda: client.head_bucket(Bucket=bucket))
    headers = head.value or {}
    answer = region_or_none(headers.get("BucketRegion"))
    if headers.get("AccessPointAlias") or headers.get("BucketLocationType"):
        answer = "an access point or a directory bucket"
    checks.expect("region of the bucket, by HeadBucket", setting, bucket, answer, region, _advice(head, MOVE))
    where = _send(lambda: client.get_bucket_location(Bucket=bucket))
    located = location_region(where.value.get("LocationConstraint")) if where.value is not None else None
    checks.expect("region of the bucket, by GetBucketLocation", setting, bucket, located, region, _advice(where, MOVE))
    _check_replication(checks, client, setting, bucket)


def _check_replication(checks: ResidencyChecks, client: Any, setting: str, bucket: str) -> None:
    what = "replication of the bucket"
    outcome = _send(lambda: client.get_bucket_replication(Bucket=bucket))
    if outcome.code == "ReplicationConfigurationNotFoundError":
        checks.expect(what, setting, bucket, "none", "none", "")
        return
    rules = (outcome.value or {}).get("ReplicationConfiguration", {}).get("Rules")
    if not isinstance(rules, list):
        checks.expect(what, setting, bucket, None, "none, or into allowed regions", _advice(outcome, ""))
        return
    for rule in rules:
        _check_rule(checks, client, setting, bucket, rule)


def _check_rule(checks: ResidencyChecks, client: Any, setting: str, bucket: str, rule: JsonObject) -> None:
    allowed = checks.settings.allowed_regions
    arn = rule.get("Destination", {}).get("Bucket")
    what = f"destination of the replication rule {rule.get('ID', '')!r} ({arn})"
    if rule.get("Status") == "Disabled":
        checks.expect(what, setting, bucket, "switched off", "switched off", "")
        return
    destination = bucket_of_arn(arn)
    region, advice = None, "Remove the rule: its ARN is not that of a bucket"
    if destination is not None:
        head = _send(lambda: client.head_bucket(Bucket=destination))  # a redirect names the bucket's region
        region = head.redirect_region or region_or_none((head.value or {}).get("BucketRegion"))
        advice = _advice(head, "Remove the rule, or replicate into a region that is allowed")
    expected = f"one of {','.join(allowed)}"
    checks.add(what, setting, bucket, region, expected, advice, allowed=region in allowed)


def check_key(checks: ResidencyChecks, client: Any, key: str) -> None:
    """Check a key, and all replicas of a multi-region key: each of them decrypts the same data."""
    settings = checks.settings
    setting, advice = "FRUITS_KMS_KEY", "Use a key of that region, preferably a single-region key"
    checks.expect("region in the ARN of the key", setting, key, arn_region(key), settings.region, advice)
    outcome = _send(lambda: client.describe_key(KeyId=key))
    metadata = (outcome.value or {}).get("KeyMetadata", {})
    checks.expect(
        "region of the key, by DescribeKey",
        setting,
        key,
        arn_region(metadata.get("Arn")),
        settings.region,
        _advice(outcome, advice),
    )
    if outcome.error or not (metadata.get("MultiRegion") or _is_multi_region(metadata.get("Arn"))):
        return
    expected = f"all in {','.join(settings.allowed_regions)}"
    copies = metadata.get("MultiRegionConfiguration", {})
    regions = [
        copies.get("PrimaryKey", {}).get("Region"),
        *(replica.get("Region") for replica in copies.get("ReplicaKeys", [])),
    ]
    known = [region for region in regions if region_or_none(region)]
    answer = ",".join(sorted(set(known))) if known and len(known) == len(regions) else None
    checks.add(
        "regions of the multi-region key and its replicas",
        setting,
        key,
        answer,
        expected,
        "Delete the replicas outside, or use a single-region key",
        allowed=set(known) <= set(settings.allowed_regions),
    )


def _is_multi_region(arn: object) -> bool:
    """Whether the key's id begins with ``mrk-`` (KMS Developer Guide, multi-Region keys)."""
    return ":key/mrk-" in str(arn)


def describe_subnets(client: Any, subnet_ids: tuple[str, ...]) -> list[JsonObject]:
    """Return EC2's descriptions of these subnets; none if EC2 denies access or does not know one of them.

    Parameters
    ----------
    client : botocore client
        EC2.
    subnet_ids : tuple of str
        At least one; without ids, EC2 would list all subnets.

    Raises
    ------
    ResidencyUnansweredError
        If AWS does not answer.
    """
    outcome = _send(lambda: client.describe_subnets(SubnetIds=list(subnet_ids)))
    return [] if outcome.value is None else list(outcome.value.get("Subnets", []))


def check_subnets(checks: ResidencyChecks, subnets: list[JsonObject], subnet_ids: tuple[str, ...]) -> None:
    """Check the region of each subnet: by its zone and its ARN, and that it is not on an outpost."""
    region, known = checks.settings.region, {subnet.get("SubnetId"): subnet for subnet in subnets}
    for subnet_id in subnet_ids:
        subnet = known.get(subnet_id, {})
        regions = {zone_region(subnet.get("AvailabilityZone")), arn_region(subnet.get("SubnetArn"))}
        answer = regions.pop() if len(regions) == 1 else None
        if subnet.get("OutpostArn"):
            answer = f"the outpost {subnet['OutpostArn']}"
        checks.expect(
            f"region of the subnet (zone {subnet.get('AvailabilityZone')})",
            "FRUITS_SUBNET_IDS",
            subnet_id,
            answer,
            region,
            f"Use a subnet in a zone of {region} that Airflow's role may describe",
        )


def _advice(outcome: _Outcome, advice: str) -> str:
    """Return the error, if there was one, and what to do."""
    if outcome.error is None:
        return advice
    return f"{outcome.error.rstrip('.')}. {MOVE if outcome.code == 'Redirected' else GRANT}"
