"""The template, deployed to moto: the resources that the account has afterwards."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from tests.infra.moto_stack import deploy
from tests.infra.policies import ACCOUNT, REGION, STACK, allowed_actions, load_template, resolve

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning:moto")]


@pytest.fixture(scope="module")
def aws() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.delenv("AWS_ENDPOINT_URL")  # moto intercepts requests to the addresses of AWS
    with mock_aws():
        yield
    patch.undo()


@pytest.fixture(scope="module")
def stack(aws: None) -> dict[str, Any]:
    return deploy()


@pytest.fixture(scope="module")
def outputs(stack: dict[str, Any]) -> dict[str, str]:
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def client(service: str) -> Any:
    return boto3.client(service, region_name=REGION)


def test_stack_is_complete(stack: dict[str, Any]) -> None:
    assert stack["StackStatus"] == "CREATE_COMPLETE"


def test_bucket_is_encrypted_with_the_stack_s_key(outputs: dict[str, str]) -> None:
    bucket = outputs["Lake"].removeprefix("s3://")
    [rule] = client("s3").get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {
        "SSEAlgorithm": "aws:kms",
        "KMSMasterKeyID": outputs["KmsKey"],
    }


def test_s3_accepts_the_properties_of_the_bucket(outputs: dict[str, str]) -> None:
    """The test sends them to S3's API, since moto's CloudFormation reads only a bucket's name and encryption."""
    bucket, s3 = outputs["Lake"].removeprefix("s3://"), client("s3")
    template = load_template()
    properties = template["Resources"]["Bucket"]["Properties"]
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=properties["VersioningConfiguration"])
    s3.put_public_access_block(
        Bucket=bucket, PublicAccessBlockConfiguration=properties["PublicAccessBlockConfiguration"]
    )
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=properties["OwnershipControls"])
    policy = resolve(template["Resources"]["BucketPolicy"]["Properties"]["PolicyDocument"])
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    s3.put_bucket_lifecycle_configuration(
        Bucket=bucket,
        LifecycleConfiguration={"Rules": [_api_rule(rule) for rule in properties["LifecycleConfiguration"]["Rules"]]},
    )
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    assert set(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values()) == {True}
    assert json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"]) == policy
    rules = {rule["ID"]: rule for rule in s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]}
    assert rules["abort-uploads"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 2}
    assert rules["expire-logs"]["Expiration"] == {"Days": 90}


def _api_rule(rule: dict[str, Any]) -> dict[str, Any]:
    """Convert a lifecycle rule from CloudFormation's form to that of S3's API, with the parameters' defaults."""
    defaults = {"KeepOldVersionsDays": 30, "KeepLogsDays": 90}
    found = {"ID": rule["Id"], "Status": rule["Status"], "Filter": {"Prefix": rule.get("Prefix", "")}}
    if "AbortIncompleteMultipartUpload" in rule:
        found["AbortIncompleteMultipartUpload"] = rule["AbortIncompleteMultipartUpload"]
    if "NoncurrentVersionExpiration" in rule:
        days = defaults[rule["NoncurrentVersionExpiration"]["NoncurrentDays"]["Ref"]]
        found["NoncurrentVersionExpiration"] = {"NoncurrentDays": days}
        found["Expiration"] = {"ExpiredObjectDeleteMarker": rule["ExpiredObjectDeleteMarker"]}
    if "ExpirationInDays" in rule:
        found["Expiration"] = {"Days": defaults[rule["ExpirationInDays"]["Ref"]]}
    return found


def test_key_rotates_and_has_its_alias(outputs: dict[str, str]) -> None:
    kms = client("kms")
    assert kms.get_key_rotation_status(KeyId=outputs["KmsKey"])["KeyRotationEnabled"] is True
    aliases = {alias["AliasName"]: alias.get("TargetKeyId") for alias in kms.list_aliases()["Aliases"]}
    assert outputs["KmsKey"].endswith(str(aliases[f"alias/{STACK}"]))


def test_roles_have_the_tested_policies(outputs: dict[str, str]) -> None:
    iam, template = client("iam"), load_template()
    for role, principal in {"emr-service": "service", "nodes": "nodes"}.items():
        attached = iam.list_attached_role_policies(RoleName=f"{STACK}-{role}")["AttachedPolicies"]
        assert len(attached) == 1
        found = _actions(iam, attached[0]["PolicyArn"])
        assert found <= allowed_actions(template, principal)
        assert iam.list_role_policies(RoleName=f"{STACK}-{role}")["PolicyNames"] == []
    assert _actions(iam, outputs["ForAirflowPolicy"]) == allowed_actions(template, "airflow")
    assert _actions(iam, outputs["ForPublisherPolicy"]) == allowed_actions(template, "publisher")


def _actions(iam: Any, arn: str) -> set[str]:
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
    found = set()
    for statement in document["Statement"]:
        actions = statement["Action"]
        found |= set(actions if isinstance(actions, list) else [actions])
    return found


def test_instance_profile_holds_the_nodes_role(outputs: dict[str, str]) -> None:
    profile = client("iam").get_instance_profile(InstanceProfileName=outputs["JobFlowRole"])["InstanceProfile"]
    assert [role["RoleName"] for role in profile["Roles"]] == [outputs["JobFlowRole"]]


def test_subnets_are_private_and_in_three_zones(outputs: dict[str, str]) -> None:
    ec2 = client("ec2")
    ids = outputs["SubnetIds"].split(",")
    subnets = ec2.describe_subnets(SubnetIds=ids)["Subnets"]
    assert {subnet["AvailabilityZone"] for subnet in subnets} == {f"{REGION}{zone}" for zone in "abc"}
    assert not any(subnet["MapPublicIpOnLaunch"] for subnet in subnets)
    tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [subnets[0]["VpcId"]]}])["RouteTables"]
    gateways = {route.get("GatewayId") or str(route) for table in tables for route in table["Routes"]}
    assert {name.partition("-")[0] for name in gateways} == {"local", "vpce"}, "neither internet gateway nor NAT"


def test_security_groups_are_open_to_each_other_only(outputs: dict[str, str]) -> None:
    names = ["MasterSecurityGroup", "CoreSecurityGroup", "ServiceSecurityGroup"]
    groups = client("ec2").describe_security_groups(GroupIds=[outputs[name] for name in names])["SecurityGroups"]
    assert len(groups) == 3
    for group in groups:
        for rule in group["IpPermissions"]:
            assert {found["CidrIp"] for found in rule["IpRanges"]} <= {"10.64.0.0/20"}
            assert rule["Ipv6Ranges"] == []
        tags = {tag["Key"]: tag["Value"] for tag in group["Tags"]}
        assert tags["for-use-with-amazon-emr-managed-policies"] == "true"
        assert tags["project"] == "fruit-features"


def test_vpc_endpoints_are_those_of_s3_and_kms(stack: dict[str, Any]) -> None:
    [vpc] = client("ec2").describe_vpcs(Filters=[{"Name": "tag:Name", "Values": [STACK]}])["Vpcs"]
    filters = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
    endpoints = client("ec2").describe_vpc_endpoints(Filters=filters)["VpcEndpoints"]
    found = {endpoint["ServiceName"]: endpoint["VpcEndpointType"] for endpoint in endpoints}
    assert found == {f"com.amazonaws.{REGION}.s3": "Gateway", f"com.amazonaws.{REGION}.kms": "Interface"}


def test_security_configuration_encrypts_everything_and_requires_imdsv2(outputs: dict[str, str]) -> None:
    emr = client("emr")
    found = emr.describe_security_configuration(Name=outputs["SecurityConfiguration"])["SecurityConfiguration"]
    configuration = ast.literal_eval(found)  # moto answers with the repr of a dict, not with JSON
    encryption = configuration["EncryptionConfiguration"]
    rest = encryption["AtRestEncryptionConfiguration"]
    assert encryption["EnableAtRestEncryption"] is True
    assert rest["S3EncryptionConfiguration"] == {"EncryptionMode": "SSE-KMS", "AwsKmsKey": outputs["KmsKey"]}
    assert rest["LocalDiskEncryptionConfiguration"]["EnableEbsEncryption"] is True
    assert encryption["EnableInTransitEncryption"] is True
    assert encryption["InTransitEncryptionConfiguration"] == {
        "TLSCertificateConfiguration": {"CertificateProviderType": "EMR"}
    }
    assert configuration["InstanceMetadataServiceConfiguration"]["MinimumInstanceMetadataServiceVersion"] == 2


def test_parameters_change_the_created_resources(aws: None) -> None:
    found = deploy(
        "other",
        KmsEndpoint="false",
        TransitCertificates="PEM",
        AirflowPrincipal=f"arn:aws:iam::{ACCOUNT}:role/airflow",
    )
    outputs = {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}
    [vpc] = client("ec2").describe_vpcs(Filters=[{"Name": "tag:Name", "Values": ["other"]}])["Vpcs"]
    endpoints = client("ec2").describe_vpc_endpoints(Filters=[{"Name": "vpc-id", "Values": [vpc["VpcId"]]}])
    assert [endpoint["VpcEndpointType"] for endpoint in endpoints["VpcEndpoints"]] == ["Gateway"]
    attached = client("iam").list_attached_role_policies(RoleName="other-nodes")["AttachedPolicies"]
    assert len(attached) == 2, "the nodes read the certificates"
    assert outputs["ForAirflowRole"].endswith(":role/other-airflow")


def test_without_a_principal_airflow_has_no_role(stack: dict[str, Any]) -> None:
    with pytest.raises(ClientError, match="NoSuchEntity"):
        client("iam").get_role(RoleName=f"{STACK}-airflow")
