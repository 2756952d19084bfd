"""The EMR service role, held against AWS's own policy for it."""

from __future__ import annotations

from typing import Any

from tests.infra.policies import (
    allowed_actions,
    statements,
)

LEFT_OUT = {
    "application-autoscaling:DeleteScalingPolicy",
    "application-autoscaling:DeregisterScalableTarget",
    "application-autoscaling:DescribeScalableTargets",
    "application-autoscaling:DescribeScalingPolicies",
    "application-autoscaling:PutScalingPolicy",
    "application-autoscaling:RegisterScalableTarget",
    "cloudwatch:DeleteAlarms",
    "cloudwatch:DescribeAlarms",
    "cloudwatch:PutMetricAlarm",
    "ec2:CreatePlacementGroup",
    "ec2:CreateSecurityGroup",
    "ec2:DeletePlacementGroup",
    "resource-groups:ListGroupResources",
}
"""Of AWS's own policy: automatic scaling by custom rules (ours is managed scaling), clusters with several master nodes,
security groups that EMR would make (ours are given), and capacity reservations."""


def test_service_role_does_nothing_that_aws_own_policy_does_not(
    template: dict[str, Any], managed: list[dict[str, Any]]
) -> None:
    theirs = {action for one in managed for action in _many(one["Action"])}
    ours = allowed_actions(template, "service")
    assert ours - theirs == set()
    assert theirs - ours == LEFT_OUT, (
        "AmazonEMRServicePolicy_v2 has changed: add what is new to ServicePolicy, or to LEFT_OUT with its reason"
    )


def test_service_role_acts_under_the_same_conditions_as_in_aws_own_policy(
    template: dict[str, Any], managed: list[dict[str, Any]]
) -> None:
    """Each of our statements is one of theirs: its actions on its kinds of resources, under no weaker condition."""
    for statement in statements(template, "ServicePolicy"):
        if statement["Sid"] in {"Describe", "DescribeVpcs", "PassNodesRole"}:
            continue
        assert any(_covers(theirs, statement) for theirs in managed), statement["Sid"]


def _covers(theirs: dict[str, Any], ours: dict[str, Any]) -> bool:
    kinds = {_kind(resource) for resource in _many(theirs["Resource"])}
    return (
        set(ours["Action"]) <= set(_many(theirs["Action"]))
        and ({_kind(resource) for resource in ours["Resource"]} <= kinds or kinds == {"*"})
        and _listed(theirs.get("Condition", {})) == _listed(ours.get("Condition", {}))
    )


def _kind(resource: str) -> str:
    return resource.rsplit(":", 1)[-1]


def _listed(condition: dict[str, Any]) -> dict[str, dict[str, list[str]]]:
    return {
        operator: {key: sorted(_many(value)) for key, value in keys.items()} for operator, keys in condition.items()
    }


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
