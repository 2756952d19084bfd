"""The limits of the EMR API Reference: the greatest request is accepted, a greater one is refused as EMR does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local.emr.clusters.errors import ValidationError
from local.emr.clusters.limits import MAX_STEP_CHARACTERS, check_step_strings

OLD, NEW = "ValidationException", "InvalidRequestException"
GROUP = {"InstanceRole": "MASTER", "InstanceType": "m6g.xlarge", "InstanceCount": 1}


def refused(call: Callable[[], Any], code: str, message: str) -> None:
    with pytest.raises(ClientError, match=message) as error:
        call()
    assert error.value.response["Error"]["Code"] == code


def test_the_strings_of_a_step_have_at_most_10240_characters_in_total() -> None:
    def step(length: int) -> dict[str, Any]:
        jar = {"Jar": "command-runner.jar", "Args": ["true", "x"], "Properties": [{"Key": "k", "Value": "v"}]}
        used = len("command-runner.jar" + "true" + "x" + "k" + "v")
        return {"Name": "long", "HadoopJarStep": jar | {"MainClass": "y" * (length - used)}}

    check_step_strings(step(MAX_STEP_CHARACTERS))
    with pytest.raises(ValidationError, match="have 10241 characters in total: at most 10240"):
        check_step_strings(step(MAX_STEP_CHARACTERS + 1))


def test_lists_of_ids_are_short_and_have_no_empty_or_repeated_id(emr: Any) -> None:
    client, cluster = emr.client, emr.create()
    steps = emr.add(cluster, *[emr.bash("true")] * 11)
    eleven = [f"j-{number}" for number in range(11)]
    refused(lambda: emr.add(cluster, emr.step("true", "x" * 10_240)), OLD, "at most 10240 are allowed")
    refused(lambda: client.terminate_job_flows(JobFlowIds=eleven), OLD, "at most 10 ids, not 11")
    refused(lambda: client.terminate_job_flows(JobFlowIds=[]), OLD, "at least one id")
    refused(lambda: client.terminate_job_flows(JobFlowIds=[cluster, ""]), OLD, "no empty id")
    refused(lambda: client.terminate_job_flows(JobFlowIds=[cluster] * 2), OLD, "names an id twice")
    list_steps = client.list_steps
    refused(lambda: list_steps(ClusterId=cluster, StepIds=steps), NEW, "at most 10 ids, not 11")
    refused(lambda: list_steps(ClusterId=cluster, StepIds=[steps[0]] * 2), NEW, "names an id twice")
    refused(lambda: list_steps(ClusterId=cluster, StepIds=steps[:1], StepStates=["PENDING"]), NEW, "together")
    refused(lambda: client.cancel_steps(ClusterId=cluster, StepIds=[]), NEW, "at least one id")
    wanted = [steps[number] for number in (3, 9, 0, 10)]
    assert [step["Id"] for step in list_steps(ClusterId=cluster, StepIds=wanted)["Steps"]] == wanted


def test_names_and_states_are_those_of_the_service_model(emr: Any) -> None:
    client = emr.client
    cluster = emr.create(Name="n" * 256)
    length = "Member must have length less than or equal to 256"
    refused(lambda: emr.create(Name="n" * 257), OLD, f"'name' failed to satisfy constraint: {length}")
    refused(lambda: emr.add(cluster, emr.bash("true", name="n" * 257)), OLD, rf"'steps\.1\.member\.name'.*{length}")
    for call in (
        lambda: client.list_clusters(ClusterStates=["WAITING", "SLEEPING"]),
        lambda: client.list_steps(ClusterId=cluster, StepStates=["SLEEPING"]),
        lambda: client.list_instances(ClusterId=cluster, InstanceStates=["SLEEPING"]),
    ):
        refused(call, OLD, "Value 'SLEEPING' at .* Member must satisfy enum value set")
    unchecked = emr.client_of("eu-west-3", config=Config(parameter_validation=False))
    null = "'terminationProtected' failed to satisfy constraint: Member must not be null"
    refused(lambda: unchecked.set_termination_protection(JobFlowIds=[cluster]), OLD, null)


def test_actions_after_a_failure_or_a_timeout_are_those_of_the_service_model(emr: Any) -> None:
    """EMR's own text, in a first, second or nested place of a request."""
    cluster, good, bad = emr.create(), emr.bash("true"), emr.bash("true", action="PANIC")
    actions = r"\[TERMINATE_JOB_FLOW, TERMINATE_CLUSTER, CANCEL_AND_WAIT, CONTINUE\]"
    constraint = "failed to satisfy constraint: Member must satisfy enum value set: "
    text = f"1 validation error detected: Value '%s' at '%s' {constraint}"
    refused(lambda: emr.create(Steps=[bad]), OLD, text % ("PANIC", r"steps\.1\.member\.actionOnFailure") + actions)
    refused(lambda: emr.add(cluster, good, bad), OLD, text % ("PANIC", r"steps\.2\.member\.actionOnFailure") + actions)
    spot = {"SpotSpecification": {"TimeoutDurationMinutes": 5, "TimeoutAction": "GIVE_UP"}}
    fleet = {"InstanceFleetType": "MASTER", "TargetSpotCapacity": 1, "LaunchSpecifications": spot}
    place = r"instances\.instanceFleets\.1\.member\.launchSpecifications\.spotSpecification\.timeoutAction"
    refused(
        lambda: emr.create(Instances={"InstanceFleets": [fleet]}),
        OLD,
        text % ("GIVE_UP", place) + r"\[SWITCH_TO_ON_DEMAND, TERMINATE_CLUSTER\]",
    )


def test_a_cluster_has_at_most_50_tags_none_of_them_reserved_and_keeps_them_when_it_has_ended(emr: Any) -> None:
    def tags(*keys: str) -> list[dict[str, str]]:
        return [{"Key": key, "Value": ""} for key in keys]

    client, cluster = emr.client, emr.create(Tags=tags(*(f"k{number}" for number in range(49))))
    client.add_tags(ResourceId=cluster, Tags=tags("k0", "last"))
    refused(lambda: client.add_tags(ResourceId=cluster, Tags=tags("one more")), NEW, "at most 50 tags")
    refused(lambda: client.add_tags(ResourceId=cluster, Tags=tags("aws:k0")), NEW, "reserved prefix aws:")
    client.terminate_job_flows(JobFlowIds=[cluster])
    emr.await_cluster(cluster, "TERMINATED")
    refused(lambda: client.add_tags(ResourceId=cluster, Tags=tags("k0")), NEW, "its tags cannot be changed")
    refused(lambda: client.remove_tags(ResourceId=cluster, TagKeys=["k0"]), NEW, "its tags cannot be changed")
    assert len(emr.cluster(cluster)["Tags"]) == 50


def test_three_masters_protect_their_cluster_and_forbid_it_to_terminate_after_its_steps(emr: Any) -> None:
    instances = {"InstanceGroups": [GROUP | {"InstanceCount": 3}], "KeepJobFlowAliveWhenNoSteps": False}
    cluster = emr.create(Instances=instances)
    emr.await_cluster(cluster, "WAITING")
    assert (emr.cluster(cluster)["TerminationProtected"], emr.cluster(cluster)["AutoTerminate"]) == (True, False)
    keep = emr.client.set_keep_job_flow_alive_when_no_steps
    refused(lambda: keep(JobFlowIds=[cluster], KeepJobFlowAliveWhenNoSteps=False), OLD, "three primary nodes")
    refused(lambda: emr.client.terminate_job_flows(JobFlowIds=[cluster]), OLD, "termination protected")


def test_a_security_configuration_exists_before_it_is_used_and_is_created_once(emr: Any) -> None:
    client = emr.client
    missing = "Security configuration with name 'vault' does not exist"
    refused(lambda: emr.create(SecurityConfiguration="vault"), OLD, missing)
    client.create_security_configuration(Name="vault", SecurityConfiguration="{}")
    again = "'vault' already exists"
    refused(lambda: client.create_security_configuration(Name="vault", SecurityConfiguration="{}"), NEW, again)
    assert "vault" in [item["Name"] for item in client.list_security_configurations()["SecurityConfigurations"]]
    assert emr.cluster(emr.create(SecurityConfiguration="vault"))["SecurityConfiguration"] == "vault"
    client.delete_security_configuration(Name="vault")
    refused(lambda: client.delete_security_configuration(Name="vault"), NEW, missing)
