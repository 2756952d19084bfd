"""The texts about a failed step: EMR's report, the cause and the evidence."""

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


def test_failure_details_of_the_step_and_state_cluster_parts_are_told() -> None:
    details = {"Reason": "Unknown Error", "Message": "no space left", "LogFile": "s3://b/logs/stderr.gz"}
    cluster = {
        "Id": "j-1",
        "Status": {
            "State": "TERMINATED_WITH_ERRORS",
            "StateChangeReason": {"Code": "BOOTSTRAP_FAILURE", "Message": "On the master instance"},
        },
    }
    text = describe_failure(step(FailureDetails=details, StateChangeReason={"Message": "Exit code 1"}), cluster)
    cluster_parts = ["j-1 is TERMINATED_WITH_ERRORS", "BOOTSTRAP_FAILURE On the master instance"]
    for part in ["'featurize slug' (s-1) ended FAILED", *details.values(), "Exit code 1", *cluster_parts]:
        assert part in text


@pytest.mark.parametrize(
    ("status", "cluster"),
    [
        ({}, None),
        ({"FailureDetails": {}, "StateChangeReason": {}}, {"Id": "j-1", "Status": {"State": "RUNNING"}}),
        ({"FailureDetails": None, "StateChangeReason": None}, {"Id": "j-1", "Status": {"State": "RUNNING"}}),
    ],
)
def test_the_report_leaves_out_missing_details(status: dict[str, Any], cluster: dict[str, Any] | None) -> None:
    text = describe_failure(step(**status), cluster)
    assert text.startswith("step 'featurize slug' (s-1) ended FAILED")
    assert "None" not in text


@pytest.mark.parametrize("root", ["s3://b/logs", "s3://b/logs/", "s3n://b/logs/", "s3a://b/logs/"])
def test_the_log_uri_has_the_scheme_s3_for_every_scheme_of_emr(root: str) -> None:
    """EMR answers DescribeCluster with s3n:// instead of s3://."""
    assert step_log_uri(root, "j-1", "s-1", "stderr") == "s3://b/logs/j-1/steps/s-1/stderr.gz"


def test_a_local_log_folder_keeps_its_scheme() -> None:
    assert step_log_uri("file:///l é#%/", "j-1", "s-1", "stdout") == "file:///l é#%/j-1/steps/s-1/stdout.gz"


def test_the_tail_is_the_last_lines_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "stderr.gz"
    log.write_bytes(gzip.compress("\n".join(f"line {number} é" for number in range(500)).encode() + b"\n\xff"))
    tail = read_log_tail(f"file://{log}", None)
    assert tail is not None
    lines = tail.splitlines()
    assert len(lines) == TAIL_LINES
    assert lines[-2:] == ["line 499 é", "\N{REPLACEMENT CHARACTER}"]


def test_a_missing_log_is_none(tmp_path: Path) -> None:
    assert read_log_tail(f"file://{tmp_path}/stderr.gz", None) is None


def examined(kind: str) -> Autopsy:
    failed, cluster, logs = captured_steps.load(kind)
    return Autopsy(describe_failure(failed, cluster), diagnose(failed, cluster, logs), logs)


def test_the_text_begins_with_the_cause_and_ends_with_the_evidence() -> None:
    lines = render(examined("access_denied")).splitlines()
    assert lines[0] == "Why it failed: ACCESS DENIED"
    assert lines[1].startswith("Cause: a request was denied: builtins.OSError: When initiating multiple part upload")
    assert lines[2].startswith("What to do: The instance profile (setting job_flow_role)")
    assert lines[3].startswith("EMR reports: step 'featurize 20261122T120000Z-0123abcd' (s-")
    titles = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    folder = "s3://b/logs/j-1/steps/s-1"
    assert titles == [
        "Evidence:",
        "Last Python traceback:",
        f"Last lines of {folder}/stdout.gz:",
        f"Last lines of {folder}/stderr.gz:",
        "About the logs:",
    ]
    assert lines[-1] == f"  The logs are in {folder}"


def test_the_texts_have_a_maximum_length() -> None:
    for folder in captured_steps.FOLDER.iterdir():
        autopsy = examined(folder.name)
        assert len(render(autopsy)) < 150_000
        line = brief(autopsy)
        assert len(line) < 1_500
        assert "\n" not in line
        assert line.startswith(f"{autopsy.diagnosis.kind}: ")
        assert line.endswith("; logs: s3://b/logs/j-1/steps/s-1")


def test_the_text_has_failed_containers_and_their_logs() -> None:
    text = render(examined("lost_capacity"))
    assert "Failed containers:\n  Container marked as failed: container_" in text
    assert re.search(r"Last lines of the log of container_\d+_0001_01_000002:\n  \S", text)
    assert "CoarseGrainedExecutorBackend: Got assigned task" in text


def test_a_cluster_that_could_not_be_described_is_reported() -> None:
    found = examine_step(step(FailureDetails={"Message": "ModuleNotFoundError: No module named 'x'"}), None, None, 600)
    assert found.diagnosis.kind == Kind.MISSING_MODULE
    assert "so the place of its logs is unknown" in render(found)
    assert brief(found).startswith("missing module: a module that the job imports is not installed")


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
