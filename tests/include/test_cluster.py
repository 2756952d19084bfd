"""The RunJobFlow request: as in the golden file, valid for EMR, and every parameter where it belongs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from include.cluster import cluster_name, run_job_flow_request
from include.settings import RunParams, Settings
from tests.include.golden.regenerate import CODE, CUSTOM, SLUG, cluster_requests, read_golden
from tests.include.service_model import problems_of

LOGS = "s3://bucket/logs/"


def request(params: RunParams | None = None, settings: Settings | None = None) -> dict[str, Any]:
    return run_job_flow_request(
        slug=SLUG, settings=settings or Settings(), params=params or RunParams(), code=CODE, log_uri=LOGS
    )


@pytest.mark.parametrize("name", sorted(cluster_requests()))
def test_request_is_as_in_the_golden_file(name: str) -> None:
    assert cluster_requests()[name] == read_golden(name), (
        "if the change is meant: python -m tests.include.golden.regenerate, and read the diff"
    )


@pytest.mark.parametrize("name", sorted(cluster_requests()))
def test_emr_accepts_the_request(name: str) -> None:
    assert problems_of("RunJobFlow", cluster_requests()[name]) == ""


def test_model_of_the_service_would_find_what_is_wrong() -> None:
    """Templates turn numbers into text, which EMR rejects: the check above has to see it."""
    wrong = request()
    wrong["Instances"]["InstanceFleets"][1]["TargetOnDemandCapacity"] = "2"
    wrong["Relaese"] = "emr-spark-8.1.0"
    found = problems_of("RunJobFlow", wrong)
    assert "TargetOnDemandCapacity" in found
    assert "Relaese" in found


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from leaves(item)
    else:
        yield value


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("release_label", "emr-7.14.0", "emr-7.14.0"),
        ("master_instance_type", "r8g.4xlarge", "r8g.4xlarge"),
        ("core_instance_types", ("c9g.large",), "c9g.large"),
        ("core_instance_count", 17, 17),
        ("idle_timeout_minutes", 23, 1380),
    ],
)
def test_parameter_reaches_the_request_with_its_type(name: str, value: Any, shown: Any) -> None:
    assert shown not in list(leaves(request()))
    found = [leaf for leaf in leaves(request(replace(RunParams(), **{name: value}))) if leaf == shown]
    assert [type(leaf) for leaf in found] == [type(shown)]


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("service_role", "roles/ours", "roles/ours"),
        ("job_flow_role", "profiles/ours", "profiles/ours"),
        ("subnet_ids", ("subnet-1",), "subnet-1"),
    ],
)
def test_setting_reaches_the_request(name: str, value: Any, shown: Any) -> None:
    assert shown in list(leaves(request(settings=replace(Settings(), **{name: value}))))


def test_cluster_outlives_its_last_step_but_never_its_usefulness() -> None:
    found = request(CUSTOM)
    assert found["Instances"]["KeepJobFlowAliveWhenNoSteps"] is True, "made without steps, it would end at once"
    assert found["Instances"]["TerminationProtected"] is False, "the teardown could not end it"
    assert 60 <= found["AutoTerminationPolicy"]["IdleTimeout"] <= 604_800
    assert "Steps" not in found


def test_steps_run_one_after_another() -> None:
    assert request()["StepConcurrencyLevel"] == 1


def test_cluster_can_be_found_by_the_runs_slug() -> None:
    found = request()
    assert found["Name"] == cluster_name(SLUG)
    assert SLUG in found["Name"]
    assert {"Key": "fruit-features:run", "Value": SLUG} in found["Tags"]
    assert {"Key": "for-use-with-amazon-emr-managed-policies", "Value": "true"} in found["Tags"]


def test_no_subnet_is_named_when_none_is_set() -> None:
    assert "Ec2SubnetIds" not in request()["Instances"]


def test_driver_and_workers_run_under_utf8() -> None:
    found = list(leaves(request()["Configurations"]))
    assert found.count("C.UTF-8") == 2
