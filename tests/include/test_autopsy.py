"""Why a step failed, told from what EMR and its logs say."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from include.autopsy import TAIL_LINES, describe_failure, read_log_tail, step_log_uri


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
