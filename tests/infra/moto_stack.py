"""Deploy the template to moto, without the parts that moto's CloudFormation does not support."""

from __future__ import annotations

import json
import warnings
from typing import Any

import boto3

from tests.infra.policies import REGION, STACK, load_template

UNSUPPORTED_BY_MOTO = {"AWS::S3::BucketPolicy", "AWS::EC2::SecurityGroupEgress", "AWS::Budgets::Budget"}
"""Types that moto 5.2.5 skips with a warning; tests/infra checks them in the template."""

PREFIX_LIST = "com.amazonaws.eu-west-3.s3"


def template_body() -> str:
    """Return the template in the form that moto accepts."""
    template = load_template()
    # moto expects a key's tags in the form of KMS's API (TagKey) and fails on that of CloudFormation (Key).
    del template["Resources"]["Key"]["Properties"]["Tags"]
    return json.dumps(template)


def deploy(stack: str = STACK, **changes: str) -> dict[str, Any]:
    """Create the stack and return its description (DescribeStacks)."""
    lists = boto3.client("ec2", region_name=REGION).describe_managed_prefix_lists()["PrefixLists"]
    [prefix_list] = [found["PrefixListId"] for found in lists if found["PrefixListName"] == PREFIX_LIST]
    parameters = {"AlertEmail": "data@example.org", "S3PrefixList": prefix_list} | changes
    client = boto3.client("cloudformation", region_name=REGION)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.create_stack(
            StackName=stack,
            TemplateBody=template_body(),
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
    skipped = {str(warning.message).split()[3] for warning in caught if "not supported" in str(warning.message)}
    assert skipped == UNSUPPORTED_BY_MOTO, "update the types that moto does not support, here and in infra/README.md"
    found: dict[str, Any] = client.describe_stacks(StackName=stack)["Stacks"][0]
    return found
