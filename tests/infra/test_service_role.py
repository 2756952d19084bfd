"""The EMR service role, compared with AWS's managed policy for it."""

from __future__ import annotations

from typing import Any

from tests.infra.policies import allowed_actions, as_list, statements

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
"""Actions of the managed policy that the stack does not need: automatic scaling by custom rules (it has managed
scaling), clusters with several master nodes, security groups that EMR creates, capacity reservations."""


def test_service_role_has_only_actions_of_the_managed_policy(
    template: dict[str, Any], managed: list[dict[str, Any]]
) -> None:
    theirs = {action for one in managed for action in as_list(one["Action"])}
    ours = allowed_actions(template, "service")
    assert ours - theirs == set()
    assert theirs - ours == LEFT_OUT, (
        "AmazonEMRServicePolicy_v2 has changed: add the new actions to ServicePolicy, or to LEFT_OUT with a reason"
    )


def test_service_role_has_the_conditions_of_the_managed_policy(
    template: dict[str, Any], managed: list[dict[str, Any]]
) -> None:
    """Each statement has the condition of one in the managed policy, and no other actions and resource types."""
    for statement in statements(template, "ServicePolicy"):
        if statement["Sid"] in {"Describe", "DescribeVpcs", "PassNodesRole"}:
            continue
        assert any(_covers(theirs, statement) for theirs in managed), statement["Sid"]


def _covers(theirs: dict[str, Any], ours: dict[str, Any]) -> bool:
    kinds = {_kind(resource) for resource in as_list(theirs["Resource"])}
    return (
        set(ours["Action"]) <= set(as_list(theirs["Action"]))
        and ({_kind(resource) for resource in ours["Resource"]} <= kinds or kinds == {"*"})
        and _listed(theirs.get("Condition", {})) == _listed(ours.get("Condition", {}))
    )


def _kind(resource: str) -> str:
    return resource.rsplit(":", 1)[-1]


def _listed(condition: dict[str, Any]) -> dict[str, dict[str, list[str]]]:
    return {
        operator: {key: sorted(as_list(value)) for key, value in keys.items()} for operator, keys in condition.items()
    }
