"""The template's policies, with references resolved, and whether they allow a request.

It implements the part of the IAM User Guide, "Policy evaluation logic", that the template needs: an explicit deny
overrides an allow, a request needs an allow, all conditions must hold. An unsupported condition operator is an error.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cfnlint.decode import cfn_yaml

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "infra" / "fruit-features.yaml"
ACCOUNT, REGION, STACK = "123456789012", "eu-west-3", "fruit-features"
BUCKET = f"arn:aws:s3:::{STACK}-{ACCOUNT}"

PRINCIPALS = {
    "airflow": ["AirflowPolicy"],
    "nodes": ["NodesPolicy", "NodesCertificatesPolicy"],
    "publisher": ["PublisherPolicy"],
    "service": ["ServicePolicy"],
}

_REFERENCES = {
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::AccountId": ACCOUNT,
    "AWS::StackName": STACK,
    "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{STACK}/0",
    "DataFolder": "data",
    "Bucket": f"{STACK}-{ACCOUNT}",
    "Bucket.Arn": BUCKET,
    "KeyArn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0",
    "Key.Arn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0",
    "NodesRole.Arn": f"arn:aws:iam::{ACCOUNT}:role/{STACK}-nodes",
    "ServiceRole.Arn": f"arn:aws:iam::{ACCOUNT}:role/{STACK}-emr-service",
}


def load_template() -> dict[str, Any]:
    template: dict[str, Any] = cfn_yaml.load(str(TEMPLATE))
    return template


def load_erasure_template() -> dict[str, Any]:
    template: dict[str, Any] = cfn_yaml.load(str(ROOT / "infra" / "erasure.yaml"))
    return template


def resolve(value: Any) -> Any:
    """Return a part of the template with its references replaced; an unknown reference is an error."""
    if isinstance(value, list):
        return [resolve(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"Ref"}:
        return _REFERENCES[value["Ref"]]
    if set(value) == {"Fn::GetAtt"}:
        return _REFERENCES[".".join(value["Fn::GetAtt"])]
    if set(value) == {"Fn::Sub"}:
        return re.sub(r"\$\{([^}]+)\}", lambda match: _REFERENCES[match[1]], value["Fn::Sub"])
    return {key: resolve(item) for key, item in value.items()}


def statements(template: Mapping[str, Any], *names: str, document: str = "PolicyDocument") -> list[dict[str, Any]]:
    """Return the statements of the policies of some resources, with Action and Resource as lists."""
    found = []
    for name in names:
        for statement in resolve(template["Resources"][name]["Properties"][document])["Statement"]:
            found.append(statement | {key: as_list(statement[key]) for key in ("Action", "Resource")})
    return found


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def allowed_actions(template: Mapping[str, Any], principal: str) -> set[str]:
    return {action for one in statements(template, *PRINCIPALS[principal]) for action in one["Action"]}


def decide(policy: list[dict[str, Any]], action: str, resource: str, keys: Mapping[str, str]) -> bool:
    """Return whether statements allow an action on a resource, in a request with these condition keys."""
    found = {one["Effect"] for one in policy if _applies(one, action, resource, keys)}
    return found == {"Allow"}


def denies(policy: list[dict[str, Any]], action: str, resource: str, keys: Mapping[str, str]) -> list[str]:
    """Return the names of the statements that deny a request."""
    return [one["Sid"] for one in policy if one["Effect"] == "Deny" and _applies(one, action, resource, keys)]


def _applies(statement: dict[str, Any], action: str, resource: str, keys: Mapping[str, str]) -> bool:
    return (
        any(fnmatch.fnmatchcase(action.lower(), pattern.lower()) for pattern in statement["Action"])
        and any(fnmatch.fnmatchcase(resource, pattern) for pattern in statement["Resource"])
        and all(
            _holds(operator, keys.get(key), as_list(expected))
            for operator, wanted in statement.get("Condition", {}).items()
            for key, expected in wanted.items()
        )
    )


def _holds(operator: str, value: str | None, expected: list[str]) -> bool:
    if operator == "Null":
        return expected == [str(value is None).lower()]
    if value is None:
        # A negated operator holds for a missing key (IAM User Guide, condition operators).
        return operator.endswith("IfExists") or operator.startswith("StringNot")
    match operator.removesuffix("IfExists"):
        case "StringEquals" | "Bool" | "ArnEquals":
            return value in expected
        case "StringNotEquals":
            return value not in expected
        case "ArnLike" | "StringLike":
            return any(fnmatch.fnmatchcase(value, pattern) for pattern in expected)
        case "NumericLessThan":
            return float(value) < float(expected[0])
    raise ValueError(f"tests/infra/policies.py does not support the condition operator {operator}")


def of_type(template: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {name: item["Properties"] for name, item in template["Resources"].items() if item["Type"] == kind}


def all_documents(template: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the statements of every policy of the template: of identities, the key, the bucket and the endpoints."""
    kinds = {
        "AWS::IAM::ManagedPolicy": "PolicyDocument",
        "AWS::KMS::Key": "KeyPolicy",
        "AWS::S3::BucketPolicy": "PolicyDocument",
        "AWS::EC2::VPCEndpoint": "PolicyDocument",
    }
    return {
        name: statements(template, name, document=kinds[item["Type"]])
        for name, item in template["Resources"].items()
        if item["Type"] in kinds
    }
