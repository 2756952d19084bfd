"""What EMR rejects, in a small request and in the request of the DAG."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from local.emr.clusters.errors import ValidationError
from local.emr.clusters.validation import check_run_job_flow, check_steps
from tests.include.golden.regenerate import cluster_requests

SIMPLE = {"MasterInstanceType": "m6g.xlarge", "InstanceCount": 1}
MASTER = {"InstanceRole": "MASTER", "InstanceType": "m6g.xlarge", "InstanceCount": 1}
FLEET = {
    "InstanceFleetType": "MASTER",
    "TargetOnDemandCapacity": 1,
    "InstanceTypeConfigs": [{"InstanceType": "m6g.xlarge"}],
}
CORE = MASTER | {"InstanceRole": "CORE"}
TASK = MASTER | {"InstanceRole": "TASK"}
CORE_FLEET, TASK_FLEET = FLEET | {"InstanceFleetType": "CORE"}, FLEET | {"InstanceFleetType": "TASK"}
JAR = {"Name": "s", "ActionOnFailure": "CONTINUE", "HadoopJarStep": {"Jar": "s3://b/my.jar"}}
LIMITS = {"UnitType": "Instances", "MinimumCapacityUnits": 1, "MaximumCapacityUnits": 2}


def step(action: str) -> dict[str, Any]:
    return {"Name": "s", "ActionOnFailure": action, "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["true"]}}


SMALL_REQUEST = {
    "Name": "fruits",
    "ReleaseLabel": "emr-spark-8.1.0",
    "ServiceRole": "service",
    "JobFlowRole": "nodes",
    "LogUri": "file:///logs",
    "Instances": SIMPLE,
}
REJECTED: list[tuple[dict[str, Any], str]] = [
    ({"ReleaseLabel": None}, "release label is invalid"),
    ({"ReleaseLabel": "emr-99.0.0"}, "The supplied release label is invalid: emr-99.0.0."),
    ({"ReleaseLabel": "7.14.0"}, "release label is invalid"),
    ({"ServiceRole": None}, "ServiceRole is required"),
    ({"JobFlowRole": None}, "InstanceProfile is required"),
    ({"Instances": {}}, "InstanceGroups, InstanceFleets"),
    ({"Instances": {"InstanceGroups": [MASTER], "InstanceFleets": [FLEET]}}, "mutually exclusive"),
    ({"Instances": {"InstanceGroups": [MASTER, MASTER]}}, "exactly one MASTER"),
    ({"Instances": {"InstanceGroups": [MASTER | {"InstanceRole": "CORE"}]}}, "exactly one MASTER"),
    ({"Instances": {"InstanceGroups": [MASTER | {"InstanceCount": 0}]}}, "at least 1"),
    ({"Instances": {"InstanceFleets": [FLEET | {"TargetOnDemandCapacity": 0}]}}, "capacity of at least 1"),
    ({"Instances": SIMPLE | {"MasterInstanceType": "m6g.huge"}}, "'m6g.huge' is not supported"),
    ({"Instances": {"InstanceGroups": [MASTER, CORE, CORE]}}, "at most one CORE group"),
    ({"Instances": {"InstanceGroups": [MASTER, TASK]}}, "a TASK group must have a CORE group"),
    ({"Instances": {"InstanceGroups": [MASTER | {"InstanceCount": 2}]}}, "exactly 3 instances for HA clusters"),
    ({"Instances": {"InstanceFleets": [FLEET, FLEET]}}, "exactly one MASTER fleet"),
    ({"Instances": {"InstanceFleets": [FLEET, CORE_FLEET, CORE_FLEET]}}, "at most one CORE fleet"),
    ({"Instances": {"InstanceFleets": [FLEET, CORE_FLEET, TASK_FLEET, TASK_FLEET]}}, "at most one TASK fleet"),
    ({"Instances": {"InstanceFleets": [FLEET, TASK_FLEET]}}, "a TASK fleet must have a CORE fleet"),
    ({"AmiVersion": "3.8.1"}, "Only one AMI version and release label may be specified"),
    ({"AmiVersion": "3.8.1", "ReleaseLabel": None}, "use ReleaseLabel"),
    ({"AmiVersion": "3.8.1", "ReleaseLabel": None, "CustomAmiId": "ami-1"}, "Custom AMI is not supported"),
    ({"ReleaseLabel": "emr-5.6.0", "CustomAmiId": "ami-1"}, "Custom AMI is not allowed"),
    ({"LogUri": "/tmp/logs"}, "LogUri"),
    ({"StepConcurrencyLevel": 0}, "between 1 and 256"),
    ({"StepConcurrencyLevel": 257}, "between 1 and 256"),
    ({"StepConcurrencyLevel": 2, "Steps": [step("TERMINATE_CLUSTER")]}, "TERMINATE_CLUSTER is not allowed"),
    ({"StepConcurrencyLevel": 2, "Steps": [step("CANCEL_AND_WAIT")]}, "CANCEL_AND_WAIT is not allowed"),
    ({"Steps": [JAR]}, "command-runner.jar only"),
    ({"Steps": [step("CONTINUE")] * 257}, "Maximum number of active steps"),
    ({"AutoTerminationPolicy": {"IdleTimeout": 59}}, "between 60 and 604800"),
    ({"AutoTerminationPolicy": {"IdleTimeout": 604_801}}, "between 60 and 604800"),
    ({"ManagedScalingPolicy": {"ComputeLimits": LIMITS | {"MinimumCapacityUnits": 3}}}, "minimum <= maximum"),
    ({"ManagedScalingPolicy": {"ComputeLimits": LIMITS | {"UnitType": "InstanceFleetUnits"}}}, "instance groups"),
]


def test_a_small_request_with_one_error_is_rejected() -> None:
    check_run_job_flow(SMALL_REQUEST, "eu-west-3")
    for changes, message in REJECTED:
        request = {key: value for key, value in (SMALL_REQUEST | changes).items() if value is not None}
        with pytest.raises(ValidationError) as caught:
            check_run_job_flow(request, "eu-west-3")
        assert message in str(caught.value)


def dag_request() -> dict[str, Any]:
    return copy.deepcopy(cluster_requests()["cluster_custom.json"])


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


DAG_CASES = [
    (fleet(0, TargetOnDemandCapacity=2), "MASTER fleet must have a target capacity of 1 or 3, not 2"),
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
    (volume(VolumeType="floppy"), "VolumeType must be one of gp3, gp2, io1, st1, sc1, standard, not floppy"),
    (spot(TimeoutDurationMinutes=4), "TimeoutDurationMinutes must be between 5 and 1440, not 4"),
    (tags(("a", "1"), ("a", "2")), "each key once"),
    (tags(*((f"k{n}", "") for n in range(51))), "at most 50 tags"),
    (tags(("aws:a", "1")), "reserved prefix aws:"),
    (tags(("a", "x;y")), "The tag a=x;y is invalid"),
    (tags(("a", "x" * 257)), "is invalid"),
]


def test_the_request_of_the_dag_is_accepted_and_rejected_with_one_error() -> None:
    check_run_job_flow(dag_request(), "eu-west-3")
    for change, message in DAG_CASES:
        request = dag_request()
        change(request)
        if message is None:
            check_run_job_flow(request, "eu-west-3")
            continue
        with pytest.raises(ValidationError) as caught:
            check_run_job_flow(request, "eu-west-3")
        assert message in str(caught.value)


def test_fleet_without_a_strategy_has_five_types_at_most() -> None:
    request = dag_request()
    names = ("c5.xlarge", "c6i.xlarge", "c7i.xlarge", "m5.xlarge", "m6i.xlarge", "m7i.xlarge")
    fleet(1, LaunchSpecifications={})(request)
    types(*names[:5])(request)
    check_run_job_flow(request, "eu-west-3")
    types(*names)(request)
    with pytest.raises(ValidationError, match="1 to 5 instance types, not 6"):
        check_run_job_flow(request, "eu-west-3")


def test_script_runner_is_accepted_for_setup_hadoop_debugging_only() -> None:
    def config(jar: str, *args: str) -> dict[str, Any]:
        return {"Name": "x", "ActionOnFailure": "CONTINUE", "HadoopJarStep": {"Jar": jar, "Args": list(args)}}

    runner = "s3://eu-west-3.elasticmapreduce/libs/script-runner/script-runner.jar"
    check_steps([config(runner, "s3://eu-west-3.elasticmapreduce/libs/state-pusher/0.1/fetch")], 1, active=0)
    for wrong in (config(runner, "s3://bucket/mine.sh"), config("s3://bucket/mine.jar")):
        with pytest.raises(ValidationError, match=r"runs command-runner\.jar only.*Setup Hadoop Debugging"):
            check_steps([wrong], 1, active=0)


def test_the_log_folder_may_have_the_form_of_emrs_answers() -> None:
    check_run_job_flow(SMALL_REQUEST | {"LogUri": "s3n://bucket/logs/"}, "eu-west-3")
