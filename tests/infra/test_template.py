"""The CloudFormation template: permissions, regions, parameters and size limits."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from tests.infra.policies import (
    ACCOUNT,
    PRINCIPALS,
    REGION,
    ROOT,
    TEMPLATE,
    all_documents,
    allowed_actions,
    of_type,
    resolve,
    statements,
)

ACTIONS = ROOT / "infra" / "actions.yaml"


@pytest.mark.slow
def test_cfn_lint_finds_nothing() -> None:
    command = [
        sys.executable,
        "-c",
        "from cfnlint.runner import main; main()",
        "--regions",
        REGION,
        "--",
        str(TEMPLATE),
        str(TEMPLATE.with_name("erasure.yaml")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("principal", ["airflow", "nodes", "publisher"])
def test_allowed_actions_are_the_declared_actions(template: dict[str, Any], principal: str) -> None:
    declared = set(yaml.safe_load(ACTIONS.read_text())[principal])
    allowed = allowed_actions(template, principal)
    assert allowed - declared == set(), f"infra/actions.yaml does not declare them for {principal}: remove them"
    assert declared - allowed == set(), f"{TEMPLATE.name} does not allow them for {principal}"


def test_every_identity_policy_belongs_to_a_tested_principal(template: dict[str, Any]) -> None:
    tested = {name for names in PRINCIPALS.values() for name in names}
    assert set(of_type(template, "AWS::IAM::ManagedPolicy")) == tested
    assert not of_type(template, "AWS::IAM::Policy")
    assert not any("Policies" in role for role in of_type(template, "AWS::IAM::Role").values())


def test_no_action_is_allowed_by_wildcard(template: dict[str, Any]) -> None:
    for name, document in all_documents(template).items():
        for statement in document:
            assert "NotAction" not in statement
            if statement["Effect"] == "Allow":
                assert not [action for action in statement["Action"] if "*" in action], f"{name}/{statement['Sid']}"


def test_every_action_exists(template: dict[str, Any], known_actions: dict[str, Any]) -> None:
    for name, document in all_documents(template).items():
        for action in {action for statement in document for action in statement["Action"]} - {"s3:*"}:
            service, _, verb = action.partition(":")
            assert f"{service}:{verb.lower()}" in known_actions, f"{name}: AWS knows no action {action}"


@pytest.mark.parametrize("principal", sorted(PRINCIPALS))
def test_resource_wildcards_have_a_condition_and_only_actions_without_resource_types(
    template: dict[str, Any], known_actions: dict[str, Any], principal: str
) -> None:
    for statement in statements(template, *PRINCIPALS[principal]):
        if statement["Resource"] != ["*"]:
            continue
        for action in statement["Action"]:
            service, _, verb = action.partition(":")
            assert not known_actions[f"{service}:{verb.lower()}"].get("Resources"), f"{action} takes resources"
        assert statement.get("Condition") or statement["Action"] == ["pricing:GetProducts"], statement["Sid"]


def test_policies_are_within_the_size_limit_of_iam(template: dict[str, Any]) -> None:
    """6144 characters without white space (IAM and STS quotas); a stack's name may have 20 characters."""
    for name, properties in of_type(template, "AWS::IAM::ManagedPolicy").items():
        text = json.dumps(resolve(properties["PolicyDocument"]), separators=(",", ":"))
        assert len(text) <= 6144 - 100, name


def test_template_is_within_the_size_limit_of_a_request() -> None:
    """51,200 bytes (CloudFormation quotas). A larger template must be in a bucket, but the stack creates the bucket."""
    assert TEMPLATE.stat().st_size <= 51_200 - 200


def test_other_regions_are_refused(template: dict[str, Any]) -> None:
    [assertion] = template["Rules"]["EuropeOnly"]["Assertions"]
    assert assertion["Assert"] == {"Fn::Equals": [{"Ref": "AWS::Region"}, "eu-west-3"]}


def test_role_and_instance_profile_have_the_same_name_as_emr_requires(template: dict[str, Any]) -> None:
    found = template["Resources"]
    role, profile = found["NodesRole"]["Properties"], found["NodesProfile"]["Properties"]
    assert role["RoleName"] == profile["InstanceProfileName"]


def test_emr_assumes_its_role_for_clusters_of_this_account_and_region_only(template: dict[str, Any]) -> None:
    [trust] = resolve(template["Resources"]["ServiceRole"]["Properties"]["AssumeRolePolicyDocument"])["Statement"]
    assert trust["Condition"] == {
        "StringEquals": {"aws:SourceAccount": ACCOUNT},
        "ArnLike": {"aws:SourceArn": f"arn:aws:elasticmapreduce:{REGION}:{ACCOUNT}:*"},
    }


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("AlertEmail", ["data@example.org"], ["", "data", "a b@example.org"]),
        ("AirflowPrincipal", ["", f"arn:aws:iam::{ACCOUNT}:role/airflow"], ["*", "arn:aws:iam::*:role/x", "airflow"]),
        ("DataFolder", ["data", "photos/incoming"], ["", "/data", "data/", "*", "data/*"]),
        ("S3PrefixList", ["pl-0123abcd"], ["", "pl-", "0.0.0.0/0"]),
        ("VpcCidr", ["10.64.0.0/20"], ["0.0.0.0/0", "8.8.8.0/20", "10.0.0.0/8"]),
        ("SubnetCidrA", ["10.64.0.0/23"], ["0.0.0.0/0", "10.64.0.0/28"]),
    ],
)
def test_parameters_refuse_invalid_values(template: dict[str, Any], name: str, good: list[str], bad: list[str]) -> None:
    pattern = re.compile(template["Parameters"][name]["AllowedPattern"])
    assert all(pattern.fullmatch(value) for value in good)
    assert not any(pattern.fullmatch(value) for value in bad)


def test_every_parameter_has_a_group_a_description_and_a_constraint(template: dict[str, Any]) -> None:
    grouped = [
        name
        for group in template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
        for name in group["Parameters"]
    ]
    assert sorted(grouped) == sorted(template["Parameters"])
    for name, parameter in template["Parameters"].items():
        assert parameter["Description"], name
        assert {"AllowedPattern", "AllowedValues", "MinValue"} & set(parameter), name
