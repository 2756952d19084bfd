"""What is done about a cluster that EMR has made elsewhere, or of which it does not say where it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from include.aws.retries import RetryPolicy
from include.emr.client import ClusterEndedError, Emr
from include.residency import inspection
from include.residency.attestation import ResidencyError
from include.residency.inspection import LONGEST_START_SECONDS, inspect_cluster
from tests.include.residency.test_cluster import REQUEST, SETTINGS, SUBNETS, made


class Starting:
    """EMR with one cluster, of which it tells something else at each look."""

    def __init__(self, *looks: dict[str, Any]) -> None:
        self.looks = list(looks)
        self.ended: list[str] = []

    def describe_cluster(self, ClusterId: str) -> dict[str, Any]:  # noqa: N803
        return {"Cluster": self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]}

    def terminate_job_flows(self, JobFlowIds: list[str]) -> dict[str, Any]:  # noqa: N803
        self.ended += JobFlowIds
        return {}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were slept; time passes in no other way."""
    slept: list[float] = []
    monkeypatch.setattr(inspection.time, "sleep", slept.append)
    monkeypatch.setattr(inspection.time, "monotonic", lambda: sum(slept))
    return slept


@pytest.fixture(autouse=True)
def subnets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "_subnets", lambda found, settings: SUBNETS)


def in_state(state: str, **changes: Any) -> dict[str, Any]:
    return made(**changes) | {"Status": {"State": state}}


UNKNOWN = {"Ec2InstanceAttributes": {}}


def inspect(emr: Starting) -> dict[str, Any]:
    settings = replace(SETTINGS, poke_interval_seconds=60.0)
    return inspect_cluster(Emr(emr, RetryPolicy(1)), emr.describe_cluster("")["Cluster"], REQUEST, settings)


def test_cluster_as_asked_for_is_attested_and_lives_on(clock: list[float]) -> None:
    emr = Starting(in_state("WAITING"))
    assert inspect(emr)["verdict"] == "allowed"
    assert emr.ended == []
    assert clock == []


def test_cluster_elsewhere_is_ended(clock: list[float]) -> None:
    emr = Starting(in_state("STARTING", LogUri="s3n://somebody-else/logs/"))
    with pytest.raises(ResidencyError, match="LogUri"):
        inspect(emr)
    assert emr.ended == ["j-1"]


def test_it_waits_while_emr_looks_for_instances(clock: list[float]) -> None:
    emr = Starting(in_state("STARTING", **UNKNOWN), in_state("STARTING", **UNKNOWN), in_state("BOOTSTRAPPING"))
    assert inspect(emr)["verdict"] == "allowed"
    assert clock == [60.0, 60.0]
    assert emr.ended == []


def test_cluster_that_has_started_nobody_knows_where_is_ended(clock: list[float]) -> None:
    emr = Starting(in_state("STARTING", **UNKNOWN), in_state("RUNNING", **UNKNOWN))
    with pytest.raises(ResidencyError, match=r"has started, and .*Ec2AvailabilityZone"):
        inspect(emr)
    assert emr.ended == ["j-1"]


def test_cluster_that_starts_for_ever_is_ended(clock: list[float]) -> None:
    emr = Starting(in_state("STARTING", **UNKNOWN))
    with pytest.raises(ResidencyError):
        inspect(emr)
    assert sum(clock) > LONGEST_START_SECONDS
    assert emr.ended == ["j-1"]


def test_cluster_that_ends_while_it_starts_is_told_as_ended(clock: list[float]) -> None:
    emr = Starting(in_state("STARTING", **UNKNOWN), in_state("TERMINATED_WITH_ERRORS", **UNKNOWN))
    with pytest.raises(ClusterEndedError, match="TERMINATED_WITH_ERRORS"):
        inspect(emr)
    assert emr.ended == []
