"""The template, and AWS's own data about actions and about the EMR service role."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest

from tests.infra.policies import load_template


@pytest.fixture(scope="session")
def template() -> dict[str, Any]:
    return load_template()


@pytest.fixture(scope="session")
def known_actions() -> dict[str, dict[str, Any]]:
    """The actions of all services with their resource types: AWS's service authorization reference."""
    text = (resources.files("cfnlint.data.AdditionalSpecs") / "Policies.json").read_text()
    return {
        f"{service}:{action}": known
        for service, found in json.loads(text).items()
        for action, known in found["Actions"].items()
    }


@pytest.fixture(scope="session")
def managed() -> list[dict[str, Any]]:
    """The statements of AWS's managed policy for the EMR service role, from moto's copy (a large module)."""
    from moto.iam.aws_managed_policies import aws_managed_policies_data

    document = json.loads(aws_managed_policies_data)["AmazonEMRServicePolicy_v2"]["Document"]
    found: list[dict[str, Any]] = document["Statement"]
    return found
