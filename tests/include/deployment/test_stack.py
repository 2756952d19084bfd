"""From the stack's outputs to the DAG's settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError
from moto import mock_aws

from include.deployment.__main__ import main as run
from include.deployment.stack import FOR_PEOPLE, REQUIRED, StackError, as_environment, main, read_outputs, setting_name
from include.settings.deployment import Settings, read_settings
from tests.infra.moto_stack import deploy
from tests.infra.policies import ACCOUNT, REGION, STACK, load_template


@pytest.fixture(scope="module")
def aws() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.delenv("AWS_ENDPOINT_URL")
        yield


@pytest.fixture(scope="module")
def deployed(aws: None) -> dict[str, Any]:
    return deploy()


@pytest.fixture
def stack() -> dict[str, Any]:
    """The description of a stack, as DescribeStacks returns it; tests change its outputs."""
    values = {
        "Lake": "s3://fruit-features-123456789012",
        "ServiceRole": "fruit-features-emr-service",
        "JobFlowRole": "fruit-features-nodes",
        "SubnetIds": "subnet-1,subnet-2,subnet-3",
        "KmsKey": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0",
        "SecurityConfiguration": "fruit-features-0",
        "MasterSecurityGroup": "sg-1",
        "CoreSecurityGroup": "sg-2",
        "ServiceSecurityGroup": "sg-3",
        "ForAirflowPolicy": f"arn:aws:iam::{ACCOUNT}:policy/p",
    }
    return {
        "StackName": STACK,
        "StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{STACK}/0",
        "StackStatus": "CREATE_COMPLETE",
        "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in values.items()],
    }


def change(stack: dict[str, Any], key: str, value: str | None) -> dict[str, Any]:
    kept = [output for output in stack["Outputs"] if output["OutputKey"] != key]
    new = [] if value is None else [{"OutputKey": key, "OutputValue": value}]
    return stack | {"Outputs": kept + new}


@pytest.mark.slow
def test_printed_settings_are_read_without_a_problem(
    deployed: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    settings = read_settings(dict(line.split("=", 1) for line in lines))
    assert settings.lake_root == f"s3://{STACK}-{ACCOUNT}"
    assert len(settings.subnet_ids) == 3
    assert settings.job_flow_role == f"{STACK}-nodes"
    assert settings.kms_key is not None
    assert settings.kms_key.startswith(f"arn:aws:kms:{REGION}:")


@pytest.mark.slow
def test_variables_are_those_that_tasks_read(deployed: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--stack", STACK, "--format", "variables"]) == 0
    variables = json.loads(capsys.readouterr().out)
    from_variables = read_settings({}, variables.get)
    assert main(["--format", "env"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert from_variables == read_settings(dict(line.split("=", 1) for line in lines))
    assert from_variables != read_settings({})


def test_every_output_of_the_template_is_a_setting_or_for_people() -> None:
    outputs = set(load_template()["Outputs"])
    people = {name for name in outputs if name.startswith(FOR_PEOPLE)}
    assert outputs - people == set(REQUIRED), (
        "add the output to include.deployment.stack.REQUIRED, or the setting to the template"
    )
    settable = {item.name for item in fields(Settings) if not item.metadata["shapes_dag"]}
    assert {setting_name(name) for name in REQUIRED} <= settable


def test_outputs_for_people_are_comments_and_not_settings(stack: dict[str, Any]) -> None:
    text = as_environment(read_outputs(stack))
    assert f"# ForAirflowPolicy=arn:aws:iam::{ACCOUNT}:policy/p" in text
    assert "FRUITS_FOR" not in text


def test_missing_output_is_named(stack: dict[str, Any]) -> None:
    for key in REQUIRED:
        for value in (None, "", "  "):
            with pytest.raises(StackError, match=f"output {key} is missing"):
                read_outputs(change(stack, key, value))


def test_output_that_is_not_a_setting_is_named(stack: dict[str, Any]) -> None:
    with pytest.raises(StackError, match="output FruitBasket is not a setting of this version"):
        read_outputs(change(stack, "FruitBasket", "x"))


def test_key_of_another_region_is_refused(stack: dict[str, Any]) -> None:
    with pytest.raises(StackError, match=r"output KmsKey=.* is not in eu-west-3"):
        read_outputs(change(stack, "KmsKey", f"arn:aws:kms:us-east-1:{ACCOUNT}:key/0"))


def test_stack_in_a_region_that_is_not_allowed_is_refused(stack: dict[str, Any]) -> None:
    foreign = stack | {"StackId": stack["StackId"].replace(REGION, "us-east-1")}
    foreign = change(foreign, "KmsKey", f"arn:aws:kms:us-east-1:{ACCOUNT}:key/0")
    with pytest.raises(StackError, match="FRUITS_ALLOWED_REGIONS"):
        read_outputs(foreign)


def test_invalid_value_of_a_setting_is_named(stack: dict[str, Any]) -> None:
    with pytest.raises(StackError, match="FRUITS_LAKE='fruit-features': expected s3://"):
        read_outputs(change(stack, "Lake", "fruit-features"))


@pytest.mark.slow
def test_missing_stack_is_reported_with_its_region(aws: None, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["--stack", "no-such-stack"]) == 1
    assert "no stack 'no-such-stack' in eu-west-3" in caplog.text
    assert "docs/runbook.md" in caplog.text


@pytest.mark.slow
def test_stack_in_another_region_is_not_found(deployed: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    assert main(["--region", "eu-central-1"]) == 1
    assert f"no stack '{STACK}' in eu-central-1" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    "state", ["CREATE_IN_PROGRESS", "ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_FAILED", "DELETE_FAILED"]
)
def test_stack_that_is_not_complete_is_refused(
    deployed: dict[str, Any], state: str, caplog: pytest.LogCaptureFixture
) -> None:
    from moto.cloudformation.models import cloudformation_backends

    found = cloudformation_backends[ACCOUNT][REGION].get_stack(STACK)
    before, found.status = found.status, state
    try:
        assert main([]) == 1
    finally:
        found.status = before
    assert f"is {state}, expected one of CREATE_COMPLETE" in caplog.text


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "DescribeStacks"), "AccessDenied"),
        (NoCredentialsError(), "Unable to locate credentials"),
        (EndpointConnectionError(endpoint_url="https://cloudformation"), "Could not connect"),
    ],
)
@pytest.mark.slow
def test_error_of_aws_is_reported_without_a_traceback(
    aws: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, expected: str
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise error

    client = boto3.client("cloudformation", region_name=REGION)
    monkeypatch.setattr(client, "describe_stacks", refuse)
    monkeypatch.setattr(boto3, "client", lambda *_, **__: client)
    assert main([]) == 1
    assert "cannot be described in eu-west-3" in caplog.text
    assert expected in caplog.text


def test_unknown_format_is_refused() -> None:
    with pytest.raises(SystemExit):
        main(["--format", "yaml"])


def test_the_package_dispatches_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for command, flag in (("settings", "--stack"), ("mwaa", "--target")):
        with pytest.raises(SystemExit, match="0"):
            run([command, "--help"])
        assert flag in capsys.readouterr().out
