"""A verified run is published with report and manifest; a damaged one is not; the cost never fails a run."""

from __future__ import annotations

import hashlib
import json
import os
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
from tests.include.run_folders import edit_json, found_of, write_run
from tests.include.run_records import JOBS, cost_record, created_record, plan_record

Opened = Callable[..., dict[str, Any]]


@pytest.fixture
def run(lake: Path, opened: Opened) -> dict[str, Any]:
    """A run whose jobs have completed."""
    found = opened(max_reject_ratio=0.5)
    write_run(lake, slug=found["slug"])
    return found


def verify(lake: Path, run: dict[str, Any]) -> Any:
    return tasks.verify_results(run, found_of(lake / "runs" / run["slug"]), JOBS)  # type: ignore[arg-type]


def publish(lake: Path, run: dict[str, Any], verified: Any = None, cost: Any = None, **found: Any) -> Any:
    """Verify and publish a run; its tasks get what leaves XCom."""
    changes = found_of(lake / "runs" / run["slug"], **found)
    verified = json.loads(json.dumps(verified or verify(lake, run)))
    return tasks.publish_results(run, changes, verified, plan_record(), created_record(), cost)  # type: ignore[arg-type]


def test_verified_run_is_published_with_report_and_manifest(lake: Path, run: dict[str, Any]) -> None:
    verified, plan, created, cost = verify(lake, run), plan_record(), created_record(), cost_record()
    for _ in range(2):  # a retry leads to the same state
        published = publish(lake, run, verified, cost)
    assert len(pd.read_parquet(lake / "results")) == verified["images"] == 5
    assert json.loads((lake / "current.json").read_text()) == published
    assert published["run_id"] == run["run_id"]
    folder = lake / "runs" / run["slug"]
    assert [path.name for path in (lake / "manifests").iterdir()] == [f"000001-{run['slug']}.json"]
    manifest = json.loads((lake / published["manifest"]).read_text())
    assert (manifest["run_id"], manifest["cluster"]["id"], manifest["code"]) == (run["run_id"], "j-1", "feedface")
    assert manifest["residency"] == {"before": run["residency"], "cluster": created["attestation"]}
    assert (manifest["forecast"], manifest["cost"]) == (plan["forecast"], cost)
    planned, outcome = manifest["sizing"]["plan"], manifest["sizing"]["outcome"]
    assert planned == plan["sizing"]
    assert (outcome["images"], outcome["bytes"], outcome["listed"]) == (6, 406, 5)
    assert (outcome["eur"], outcome["seconds"]) == (cost["eur"], 3600.0)
    assert manifest["results"] == sorted(path.name for path in (lake / "results").iterdir())
    assert manifest["changes"] == {"listed": 6, "new": 6, "changed": 0, "gone": 0, "work": 6, "work_bytes": 406}
    report = json.loads((folder / "report.json").read_text())
    assert (report["images"], report["featurized"], report["duration"]) == (5, 6, report["duration"])
    assert report["changes"] == manifest["changes"]
    [line] = (lake / "reports" / f"run={run['slug']}" / "report.json").read_text().splitlines()
    row = json.loads(line)
    assert {name: row[name] for name in report if name in row} == {name: report[name] for name in report if name in row}
    assert row["cost_eur_at_most"] == cost["eur"]["high"]
    assert run["slug"] in (folder / "report.html").read_text()


def test_damaged_run_is_not_published_and_not_retried(lake: Path, run: dict[str, Any]) -> None:
    next((lake / "segments").glob("*/features.parquet")).unlink()
    with pytest.raises(AirflowFailException, match=r"VerificationError: .*features.parquet does not exist"):
        verify(lake, run)
    assert not (lake / "results").exists()


def test_run_that_another_one_has_overtaken_fails_without_retry_and_changes_nothing_that_people_read(
    lake: Path, run: dict[str, Any]
) -> None:
    other = run | {"slug": "20261122T130000Z-89abcdef"}
    write_run(lake, 3, other["slug"])
    publish(lake, other)

    def read_by_people() -> dict[str, bytes]:
        folders = [lake / "results", lake / "results_csv", lake / "reports"]
        files = [lake / "current.json", *(path for folder in folders for path in folder.rglob("*.*"))]
        return {str(path): path.read_bytes() for path in files if path.is_file()}

    before = read_by_people()
    with pytest.raises(AirflowFailException, match=rf"ConflictError: the run {other['slug']} has published since"):
        publish(lake, run, base=None)
    assert read_by_people() == before


def test_publication_is_complete_after_a_retry_wherever_the_first_attempt_stopped(
    lake: Path, run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = verify(lake, run)
    for name in ("write_report", "commit", "show_published", "report_line"):
        with monkeypatch.context() as patched:
            patched.setattr(tasks, name, lambda *_: (_ for _ in ()).throw(RuntimeError("stopped here")))
            with pytest.raises(RuntimeError, match="stopped here"):
                publish(lake, run, verified)
    assert publish(lake, run, verified)["state"] == 1
    assert [path.name for path in (lake / "manifests").iterdir()] == [f"000001-{run['slug']}.json"]
    assert len(pd.read_parquet(lake / "results")) == 5
    assert (lake / "reports" / f"run={run['slug']}" / "report.json").exists()


def test_garbage_that_cannot_be_deleted_fails_no_run(
    lake: Path, run: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: Any) -> None:
        assert arguments[1] == 3
        raise PermissionError("Access Denied")

    monkeypatch.setenv("FRUITS_KEPT_STATES", "3")
    monkeypatch.setattr(tasks, "collect_garbage", refuse)
    assert publish(lake, run)["state"] == 1
    assert "What no kept state needs was not deleted" in caplog.text


def test_states_beyond_the_last_ones_are_deleted_when_they_are_old(
    lake: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRUITS_KEPT_STATES", "2")
    for number in range(4):
        run = opened(max_reject_ratio=0.5) | {"slug": f"2026112{number}T120000Z-0123abcd"}
        write_run(lake, slug=run["slug"])
        base = (lake / "current.json").read_bytes() if number else None
        publish(lake, run, base=hashlib.sha256(base).hexdigest() if base else None)
        for path in (*lake.glob("segments/*/*"), *lake.glob("manifests/*"), *lake.glob("runs/**/*.*")):
            os.utime(path, (0, 0))
    assert sorted(path.name[:6] for path in (lake / "manifests").iterdir()) == ["000003", "000004"]
    assert {path.name.partition("T")[0] for path in (lake / "segments").iterdir()} == {"20261122", "20261123"}
    assert len(list(lake.glob("runs/*/report.html"))) == 4
    assert len(pd.read_parquet(lake / "results")) == 5


def test_reports_of_all_runs_are_one_table_for_pandas(lake: Path, opened: Opened) -> None:
    """One run has a variance target, the other has none; tests/spark_jobs reads such a table with Spark."""
    for number, params in enumerate([{}, {"variance_target": None, "n_components": 2}]):
        run = opened(max_reject_ratio=0.5, **params) | {"slug": f"2026112{number}T120000Z-0123abcd"}
        edit_json(write_run(lake, slug=run["slug"]) / PCA_SUMMARY_FILE, **params)
        base = (lake / "current.json").read_bytes() if number else None
        publish(lake, run, base=hashlib.sha256(base).hexdigest() if base else None)
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
    assert tasks.report_cost(opened(), None) is None
    assert "AccessDeniedException" in caplog.text
    assert tasks.report_cost(None, None) is None
