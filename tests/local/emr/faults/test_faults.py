"""What goes wrong on demand."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.emr.faults.faults import Faults
from local.emr.faults.scenario import ScenarioError, parse


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        ("{", "not JSON"),
        ("[]", "expected an object"),
        ('{"apis": []}', "unknown key 'apis'"),
        ('{"api": {}}', "'api' must be a list"),
        ('{"api": [{"acton": "RunJobFlow", "error": "x"}]}', r"api\[0\]: unknown key 'acton'"),
        ('{"api": [{"error": "x"}]}', r"api\[0\]: the key 'action' is missing"),
        ('{"api": [{"action": "RunJobFlow"}]}', "give 'error', 'drops', 'delay_seconds' or more"),
        ('{"api": [{"action": "RunJobFlow", "error": "x", "when": "later"}]}', r"api\[0\]\.when must be one of"),
        ('{"api": [{"action": "RunJobFlow", "error": "x", "times": 0}]}', r"api\[0\]\.times"),
        ('{"api": [{"action": "RunJobFlow", "error": "x", "times": "always"}]}', r"api\[0\]\.times"),
        ('{"api": [{"action": "RunJobFlow", "error": "x", "http_status": "400"}]}', r"http_status must be of type int"),
        ('{"api": [{"action": "RunJobFlow", "error": "x", "skip": -1}]}', "must not be negative"),
        ('{"clusters": [{"fails": "burn"}]}', r"clusters\[0\]\.fails must be one of bootstrap, capacity, lost"),
        ('{"steps": [{"name": "pca"}]}', "either 'exit_code', or 'hangs'"),
        ('{"steps": [{"name": "pca", "hangs": true, "exit_code": 1}]}', "either 'exit_code', or 'hangs'"),
    ],
)
def test_a_typo_is_an_error_that_names_the_key(scenario: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        parse(scenario)


def test_a_rule_skips_applies_and_is_used_up_then_the_next_one_applies(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    first = {"action": "RunJobFlow", "error": "first", "skip": 1, "times": 2}
    path.write_text(json.dumps({"api": [first, {"action": "RunJobFlow", "error": "second", "times": "forever"}]}))
    faults = Faults(path)
    assert faults.for_action("ListSteps") is None
    errors = [fault.error if fault else None for fault in (faults.for_action("RunJobFlow") for _ in range(5))]
    assert errors == ["second", "first", "first", "second", "second"], "the next rule gets what one lets pass"


def test_a_changed_file_is_read_again_and_a_broken_one_is_not_ignored(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text("{}")
    faults = Faults(path)
    assert faults.for_step("pca") is None
    path.write_text('{"steps": [{"name": "p*", "exit_code": 7, "times": "forever"}]}')
    fault = faults.for_step("pca")
    assert fault is not None
    assert fault.exit_code == 7
    path.write_text('{"step": []}')
    for _ in range(2):
        with pytest.raises(ScenarioError, match=r"faults\.json: unknown key 'step'"):
            faults.for_step("pca")
    path.write_text("{}")
    os.utime(path, ns=(0, 0))
    assert faults.for_step("pca") is None


def test_throttling_once_before_the_action(emr: Any) -> None:
    emr.set_faults({"api": [{"action": "RunJobFlow", "error": "ThrottlingException", "message": "Rate exceeded"}]})
    before = len(emr.client.list_clusters()["Clusters"])
    # botocore sends a throttled request again by itself: the second one comes through.
    answer = emr.client.run_job_flow(**emr.request())
    assert answer["ResponseMetadata"]["RetryAttempts"] == 1
    assert len(emr.client.list_clusters()["Clusters"]) in (before + 1, 50)


def test_access_is_denied_for_ever(emr: Any) -> None:
    cluster = emr.create()
    emr.set_faults(
        {
            "api": [
                {
                    "action": "TerminateJobFlows",
                    "error": "AccessDeniedException",
                    "http_status": 403,
                    "times": "forever",
                }
            ]
        }
    )
    for _ in range(3):
        with pytest.raises(ClientError) as refused:
            emr.client.terminate_job_flows(JobFlowIds=[cluster])
        assert refused.value.response["Error"]["Code"] == "AccessDeniedException"
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert emr.await_cluster(cluster, "WAITING")


def test_an_error_after_the_action_took_effect(emr: Any) -> None:
    emr.set_faults({"api": [{"action": "RunJobFlow", "error": "ValidationException", "when": "after"}]})
    with pytest.raises(ClientError):
        emr.create(Name="exists all the same")
    names = [summary["Name"] for summary in emr.client.list_clusters()["Clusters"]]
    assert names[0] == "exists all the same"


def test_describe_cluster_fails_once_right_after_run_job_flow(emr: Any) -> None:
    emr.set_faults({"api": [{"action": "DescribeCluster", "error": "InvalidRequestException"}]})
    cluster = emr.create()
    with pytest.raises(ClientError, match="DescribeCluster"):
        emr.cluster(cluster)
    assert emr.cluster(cluster)["Id"] == cluster


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


def test_a_cluster_is_lost_in_the_middle_of_a_step(emr: Any) -> None:
    emr.set_faults({"clusters": [{"fails": "lost", "after_seconds": 60}]})
    tag = f"tag-{os.getpid()}-lost"
    cluster = emr.create(Steps=[emr.bash(f"sleep 600; : {tag}"), emr.bash("true")])
    status = emr.await_cluster(cluster, "TERMINATED_WITH_ERRORS")
    assert status["StateChangeReason"]["Code"] == "INSTANCE_FAILURE"
    steps = emr.client.list_steps(ClusterId=cluster)["Steps"]
    assert [step["Status"]["State"] for step in steps] == ["CANCELLED", "FAILED"], "the newest first"
    assert steps[1]["Status"]["FailureDetails"]["Reason"] == "The master node was lost."
    assert emr.tagged(tag) == []


def test_a_step_fails_without_being_run(emr: Any, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    emr.set_faults({"steps": [{"name": "featurize*", "exit_code": 3, "stderr": "no space left on device"}]})
    cluster = emr.create()
    failing, next_one = emr.add(cluster, *[emr.bash(f'echo x >> "{ran}"', name="featurize 1")] * 2)
    status = emr.await_step(cluster, failing)
    assert status["State"] == "FAILED"
    assert status["FailureDetails"]["Message"] == "no space left on device"
    assert emr.await_step(cluster, next_one)["State"] == "COMPLETED"
    assert ran.read_text() == "x\n", "only the second one ran"


def test_a_step_hangs_until_it_is_cancelled(emr: Any) -> None:
    emr.set_faults({"steps": [{"name": "pca", "hangs": True}]})
    cluster = emr.create()
    [step] = emr.add(cluster, emr.bash("true", name="pca"))
    emr.await_output(cluster, step, "sleep infinity", log="controller")
    assert emr.status(cluster, step)["State"] == "RUNNING"
    emr.client.cancel_steps(ClusterId=cluster, StepIds=[step])
    assert emr.await_step(cluster, step)["State"] == "CANCELLED"


def test_the_scenario_is_told_and_a_bad_one_is_refused_over_http(emr: Any) -> None:
    emr.set_faults({"steps": [{"name": "pca", "hangs": True}]})
    with pytest.raises(urllib.error.HTTPError) as refused:
        emr.set_faults({"steps": [{"nam": "pca"}]})
    with refused.value as answer:
        assert answer.code == 400
        assert "unknown key 'nam'" in answer.read().decode()
    with urllib.request.urlopen(f"{emr.url}/local-emr/faults") as answer:
        assert json.load(answer)["steps"][0]["name"] == "pca", "the old one stays"


def test_an_endpoint_reads_its_scenario_from_a_file(start_endpoint: Any, tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text('{"api": [{"action": "ListClusters", "error": "AccessDeniedException"}]}')
    _, emr = start_endpoint("--faults", str(path))
    with pytest.raises(ClientError, match="AccessDeniedException"):
        emr.client.list_clusters()
    path.write_text('{"api": [{"actoin": "ListClusters"}]}')
    with pytest.raises(ClientError, match="unknown key 'actoin'"):
        emr.client.list_clusters()
    path.write_text("{}")
    assert emr.client.list_clusters()["Clusters"] == []


def test_an_endpoint_with_a_bad_scenario_does_not_start(start_endpoint: Any, tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text('{"api": [{"actoin": "ListClusters"}]}')
    with pytest.raises(RuntimeError, match=r"(?s)did not come up.*unknown key 'actoin'"):
        start_endpoint("--faults", str(path))
