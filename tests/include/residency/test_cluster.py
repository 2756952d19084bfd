"""What EMR says it has made is held against what was asked for."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from include.residency.attestation import ResidencyError
from include.residency.cluster import NotKnownYetError, attest_cluster, subnet_of
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
MADE = {
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


def made(**changes: Any) -> dict[str, Any]:
    """EMR's description with these changes; ``place_…`` changes where the nodes are."""
    cluster = copy.deepcopy(MADE)
    for name, value in changes.items():
        if name.startswith("place_"):
            cluster["Ec2InstanceAttributes"][name.removeprefix("place_")] = value  # type: ignore[index]
        else:
            cluster[name] = value
    return cluster


def test_cluster_as_asked_for_is_attested() -> None:
    record = attest_cluster(SETTINGS, MADE, REQUEST, SUBNETS)
    assert json.loads(json.dumps(record)) == record
    assert record["cluster_id"] == "j-1"
    answers = {check["what"]: check["answer"] for check in record["checks"]}
    assert answers["region of the cluster's zone"] == HERE
    assert answers["LogUri of the cluster"] == "s3://the-lake/logs/"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ClusterArn": "arn:aws:elasticmapreduce:us-east-1:123456789012:cluster/j-1"}, "'us-east-1'"),
        ({"ClusterArn": "j-1"}, "region of the cluster's ARN is nothing that is certain"),
        ({"place_Ec2AvailabilityZone": "us-east-1a"}, "'us-east-1'"),
        ({"place_Ec2AvailabilityZone": "eu-west-3-par-1a"}, "nothing that is certain"),
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
def test_cluster_elsewhere_or_otherwise_than_asked_for_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ResidencyError) as caught:
        attest_cluster(SETTINGS, made(**changes), REQUEST, SUBNETS)
    assert says in str(caught.value)
    assert "End the cluster" in str(caught.value)


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
def test_what_emr_does_not_know_yet_is_told_apart_from_a_mismatch(changes: dict[str, Any]) -> None:
    with pytest.raises(NotKnownYetError, match=r"does not hold yet: (ClusterArn|Ec2InstanceAttributes)"):
        attest_cluster(SETTINGS, made(**changes), REQUEST, SUBNETS)
    assert subnet_of(made(**changes)) in ((), ("subnet-2",))


def test_subnet_that_ec2_does_not_describe_is_refused() -> None:
    with pytest.raises(ResidencyError, match=r"subnet-2.*nothing that is certain"):
        attest_cluster(SETTINGS, MADE, REQUEST, [])


def test_without_subnets_in_the_request_the_one_that_emr_took_is_checked() -> None:
    request = REQUEST | {"Instances": {}}
    assert attest_cluster(SETTINGS, MADE, request, SUBNETS)["verdict"] == "allowed"
    elsewhere = [SUBNETS[1] | {"AvailabilityZone": "us-east-1b"}]
    with pytest.raises(ResidencyError, match="subnet-2"):
        attest_cluster(SETTINGS, MADE, request, elsewhere)


def test_request_without_key_and_security_configuration_expects_none() -> None:
    bare = {
        name: value for name, value in REQUEST.items() if name not in {"LogEncryptionKmsKeyId", "SecurityConfiguration"}
    }
    made_bare = made(LogEncryptionKmsKeyId=None, SecurityConfiguration=None)
    assert attest_cluster(SETTINGS, made_bare, bare, SUBNETS)["verdict"] == "allowed"
    with pytest.raises(ResidencyError, match="SecurityConfiguration of the cluster is 'fruits'"):
        attest_cluster(SETTINGS, MADE, bare, SUBNETS)


def test_local_cluster_is_attested_as_local() -> None:
    record = attest_cluster(Settings(profile="local", aws_conn_id=None), {"Id": "j-2"}, {}, [])
    assert (record["profile"], record["cluster_id"], record["checks"]) == ("local", "j-2", [])
