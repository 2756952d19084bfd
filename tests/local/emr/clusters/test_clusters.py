"""The life of a cluster, as boto3 sees it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError


def test_a_cluster_waits_for_steps_in_the_region_of_its_caller(emr: Any) -> None:
    answer = emr.client.run_job_flow(**emr.request())
    cluster = answer["JobFlowId"]
    assert answer["ClusterArn"] == f"arn:aws:elasticmapreduce:eu-west-3:123456789012:cluster/{cluster}"
    emr.await_cluster(cluster, "WAITING")
    timeline = emr.cluster(cluster)["Status"]["Timeline"]
    assert timeline["CreationDateTime"] <= timeline["ReadyDateTime"]
    assert abs(timeline["CreationDateTime"] - datetime.now(UTC)) < timedelta(minutes=5)
    assert "EndDateTime" not in timeline
    with pytest.raises(ClientError, match="is not valid"):
        emr.client_of("us-east-1").describe_cluster(ClusterId=cluster)


def test_the_states_of_a_cluster_with_a_boot_time(start_endpoint: Any) -> None:
    _, emr = start_endpoint("--boot-seconds", "2")
    cluster = emr.create()
    assert emr.state(cluster) == "STARTING"
    [step] = emr.add(cluster, emr.bash("true"))
    assert emr.status(cluster, step)["State"] == "PENDING"
    emr.await_cluster(cluster, "BOOTSTRAPPING")
    emr.await_cluster(cluster, "RUNNING", "WAITING")
    assert emr.await_step(cluster, step)["State"] == "COMPLETED"


def test_a_cluster_without_keep_alive_terminates_after_its_steps(emr: Any) -> None:
    cluster = emr.create(
        instances={"KeepJobFlowAliveWhenNoSteps": False}, Steps=[emr.bash("true"), emr.bash("exit 1"), emr.bash("true")]
    )
    status = emr.await_cluster(cluster, "TERMINATED", "TERMINATED_WITH_ERRORS")
    assert status["State"] == "TERMINATED"
    assert status["StateChangeReason"] == {"Code": "ALL_STEPS_COMPLETED", "Message": "Steps completed with errors"}
    assert status["Timeline"]["ReadyDateTime"] <= status["Timeline"]["EndDateTime"]
    states = [step["Status"]["State"] for step in emr.client.list_steps(ClusterId=cluster)["Steps"]]
    assert states == ["COMPLETED", "FAILED", "COMPLETED"]


def test_keep_alive_can_be_removed(emr: Any) -> None:
    cluster = emr.create()
    emr.await_cluster(cluster, "WAITING")
    emr.client.set_keep_job_flow_alive_when_no_steps(JobFlowIds=[cluster], KeepJobFlowAliveWhenNoSteps=False)
    assert emr.await_cluster(cluster, "TERMINATED")["StateChangeReason"]["Code"] == "ALL_STEPS_COMPLETED"


def test_an_idle_cluster_terminates_and_a_busy_one_does_not(emr: Any, tmp_path: Any) -> None:
    gate = tmp_path / "gate"
    policy = {"IdleTimeout": 60}
    idle = emr.create(AutoTerminationPolicy=policy)
    busy = emr.create(AutoTerminationPolicy=policy, Steps=[emr.bash(f'until [ -e "{gate}" ]; do sleep 0.05; done')])
    status = emr.await_cluster(idle, "TERMINATED")
    assert "idle" in status["StateChangeReason"]["Message"]
    assert emr.state(busy) == "RUNNING", "both have the same age, but one has a running step"
    gate.touch()
    emr.await_cluster(busy, "TERMINATED")


def test_an_idle_policy_can_be_removed_and_put_back(emr: Any) -> None:
    cluster = emr.create(AutoTerminationPolicy={"IdleTimeout": 604_800})
    emr.client.remove_auto_termination_policy(ClusterId=cluster)
    assert "AutoTerminationPolicy" not in emr.client.get_auto_termination_policy(ClusterId=cluster)
    emr.client.put_auto_termination_policy(ClusterId=cluster, AutoTerminationPolicy={"IdleTimeout": 60})
    emr.await_cluster(cluster, "TERMINATED")


def test_termination_is_by_the_user_and_idempotent(emr: Any) -> None:
    cluster = emr.create()
    emr.client.terminate_job_flows(JobFlowIds=[cluster])
    assert emr.await_cluster(cluster, "TERMINATED")["StateChangeReason"] == {
        "Code": "USER_REQUEST",
        "Message": "Terminated by user request",
    }
    emr.client.terminate_job_flows(JobFlowIds=[cluster])
    assert emr.state(cluster) == "TERMINATED"


def test_a_protected_cluster_is_not_terminated_and_the_others_are(emr: Any) -> None:
    protected, free = emr.create(instances={"TerminationProtected": True}), emr.create()
    with pytest.raises(ClientError, match="termination protected") as refused:
        emr.client.terminate_job_flows(JobFlowIds=[protected, free])
    assert refused.value.response["Error"]["Code"] == "ValidationException"
    emr.await_cluster(free, "TERMINATED")
    emr.await_cluster(protected, "WAITING")
    emr.client.set_termination_protection(JobFlowIds=[protected], TerminationProtected=False)
    emr.client.terminate_job_flows(JobFlowIds=[protected])
    emr.await_cluster(protected, "TERMINATED")


def test_a_terminated_cluster_is_not_modified(emr: Any) -> None:
    cluster = emr.create()
    emr.client.terminate_job_flows(JobFlowIds=[cluster])
    emr.await_cluster(cluster, "TERMINATED")
    for call in (
        lambda: emr.add(cluster, emr.bash("true")),
        lambda: emr.client.modify_cluster(ClusterId=cluster, StepConcurrencyLevel=2),
        lambda: emr.client.put_auto_termination_policy(ClusterId=cluster, AutoTerminationPolicy={"IdleTimeout": 60}),
    ):
        with pytest.raises(ClientError, match="may not be modified") as refused:
            call()
        assert refused.value.response["Error"]["Code"] == "ValidationException"
