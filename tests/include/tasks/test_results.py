"""A verified run is published with report and manifest; a damaged one is not; the cost never fails a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException
from botocore.exceptions import ClientError

from include.tasks import results as tasks
from spark_jobs.args import PCA_SUMMARY_FILE
from tests.include.run_folders import edit_json, write_run
from tests.include.run_records import JOBS, cost_record, created_record, plan_record

Opened = Callable[..., dict[str, Any]]


@pytest.fixture
def run(lake: Path, opened: Opened) -> dict[str, Any]:
    """A run whose jobs have completed."""
    found = opened(max_reject_ratio=0.5)
    write_run(lake, slug=found["slug"])
    return found


def test_verified_run_is_published_with_report_and_manifest(lake: Path, run: dict[str, Any]) -> None:
    verified, plan, created, cost = tasks.verify_results(run, JOBS), plan_record(), created_record(), cost_record()
    for _ in range(2):  # a retry leads to the same state
        published = tasks.publish_results(run, json.loads(json.dumps(verified)), plan, created, cost)
    assert len(pd.read_parquet(lake / "results")) == verified["images"] == 5
    assert json.loads((lake / "current.json").read_text()) == published
    assert published["run_id"] == run["run_id"]
    folder = lake / "runs" / run["slug"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["run_id"], manifest["cluster"]["id"], manifest["code"]) == (run["run_id"], "j-1", "feedface")
    assert manifest["residency"] == {"before": run["residency"], "cluster": created["attestation"]}
    assert (manifest["forecast"], manifest["cost"]) == (plan["forecast"], cost)
    assert manifest["results"] == published["results"]
    report = json.loads((folder / "report.json").read_text())
    assert report["images"] == 5
    [line] = (lake / "reports" / f"run={run['slug']}" / "report.json").read_text().splitlines()
    row = json.loads(line)
    assert {name: row[name] for name in report if name in row} == {name: report[name] for name in report if name in row}
    assert row["cost_eur_at_most"] == cost["eur"]["high"]
    assert run["slug"] in (folder / "report.html").read_text()


def test_damaged_run_is_not_published_and_not_retried(lake: Path, run: dict[str, Any]) -> None:
    next((lake / "runs" / run["slug"] / "features").glob("*.parquet")).unlink()
    with pytest.raises(AirflowFailException, match=r"VerificationError: .*rows of features"):
        tasks.verify_results(run, JOBS)
    assert not (lake / "results").exists()


def test_manifest_is_written_last(lake: Path, run: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> str:
        raise RuntimeError("no line")

    monkeypatch.setattr(tasks, "report_line", fail)
    with pytest.raises(RuntimeError, match="no line"):
        tasks.publish_results(run, tasks.verify_results(run, JOBS), plan_record(), created_record(), None)
    assert (lake / "current.json").exists()
    assert not (lake / "runs" / run["slug"] / "manifest.json").exists()


def test_reports_of_all_runs_are_one_table_for_pandas(lake: Path, opened: Opened) -> None:
    """One run has a variance target, the other has none; tests/spark_jobs reads such a table with Spark."""
    for number, params in enumerate([{}, {"variance_target": None, "n_components": 2}]):
        run = opened(max_reject_ratio=0.5, **params) | {"slug": f"2026112{number}T120000Z-0123abcd"}
        edit_json(write_run(lake, slug=run["slug"]) / PCA_SUMMARY_FILE, **params)
        tasks.publish_results(run, tasks.verify_results(run, JOBS), plan_record(), created_record(), None)
    lines = [path.read_text() for path in sorted(lake.glob("reports/run=*/report.json"))]
    table = pd.read_json(StringIO("".join(lines)), lines=True)
    assert table["run"].tolist() == ["20261120T120000Z-0123abcd", "20261121T120000Z-0123abcd"]
    assert table["k"].tolist() == [2, 2]
    assert table["variance_target"].isna().tolist() == [False, True]


def test_cost_that_cannot_be_computed_is_none_and_fails_no_run(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "ListClusters")

    monkeypatch.setattr(tasks, "open_emr", refuse)
    assert tasks.report_cost(opened()) is None
    assert "AccessDeniedException" in caplog.text
    assert tasks.report_cost(None) is None
