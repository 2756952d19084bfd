"""The cluster that EMR created is checked against the request, and terminated if it differs."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.aws.retries import RetryPolicy
from include.emr.client import ClusterEndedError, Emr
from include.records import Attestation
from include.residency import cluster as cluster_module
from include.residency.checks import ResidencyError
from include.residency.cluster import (
    LONGEST_START,
    PlaceUnknownError,
    attest_cluster,
    inspect_cluster,
    subnet_ids,
)
from include.settings.deployment import Settings

HERE = "eu-west-3"
KEY = f"arn:aws:kms:{HERE}:123456789012:key/k"
SETTINGS = Settings(aws_conn_id=None)
REQUEST = {
    "Name": "fruit-features 20261122T120000Z-0123abcd",
    "ReleaseLabel": "emr-spark-8.1.0",
    "LogUri": "s3://the-lake/logs/",
    "LogEncryptionKmsKeyId": KEY,
    "SecurityConfiguration": "fruits",
    "Instances": {"Ec2SubnetIds": ["subnet-1", "subnet-2"]},
    "Tags": [{"Key": "project", "Value": "fruit-features"}],
}
SUBNETS = [
    {
        "SubnetId": f"subnet-{number}",
        "AvailabilityZone": f"{HERE}{zone}",
        "SubnetArn": f"arn:aws:ec2:{HERE}:123456789012:subnet/subnet-{number}",
    }
    for number, zone in ((1, "a"), (2, "b"))
]
CREATED = {
    "Id": "j-1",
    "ClusterArn": f"arn:aws:elasticmapreduce:{HERE}:123456789012:cluster/j-1",
    "Name": REQUEST["Name"],
    "ReleaseLabel": "emr-spark-8.1.0",
    "LogUri": "s3n://the-lake/logs/",  # as EMR answers
    "LogEncryptionKmsKeyId": KEY,
    "SecurityConfiguration": "fruits",
    "Ec2InstanceAttributes": {"Ec2SubnetId": "subnet-2", "Ec2AvailabilityZone": f"{HERE}b"},
    "Tags": [{"Key": "project", "Value": "fruit-features"}, {"Key": "added-by-the-account", "Value": "yes"}],
}


def created(**changes: Any) -> dict[str, Any]:
    """Return EMR's description with these changes; ``place_…`` changes the nodes' place."""
    cluster = copy.deepcopy(CREATED)
    for name, value in changes.items():
        if name.startswith("place_"):
            cluster["Ec2InstanceAttributes"][name.removeprefix("place_")] = value  # type: ignore[index]
        else:
            cluster[name] = value
    return cluster


def test_a_cluster_as_requested_is_attested() -> None:
    record = attest_cluster(SETTINGS, CREATED, REQUEST, SUBNETS)
    assert json.loads(json.dumps(record)) == record
    assert record["cluster_id"] == "j-1"
    answers = {check["what"]: check["answer"] for check in record["checks"]}
    assert answers["region of the cluster's zone"] == HERE
    assert answers["LogUri of the cluster"] == "s3://the-lake/logs/"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ClusterArn": "arn:aws:elasticmapreduce:us-east-1:123456789012:cluster/j-1"}, "'us-east-1'"),
        ({"ClusterArn": "j-1"}, "region of the cluster's ARN is unknown"),
        ({"place_Ec2AvailabilityZone": "us-east-1a"}, "'us-east-1'"),
        ({"place_Ec2AvailabilityZone": "eu-west-3-par-1a"}, "unknown"),
        ({"place_Ec2AvailabilityZone": f"{HERE}a"}, "zone of the cluster's subnet is 'eu-west-3b'"),
        ({"place_Ec2SubnetId": "subnet-9"}, "subnet of the cluster is 'subnet-9', expected one of them"),
        ({"LogUri": "s3n://american-logs/"}, "LogUri of the cluster is 's3://american-logs/'"),
        ({"LogUri": "s3n://the-lake/logs-of-others/"}, "LogUri of the cluster"),
        ({"LogUri": None}, "LogUri of the cluster is 'None'"),
        ({"LogEncryptionKmsKeyId": None}, "LogEncryptionKmsKeyId of the cluster is 'None'"),
        ({"LogEncryptionKmsKeyId": KEY.replace(HERE, "us-east-1")}, "LogEncryptionKmsKeyId"),
        ({"SecurityConfiguration": None}, "SecurityConfiguration of the cluster is 'None', expected fruits"),
        ({"ReleaseLabel": "emr-5.0.0"}, "ReleaseLabel of the cluster is 'emr-5.0.0'"),
        ({"Name": "another"}, "Name of the cluster is 'another'"),
        ({"Tags": []}, "tag of the cluster is 'no such tag'"),
        ({"Tags": [{"Key": "project", "Value": "other"}]}, "'project=other', expected project=fruit-features"),
        ({"OutpostArn": "arn:aws:outposts:x"}, "outpost of the cluster is 'arn:aws:outposts:x', expected none"),
    ],
)
def test_a_cluster_elsewhere_or_different_from_the_request_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ResidencyError) as caught:
        attest_cluster(SETTINGS, created(**changes), REQUEST, SUBNETS)
    assert message in str(caught.value)
    assert "Terminate the cluster" in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"ClusterArn": None},
        {"place_Ec2SubnetId": None},
        {"place_Ec2AvailabilityZone": ""},
        {"Ec2InstanceAttributes": {}},
        {"Ec2InstanceAttributes": None},
    ],
)
def test_a_place_that_emr_does_not_know_yet_is_not_a_mismatch(changes: dict[str, Any]) -> None:
    with pytest.raises(PlaceUnknownError, match=r"still lacks (ClusterArn|Ec2InstanceAttributes)"):
        attest_cluster(SETTINGS, created(**changes), REQUEST, SUBNETS)
    assert subnet_ids(created(**changes)) in ((), ("subnet-2",))


def test_a_subnet_that_ec2_does_not_describe_is_refused() -> None:
    with pytest.raises(ResidencyError, match=r"subnet-2.*unknown"):
        attest_cluster(SETTINGS, CREATED, REQUEST, [])


def test_without_requested_subnets_the_one_that_emr_chose_is_checked() -> None:
    request = REQUEST | {"Instances": {}}
    assert attest_cluster(SETTINGS, CREATED, request, SUBNETS)["verdict"] == "allowed"
    elsewhere = [SUBNETS[1] | {"AvailabilityZone": "us-east-1b"}]
    with pytest.raises(ResidencyError, match="subnet-2"):
        attest_cluster(SETTINGS, CREATED, request, elsewhere)


def test_a_request_without_key_and_security_configuration_expects_none() -> None:
    bare = {
        name: value for name, value in REQUEST.items() if name not in {"LogEncryptionKmsKeyId", "SecurityConfiguration"}
    }
    created_bare = created(LogEncryptionKmsKeyId=None, SecurityConfiguration=None)
    assert attest_cluster(SETTINGS, created_bare, bare, SUBNETS)["verdict"] == "allowed"
    with pytest.raises(ResidencyError, match="SecurityConfiguration of the cluster is 'fruits'"):
        attest_cluster(SETTINGS, CREATED, bare, SUBNETS)


def test_a_local_cluster_is_attested_as_local() -> None:
    record = attest_cluster(Settings(profile="local", aws_conn_id=None), {"Id": "j-2"}, {}, [])
    assert (record["profile"], record["cluster_id"], record["checks"]) == ("local", "j-2", [])


class StartingCluster:
    """An EMR client with one cluster; each DescribeCluster returns the next description, and the last one for ever."""

    def __init__(self, *descriptions: dict[str, Any]) -> None:
        self.descriptions = list(descriptions)
        self.terminated: list[str] = []

    def describe_cluster(self, ClusterId: str) -> dict[str, Any]:  # noqa: N803
        return {"Cluster": self.descriptions.pop(0) if len(self.descriptions) > 1 else self.descriptions[0]}

    def terminate_job_flows(self, JobFlowIds: list[str]) -> dict[str, Any]:  # noqa: N803
        self.terminated += JobFlowIds
        return {}


@pytest.fixture
def known_subnets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "_describe_subnets", lambda cluster, settings: SUBNETS)


def in_state(state: str, age: timedelta = timedelta(0), **changes: Any) -> dict[str, Any]:
    timeline = {"CreationDateTime": datetime.now(UTC) - age}
    return created(**changes) | {"Status": {"State": state, "Timeline": timeline}}


UNKNOWN = {"Ec2InstanceAttributes": {}}


def inspect(client: StartingCluster) -> Attestation:
    settings = replace(SETTINGS, poke_interval_seconds=60.0)
    return inspect_cluster(Emr(client, RetryPolicy(1)), client.describe_cluster("")["Cluster"], REQUEST, settings)


@pytest.mark.usefixtures("known_subnets")
def test_inspection_attests_a_cluster_as_soon_as_its_place_is_known() -> None:
    """Before that the caller tries again later; the inspection itself never waits in a worker."""
    client = StartingCluster(in_state("STARTING", **UNKNOWN), in_state("STARTING"), in_state("RUNNING"))
    with pytest.raises(PlaceUnknownError):
        inspect(client)
    for _ in range(2):
        assert inspect(client)["verdict"] == "allowed"
    assert client.terminated == []


@pytest.mark.usefixtures("known_subnets")
def test_inspection_terminates_a_cluster_that_differs_from_the_request() -> None:
    client = StartingCluster(in_state("STARTING", LogUri="s3n://somebody-else/logs/"))
    with pytest.raises(ResidencyError, match="LogUri"):
        inspect(client)
    assert client.terminated == ["j-1"]


@pytest.mark.usefixtures("known_subnets")
def test_inspection_terminates_a_cluster_that_has_started_at_an_unknown_place() -> None:
    client = StartingCluster(in_state("RUNNING", **UNKNOWN))
    with pytest.raises(ResidencyError, match=r"has started, but .*Ec2AvailabilityZone"):
        inspect(client)
    assert client.terminated == ["j-1"]


@pytest.mark.usefixtures("known_subnets")
def test_inspection_terminates_a_cluster_that_never_finishes_starting() -> None:
    with pytest.raises(PlaceUnknownError):
        inspect(StartingCluster(in_state("STARTING", age=LONGEST_START - timedelta(minutes=1), **UNKNOWN)))
    client = StartingCluster(in_state("STARTING", age=LONGEST_START, **UNKNOWN))
    with pytest.raises(ResidencyError):
        inspect(client)
    assert client.terminated == ["j-1"]


def test_inspection_reports_a_cluster_that_ended_while_it_started() -> None:
    client = StartingCluster(in_state("TERMINATED_WITH_ERRORS", **UNKNOWN))
    with pytest.raises(ClusterEndedError, match="TERMINATED_WITH_ERRORS"):
        inspect(client)
    assert client.terminated == []
