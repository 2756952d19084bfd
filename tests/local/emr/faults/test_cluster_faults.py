"""Faults of clusters: no capacity, a failed bootstrap action, a lost primary node, a termination."""

from __future__ import annotations

import gzip
import os
from typing import Any

import pytest
from botocore.exceptions import ClientError

PROGRESS = 'for n in 0 50 100; do echo "progress featurize: $n/100 images ($n %)"; sleep 0.3; done; echo done'
"""A script that reports progress as a job does."""


def test_a_cluster_without_capacity_has_no_instance(emr: Any) -> None:
    emr.set_faults({"clusters": [{"fails": "capacity"}]})
    cluster = emr.create(Steps=[emr.bash("true")])
    status = emr.await_cluster(cluster, "TERMINATED_WITH_ERRORS")
    reason = status["StateChangeReason"]
    assert reason["Code"] == "INTERNAL_ERROR"
    assert reason["Message"].startswith("EC2 is out of capacity for m6g.xlarge in availability zone eu-west-3a")
    assert "ReadyDateTime" not in status["Timeline"]
    assert emr.client.list_instances(ClusterId=cluster)["Instances"] == []
    reported = {"code": "INSTANCE_FLEET_TIMEOUT", "message": "all instances are taken"}
    emr.set_faults({"clusters": [{"fails": "capacity", **reported}]})
    reason = emr.await_cluster(emr.create(), "TERMINATED_WITH_ERRORS")["StateChangeReason"]
    assert reason == {"Code": "INSTANCE_FLEET_TIMEOUT", "Message": "all instances are taken"}


def test_the_log_of_a_failed_bootstrap_action_is_where_emr_puts_it(emr: Any) -> None:
    emr.set_faults({"clusters": [{"fails": "bootstrap", "stderr": "No matching distribution", "exit_code": 7}]})
    cluster = emr.create()
    message = emr.await_cluster(cluster, "TERMINATED_WITH_ERRORS")["StateChangeReason"]["Message"]
    [instance] = emr.client.list_instances(ClusterId=cluster)["Instances"]
    assert instance["Status"]["State"] == "TERMINATED"
    assert message == (
        f"On the master instance ({instance['Ec2InstanceId']}), bootstrap action 1 returned a non-zero return code"
    )
    folder = emr.delivered(cluster, "node", instance["Ec2InstanceId"], "bootstrap-actions", "1")
    texts = {path.name: gzip.decompress(path.read_bytes()).decode() for path in folder.iterdir()}
    assert texts.keys() == {"stdout.gz", "stderr.gz", "controller.gz"}
    assert texts["stderr.gz"] == "No matching distribution"
    assert "exit code 7" in texts["controller.gz"]


def test_a_bootstrap_failure_ends_the_next_cluster_of_that_name(emr: Any) -> None:
    emr.set_faults({"clusters": [{"fails": "bootstrap", "name": "fruit*"}]})
    other, failing = emr.create(Name="other"), emr.create(Steps=[emr.bash("true")])
    status = emr.await_cluster(failing, "TERMINATED_WITH_ERRORS")
    assert status["StateChangeReason"]["Code"] == "BOOTSTRAP_FAILURE"
    assert "ReadyDateTime" not in status["Timeline"]
    assert [s["Status"]["State"] for s in emr.client.list_steps(ClusterId=failing)["Steps"]] == ["CANCELLED"]
    next_one = emr.create()
    emr.await_cluster(other, "WAITING")
    emr.await_cluster(next_one, "WAITING")


def test_a_primary_node_is_lost_during_a_step(emr: Any) -> None:
    emr.set_faults({"clusters": [{"fails": "lost", "after_seconds": 60}]})
    tag = f"tag-{os.getpid()}-lost"
    cluster = emr.create(Steps=[emr.bash(f"sleep 600; : {tag}"), emr.bash("true")])
    status = emr.await_cluster(cluster, "TERMINATED_WITH_ERRORS")
    assert status["StateChangeReason"]["Code"] == "INSTANCE_FAILURE"
    steps = emr.client.list_steps(ClusterId=cluster)["Steps"]
    assert [step["Status"]["State"] for step in steps] == ["CANCELLED", "FAILED"], "the newest first"
    assert steps[1]["Status"]["FailureDetails"]["Reason"] == "The master node was lost."
    assert emr.tagged(tag) == []


def test_a_primary_node_is_lost_at_a_percentage_of_progress(emr: Any) -> None:
    emr.set_faults({"clusters": [{"fails": "lost", "at_percent": 50}]})
    cluster = emr.create()
    [step] = emr.add(cluster, emr.bash(f"{PROGRESS}; sleep 600"))
    assert emr.await_cluster(cluster, "TERMINATED_WITH_ERRORS")["StateChangeReason"]["Code"] == "INSTANCE_FAILURE"
    assert emr.await_step(cluster, step)["State"] == "FAILED"


def test_a_user_terminates_the_cluster_during_a_step(emr: Any) -> None:
    emr.set_faults({"clusters": [{"fails": "terminated", "at_percent": 50}]})
    cluster = emr.create()
    [step] = emr.add(cluster, emr.bash(f"{PROGRESS}; sleep 600"))
    status = emr.await_cluster(cluster, "TERMINATED")
    assert status["StateChangeReason"] == {"Code": "USER_REQUEST", "Message": "Terminated by user request"}
    assert emr.status(cluster, step)["State"] == "CANCELLED"


def test_a_user_protects_the_cluster_while_a_step_runs_and_it_cannot_be_terminated(emr: Any) -> None:
    emr.set_faults({"clusters": [{"fails": "protected"}]})
    cluster = emr.create()
    [step] = emr.add(cluster, emr.step("sleep", "600"))
    emr.await_true(lambda: emr.cluster(cluster)["TerminationProtected"], "the cluster is protected")
    with pytest.raises(ClientError, match="termination protected"):
        emr.client.terminate_job_flows(JobFlowIds=[cluster])
    assert emr.status(cluster, step)["State"] == "RUNNING", "its step goes on"
