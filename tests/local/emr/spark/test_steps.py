"""Steps run in order; their outcomes, their logs, and the state of their cluster."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.moto_server.threaded_moto_server import ThreadedMotoServer


def waiting_for(gate: Path, mark: Path) -> str:
    """Return a script that creates a mark, and ends when the gate exists."""
    return f'touch "{mark}"; until [ -e "{gate}" ]; do sleep 0.02; done'


def test_steps_run_one_after_another_in_order(emr: Any, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    scripts = [f'echo begin {n} >> "{diary}"; sleep 0.05; echo end {n} >> "{diary}"' for n in range(4)]
    cluster = emr.create(instances={"KeepJobFlowAliveWhenNoSteps": False}, Steps=[emr.bash(s) for s in scripts])
    emr.await_cluster(cluster, "TERMINATED")
    assert diary.read_text().splitlines() == [f"{what} {n}" for n in range(4) for what in ("begin", "end")]


def test_the_concurrency_level_limits_the_running_steps(emr: Any, tmp_path: Path) -> None:
    gate, marks = tmp_path / "gate", [tmp_path / f"mark {n}" for n in range(3)]
    steps = [emr.bash(waiting_for(gate, mark)) for mark in marks]
    cluster = emr.create(StepConcurrencyLevel=2, Steps=steps)
    emr.await_true(lambda: marks[0].exists() and marks[1].exists(), "two steps run")
    states = [step["Status"]["State"] for step in emr.client.list_steps(ClusterId=cluster)["Steps"]]
    assert states == ["PENDING", "RUNNING", "RUNNING"]
    assert emr.client.modify_cluster(ClusterId=cluster, StepConcurrencyLevel=3)["StepConcurrencyLevel"] == 3
    emr.await_true(marks[2].exists, "the third runs too, the level being raised")
    gate.touch()
    emr.await_cluster(cluster, "WAITING")


def test_a_completed_step(emr: Any) -> None:
    cluster = emr.create()
    [step] = emr.add(cluster, emr.bash("echo out; echo problem >&2", name="hello", action=None))
    status = emr.await_step(cluster, step)
    assert status["State"] == "COMPLETED"
    assert "FailureDetails" not in status
    timeline = status["Timeline"]
    assert timeline["CreationDateTime"] <= timeline["StartDateTime"] <= timeline["EndDateTime"]
    described = emr.client.describe_step(ClusterId=cluster, StepId=step)["Step"]
    assert described["Name"] == "hello"
    assert described["ActionOnFailure"] == "TERMINATE_CLUSTER", "EMR's default"
    assert described["Config"]["Jar"] == "command-runner.jar"
    assert described["Config"]["Args"] == ["bash", "-c", "echo out; echo problem >&2"]


def test_logs_are_delivered_at_the_end_to_a_folder_with_spaces_and_accents(emr: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    cluster = emr.create(LogUri=f"file://{emr.log_dir}/")
    [step] = emr.add(cluster, emr.bash(f'echo début; echo err >&2; until [ -e "{gate}" ]; do sleep 0.02; done; exit 3'))
    emr.await_output(cluster, step, "début")
    folder = emr.log_dir / cluster / "steps" / step
    assert not folder.exists(), "EMR delivers logs later"
    gate.touch()
    status = emr.await_step(cluster, step)
    assert status["FailureDetails"]["LogFile"] == f"file://{folder}/stderr.gz"
    texts = {path.name: gzip.decompress(path.read_bytes()).decode() for path in folder.iterdir()}
    assert texts.keys() == {"stdout.gz", "stderr.gz", "controller.gz"}
    assert (texts["stdout.gz"], texts["stderr.gz"]) == ("début\n", "err\n")
    assert "exit code 3" in texts["controller.gz"]
    assert "bash -c 'echo début" in texts["controller.gz"]
    assert "bootstrap actions were not run" in texts["controller.gz"]


def test_logs_go_to_an_s3_bucket_of_a_configured_endpoint(start_endpoint: Any) -> None:
    credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "eu-west-3"}
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        store = boto3.client(
            "s3", region_name="eu-west-3", endpoint_url=url, aws_access_key_id="test", aws_secret_access_key="test"
        )
        store.create_bucket(Bucket="lake", CreateBucketConfiguration={"LocationConstraint": "eu-west-3"})
        _, emr = start_endpoint(environment=os.environ | credentials | {"AWS_ENDPOINT_URL_S3": url})
        cluster = emr.create(LogUri="s3://lake/my logs/")
        [step] = emr.add(cluster, emr.bash("echo out; exit 1"))
        details = emr.await_step(cluster, step)["FailureDetails"]
        assert details["LogFile"] == f"s3://lake/my logs/{cluster}/steps/{step}/stderr.gz"
        body = store.get_object(Bucket="lake", Key=f"my logs/{cluster}/steps/{step}/stdout.gz")["Body"].read()
        assert gzip.decompress(body) == b"out\n"
    finally:
        server.stop()


def test_the_logs_of_a_cluster_without_log_uri_stay_in_the_state_directory(emr: Any) -> None:
    cluster = emr.create(LogUri=None)
    [step] = emr.add(cluster, emr.bash("echo x; exit 1"))
    assert "LogFile" not in emr.await_step(cluster, step)["FailureDetails"]
    assert (emr.folder(cluster, step) / "stdout").read_text() == "x\n"


def test_the_message_of_a_python_error_is_in_the_failure_details(emr: Any, tmp_path: Path) -> None:
    script = tmp_path / "été 1.py"
    script.write_text("raise ValueError('60 of 100 images are rejects')\n")
    cluster = emr.create()
    [step] = emr.add(cluster, emr.step("python3", str(script)))
    details = emr.await_step(cluster, step)["FailureDetails"]
    assert details["Message"] == "ValueError: 60 of 100 images are rejects"
    assert details["Reason"] == "Unknown Error."


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["bash", "-c", "kill -9 $$"], "signal 9 (SIGKILL)"),
        (["timeout", "0.1s", "sleep", "30"], "time limit (0.1s)"),
        (["timeout", "-s", "KILL", "0.1s", "sleep", "30"], "its time limit (0.1s) passed"),
        (["no-such-program"], "cannot run 'no-such-program'"),
        (["spark-submit", "--master", "spark://elsewhere:7077", "app.py"], "spark://elsewhere:7077"),
    ],
)
def test_the_message_names_a_signal_a_limit_or_a_missing_program(emr: Any, argv: list[str], message: str) -> None:
    cluster = emr.create()
    [step] = emr.add(cluster, emr.step(*argv))
    status = emr.await_step(cluster, step)
    assert status["State"] == "FAILED"
    assert message in status["FailureDetails"]["Message"]


def test_continue_runs_the_next_step(emr: Any) -> None:
    cluster = emr.create(Steps=[emr.bash("exit 1"), emr.bash("true")])
    emr.await_cluster(cluster, "WAITING")
    states = [step["Status"]["State"] for step in emr.client.list_steps(ClusterId=cluster)["Steps"]]
    assert states == ["COMPLETED", "FAILED"]


def test_cancel_and_wait_cancels_pending_steps_and_waits(emr: Any) -> None:
    cluster = emr.create(Steps=[emr.bash("exit 1", action="CANCEL_AND_WAIT"), emr.bash("true"), emr.bash("true")])
    emr.await_cluster(cluster, "WAITING")
    states = [step["Status"]["State"] for step in emr.client.list_steps(ClusterId=cluster)["Steps"]]
    assert states == ["CANCELLED", "CANCELLED", "FAILED"]
    [later] = emr.add(cluster, emr.bash("true"))
    assert emr.await_step(cluster, later)["State"] == "COMPLETED"


@pytest.mark.parametrize("action", ["TERMINATE_CLUSTER", "TERMINATE_JOB_FLOW", None])
def test_terminate_cluster_terminates_the_cluster(emr: Any, action: str | None) -> None:
    cluster = emr.create(Steps=[emr.bash("exit 1", action=action), emr.bash("true")])
    status = emr.await_cluster(cluster, "TERMINATED", "TERMINATED_WITH_ERRORS")
    assert status["State"] == "TERMINATED_WITH_ERRORS"
    assert status["StateChangeReason"] == {"Code": "STEP_FAILURE", "Message": "Shut down as step failed"}
    steps = emr.client.list_steps(ClusterId=cluster)["Steps"]
    assert [step["Status"]["State"] for step in steps] == ["CANCELLED", "FAILED"]
    assert steps[0]["Status"]["StateChangeReason"]["Message"] == "Job terminated"


def test_a_failed_step_does_not_terminate_a_protected_cluster(emr: Any) -> None:
    steps = [emr.bash("exit 1", action="TERMINATE_CLUSTER"), emr.bash("true")]
    cluster = emr.create(instances={"TerminationProtected": True}, Steps=steps)
    emr.await_cluster(cluster, "WAITING")
    states = [step["Status"]["State"] for step in emr.client.list_steps(ClusterId=cluster)["Steps"]]
    assert states == ["CANCELLED", "FAILED"]


def test_a_cancelled_pending_step_never_runs(emr: Any, tmp_path: Path) -> None:
    gate, mark, ran = tmp_path / "gate", tmp_path / "mark", tmp_path / "ran"
    cluster = emr.create()
    running, pending = emr.add(cluster, emr.bash(waiting_for(gate, mark)), emr.bash(f'touch "{ran}"'))
    emr.await_true(mark.exists, "the first step runs")
    infos = emr.client.cancel_steps(ClusterId=cluster, StepIds=[pending])["CancelStepsInfoList"]
    assert infos == [{"StepId": pending, "Status": "SUBMITTED"}]
    assert emr.status(cluster, pending)["State"] == "CANCELLED"
    gate.touch()
    assert emr.await_step(cluster, running)["State"] == "COMPLETED"
    emr.await_cluster(cluster, "WAITING")
    assert not ran.exists()
    [info] = emr.client.cancel_steps(ClusterId=cluster, StepIds=[running])["CancelStepsInfoList"]
    assert info["Status"] == "FAILED"
    assert "COMPLETED" in info["Reason"]


def cancel_a_step_with_cleanup(emr: Any, cleaned: Path, **option: str) -> tuple[str, dict[str, Any]]:
    """Cancel a running step that writes a file on SIGTERM; return its cluster and its final status."""
    cluster = emr.create()
    script = f"""trap 'touch "{cleaned}"; exit 0' TERM; echo ready; while :; do sleep 0.02; done"""
    [step] = emr.add(cluster, emr.bash(script))
    emr.await_output(cluster, step, "ready")
    emr.client.cancel_steps(ClusterId=cluster, StepIds=[step], **option)
    status = emr.await_step(cluster, step)
    assert status["State"] == "CANCELLED"
    return cluster, status


def test_an_interrupted_step_can_clean_up(emr: Any, tmp_path: Path) -> None:
    cluster, _ = cancel_a_step_with_cleanup(emr, tmp_path / "cleaned")
    assert (tmp_path / "cleaned").exists()
    emr.await_cluster(cluster, "WAITING")


def test_a_killed_step_cannot_clean_up(emr: Any, tmp_path: Path) -> None:
    _, status = cancel_a_step_with_cleanup(emr, tmp_path / "cleaned", StepCancellationOption="TERMINATE_PROCESS")
    assert status["StateChangeReason"]["Message"] == "Cancelled by user"
    assert not (tmp_path / "cleaned").exists()


def test_a_cancelled_step_does_not_trigger_its_action_on_failure(emr: Any) -> None:
    cluster = emr.create()
    [step] = emr.add(cluster, emr.bash("echo ready; sleep 600", action="TERMINATE_CLUSTER"))
    emr.await_output(cluster, step, "ready")
    emr.client.cancel_steps(ClusterId=cluster, StepIds=[step], StepCancellationOption="TERMINATE_PROCESS")
    emr.await_step(cluster, step, "CANCELLED")
    emr.await_cluster(cluster, "WAITING")


def test_an_unknown_cancellation_option_is_rejected(emr: Any) -> None:
    cluster = emr.create()
    [step] = emr.add(cluster, emr.bash("true"))
    with pytest.raises(ClientError, match="enum value set"):
        emr.client.cancel_steps(ClusterId=cluster, StepIds=[step], StepCancellationOption="PLEASE")


def test_steps_are_listed_newest_first_in_pages_and_by_id_in_the_requested_order(emr: Any, tmp_path: Path) -> None:
    gate, mark = tmp_path / "gate", tmp_path / "mark"
    cluster = emr.create()
    ids = emr.add(cluster, emr.bash(waiting_for(gate, mark)), *[emr.bash("true", name=f"{n}") for n in range(60)])
    emr.await_true(mark.exists, "the first step runs")
    pages = emr.client.get_paginator("list_steps").paginate(ClusterId=cluster)
    assert [step["Id"] for page in pages for step in page["Steps"]] == ids[::-1]
    for requested in ([ids[0], ids[2]], [ids[2], ids[0]]):
        listed = emr.client.list_steps(ClusterId=cluster, StepIds=requested)["Steps"]
        assert [step["Id"] for step in listed] == requested
    assert [s["Id"] for s in emr.client.list_steps(ClusterId=cluster, StepStates=["RUNNING"])["Steps"]] == ids[:1]


def test_at_most_256_steps_are_active(emr: Any, tmp_path: Path) -> None:
    gate, mark = tmp_path / "gate", tmp_path / "mark"
    cluster = emr.create(Steps=[emr.bash(waiting_for(gate, mark))])
    emr.await_true(mark.exists, "the first step runs")
    pending = emr.add(cluster, *[emr.bash("true")] * 255)
    with pytest.raises(ClientError, match="Maximum number of active steps"):
        emr.add(cluster, emr.bash("true"))
    emr.client.cancel_steps(ClusterId=cluster, StepIds=pending)
    assert len(emr.add(cluster, emr.bash("true"))) == 1
