"""EMR's answers about a cluster that ran for an hour: a primary node, two core nodes, and spot nodes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NOW = START + timedelta(hours=2)
CLUSTER = {"Id": "j-1", "EbsRootVolumeSize": 30}


def fleet(kind: str, *types: str, gib: int = 42) -> dict[str, Any]:
    device = {"Device": "/dev/sdb", "VolumeSpecification": {"VolumeType": "gp3", "SizeInGB": gib}}
    specifications = [{"InstanceType": name, "EbsBlockDevices": [device]} for name in types]
    return {"Id": f"if-{kind}", "InstanceFleetType": kind, "InstanceTypeSpecifications": specifications}


FLEETS = [
    fleet("MASTER", "m7g.xlarge"),
    fleet("CORE", "c7g.2xlarge", "c6g.2xlarge"),
    fleet("TASK", "c7g.2xlarge", "c6g.2xlarge"),
]


def instance(kind: str, name: str, seconds: float | None, market: str = "ON_DEMAND") -> dict[str, Any]:
    """Return an instance that ran for this time; None means that it still runs."""
    timeline: dict[str, Any] = {"CreationDateTime": START, "ReadyDateTime": START + timedelta(minutes=1)}
    if seconds is not None:
        timeline["EndDateTime"] = START + timedelta(seconds=seconds)
    status = {"State": "TERMINATED", "Timeline": timeline}
    return {"Id": "ci", "InstanceFleetId": f"if-{kind}", "InstanceType": name, "Market": market, "Status": status}


INSTANCES = [
    instance("MASTER", "m7g.xlarge", 3600),
    instance("CORE", "c7g.2xlarge", 3600),
    instance("CORE", "c7g.2xlarge", 3600),
    instance("TASK", "c6g.2xlarge", 1800, "SPOT"),
]
