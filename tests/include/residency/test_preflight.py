"""Data does not leave its region: each test tries to smuggle some out, or to hide where it goes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
import s3fs
from moto import mock_aws

from include.aws.endpoints import EndpointRefusedError
from include.lake.layout import Lake
from include.residency.attestation import ResidencyError
from include.residency.preflight import check_residency
from include.settings.deployment import Settings

HERE, ALLOWED = "eu-west-3", ("eu-west-3", "eu-west-1")
LAKE, LOGS = Lake("s3://the-lake/photos"), "s3://the-logs"


def settings(**changes: Any) -> Settings:
    return Settings(**({"aws_conn_id": None, "lake": LAKE.root, "allowed_regions": ALLOWED} | changes))


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """moto's AWS under AWS's own addresses, as production resolves them; with a lake and a bucket of logs."""
    from airflow.sdk.io import store

    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setattr(store, "_STORE_CACHE", {})  # its clients have other endpoints
    s3fs.S3FileSystem.clear_instance_cache()  # and so have these
    with mock_aws():
        make_bucket("the-lake")
        make_bucket("the-logs")
        yield monkeypatch
    s3fs.S3FileSystem.clear_instance_cache()


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


def a_subnet(region: str = HERE) -> str:
    return str(boto3.client("ec2", region_name=region).describe_subnets()["Subnets"][0]["SubnetId"])


def refused(match: str, **changes: Any) -> ResidencyError:
    with pytest.raises(ResidencyError, match=match) as caught:
        check_residency(settings(**changes), Lake(changes.get("lake", LAKE.root)))
    return caught.value


@pytest.mark.usefixtures("aws")
def test_all_in_its_region_is_attested_with_every_answer() -> None:
    subnet, key = a_subnet(), make_key(HERE)
    record = check_residency(settings(logs=LOGS, kms_key=key, subnet_ids=(subnet,)), LAKE)
    assert json.loads(json.dumps(record)) == record, "it goes into the manifest"
    assert record["verdict"] == "allowed"
    assert record["endpoints"]["emr"] == f"https://elasticmapreduce.{HERE}.amazonaws.com"
    assert {check["verdict"] for check in record["checks"]} == {"allowed"}
    assert all(datetime.fromisoformat(check["checked_at"]).utcoffset() is not None for check in record["checks"])
    asked = {(check["setting"], check["value"]) for check in record["checks"] if check["answer"] == HERE}
    assert {("FRUITS_LAKE", "the-lake"), ("FRUITS_LOGS", "the-logs")} <= asked
    assert {("FRUITS_KMS_KEY", key), ("FRUITS_SUBNET_IDS", subnet)} <= asked
    assert sum("replication" in check["what"] for check in record["checks"]) == 2


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1", "eu-west-1"])
@pytest.mark.usefixtures("aws")
def test_bucket_in_another_region_is_refused_even_where_data_might_be(region: str) -> None:
    """The lake of a run in one region is in that region: from another, every request is a redirect."""
    make_bucket("elsewhere", region)
    error = refused("FRUITS_LAKE='elsewhere'.*expected eu-west-3", lake="s3://elsewhere")
    assert f"is {region!r}" in str(error)
    assert len(error.problems) == 2, "HeadBucket and GetBucketLocation both tell"


@pytest.mark.usefixtures("aws")
def test_log_bucket_in_the_united_states_is_refused_and_its_setting_named() -> None:
    make_bucket("american-logs", "us-east-1")
    assert "FRUITS_LAKE" not in str(refused("FRUITS_LOGS='american-logs'", logs="s3://american-logs/emr"))


@pytest.mark.usefixtures("aws")
def test_bucket_that_does_not_exist_is_unknown_and_refused() -> None:
    assert "nothing that is certain" in str(refused("FRUITS_LOGS", logs="s3://nobody-has-this"))


@pytest.mark.parametrize(
    ("destination", "match"),
    [
        ("arn:aws:s3:::copies-far", "is 'us-east-1', expected one of eu-west-3,eu-west-1"),
        ("arn:aws:s3:::nobody-has-this", "nothing that is certain"),
        ("arn:aws:s3:us-east-1:123456789012:accesspoint/x", "not that of a bucket"),
        ("copies-near", "not that of a bucket"),
    ],
)
@pytest.mark.usefixtures("aws")
def test_replication_rule_that_leads_out_is_refused(destination: str, match: str) -> None:
    make_bucket("copies-far", "us-east-1")
    make_bucket("copies-near", "eu-west-1")
    replicate("the-lake", destination)
    assert "'copy'" in str(refused(match))


@pytest.mark.usefixtures("aws")
def test_replication_into_an_allowed_region_and_a_rule_that_is_off_are_let_pass() -> None:
    make_bucket("copies-near", "eu-west-1")
    make_bucket("copies-far", "us-east-1")
    replicate("the-lake", "arn:aws:s3:::copies-near")
    replicate("the-logs", "arn:aws:s3:::copies-far", status="Disabled")
    record = check_residency(settings(logs=LOGS), LAKE)
    [lake, logs] = [check["answer"] for check in record["checks"] if "replication" in check["what"]]
    assert (lake, logs) == ("eu-west-1", "switched off")
    refused("expected one of eu-west-3\\.", allowed_regions=(HERE,))


def test_key_of_another_region_is_refused(aws: pytest.MonkeyPatch) -> None:
    refused("FRUITS_KMS_KEY=.*us-east-1.*expected eu-west-3", kms_key=make_key("us-east-1"))
    refused("FRUITS_KMS_KEY=.*nothing that is certain", kms_key="alias/fruits")
    missing = f"arn:aws:kms:{HERE}:123456789012:key/00000000-0000-0000-0000-000000000000"
    refused("by DescribeKey is nothing that is certain", kms_key=missing)


@pytest.mark.usefixtures("aws")
def test_multi_region_key_is_refused_when_a_replica_is_outside() -> None:
    kms = boto3.client("kms", region_name=HERE)
    near, far = make_key(HERE, MultiRegion=True), make_key(HERE, MultiRegion=True)
    for key, region in ((near, "eu-west-1"), (far, "us-east-1")):
        kms.replicate_key(KeyId=key.rpartition("/")[2], ReplicaRegion=region)
    assert check_residency(settings(kms_key=near), LAKE)["checks"][-1]["answer"] == "eu-west-1,eu-west-3"
    refused("FRUITS_KMS_KEY=.*'eu-west-3,us-east-1'.*Delete the replicas", kms_key=far)


@pytest.mark.usefixtures("aws")
def test_subnet_of_another_region_or_that_nobody_knows_is_refused() -> None:
    refused("FRUITS_SUBNET_IDS=.*nothing that is certain", subnet_ids=(a_subnet("us-east-1"),))
    problems = refused("subnet-0123456789abcdef0", subnet_ids=(a_subnet(), "subnet-0123456789abcdef0")).problems
    assert any("subnet-0123456789abcdef0" in problem for problem in problems)


@pytest.mark.parametrize(
    "extra",
    [
        {"region_name": "us-east-1"},
        {"session_kwargs": {"region_name": "us-east-1"}},
        {"region_name": "eu-west-1"},
    ],
)
def test_connection_with_another_region_is_refused(aws: pytest.MonkeyPatch, extra: dict[str, Any]) -> None:
    aws.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", "extra": extra}))
    refused("of the connection is '(us-east-1|eu-west-1)', expected eu-west-3", aws_conn_id="aws_default")


def test_environment_with_another_region_is_refused(aws: pytest.MonkeyPatch) -> None:
    """The client that reads and writes files takes its region from there."""
    aws.setenv("AWS_DEFAULT_REGION", "us-east-1")
    error = refused("AWS_DEFAULT_REGION='us-east-1'")
    assert "region of the client of s3 of files" in str(error)


def test_region_that_is_set_nowhere_is_refused(aws: pytest.MonkeyPatch) -> None:
    """S3's client would call the address that serves all regions."""
    aws.delenv("AWS_DEFAULT_REGION")
    refused("nothing that is certain.*AWS_DEFAULT_REGION=eu-west-3")


def test_acceleration_over_edge_locations_is_refused(aws: pytest.MonkeyPatch) -> None:
    extra = {"region_name": HERE, "config_kwargs": {"s3": {"use_accelerate_endpoint": True}}}
    aws.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", "extra": extra}))
    refused("edge locations.*Remove use_accelerate_endpoint", aws_conn_id="aws_default")


@pytest.mark.parametrize("where", ["environment", "service", "connection", "config file"])
def test_endpoint_override_in_production_is_refused_before_anything_is_asked(
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


@pytest.mark.parametrize(
    ("root", "match"),
    [
        ("s3://mfzwi23gnjvgw.mrap", "multi-region access point"),
        ("s3://lake-abcdefgh-s3alias/x", "access point"),
        ("s3://lake--euw3-az1--x-s3", "directory bucket"),
        ("s3://arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap", "not a valid bucket name"),
        ("s3://arn:aws:s3:eu-west-3:123456789012:accesspoint/lake", "not a valid bucket name"),
        ("s3://Lake_With_Capitals", "not a valid bucket name"),
        ("file:///lake", "not on S3"),
    ],
)
@pytest.mark.usefixtures("aws")
def test_lake_behind_another_name_than_a_buckets_is_refused(root: str, match: str) -> None:
    refused(match, lake=root)


@pytest.mark.usefixtures("aws")
def test_region_outside_the_allowed_ones_is_refused() -> None:
    refused("FRUITS_REGION='us-east-1'", region="us-east-1")


@pytest.mark.usefixtures("aws")
def test_everything_wrong_is_told_at_once() -> None:
    make_bucket("american-logs", "us-east-1")
    error = refused(".", lake="s3://nobody-has-this", logs="s3://american-logs", kms_key=make_key("us-east-1"))
    for setting in ("FRUITS_LAKE", "FRUITS_LOGS", "FRUITS_KMS_KEY"):
        assert setting in str(error)


def test_local_profile_asks_nothing_of_aws_and_says_so() -> None:
    record = check_residency(Settings(profile="local", aws_conn_id=None), Lake("file:///lake"))
    assert record["profile"] == "local"
    assert record["endpoints"] == {"emr": "http://127.0.0.1:1", "s3": "http://127.0.0.1:1"}, "nothing listens there"
    assert "nothing leaves this machine" in record["note"]


def test_local_profile_with_a_way_to_aws_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    with pytest.raises(EndpointRefusedError):
        check_residency(Settings(profile="local", aws_conn_id=None), Lake("file:///lake"))
