"""Turn the outputs of the CloudFormation stack (``infra/``) into the DAG's settings: ``make settings STACK=…``.

An output has the name of its setting (``SubnetIds``: ``FRUITS_SUBNET_IDS``). Outputs whose names begin with ``For`` are
for people, and are printed as comments. boto3 finds the AWS credentials.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from include.settings.deployment import Settings, SettingsError, environment_name, read_settings, variable_name

log = logging.getLogger(__name__)

STACK = "fruit-features"
REGION = "eu-west-3"

COMPLETE = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE")
"""States of a stack whose outputs are final (CloudFormation User Guide, "Stack status codes"). A stack that cleans up
after an update has its new outputs, but is refused until the clean-up has finished."""

FOR_PEOPLE = "For"

REQUIRED = (
    "Lake",
    "ServiceRole",
    "JobFlowRole",
    "SubnetIds",
    "KmsKey",
    "SecurityConfiguration",
    "MasterSecurityGroup",
    "CoreSecurityGroup",
    "ServiceSecurityGroup",
)
"""Outputs that a run needs. Without them it would use EMR's defaults for roles and network, and no encryption."""


class StackError(RuntimeError):
    """The stack's outputs cannot be read, or belong to another version of the template."""


@dataclass(frozen=True)
class Outputs:
    """The outputs of a stack.

    Attributes
    ----------
    settings : dict of str
        Value by setting (the name of its field in :class:`include.settings.deployment.Settings`).
    people : dict of (str, str)
        Value and description by name, of the outputs for people.
    """

    settings: dict[str, str]
    people: dict[str, tuple[str, str]]


def setting_name(output: str) -> str:
    """Return the setting of an output: ``SubnetIds`` is ``subnet_ids``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", output).lower()


def describe_stack(client: Any, stack: str) -> dict[str, Any]:
    """Return CloudFormation's description of a stack.

    Raises
    ------
    StackError
        If the client's region has no stack of that name, AWS refuses or does not answer, or the stack is not complete.
        The message gives the reason and the remedy.
    """
    region = client.meta.region_name
    try:
        found: dict[str, Any] = client.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            raise StackError(
                f"there is no stack {stack!r} in {region} of this account; expected the one that docs/runbook.md "
                "deploys. Name yours with STACK=…, and check that the credentials belong to the right account"
            ) from error
        raise StackError(f"the stack {stack!r} cannot be described in {region}: {error}") from error
    except BotoCoreError as error:
        raise StackError(f"the stack {stack!r} cannot be described in {region}: {error}") from error
    state = found["StackStatus"]
    if state not in COMPLETE:
        raise StackError(
            f"the stack {stack!r} is {state}, expected one of {', '.join(COMPLETE)}: wait for it, or list the "
            f"failed events with: aws cloudformation describe-stack-events --region {region} --stack-name {stack}"
        )
    return found


def read_outputs(stack: Mapping[str, Any]) -> Outputs:
    """Return a stack's outputs as settings.

    Raises
    ------
    StackError
        If an output is missing or empty, is not a setting of this version, belongs to another region than the stack, or
        is not a valid value of its setting.
    """
    name, region = stack["StackName"], stack["StackId"].split(":")[3]
    found = {output["OutputKey"]: output for output in stack.get("Outputs", [])}
    values = {key: str(output.get("OutputValue", "")).strip() for key, output in found.items()}
    people = {
        key: (values[key], found[key].get("Description", "")) for key in sorted(found) if key.startswith(FOR_PEOPLE)
    }
    known = {item.name for item in fields(Settings) if not item.metadata["shapes_dag"]}
    settings = {setting_name(key): value for key, value in values.items() if key not in people}
    problems = [f"its output {key} is missing" for key in REQUIRED if not values.get(key)]
    problems += [
        f"its output {key} is not a setting of this version"
        for key in sorted(set(values) - set(people))
        if setting_name(key) not in known
    ]
    problems += [
        f"its output {key}={value} is not in {region}"
        for key, value in sorted(values.items())
        if value.startswith("arn:") and value.split(":")[3] not in {"", region}
    ]
    if not problems:
        problems = _refused(settings, region)
    if problems:
        raise StackError(
            f"the stack {name!r}: {'; '.join(problems)}. Deploy infra/fruit-features.yaml of this version "
            "(docs/runbook.md), or use the project version that deployed the stack"
        )
    return Outputs(settings, people)


def _refused(settings: Mapping[str, str], region: str) -> list[str]:
    environ = {environment_name(name): value for name, value in settings.items()}
    try:
        read_settings(environ | {"FRUITS_REGION": region})
    except SettingsError as error:
        return error.problems
    return []


def as_environment(outputs: Outputs) -> str:
    """Return the settings as lines of an environment file, and the outputs for people as comments."""
    lines = [f"{environment_name(name)}={value}" for name, value in sorted(outputs.settings.items())]
    lines += [f"# {name}={value}  {description}" for name, (value, description) in outputs.people.items()]
    return "\n".join(lines)


def as_variables(outputs: Outputs) -> str:
    """Return the settings as JSON for ``airflow variables import``."""
    values = {variable_name(name): value for name, value in sorted(outputs.settings.items())}
    return json.dumps(values, indent=2)


FORMATS = {"env": as_environment, "variables": as_variables}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = read_options(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    import boto3

    try:
        client = boto3.client("cloudformation", region_name=options.region)
        outputs = read_outputs(describe_stack(client, options.stack))
    except (StackError, BotoCoreError) as error:
        log.error("%s", error)
        return 1
    sys.stdout.write(FORMATS[options.format](outputs) + "\n")
    return 0


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m include.deployment settings",
        description="Turn the outputs of the CloudFormation stack into the DAG's settings.",
        epilog="boto3 finds the AWS credentials: a profile, variables or a role. Needs cloudformation:DescribeStacks.",
    )
    parser.add_argument("--stack", default=STACK, help="the stack's name; %(default)s by default")
    parser.add_argument("--region", default=REGION, help="the stack's region; %(default)s by default")
    parser.add_argument(
        "--format", choices=sorted(FORMATS), default="env", help="lines of an environment file, or Airflow Variables"
    )
    return parser.parse_args(argv)
