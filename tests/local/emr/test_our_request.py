"""The request that the DAG makes, at the endpoint: taken as EMR takes it, told again, and rejected where EMR would."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from local.emr.clusters.errors import ValidationError
from local.emr.clusters.validation import check_run_job_flow
from tests.include.golden.regenerate import cluster_requests


@pytest.fixture
def request_() -> dict[str, Any]:
    return copy.deepcopy(cluster_requests()["cluster_custom.json"])


@pytest.mark.slow
def test_what_was_asked_for_is_told_again(emr: Any, request_: dict[str, Any]) -> None:
    request_["LogUri"] = f"file://{emr.log_dir}"
    cluster_id = emr.client.run_job_flow(**request_)["JobFlowId"]
    found = emr.cluster(cluster_id)
    for name in ("Name", "ReleaseLabel", "ServiceRole", "SecurityConfiguration", "LogEncryptionKmsKeyId"):
        assert found[name] == request_[name]
    for name in ("EbsRootVolumeSize", "ScaleDownBehavior", "StepConcurrencyLevel", "Tags"):
        assert found[name] == request_[name]
    attributes, asked = found["Ec2InstanceAttributes"], request_["Instances"]
    assert attributes["RequestedEc2SubnetIds"] == asked["Ec2SubnetIds"]
    assert attributes["Ec2SubnetId"] in asked["Ec2SubnetIds"]
    for name in ("EmrManagedMasterSecurityGroup", "EmrManagedSlaveSecurityGroup", "ServiceAccessSecurityGroup"):
        assert attributes[name] == asked[name]
    scaling = emr.client.get_managed_scaling_policy(ClusterId=cluster_id)["ManagedScalingPolicy"]
    assert scaling == request_["ManagedScalingPolicy"]
    idle = emr.client.get_auto_termination_policy(ClusterId=cluster_id)["AutoTerminationPolicy"]
    assert idle == request_["AutoTerminationPolicy"]
    fleets = {fleet["Name"]: fleet for fleet in emr.client.list_instance_fleets(ClusterId=cluster_id)["InstanceFleets"]}
    assert (fleets["core"]["TargetOnDemandCapacity"], fleets["task"]["TargetSpotCapacity"]) == (7, 20)
    assert fleets["task"]["LaunchSpecifications"] == asked["InstanceFleets"][2]["LaunchSpecifications"]
    specifications = fleets["task"]["InstanceTypeSpecifications"]
    assert [item["WeightedCapacity"] for item in specifications] == [1, 2, 1]
    volume = specifications[0]["EbsBlockDevices"][0]["VolumeSpecification"]
    assert (volume["VolumeType"], volume["SizeInGB"]) == ("gp3", 100)


def fleet(number: int, **changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda request: request["Instances"]["InstanceFleets"][number].update(changes)


def spot(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(request: dict[str, Any]) -> None:
        request["Instances"]["InstanceFleets"][2]["LaunchSpecifications"]["SpotSpecification"].update(changes)

    return change


def types(*names: str, number: int = 1, **more: Any) -> Callable[[dict[str, Any]], None]:
    return fleet(number, InstanceTypeConfigs=[{"InstanceType": name, **more} for name in names])


def volume(**changes: Any) -> Callable[[dict[str, Any]], None]:
    specification = {"VolumeType": "gp3", "SizeInGB": 32} | changes
    return types("c7i.4xlarge", EbsConfiguration={"EbsBlockDeviceConfigs": [{"VolumeSpecification": specification}]})


def tags(*pairs: tuple[str, str]) -> Callable[[dict[str, Any]], None]:
    return lambda request: request.update(Tags=[{"Key": key, "Value": value} for key, value in pairs])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (fleet(0, TargetOnDemandCapacity=2), "MASTER fleet must have a target capacity of 1, not 2"),
        (fleet(2, TargetSpotCapacity=0), "TASK fleet must have a target capacity of at least 1"),
        (types("c7i.4xlarge", "c7i.4xlarge"), "CORE fleet names an instance type twice"),
        (types(*(f"c{n}i.xlarge" for n in range(31))), "1 to 30 instance types, not 31"),
        (fleet(1, LaunchSpecifications={}), None),
        (types(), "1 to 30 instance types, not 0"),
        (types("c7i.4xlarge", WeightedCapacity=0), "WeightedCapacity 0 of c7i.4xlarge in the CORE fleet"),
        (types("c7i.4xlarge", number=0, WeightedCapacity=2), "WeightedCapacity 2 of c7i.4xlarge in the MASTER fleet"),
        (types("t1.micro"), "Instance type 't1.micro' is not supported by emr-7.14.0"),
        (volume(), None),
        (volume(SizeInGB=1025), "SizeInGB must be between 1 and 1024, not 1025"),
        (volume(VolumeType="floppy"), "Value 'floppy' at 'volumeSpecification.volumeType'"),
        (spot(TimeoutDurationMinutes=4), "TimeoutDurationMinutes must be between 5 and 1440, not 4"),
        (spot(TimeoutAction="GIVE_UP"), "Value 'GIVE_UP' at 'spotSpecification.timeoutAction'"),
        (tags(("a", "1"), ("a", "2")), "each key once"),
        (tags(*((f"k{n}", "") for n in range(51))), "at most 50 tags"),
        (tags(("aws:a", "1")), "reserved prefix aws:"),
        (tags(("a", "x;y")), "The tag a=x;y is invalid"),
        (tags(("a", "x" * 257)), "is invalid"),
    ],
)
def test_request_that_emr_rejects_is_rejected(
    request_: dict[str, Any], change: Callable[[dict[str, Any]], None], said: str | None
) -> None:
    check_run_job_flow(request_, "eu-west-3")
    change(request_)
    if said is None:
        check_run_job_flow(request_, "eu-west-3")
        return
    with pytest.raises(ValidationError) as caught:
        check_run_job_flow(request_, "eu-west-3")
    assert said in str(caught.value)


def test_fleet_without_a_strategy_has_five_types_at_most(request_: dict[str, Any]) -> None:
    names = ("c5.xlarge", "c6i.xlarge", "c7i.xlarge", "m5.xlarge", "m6i.xlarge", "m7i.xlarge")
    fleet(1, LaunchSpecifications={})(request_)
    types(*names[:5])(request_)
    check_run_job_flow(request_, "eu-west-3")
    types(*names)(request_)
    with pytest.raises(ValidationError, match="1 to 5 instance types, not 6"):
        check_run_job_flow(request_, "eu-west-3")
