"""Why a step failed, told from what EMR and its logs say."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import pytest

from include.autopsy.diagnosis import diagnose
from include.autopsy.examination import (
    TAIL_LINES,
    Autopsy,
    brief,
    describe_failure,
    examine_step,
    read_log_tail,
    render,
    step_log_uri,
)
from include.autopsy.symptoms import Kind
from tests.include import captured_steps


def step(**status: Any) -> dict[str, Any]:
    return {"Id": "s-1", "Name": "featurize slug", "Status": {"State": "FAILED"} | status}


def test_failure_details_of_the_step_and_state_of_the_cluster_are_told() -> None:
    details = {"Reason": "Unknown Error", "Message": "no space left", "LogFile": "s3://b/logs/stderr.gz"}
    cluster = {
        "Id": "j-1",
        "Status": {
            "State": "TERMINATED_WITH_ERRORS",
            "StateChangeReason": {"Code": "BOOTSTRAP_FAILURE", "Message": "On the master instance"},
        },
    }
    told = describe_failure(step(FailureDetails=details, StateChangeReason={"Message": "Exit code 1"}), cluster)
    of_the_cluster = ["j-1 is TERMINATED_WITH_ERRORS", "BOOTSTRAP_FAILURE On the master instance"]
    for part in ["'featurize slug' (s-1) ended FAILED", *details.values(), "Exit code 1", *of_the_cluster]:
        assert part in told


@pytest.mark.parametrize(
    ("status", "cluster"),
    [
        ({}, None),
        ({"FailureDetails": {}, "StateChangeReason": {}}, {"Id": "j-1", "Status": {"State": "RUNNING"}}),
        ({"FailureDetails": None, "StateChangeReason": None}, {"Id": "j-1", "Status": {"State": "RUNNING"}}),
    ],
)
def test_what_emr_leaves_out_is_left_out(status: dict[str, Any], cluster: dict[str, Any] | None) -> None:
    told = describe_failure(step(**status), cluster)
    assert told.startswith("step 'featurize slug' (s-1) ended FAILED")
    assert "None" not in told


@pytest.mark.parametrize("root", ["s3://b/logs", "s3://b/logs/", "s3n://b/logs/", "s3a://b/logs/"])
def test_log_is_where_emr_puts_it_however_emr_writes_the_bucket(root: str) -> None:
    """EMR answers DescribeCluster with s3n:// where it was given s3://."""
    assert step_log_uri(root, "j-1", "s-1", "stderr") == "s3://b/logs/j-1/steps/s-1/stderr.gz"


def test_folder_keeps_its_scheme() -> None:
    assert step_log_uri("file:///l é#%/", "j-1", "s-1", "stdout") == "file:///l é#%/j-1/steps/s-1/stdout.gz"


def test_tail_is_the_end_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "stderr.gz"
    log.write_bytes(gzip.compress("\n".join(f"line {number} é" for number in range(500)).encode() + b"\n\xff"))
    tail = read_log_tail(f"file://{log}", None)
    assert tail is not None
    lines = tail.splitlines()
    assert len(lines) == TAIL_LINES
    assert lines[-2:] == ["line 499 é", "\N{REPLACEMENT CHARACTER}"]


def test_log_that_is_not_there_yet_is_none(tmp_path: Path) -> None:
    assert read_log_tail(f"file://{tmp_path}/stderr.gz", None) is None


def examined(kind: str) -> Autopsy:
    failed, cluster, logs = captured_steps.load(kind)
    return Autopsy(describe_failure(failed, cluster), diagnose(failed, cluster, logs), logs)


def test_the_log_of_a_task_says_why_first_and_shows_it_after() -> None:
    lines = render(examined("access_denied")).splitlines()
    assert lines[0] == "Why it failed: ACCESS DENIED"
    assert lines[1].startswith("Cause: a request was refused: builtins.OSError: When initiating multiple part upload")
    assert lines[2].startswith("What to do: The instance profile (setting job_flow_role)")
    assert lines[3].startswith("EMR says: step 'featurize 20261122T120000Z-0123abcd' (s-")
    titles = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    folder = "s3://b/logs/j-1/steps/s-1"
    assert titles == [
        "What shows it:",
        "The last Python traceback:",
        f"The end of {folder}/stdout.gz:",
        f"The end of {folder}/stderr.gz:",
        "About the logs:",
    ]
    assert lines[-1] == f"  they are in {folder}"


@pytest.mark.parametrize("kind", sorted(path.name for path in captured_steps.FOLDER.iterdir()))
def test_texts_are_bounded(kind: str) -> None:
    autopsy = examined(kind)
    assert len(render(autopsy)) < 150_000
    line = brief(autopsy)
    assert len(line) < 1_500
    assert "\n" not in line
    assert line.startswith(f"{autopsy.diagnosis.kind}: ")
    assert line.endswith("; logs: s3://b/logs/j-1/steps/s-1")


def test_failed_containers_and_their_logs_are_in_the_text() -> None:
    text = render(examined("lost_capacity"))
    assert "Containers that failed:\n  Container marked as failed: container_" in text
    assert re.search(r"The end of the log of container_\d+_0001_01_000002:\n  \S", text)
    assert "CoarseGrainedExecutorBackend: Got assigned task" in text


def test_an_unreachable_cluster_is_said() -> None:
    found = examine_step(step(FailureDetails={"Message": "ModuleNotFoundError: No module named 'x'"}), None, None, 600)
    assert found.diagnosis.kind == Kind.MISSING_MODULE
    assert "where its logs are is not known" in render(found)
    assert brief(found).startswith("missing module: something that the job imports is not installed")


def no_time(_: float) -> None:
    raise AssertionError("nobody may wait here")


def test_a_step_that_never_ran_is_not_waited_for(tmp_path: Path) -> None:
    reason = {"Code": "INTERNAL_ERROR", "Message": "EC2 is out of capacity for m7g.xlarge"}
    status = {"State": "TERMINATED_WITH_ERRORS", "StateChangeReason": reason}
    cluster = {"Id": "j-1", "LogUri": f"file://{tmp_path}", "Status": status}
    never = {"Id": "s-1", "Name": "featurize", "Status": {"State": "CANCELLED", "Timeline": {}}}
    found = examine_step(never, cluster, None, 600, sleep=no_time)
    assert found.diagnosis.kind == Kind.LOST_CAPACITY
    assert "core_instance_types" in found.diagnosis.advice
    cancelled = examine_step(step(State="CANCELLED"), cluster | {"Status": {"State": "RUNNING"}}, None, 600, no_time)
    assert cancelled.diagnosis.kind == Kind.CANCELLED
