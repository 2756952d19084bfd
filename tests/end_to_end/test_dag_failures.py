"""The DAG through Airflow on the local EMR endpoint, when something goes wrong.

After each failure: the run has failed, no cluster is left, the log names the cause, and what people read is as it was.
"""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.end_to_end.conftest import Outcome, snapshot

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
    [failed] = [run for run in (published_copy / "runs").iterdir() if not (run / "manifest.json").exists()]
    assert json.loads((failed / "cost.json").read_text())["eur"]["low"] > 0, "a failed run costs, too"
    assert len(pd.read_parquet(published_copy / "results")) == 25


def test_terminate_fails(bench, published_copy, tmp_path):
    """The idle time-out ends what the teardown could not: the clock of its timers runs faster here."""
    before = snapshot(published_copy)
    faults = {
        "api": [{"action": "TerminateJobFlows", "error": "AccessDeniedException", "times": "forever"}],
        "steps": [{"name": "featurize*", "exit_code": 1, "stderr": "RuntimeError: asked for"}],
    }
    outcome = bench.run(
        published_copy, tmp_path, faults=faults, conf={"idle_timeout_minutes": 1}, arguments=("--clock-rate", "2")
    )
    check_failed(outcome, published_copy, before, "AccessDeniedException")
    assert outcome.state.tasks["terminate_cluster"] == "failed"


def test_terminate_fails_after_success(bench, published_copy, tmp_path):
    """Good results are published, and still the run is red: the cluster is live, and somebody has to look after it."""
    faults = {"api": [{"action": "TerminateJobFlows", "error": "AccessDeniedException", "times": "forever"}]}
    outcome = bench.run(published_copy, tmp_path, faults=faults, settle_seconds=0)
    assert outcome.state.state == "failed"
    assert outcome.state.tasks["terminate_cluster"] == "failed"
    assert outcome.state.tasks["publish_results"] == "success"
    assert len(outcome.live_clusters) == 1
    assert len(pd.read_parquet(published_copy / "results")) == 25


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


def test_retried_create_attaches_to_the_cluster_that_exists(bench, published_copy, tmp_path):
    faults = {
        "api": [{"action": "RunJobFlow", "error": "InternalServerError", "http_status": 500, "when": "after"}],
        "steps": [{"name": "featurize*", "exit_code": 1, "stderr": "RuntimeError: asked for"}],
    }
    outcome = bench.run(published_copy, tmp_path, faults=faults)
    assert outcome.state.tasks["create_cluster"] == "success"
    assert len(outcome.clusters) == 1


def test_retried_add_steps_attaches_to_the_step_that_exists(bench, published_copy, tmp_path):
    faults = {
        "api": [{"action": "AddJobFlowSteps", "error": "InternalServerError", "http_status": 500, "when": "after"}],
        "steps": [{"name": "featurize*", "hangs": True, "times": "forever"}],
        "clusters": [{"fails": "lost", "after_seconds": 8}],
    }
    outcome = bench.run(published_copy, tmp_path, faults=faults)
    assert outcome.state.tasks["add_featurize"] == "success"
    assert "Steps of this run that are there" in outcome.log


@pytest.mark.parametrize("missing", [True, False], ids=["missing", "empty"])
def test_no_images(bench, published_copy, tmp_path, missing):
    before = snapshot(published_copy)
    shutil.rmtree(published_copy / "data")
    if not missing:
        (published_copy / "data" / "Banana").mkdir(parents=True)
    outcome = bench.run(published_copy, tmp_path)
    check_failed(outcome, published_copy, before, f"{published_copy}/data", "does not exist" if missing else "matches")
    assert outcome.clusters == [], "no cluster is bought for nothing"


def test_no_model(bench, published_copy, tmp_path):
    before = snapshot(published_copy)
    shutil.rmtree(published_copy / "models")
    outcome = bench.run(published_copy, tmp_path)
    check_failed(outcome, published_copy, before, "make publish ROOT=")
    assert outcome.clusters == []


def test_results_are_not_whole(bench, published_copy, tmp_path):
    """A wrong k: the job's own summary and the CSV differ from what was asked for."""
    before = snapshot(published_copy)
    outcome = bench.run(
        published_copy,
        tmp_path,
        conf={"variance_target": 0.9},
        faults={"steps": [{"name": "pca*", "exit_code": 0, "stderr": "nothing was written"}]},
    )
    check_failed(outcome, published_copy, before, "pca.json is not there")
    assert outcome.state.tasks["verify_results"] == "failed"
    assert outcome.state.tasks["terminate_cluster"] == "success"
