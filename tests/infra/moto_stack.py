"""The template, deployed into moto: without what moto's CloudFormation cannot take, each with its reason."""

from __future__ import annotations

import json
import warnings
from typing import Any

import boto3

from tests.infra.policies import REGION, STACK, load_template

UNKNOWN_TO_MOTO = {"AWS::S3::BucketPolicy", "AWS::EC2::SecurityGroupEgress", "AWS::Budgets::Budget"}
"""Types that moto 5.2.5 passes over with a warning; tests/infra reads them in the template."""

PREFIX_LIST = "com.amazonaws.eu-west-3.s3"


def body() -> str:
    """Return the template as moto can take it."""
    template = load_template()
    # moto reads a key's tags as KMS's API has them (TagKey), not as CloudFormation has them (Key), and fails.
    del template["Resources"]["Key"]["Properties"]["Tags"]
    return json.dumps(template)


def deploy(stack: str = STACK, **changes: str) -> dict[str, Any]:
    """Make the stack, and return what CloudFormation tells of it."""
    lists = boto3.client("ec2", region_name=REGION).describe_managed_prefix_lists()["PrefixLists"]
    [prefix_list] = [found["PrefixListId"] for found in lists if found["PrefixListName"] == PREFIX_LIST]
    parameters = {"AlertEmail": "data@example.org", "S3PrefixList": prefix_list} | changes
    client = boto3.client("cloudformation", region_name=REGION)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.create_stack(
            StackName=stack,
            TemplateBody=body(),
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
    passed_over = {str(warning.message).split()[3] for warning in caught if "not supported" in str(warning.message)}
    assert passed_over == UNKNOWN_TO_MOTO, "tell in infra/README.md which types moto does not know"
    found: dict[str, Any] = client.describe_stacks(StackName=stack)["Stacks"][0]
    return found
