"""Everything that would take data out of its region, or hide where it goes, is refused before a run starts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from include.aws.endpoints import EndpointRefusedError
from include.lake.layout import Lake
from include.residency.checks import ResidencyError
from include.residency.preflight import check_residency
from include.settings.deployment import Settings

pytestmark = pytest.mark.slow

HERE, ALLOWED = "eu-west-3", ("eu-west-3", "eu-west-1")
LAKE, LOGS = Lake("s3://the-lake/photos"), "s3://the-logs"


def settings(**changes: Any) -> Settings:
    return Settings(**({"aws_conn_id": None, "lake": LAKE.root, "allowed_regions": ALLOWED} | changes))


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """moto's AWS at AWS's own addresses, as production resolves them, with a lake and a log bucket."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    with mock_aws():
        make_bucket("the-lake")
        make_bucket("the-logs")
        yield monkeypatch


def make_bucket(name: str, region: str = HERE, *, versioned: bool = True) -> None:
    client = boto3.client("s3", region_name=region)
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    client.create_bucket(Bucket=name, **where)
    if versioned:
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})


def replicate(bucket: str, destination: str, status: str = "Enabled") -> None:
    rule = {"ID": "copy", "Priority": 1, "Status": status, "Filter": {}, "Destination": {"Bucket": destination}}
    rule["DeleteMarkerReplication"] = {"Status": "Disabled"}
    boto3.client("s3", region_name=HERE).put_bucket_replication(
        Bucket=bucket, ReplicationConfiguration={"Role": "arn:aws:iam::123456789012:role/copy", "Rules": [rule]}
    )


def make_key(region: str, **more: Any) -> str:
    return str(boto3.client("kms", region_name=region).create_key(**more)["KeyMetadata"]["Arn"])


def default_subnet(region: str = HERE) -> str:
    return str(boto3.client("ec2", region_name=region).describe_subnets()["Subnets"][0]["SubnetId"])


def refused(match: str, **changes: Any) -> ResidencyError:
    with pytest.raises(ResidencyError, match=match) as caught:
        check_residency(settings(**changes), Lake(changes.get("lake", LAKE.root)))
    return caught.value


@pytest.mark.usefixtures("aws")
def test_a_run_within_its_region_is_attested_with_every_answer() -> None:
    subnet, key = default_subnet(), make_key(HERE)
    record = check_residency(settings(logs=LOGS, kms_key=key, subnet_ids=(subnet,)), LAKE)
    assert json.loads(json.dumps(record)) == record, "the manifest holds it"
    assert record["verdict"] == "allowed"
    assert record["endpoints"]["emr"] == f"https://elasticmapreduce.{HERE}.amazonaws.com"
    assert {check["verdict"] for check in record["checks"]} == {"allowed"}
    assert all(datetime.fromisoformat(check["checked_at"]).utcoffset() is not None for check in record["checks"])
    asked = {(check["setting"], check["value"]) for check in record["checks"] if check["answer"] == HERE}
    assert {("FRUITS_LAKE", "the-lake"), ("FRUITS_LOGS", "the-logs")} <= asked
    assert {("FRUITS_KMS_KEY", key), ("FRUITS_SUBNET_IDS", subnet)} <= asked
    assert sum("replication" in check["what"] for check in record["checks"]) == 2


@pytest.mark.usefixtures("aws")
def test_a_bucket_in_another_region_is_refused_even_in_an_allowed_one() -> None:
    """The lake must be in the run's region: from another region, every request would be redirected."""
    for region in ("us-east-1", "eu-west-1"):
        make_bucket(f"in-{region}", region)
        error = refused(f"FRUITS_LAKE='in-{region}'.*expected eu-west-3", lake=f"s3://in-{region}")
        assert f"is {region!r}" in str(error)
        assert len(error.problems) == 2, "HeadBucket and GetBucketLocation both answer"


@pytest.mark.usefixtures("aws")
def test_a_log_bucket_in_another_region_is_refused_by_its_setting() -> None:
    make_bucket("american-logs", "us-east-1")
    assert "FRUITS_LAKE" not in str(refused("FRUITS_LOGS='american-logs'", logs="s3://american-logs/emr"))


@pytest.mark.usefixtures("aws")
def test_a_missing_bucket_is_unknown_and_refused() -> None:
    assert "unknown" in str(refused("FRUITS_LOGS", logs="s3://nobody-has-this"))


@pytest.mark.usefixtures("aws")
def test_a_replication_rule_to_another_region_or_an_unknown_one_is_refused() -> None:
    make_bucket("copies-far", "us-east-1")
    make_bucket("copies-near", "eu-west-1")
    for destination, match in (
        ("arn:aws:s3:::copies-far", "is 'us-east-1', expected one of eu-west-3,eu-west-1"),
        ("arn:aws:s3:::nobody-has-this", "unknown"),
        ("arn:aws:s3:us-east-1:123456789012:accesspoint/x", "not that of a bucket"),
        ("copies-near", "not that of a bucket"),
    ):
        replicate("the-lake", destination)
        assert "'copy'" in str(refused(match))


@pytest.mark.usefixtures("aws")
def test_replication_into_an_allowed_region_and_a_disabled_rule_are_allowed() -> None:
    make_bucket("copies-near", "eu-west-1")
    make_bucket("copies-far", "us-east-1")
    replicate("the-lake", "arn:aws:s3:::copies-near")
    replicate("the-logs", "arn:aws:s3:::copies-far", status="Disabled")
    record = check_residency(settings(logs=LOGS), LAKE)
    [lake, logs] = [check["answer"] for check in record["checks"] if "replication" in check["what"]]
    assert (lake, logs) == ("eu-west-1", "switched off")
    refused("expected one of eu-west-3\\.", allowed_regions=(HERE,))


def test_a_key_of_another_region_is_refused(aws: pytest.MonkeyPatch) -> None:
    refused("FRUITS_KMS_KEY=.*us-east-1.*expected eu-west-3", kms_key=make_key("us-east-1"))
    refused("FRUITS_KMS_KEY=.*unknown", kms_key="alias/fruits")
    missing = f"arn:aws:kms:{HERE}:123456789012:key/00000000-0000-0000-0000-000000000000"
    refused("by DescribeKey is unknown", kms_key=missing)


@pytest.mark.usefixtures("aws")
def test_a_multi_region_key_with_a_replica_outside_is_refused() -> None:
    kms = boto3.client("kms", region_name=HERE)
    near, far = make_key(HERE, MultiRegion=True), make_key(HERE, MultiRegion=True)
    for key, region in ((near, "eu-west-1"), (far, "us-east-1")):
        kms.replicate_key(KeyId=key.rpartition("/")[2], ReplicaRegion=region)
    assert check_residency(settings(kms_key=near), LAKE)["checks"][-1]["answer"] == "eu-west-1,eu-west-3"
    refused("FRUITS_KMS_KEY=.*'eu-west-3,us-east-1'.*Delete the replicas", kms_key=far)


@pytest.mark.usefixtures("aws")
def test_a_subnet_of_another_region_or_an_unknown_one_is_refused() -> None:
    refused("FRUITS_SUBNET_IDS=.*unknown", subnet_ids=(default_subnet("us-east-1"),))
    problems = refused("subnet-0123456789abcdef0", subnet_ids=(default_subnet(), "subnet-0123456789abcdef0")).problems
    assert any("subnet-0123456789abcdef0" in problem for problem in problems)


def test_a_connection_with_another_region_is_refused(aws: pytest.MonkeyPatch) -> None:
    extras = (
        {"region_name": "us-east-1"},
        {"session_kwargs": {"region_name": "us-east-1"}},
        {"region_name": "eu-west-1"},
    )
    for extra in extras:
        aws.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", "extra": extra}))
        refused("of the connection is '(us-east-1|eu-west-1)', expected eu-west-3", aws_conn_id="aws_default")


def test_an_environment_with_another_region_is_refused(aws: pytest.MonkeyPatch) -> None:
    """The client of files uses this region."""
    aws.setenv("AWS_DEFAULT_REGION", "us-east-1")
    error = refused("AWS_DEFAULT_REGION='us-east-1'")
    assert "region of the client of s3 of files" in str(error)


def test_a_missing_region_is_refused(aws: pytest.MonkeyPatch) -> None:
    """The S3 client would call the address that serves all regions."""
    aws.delenv("AWS_DEFAULT_REGION")
    refused("unknown.*AWS_DEFAULT_REGION=eu-west-3")


def test_acceleration_over_edge_locations_is_refused(aws: pytest.MonkeyPatch) -> None:
    extra = {"region_name": HERE, "config_kwargs": {"s3": {"use_accelerate_endpoint": True}}}
    aws.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", "extra": extra}))
    refused("edge locations.*Remove use_accelerate_endpoint", aws_conn_id="aws_default")


@pytest.mark.parametrize("where", ["environment", "service", "connection", "config file"])
def test_an_endpoint_override_is_refused_before_any_request(
    aws: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    url = "https://s3.us-east-1.amazonaws.com"
    conn = None
    if where == "environment":
        aws.setenv("AWS_ENDPOINT_URL", url)
    elif where == "service":
        aws.setenv("AWS_ENDPOINT_URL_S3", url)
    elif where == "config file":
        (tmp_path / "config").write_text(f"[default]\nendpoint_url = {url}\n")
        aws.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    else:
        conn = "aws_default"
        extra = {"region_name": HERE, "service_config": {"s3": {"endpoint_url": url}}}
        aws.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", "extra": extra}))
    with pytest.raises(EndpointRefusedError, match=re.escape(url)):
        check_residency(settings(aws_conn_id=conn, lake="s3://nobody-has-this"), Lake("s3://nobody-has-this"))


@pytest.mark.usefixtures("aws")
def test_a_lake_that_is_not_a_general_purpose_bucket_is_refused() -> None:
    for root, match in (
        ("s3://mfzwi23gnjvgw.mrap", "multi-region access point"),
        ("s3://lake-abcdefgh-s3alias/x", "access point"),
        ("s3://lake--euw3-az1--x-s3", "directory bucket"),
        ("s3://arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap", "not a valid bucket name"),
        ("s3://arn:aws:s3:eu-west-3:123456789012:accesspoint/lake", "not a valid bucket name"),
        ("s3://Lake_With_Capitals", "not a valid bucket name"),
        ("file:///lake", "not on S3"),
    ):
        refused(match, lake=root)


@pytest.mark.usefixtures("aws")
def test_a_region_that_is_not_allowed_is_refused() -> None:
    refused("FRUITS_REGION='us-east-1'", region="us-east-1")


@pytest.mark.usefixtures("aws")
def test_all_problems_are_reported_at_once() -> None:
    make_bucket("american-logs", "us-east-1")
    error = refused(".", lake="s3://nobody-has-this", logs="s3://american-logs", kms_key=make_key("us-east-1"))
    for setting in ("FRUITS_LAKE", "FRUITS_LOGS", "FRUITS_KMS_KEY"):
        assert setting in str(error)


def test_the_local_profile_sends_no_request_to_aws() -> None:
    record = check_residency(Settings(profile="local", aws_conn_id=None), Lake("file:///lake"))
    assert record["profile"] == "local"
    assert record["endpoints"] == {"emr": "http://127.0.0.1:1", "s3": "http://127.0.0.1:1"}, "nothing listens there"
    assert "nothing leaves this machine" in record["note"]


def test_the_local_profile_refuses_an_address_of_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    with pytest.raises(EndpointRefusedError):
        check_residency(Settings(profile="local", aws_conn_id=None), Lake("file:///lake"))
