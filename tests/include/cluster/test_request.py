"""The RunJobFlow request: as in the golden files, valid for EMR, with every parameter in its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from include.cluster.request import cluster_name, run_job_flow_request
from include.cluster.rules import check_cluster
from include.cluster.sizing import Size
from include.settings.deployment import Settings
from include.settings.parameters import RunParams
from local.emr.clusters.validation import check_run_job_flow
from tests.include.golden.regenerate import (
    CODE,
    CUSTOM,
    IN_VPC,
    LAKE,
    RUN_ID,
    SECURED,
    SLUG,
    WHEELS,
    cluster_requests,
    read_golden,
)
from tests.include.service_model import problems_of

FOUR = Size(2, 2)


def request(params: RunParams | None = None, settings: Settings = IN_VPC, size: Size = FOUR) -> dict[str, Any]:
    return run_job_flow_request(
        slug=SLUG,
        run_id=RUN_ID,
        lake=LAKE,
        settings=settings,
        params=params or RunParams(),
        size=size,
        code=CODE,
        wheels=WHEELS,
        log_uri=f"{LAKE}/logs/",
    )


def fleets(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {fleet["InstanceFleetType"]: fleet for fleet in found["Instances"]["InstanceFleets"]}


def properties(found: dict[str, Any], classification: str) -> dict[str, str]:
    (item,) = (item for item in found["Configurations"] if item["Classification"] == classification)
    values: dict[str, str] = item["Properties"]
    return values


def test_requests_are_those_of_the_golden_files() -> None:
    for name, built in cluster_requests().items():
        assert built == read_golden(name), (
            f"{name}: if the change is intended: python -m tests.include.golden.regenerate, and read the diff"
        )


def test_emr_and_the_local_endpoint_accept_the_requests() -> None:
    for name, built in cluster_requests().items():
        assert problems_of("RunJobFlow", built) == "", name
        check_run_job_flow(built, "eu-west-3")


def test_golden_requests_pass_our_own_rules() -> None:
    check_cluster(slug=SLUG, settings=IN_VPC, params=RunParams())
    check_cluster(slug=SLUG, settings=SECURED, params=CUSTOM)
    check_cluster(
        slug=SLUG, settings=replace(IN_VPC, architecture="x86_64"), params=RunParams.for_architecture("x86_64")
    )


def test_wrong_requests_are_detected() -> None:
    """Templates turn numbers into text, which EMR rejects: the test above must detect it."""
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


def test_parameters_reach_the_request_with_their_types() -> None:
    for name, value, shown, times in (
        ("release_label", "emr-7.14.0", "emr-7.14.0", 1),
        ("master_instance_type", "r8g.4xlarge", "r8g.4xlarge", 1),
        ("core_instance_types", ("r8g.12xlarge",), "r8g.12xlarge", 2),  # core and task
        ("ebs_gib", 77, 77, 7),  # each type of each fleet
        ("idle_timeout_minutes", 23, 1380, 1),
    ):
        assert shown not in list(leaves(request()))
        matching = [leaf for leaf in leaves(request(replace(RunParams(), **{name: value}))) if leaf == shown]
        assert [type(leaf) for leaf in matching] == [type(shown)] * times, name


def test_settings_reach_the_request() -> None:
    for name, value, path in (
        ("service_role", "roles/ours", ("ServiceRole",)),
        ("job_flow_role", "profiles/ours", ("JobFlowRole",)),
        ("security_configuration", "ours", ("SecurityConfiguration",)),
        ("kms_key", "arn:key", ("LogEncryptionKmsKeyId",)),
        ("master_security_group", "sg-1", ("Instances", "EmrManagedMasterSecurityGroup")),
        ("core_security_group", "sg-2", ("Instances", "EmrManagedSlaveSecurityGroup")),
        ("service_security_group", "sg-3", ("Instances", "ServiceAccessSecurityGroup")),
    ):
        part: Any = request(settings=replace(Settings(), **{name: value}))
        for key in path:
            part = part[key]
        assert part == value, name


def test_settings_without_a_value_are_not_in_the_request() -> None:
    found = request(settings=Settings())
    assert not {"SecurityConfiguration", "LogEncryptionKmsKeyId"} & set(found)
    names = {"Ec2SubnetIds", "EmrManagedMasterSecurityGroup", "EmrManagedSlaveSecurityGroup"}
    assert not (names | {"ServiceAccessSecurityGroup"}) & set(found["Instances"])


def test_all_subnets_are_in_the_request_so_that_emr_chooses_the_zone() -> None:
    assert request()["Instances"]["Ec2SubnetIds"] == list(IN_VPC.subnet_ids)


def test_cluster_waits_for_steps_and_is_terminated_when_idle() -> None:
    found = request(CUSTOM)
    assert found["Instances"]["KeepJobFlowAliveWhenNoSteps"] is True, (
        "created without steps, it would terminate at once"
    )
    assert found["Instances"]["TerminationProtected"] is False, "the teardown could not terminate it"
    assert 60 <= found["AutoTerminationPolicy"]["IdleTimeout"] <= 604_800
    assert "Steps" not in found


def test_steps_run_one_after_another() -> None:
    assert request()["StepConcurrencyLevel"] == 1


def test_primary_and_core_nodes_are_on_demand_and_task_nodes_are_spot_with_a_fallback() -> None:
    found = fleets(request())
    assert (found["MASTER"]["TargetOnDemandCapacity"], found["CORE"]["TargetOnDemandCapacity"]) == (1, 2)
    assert not any("TargetSpotCapacity" in found[kind] for kind in ("MASTER", "CORE"))
    assert found["TASK"]["TargetSpotCapacity"] == 2
    assert "TargetOnDemandCapacity" not in found["TASK"]
    launch = found["TASK"]["LaunchSpecifications"]
    assert launch["SpotSpecification"]["AllocationStrategy"] == "price-capacity-optimized"
    assert launch["SpotSpecification"]["TimeoutAction"] == "SWITCH_TO_ON_DEMAND"
    assert 5 <= launch["SpotSpecification"]["TimeoutDurationMinutes"] <= 1440
    assert "OnDemandSpecification" in launch, "it applies to the fallback"


def test_scaling_keeps_the_core_nodes_and_adds_task_nodes_only() -> None:
    limits = request(size=Size(3, 5))["ManagedScalingPolicy"]
    assert limits["ComputeLimits"] == {
        "UnitType": "InstanceFleetUnits",
        "MinimumCapacityUnits": 3,
        "MaximumCapacityUnits": 8,
        "MaximumOnDemandCapacityUnits": 3,
        "MaximumCoreCapacityUnits": 3,
    }


def test_without_task_nodes_there_is_neither_a_task_fleet_nor_scaling() -> None:
    found = request(size=Size(2, 0))
    assert set(fleets(found)) == {"MASTER", "CORE"}
    assert "ManagedScalingPolicy" not in found


def test_single_node_has_no_other_fleet_and_its_executors_leave_memory_to_the_driver() -> None:
    """m7g.xlarge: 4 vCPUs and 16384 MiB. Twice 5120 are for the driver and the daemons, 896 for the application master:
    5248 for an executor of 4 cores."""
    found = request(size=Size(0, 0))
    assert set(fleets(found)) == {"MASTER"}
    assert "ManagedScalingPolicy" not in found
    spark = properties(found, "spark-defaults")
    assert spark["spark.executor.cores"] == spark["spark.default.parallelism"] == "4"
    assert spark["spark.dynamicAllocation.maxExecutors"] == spark["spark.dynamicAllocation.initialExecutors"] == "1"
    assert (spark["spark.executor.memory"], spark["spark.executor.memoryOverhead"]) == ("1024m", "4224m")


def test_node_of_twice_the_size_counts_as_two_units() -> None:
    found = fleets(request(replace(RunParams(), core_instance_types=("c7g.4xlarge", "c7g.2xlarge", "c7g.8xlarge"))))
    for kind in ("CORE", "TASK"):
        weights = {item["InstanceType"]: item["WeightedCapacity"] for item in found[kind]["InstanceTypeConfigs"]}
        assert weights == {"c7g.2xlarge": 1, "c7g.4xlarge": 2, "c7g.8xlarge": 4}


def test_cluster_can_be_found_by_the_runs_slug_and_its_tags() -> None:
    found = request(settings=replace(IN_VPC, tags=(("team", "data"),)))
    assert found["Name"] == cluster_name(SLUG) == f"fruit-features {SLUG}"
    assert {tag["Key"]: tag["Value"] for tag in found["Tags"]} == {
        "project": "fruit-features",
        "fruit-features:run": SLUG,
        "fruit-features:run-id": RUN_ID,
        "fruit-features:lake": LAKE,
        "for-use-with-amazon-emr-managed-policies": "true",
        "team": "data",
    }


def test_driver_and_workers_run_under_utf8_and_know_their_region() -> None:
    found = request(settings=replace(IN_VPC, region="eu-central-1", allowed_regions=("eu-central-1",)))
    (export,) = found["Configurations"][0]["Configurations"]
    spark = properties(found, "spark-defaults")
    for name, value in [
        ("LC_ALL", "C.UTF-8"),
        ("PYTHONUTF8", "1"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_DEFAULT_REGION", "eu-central-1"),
    ]:
        assert export["Properties"][name] == spark[f"spark.executorEnv.{name}"] == value


def test_both_pythons_are_the_environment_that_the_bootstrap_action_makes() -> None:
    found = request()
    (export,) = found["Configurations"][0]["Configurations"]
    assert export["Properties"]["PYSPARK_PYTHON"] == properties(found, "spark-defaults")["spark.pyspark.python"]
    (action,) = found["BootstrapActions"]
    assert action["ScriptBootstrapAction"]["Args"] == [f"{CODE}/requirements-cluster.txt", WHEELS, "eu-west-3"]


def test_spark_has_as_many_slots_as_the_fleets_have_cores() -> None:
    """2 core and 2 task nodes of 8 cores."""
    spark = properties(request(), "spark-defaults")
    assert spark["spark.default.parallelism"] == "32"
    executors = 32 // int(spark["spark.executor.cores"])
    assert spark["spark.dynamicAllocation.initialExecutors"] == str(executors)
    assert spark["spark.dynamicAllocation.maxExecutors"] == str(executors)
    assert spark["spark.dynamicAllocation.enabled"] == "true"


def test_all_executors_have_the_same_size() -> None:
    assert properties(request(), "spark-defaults")["spark.yarn.heterogeneousExecutors.enabled"] == "false"


def test_s3a_knows_the_region_and_renames_nothing() -> None:
    assert properties(request(), "core-site") == {
        "fs.s3a.endpoint.region": "eu-west-3",
        "fs.s3a.committer.name": "magic",
    }
