"""The DAG through Airflow on the local EMR endpoint: runs that fail, beside those of the fault matrix.

After each failure, the run has failed, no cluster is live, the log names the cause, and the published files are
unchanged.
"""

import html
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from local.run.watch import read_reported_run
from tests.end_to_end.conftest import DAG_ID, Outcome, snapshot

pytestmark = pytest.mark.slow


def check_failed(outcome: Outcome, lake: Path, before: dict[str, str], *causes: str) -> None:
    assert outcome.state.state == "failed", outcome.state
    assert outcome.live_clusters == []
    missing = [cause for cause in causes if cause not in outcome.log]
    assert not missing, outcome.log[-4000:]
    assert snapshot(lake) == before
    assert len(before) == 3


def test_featurize_step_fails(bench, published_copy, tmp_path):
    before = snapshot(published_copy)
    for path in (published_copy / "data" / "Banana").glob("*.jpg"):
        path.write_text("not an image")
    outcome = bench.run(published_copy, tmp_path)
    check_failed(outcome, published_copy, before, "6 of 25", "not_an_image")
    assert outcome.state.tasks["wait_featurize"] == "failed"
    assert outcome.state.tasks["add_pca"] == "upstream_failed"
    assert outcome.state.tasks["terminate_cluster"] == "success"


def test_pca_step_fails(bench, published_copy, tmp_path):
    before = snapshot(published_copy)
    faults = {"steps": [{"name": "pca*", "exit_code": 3, "stderr": "OSError: no space left on device"}]}
    outcome = bench.run(published_copy, tmp_path, faults=faults)
    check_failed(outcome, published_copy, before, "no space left on device")
    assert outcome.state.tasks["wait_featurize"] == "success"
    assert outcome.state.tasks["wait_pca"] == "failed"
    assert outcome.state.tasks["report_cost"] == "success"
    current = json.loads((published_copy / "current.json").read_text())
    [failed] = [run for run in (published_copy / "runs").iterdir() if run.name != current["run"]]
    assert json.loads((failed / "cost.json").read_text())["eur"]["low"] > 0, "a failed run has a cost"
    assert len(pd.read_parquet(published_copy / "results")) == 25
    report = json.loads((failed / "report.json").read_text(encoding="utf-8"))
    [failure] = report["failed_tasks"]
    assert (failure["task"], failure["kind"]) == ("wait_pca", "disk full")
    assert "no space left on device" in failure["cause"]
    assert report["published_run"] == current["run"]
    assert [attestation["verdict"] for attestation in report["attestations"]] == ["allowed", "allowed"]
    assert failure["advice"] in html.unescape((failed / "report.html").read_text(encoding="utf-8"))
    table = {path.parent.name for path in (published_copy / "reports").glob("run=*/report.json")}
    assert f"run={failed.name}" in table
    assert read_reported_run(bench.home / "airflow.db", DAG_ID, outcome.state.run_id) == failed.name


@pytest.mark.soak  # service/test_recovery.py has a teardown that may not terminate
def test_terminate_fails_after_success(bench, published_copy, tmp_path):
    """The results are published and the run fails, since the cluster is live until its idle time-out terminates it.

    The endpoint's timers run twice as fast here.
    """
    faults = {"api": [{"action": "TerminateJobFlows", "error": "AccessDeniedException", "times": "forever"}]}
    (published_copy / "data" / "Banana" / "0_100.jpg").unlink()
    before = snapshot(published_copy)
    outcome = bench.run(
        published_copy,
        tmp_path,
        faults=faults,
        conf={"idle_timeout_minutes": 1},
        arguments=("--clock-rate", "2"),
    )
    assert outcome.state.state == "failed"
    assert outcome.state.tasks["terminate_cluster"] == "failed"
    assert "AccessDeniedException" in outcome.log
    assert outcome.state.tasks["publish_results"] == "success"
    assert len(pd.read_parquet(published_copy / "results")) == 24, "one photo was deleted"
    assert not set(before.values()) & set(snapshot(published_copy).values()), "a second run replaces the first"
    assert [cluster["Status"]["State"] for cluster in outcome.clusters] == ["TERMINATED"]


def test_create_fails_after_run_job_flow(bench, published_copy, tmp_path):
    """The cluster exists, and Airflow has no id of it: the teardown finds it by its name."""
    before = snapshot(published_copy)
    faults = {
        "api": [
            {"action": "RunJobFlow", "error": "InternalServerError", "http_status": 500, "when": "after"},
            # The retries find no way to look for it either.
            {"action": "ListClusters", "error": "AccessDeniedException", "skip": 1, "times": 3},
        ]
    }
    outcome = bench.run(published_copy, tmp_path, faults=faults)
    check_failed(outcome, published_copy, before, "InternalServerError", "AccessDeniedException")
    assert outcome.state.tasks["create_cluster"] == "failed"
    assert outcome.state.tasks["terminate_cluster"] == "success"
    assert [cluster["Status"]["State"] for cluster in outcome.clusters] == ["TERMINATED"]


def test_retried_create_and_add_attach_to_the_cluster_and_the_step_that_exist(bench, published_copy, tmp_path):
    before = snapshot(published_copy)
    took_effect = {"error": "InternalServerError", "http_status": 500, "when": "after"}
    faults = {
        "api": [{"action": action, **took_effect} for action in ("RunJobFlow", "AddJobFlowSteps")],
        "steps": [{"name": "featurize*", "exit_code": 1, "stderr": "RuntimeError: asked for"}],
    }
    outcome = bench.run(published_copy, tmp_path, faults=faults)
    check_failed(outcome, published_copy, before, "RuntimeError: asked for")
    assert outcome.state.tasks["create_cluster"] == "success"
    assert outcome.state.tasks["add_featurize"] == "success"
    assert "Existing steps of the cluster" in outcome.log
    assert len(outcome.clusters) == 1


def test_no_images(bench, published_copy, tmp_path):
    """A folder without images and a missing model fail in the same task (tests/include/tasks/test_run.py)."""
    before = snapshot(published_copy)
    shutil.rmtree(published_copy / "data")
    outcome = bench.run(published_copy, tmp_path)
    check_failed(outcome, published_copy, before, f"{published_copy}/data", "does not exist")
    assert outcome.clusters == [], "no cluster is created for nothing"
    [report] = [json.loads(path.read_text()) for path in published_copy.glob("runs/*/report.json") if _failed(path)]
    [failure] = report["failed_tasks"]
    assert (failure["task"], failure["kind"]) == ("find_changes", "NoImagesError"), "this run has a report too"
    assert f"{published_copy}/data" in failure["cause"]


def _failed(report: Path) -> bool:
    return json.loads(report.read_text(encoding="utf-8"))["state"] == "failed"


@pytest.mark.soak  # tests/include/lake/test_verification.py has every missing file
def test_pca_writes_nothing_and_reports_success(bench, published_copy, tmp_path):
    before = snapshot(published_copy)
    outcome = bench.run(
        published_copy,
        tmp_path,
        conf={"variance_target": 0.9},
        faults={"steps": [{"name": "pca*", "exit_code": 0, "stderr": "nothing was written"}]},
    )
    check_failed(outcome, published_copy, before, "pca.json does not exist")
    assert outcome.state.tasks["verify_results"] == "failed"
    assert outcome.state.tasks["terminate_cluster"] == "success"
