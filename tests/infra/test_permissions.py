"""Permissions: the policies of Airflow, nodes and publisher, and those of the bucket and the key."""

from __future__ import annotations

import re
from typing import Any

import pytest

from include.lake.garbage import KEPT_OF_A_RUN
from tests.infra.policies import (
    ACCOUNT,
    BUCKET,
    REGION,
    decide,
    denies,
    load_erasure_template,
    statements,
)

NODES_ROLE = f"arn:aws:iam::{ACCOUNT}:role/fruit-features-nodes"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0"
CLUSTER = f"arn:aws:elasticmapreduce:{REGION}:{ACCOUNT}:cluster/j-1"
HERE = {"aws:RequestedRegion": REGION}
OWN = {"elasticmapreduce:ResourceTag/project": "fruit-features"}


def test_airflow_may_do_what_runs_need_with_its_own_clusters_only(template: dict[str, Any]) -> None:
    policy = statements(template, "AirflowPolicy")
    cases: list[tuple[Any, ...]] = [
        (True, "elasticmapreduce:RunJobFlow", "*", HERE | {"aws:RequestTag/project": "fruit-features"}),
        (False, "elasticmapreduce:RunJobFlow", "*", HERE),
        (
            False,
            "elasticmapreduce:RunJobFlow",
            "*",
            {"aws:RequestedRegion": "us-east-1", "aws:RequestTag/project": "fruit-features"},
        ),
        (True, "elasticmapreduce:TerminateJobFlows", CLUSTER, OWN),
        (False, "elasticmapreduce:TerminateJobFlows", CLUSTER, {"elasticmapreduce:ResourceTag/project": "other"}),
        (False, "elasticmapreduce:TerminateJobFlows", CLUSTER.replace(REGION, "us-east-1"), OWN),
        (False, "elasticmapreduce:DescribeCluster", CLUSTER, {}),
        (
            True,
            "iam:PassRole",
            NODES_ROLE,
            {"iam:PassedToService": "ec2.amazonaws.com"},
        ),
        (
            False,
            "iam:PassRole",
            NODES_ROLE,
            {"iam:PassedToService": "lambda.amazonaws.com"},
        ),
        (False, "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin", {"iam:PassedToService": "ec2.amazonaws.com"}),
        (True, "s3:PutObject", f"{BUCKET}/results/part-0.parquet", {}),
        (True, "s3:DeleteObject", f"{BUCKET}/results/part-0.parquet", {}),
        (True, "s3:PutObject", f"{BUCKET}/results.json", {}),
        (True, "s3:GetObject", f"{BUCKET}/results.json", {}),
        (True, "s3:PutObject", f"{BUCKET}/manifests/000001-x.json", {}),
        (True, "s3:DeleteObject", f"{BUCKET}/manifests/000001-x.json", {}),
        (True, "s3:GetObject", f"{BUCKET}/segments/x-00000/features.parquet", {}),
        (True, "s3:DeleteObject", f"{BUCKET}/segments/x-00000/features.parquet", {}),
        (True, "s3:AbortMultipartUpload", f"{BUCKET}/segments/x-00000/features.parquet", {}),
        (False, "s3:PutObject", f"{BUCKET}/segments/x-00000/features.parquet", {}),
        (True, "s3:DeleteObject", f"{BUCKET}/runs/x/pca/scores/part-0.parquet", {}),
        (True, "s3:DeleteObject", f"{BUCKET}/runs/x/listing.parquet", {}),
        (False, "s3:DeleteObject", f"{BUCKET}/runs/x/manifest.json", {}),
        (False, "s3:DeleteObject", f"{BUCKET}/current.json", {}),
        (False, "s3:DeleteObject", f"{BUCKET}/reports/run=x/report.json", {}),
        (True, "s3:GetObject", f"{BUCKET}/data/.not_loaded.json", {}),
        (True, "s3:GetObject", f"{BUCKET}/data/new/.not_loaded.json", {}),
        (False, "s3:DeleteObject", f"{BUCKET}/data/Kiwi/1.jpg", {}),
        (False, "s3:PutObject", f"{BUCKET}/models/current.json", {}),
        (False, "s3:GetObject", "arn:aws:s3:::another-bucket/results/x", {}),
        (
            True,
            "iam:PassRole",
            f"arn:aws:iam::{ACCOUNT}:role/fruit-features-emr-service",
            {"iam:PassedToService": "elasticmapreduce.amazonaws.com"},
        ),
        (
            False,
            "iam:PassRole",
            f"arn:aws:iam::{ACCOUNT}:role/fruit-features-emr-service",
            {"iam:PassedToService": "lambda.amazonaws.com"},
        ),
        (True, "elasticmapreduce:AddTags", CLUSTER, OWN),
        # RunJobFlow needs it for a cluster that does not exist yet
        (True, "elasticmapreduce:AddTags", CLUSTER.replace("j-1", "*"), {"aws:RequestTag/project": "fruit-features"}),
        (False, "elasticmapreduce:AddTags", CLUSTER, {"elasticmapreduce:ResourceTag/project": "other"}),
        (False, "elasticmapreduce:AddTags", CLUSTER, OWN | {"aws:RequestTag/project": "other"}),
        (False, "elasticmapreduce:AddTags", CLUSTER.replace(REGION, "us-east-1"), OWN),
        (True, "elasticmapreduce:ListClusters", "*", HERE),
        (True, "s3:ListBucketMultipartUploads", BUCKET, {}),
        (True, "s3:AbortMultipartUpload", f"{BUCKET}/runs/x/part", {}),
        (True, "s3:GetReplicationConfiguration", BUCKET, {}),
        (True, "s3:GetBucketLocation", BUCKET, {}),
        (True, "ec2:DescribeSubnets", "*", HERE),
        (True, "kms:DescribeKey", KEY, {}),
        (True, "s3:GetObject", f"{BUCKET}/data", {}),
        (False, "s3:GetObject", f"{BUCKET}/data/Kiwi/1.jpg", {}),
        (False, "s3:PutBucketPolicy", BUCKET, {}),
        (True, "kms:Decrypt", KEY, {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}),
        (False, "kms:Decrypt", KEY, {}),
        (False, "pricing:GetProducts", "*", {}),
    ]
    for allowed, action, resource, keys in cases:
        assert decide(policy, action, resource, keys) is allowed, (allowed, action, resource, keys)


def test_airflow_cannot_delete_what_stays_of_old_runs(template: dict[str, Any]) -> None:
    policy = statements(template, "AirflowPolicy")
    check_object_actions(policy, [(False, "s3:DeleteObject", f"runs/x/{name}") for name in sorted(KEPT_OF_A_RUN)])


def test_an_erasure_deletes_versions_and_neither_receipts_nor_models(template: dict[str, Any]) -> None:
    policy = statements(load_erasure_template(), "ErasurePolicy")
    for action in ("s3:DeleteObject", "s3:DeleteObjectVersion"):
        for path in ("erasures/denylist.json", "erasures/x.json", "models/0/model.tflite", "code/0/jobs.zip", "logs/x"):
            assert not decide(policy, action, f"{BUCKET}/{path}", {}), (action, path)
    for path in ("data/Kiwi/1.jpg", "segments/x/features.parquet", "runs/x/pca/model.npz", "erasures/x.plan.json"):
        assert decide(policy, "s3:DeleteObjectVersion", f"{BUCKET}/{path}", {}), path
    for name in ("AirflowPolicy", "NodesPolicy", "PublisherPolicy", "ServicePolicy"):
        assert not decide(statements(template, name), "s3:DeleteObjectVersion", f"{BUCKET}/data/Kiwi/1.jpg", {})
    assert not decide(policy, "s3:PutObject", f"{BUCKET}/data/Kiwi/1.jpg", {})


def test_nodes_read_inputs_and_write_their_run_only(template: dict[str, Any]) -> None:
    policy = statements(template, "NodesPolicy")
    cases = [
        (True, "s3:GetObject", "data/Kiwi/1.jpg"),
        (True, "s3:GetObject", "wheels/0/a.whl"),
        (True, "s3:PutObject", "runs/x/segments.json"),
        (True, "s3:GetObject", "runs/x/work.parquet"),
        (True, "s3:DeleteObject", "runs/x/staging/part-0.parquet"),
        (True, "s3:GetObject", "segments/x-00000/features.parquet"),
        (True, "s3:PutObject", "segments/x-00000/features.parquet"),
        (False, "s3:DeleteObject", "segments/x-00000/features.parquet"),
        (False, "s3:PutObject", "manifests/000001-x.json"),
        (False, "s3:PutObject", "results.json"),
        (True, "s3:PutObject", "logs/j-1/steps/s-1/stderr.gz"),
        (False, "s3:DeleteObject", "logs/j-1/steps/s-1/stderr.gz"),
        (False, "s3:PutObject", "data/Kiwi/1.jpg"),
        (False, "s3:PutObject", "models/current.json"),
        (False, "s3:PutObject", "code/0/featurize.py"),
        (False, "s3:PutObject", "results/part-0.parquet"),
        (False, "s3:PutObject", "current.json"),
        (False, "s3:GetObject", "security/certificates.zip"),
    ]
    check_object_actions(policy, cases)


def check_object_actions(policy: list[dict[str, Any]], cases: list[tuple[bool, str, str]]) -> None:
    """Check whether a policy allows each action on the object with each key."""
    for allowed, action, key in cases:
        assert decide(policy, action, f"{BUCKET}/{key}", {}) is allowed, (allowed, action, key)


def test_nodes_read_certificates_only_if_the_stack_has_its_own(template: dict[str, Any]) -> None:
    assert template["Resources"]["NodesCertificatesPolicy"]["Condition"] == "HasOwnCertificates"
    policy = statements(template, "NodesCertificatesPolicy")
    assert decide(policy, "s3:GetObject", f"{BUCKET}/security/certificates.zip", {})


def test_publisher_adds_artifacts_only(template: dict[str, Any]) -> None:
    policy = statements(template, "PublisherPolicy")
    cases = [
        (True, "s3:PutObject", "models/0/model.tflite"),
        (True, "s3:PutObject", "wheels/0/a.whl"),
        (False, "s3:PutObject", "results/part-0.parquet"),
        (False, "s3:GetObject", "data/Kiwi/1.jpg"),
        (False, "s3:DeleteObject", "models/0/model.tflite"),
    ]
    check_object_actions(policy, cases)


REQUEST = {
    "aws:SecureTransport": "true",
    "s3:TlsVersion": "1.3",
    "aws:PrincipalAccount": ACCOUNT,
    "aws:PrincipalIsAWSService": "false",
}


@pytest.mark.parametrize(
    ("change", "action", "expected"),
    [
        ({}, "s3:PutObject", []),
        ({"aws:SecureTransport": "false"}, "s3:GetObject", ["DenyWithoutTls"]),
        ({"s3:TlsVersion": "1.1"}, "s3:GetObject", ["DenyOldTls"]),
        ({"aws:PrincipalAccount": "999999999999"}, "s3:ListBucket", ["DenyOtherAccounts"]),
        ({"s3:x-amz-server-side-encryption-aws-kms-key-id": KEY}, "s3:PutObject", []),
        ({"s3:x-amz-server-side-encryption-aws-kms-key-id": KEY + "1"}, "s3:PutObject", ["DenyOtherKeys"]),
        ({"s3:x-amz-server-side-encryption": "AES256"}, "s3:PutObject", ["DenyOtherEncryption"]),
        ({"s3:x-amz-server-side-encryption": "aws:kms"}, "s3:PutObject", []),
        ({}, "s3:PutReplicationConfiguration", ["DenyReplication"]),
    ],
)
def test_policy_of_the_bucket_denies_what_identities_are_allowed(
    template: dict[str, Any], change: dict[str, str], action: str, expected: list[str]
) -> None:
    policy = statements(template, "BucketPolicy")
    bucket_actions = {"s3:ListBucket", "s3:PutReplicationConfiguration"}
    resource = BUCKET if action in bucket_actions else f"{BUCKET}/runs/x"
    assert denies(policy, action, resource, REQUEST | change) == expected
    assert all(statement["Effect"] == "Deny" for statement in policy), "only the policies of identities allow"


def test_lifecycle_expires_logs_only_and_aborts_old_uploads(template: dict[str, Any]) -> None:
    from include.settings.parameters import MAX_STEP_MINUTES

    bucket = template["Resources"]["Bucket"]
    rules = {rule["Id"]: rule for rule in bucket["Properties"]["LifecycleConfiguration"]["Rules"]}
    days = rules["abort-uploads"]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
    assert days * 24 * 60 > MAX_STEP_MINUTES, "uploads of running steps would be aborted"
    assert "Prefix" not in rules["abort-uploads"], "uploads anywhere"
    assert rules["expire-logs"]["Prefix"] == "logs/", "only logs expire"
    assert [name for name, rule in rules.items() if "ExpirationInDays" in rule] == ["expire-logs"]


def test_data_and_key_outlive_the_stack_unless_its_first_deployment_fails(template: dict[str, Any]) -> None:
    for name in ("Bucket", "Key"):
        resource = template["Resources"][name]
        assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain"), name


def test_emr_may_use_the_key_for_volumes(template: dict[str, Any]) -> None:
    """The actions that KMS documents for key users, without wildcards. Only the policy of the key allows them."""
    role = {"AWS": f"arn:aws:iam::{ACCOUNT}:role/fruit-features-emr-service"}
    own = [one for one in statements(template, "Key", document="KeyPolicy") if one["Principal"] == role]
    assert {action for one in own if "Condition" not in one for action in one["Action"]} == {
        "kms:Decrypt",
        "kms:DescribeKey",
        "kms:Encrypt",
        "kms:GenerateDataKey",
        "kms:GenerateDataKeyWithoutPlaintext",
        "kms:ReEncryptFrom",
        "kms:ReEncryptTo",
    }
    [grants] = [one for one in own if "Condition" in one]
    assert set(grants["Action"]) == {"kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"}
    assert grants["Condition"] == {"Bool": {"kms:GrantIsForAWSResource": "true"}}


def test_other_accounts_cannot_use_the_key(template: dict[str, Any]) -> None:
    for statement in statements(template, "Key", document="KeyPolicy"):
        if statement["Principal"] == {"AWS": "*"}:
            condition = statement["Condition"]
            assert condition["StringEquals"]["kms:CallerAccount"] == ACCOUNT
            roles = condition["ArnEquals"]["aws:PrincipalArn"]
            assert all(re.fullmatch(rf"arn:aws:iam::{ACCOUNT}:role/aws-service-role/[^*]+", role) for role in roles)
        else:
            assert ACCOUNT in statement["Principal"]["AWS"]
