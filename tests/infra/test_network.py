"""The network: no route to the internet, and the rules of EMR's security groups."""

from __future__ import annotations

from typing import Any

from tests.infra.policies import (
    ACCOUNT,
    REGION,
    TEMPLATE,
    allowed_actions,
    decide,
    of_type,
    statements,
)


def test_nothing_reaches_the_internet(template: dict[str, Any]) -> None:
    text = TEMPLATE.read_text(encoding="utf-8")
    code = "\n".join(line.partition("#")[0] for line in text.splitlines())
    assert "0.0.0.0/0" not in code
    assert "::/0" not in code
    kinds = {item["Type"] for item in template["Resources"].values()}
    joined = of_type(template, "AWS::EC2::SubnetRouteTableAssociation").values()
    assert {(one["SubnetId"]["Ref"], one["RouteTableId"]["Ref"]) for one in joined} == {
        (subnet, "RouteTable") for subnet in of_type(template, "AWS::EC2::Subnet")
    }
    assert not kinds & {"AWS::EC2::InternetGateway", "AWS::EC2::NatGateway", "AWS::EC2::EIP", "AWS::EC2::Route"}


def test_s3_endpoint_allows_the_actions_of_the_nodes_and_the_buckets_of_emr(template: dict[str, Any]) -> None:
    """EMR Management Guide, "Sample policies for private subnets that access Amazon S3", for EMR 7 and EMR Spark 8."""
    policy = statements(template, "S3Endpoint")
    own = {action for one in policy if one["Sid"].startswith("Own") for action in one["Action"]}
    assert own == {action for action in allowed_actions(template, "nodes") if action.startswith("s3:")}
    for bucket in [
        f"al2023-repos-{REGION}-de612dc2",
        f"repo.{REGION}.emr.amazonaws.com",
        f"aws157-instance-data-0-prod-{REGION}",
        f"aws157-instance-data-1-prod-{REGION}",
    ]:
        assert decide(policy, "s3:GetObject", f"arn:aws:s3:::{bucket}/x", {})
        assert not decide(policy, "s3:PutObject", f"arn:aws:s3:::{bucket}/x", {})
    assert decide(policy, "s3:PutObject", f"arn:aws:s3:::aws157-logs-prod-{REGION}/x", {})
    assert not decide(policy, "s3:PutObject", "arn:aws:s3:::a-bucket-of-mine/x", {"aws:PrincipalAccount": ACCOUNT})


OUTBOUND = {
    # EMR Management Guide, "Working with Amazon EMR-managed security groups", minimum outbound rules: group, to, port.
    ("MasterGroup", "S3", "0-65535"),
    ("MasterGroup", "MasterGroup", "all"),
    ("MasterGroup", "CoreGroup", "all"),
    ("MasterGroup", "ServiceGroup", "443"),
    ("MasterGroup", "ServiceGroup", "9443"),
    ("CoreGroup", "S3", "0-65535"),
    ("CoreGroup", "MasterGroup", "all"),
    ("CoreGroup", "CoreGroup", "all"),
    ("CoreGroup", "ServiceGroup", "443"),
    ("CoreGroup", "ServiceGroup", "9443"),
    ("ServiceGroup", "MasterGroup", "8443"),
    ("ServiceGroup", "CoreGroup", "8443"),
    # Not in EMR's list: the endpoint of KMS, which opens no connection.
    ("MasterGroup", "KmsEndpointGroup", "443"),
    ("CoreGroup", "KmsEndpointGroup", "443"),
    ("KmsEndpointGroup", "127.0.0.1/32", "443"),
}


def test_outbound_rules_are_the_minimum_that_emr_names(template: dict[str, Any]) -> None:
    for name, group in of_type(template, "AWS::EC2::SecurityGroup").items():
        assert group["SecurityGroupEgress"], f"{name}: without a rule EC2 adds one that allows all"
    found = {(group, _destination(rule), _ports(rule)) for group, rule in _rules(template, "SecurityGroupEgress")}
    assert found == OUTBOUND


INBOUND = {
    # Same page: group, from, protocol and port.
    *(
        (group, other, f"{protocol}")
        for group in ("MasterGroup", "CoreGroup")
        for other in ("MasterGroup", "CoreGroup")
        for protocol in ("tcp 0-65535", "udp 0-65535", "icmp -1")
    ),
    ("MasterGroup", "ServiceGroup", "tcp 8443"),
    ("CoreGroup", "ServiceGroup", "tcp 8443"),
    ("ServiceGroup", "MasterGroup", "tcp 9443"),
    ("ServiceGroup", "VpcCidr", "tcp 443"),
    ("KmsEndpointGroup", "MasterGroup", "tcp 443"),
    ("KmsEndpointGroup", "CoreGroup", "tcp 443"),
}


def test_inbound_rules_are_those_of_emr_managed_groups(template: dict[str, Any]) -> None:
    rules = _rules(template, "SecurityGroupIngress")
    assert {(group, _source(rule), f"{rule['IpProtocol']} {_ports(rule)}") for group, rule in rules} == INBOUND


def _rules(template: dict[str, Any], kind: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the rules that are in security groups and those that are resources, each with the name of its group."""
    groups = of_type(template, "AWS::EC2::SecurityGroup")
    in_groups = [(name, rule) for name, group in groups.items() for rule in group.get(kind, [])]
    return in_groups + [(_group(rule["GroupId"]), rule) for rule in of_type(template, f"AWS::EC2::{kind}").values()]


def _group(reference: dict[str, Any]) -> str:
    return str(reference["Fn::GetAtt"][0])


def _destination(rule: dict[str, Any]) -> str:
    if "DestinationPrefixListId" in rule:
        assert rule["DestinationPrefixListId"] == {"Ref": "S3PrefixList"}
        return "S3"
    return str(rule["CidrIp"]) if "CidrIp" in rule else _group(rule["DestinationSecurityGroupId"])


def _source(rule: dict[str, Any]) -> str:
    return str(rule["CidrIp"]["Ref"]) if "CidrIp" in rule else _group(rule["SourceSecurityGroupId"])


def _ports(rule: dict[str, Any]) -> str:
    if str(rule["IpProtocol"]) == "-1":
        return "all"
    first, last = rule["FromPort"], rule["ToPort"]
    return str(first) if first == last else f"{first}-{last}"


def test_network_resources_have_the_tag_that_the_policy_of_emr_requires(template: dict[str, Any]) -> None:
    names = ["Vpc", "SubnetA", "SubnetB", "SubnetC", "MasterGroup", "CoreGroup", "ServiceGroup"]
    for name in names:
        tags = {tag["Key"]: tag["Value"] for tag in template["Resources"][name]["Properties"]["Tags"]}
        assert tags["for-use-with-amazon-emr-managed-policies"] == "true", name
