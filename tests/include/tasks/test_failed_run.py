"""close_run writes the report of a failed run, with the cause; a report that cannot be written changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException

from include.autopsy.diagnosis import Diagnosis
from include.autopsy.symptoms import Kind
from include.autopsy.task_failure import CORRECT_CAUSE, READ_TRACEBACK, DiagnosedError, record_failure
from include.lake.layout import run_slug
from include.records import FAILURE, FailureReport
from include.residency.checks import ResidencyError
from include.tasks import failed_run, results
from spark_jobs.images.changes import NoImagesError
from spark_jobs.left_out import LeftOutCounter
from tests.include.run_folders import found_of, write_json, write_run
from tests.include.run_records import (
    JOBS,
    PREVIOUS,
    cost_record,
    created_record,
    featurize_summary,
    plan_record,
    residency_record,
)

Opened = Callable[..., dict[str, Any]]
RUN_ID, RUN_AFTER = "manual__2026-11-22", datetime(2026, 11, 22, 12, tzinfo=UTC)
SLUG = run_slug(RUN_ID, RUN_AFTER)
DISK_FULL = {"kind": "disk full", "cause": "No space left on device <b>", "advice": "Increase ebs_gib."}


def context_of(xcoms: dict[tuple[str, str], Any], **params: Any) -> Any:
    """The context of close_run in a run whose tasks have left these XComs."""

    def pull(task_ids: str, key: str) -> Any:
        return json.loads(json.dumps(xcoms.get((task_ids, key))))

    pushed: dict[str, Any] = {}
    ti = SimpleNamespace(xcom_pull=pull, xcom_push=lambda key, value: pushed.update({key: value}), pushed=pushed)
    return {"ti": ti, "dag_run": SimpleNamespace(run_id=RUN_ID, run_after=RUN_AFTER), "params": params}


def publish(lake: Path, run: Any) -> None:
    found: Any = found_of(lake / "runs" / run["slug"])
    results.publish_results(run, found, results.verify_results(run, found, JOBS), plan_record(), created_record(), None)  # type: ignore[arg-type]


def read_report(lake: Path) -> dict[str, Any]:
    return json.loads((lake / "runs" / SLUG / "report.json").read_text(encoding="utf-8"))


def test_report_of_a_failed_run_has_task_cause_residency_settings_and_the_run_that_is_published(
    lake: Path, opened: Opened
) -> None:
    run = opened() | {"slug": SLUG}
    write_json(lake / "current.json", {"run": PREVIOUS})
    counter = LeftOutCounter()
    counter.skip("1.PNG", "banana", at_top=False)
    counter.hidden = 2
    left_out = [counter.record("file:///lake/data", "*.jpg")]
    write_json(lake / "runs" / SLUG / "featurize.json", featurize_summary(left_out=left_out))
    plan, created, cost = plan_record(), created_record(), cost_record()
    xcoms = {
        ("open_run", "return_value"): run,
        ("plan_cluster", "code"): plan["code"],
        ("plan_cluster", "forecast"): plan["forecast"],
        ("create_cluster", "job_flow_id"): "j-1",
        ("add_featurize", "attestation"): created["attestation"],
        ("report_cost", "return_value"): cost,
        ("wait_pca", FAILURE): DISK_FULL,
    }
    states = dict.fromkeys(["open_run", "plan_cluster", "create_cluster", "add_featurize", "report_cost"], "success")
    states |= {"wait_pca": "failed", "publish_results": "upstream_failed"}
    context = context_of(xcoms)
    failed_run.report_failure(context, states, ["publish_results (upstream_failed)"])
    report = read_report(lake)
    assert set(report) == set(FailureReport.__annotations__)
    assert report["failed_tasks"] == [{"task": "wait_pca", **DISK_FULL}]
    assert (report["state"], report["published_run"]) == ("failed", PREVIOUS)
    assert report["attestations"] == [run["residency"], created["attestation"]]
    assert (report["params"], report["code"], report["model"]) == (run["params"], plan["code"], run["model"])
    assert (report["cluster"]["id"], report["cost"], report["images"]) == ("j-1", cost, 3)
    assert (report["skipped"], report["hidden"], report["left_out"]) == (1, 2, left_out)
    page = (lake / "runs" / SLUG / "report.html").read_text(encoding="utf-8")
    for text in ("wait_pca", "No space left on device &lt;b&gt;", "Increase ebs_gib.", PREVIOUS, "variance_target"):
        assert text in page
    assert "1 file in file:///lake/data left out by name" in page
    assert "labels without any image: banana" in page
    [line] = (lake / "reports" / f"run={SLUG}" / "report.json").read_text().splitlines()
    assert json.loads(line)["failed_tasks"] == report["failed_tasks"]
    assert context["ti"].pushed == {"run": SLUG}, "the link to the report"


def test_run_that_fails_before_it_is_opened_has_a_report_if_the_lake_is_in_an_allowed_region(
    lake: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise ResidencyError(["region of the bucket is 'us-east-1', expected eu-west-3"])

    before = sorted(lake.rglob("*"))
    context = context_of({("open_run", FAILURE): {"kind": "NoImagesError", "cause": "no file", "advice": ""}})
    monkeypatch.setattr(failed_run, "check_residency", refuse)
    failed_run.report_failure(context, {"open_run": "failed"}, [])
    assert sorted(lake.rglob("*")) == before, "nothing is written to a place that may be outside"
    assert "The report of the failed run cannot be written" in caplog.text
    monkeypatch.setattr(failed_run, "check_residency", lambda *_: residency_record()["before"])
    failed_run.report_failure(context, {"open_run": "failed"}, ["plan_cluster (upstream_failed)"])
    report = read_report(lake)
    assert report["failed_tasks"] == [{"task": "open_run", "kind": "NoImagesError", "cause": "no file", "advice": ""}]
    assert (report["published_run"], report["images"], report["cluster"]["id"]) == (None, None, "")
    assert "Nothing is published." in (lake / "runs" / SLUG / "report.html").read_text()


def test_run_that_fails_after_it_has_published_adds_the_failure_to_its_report(lake: Path, opened: Opened) -> None:
    run = opened(max_reject_ratio=0.5) | {"slug": SLUG}
    write_run(lake, slug=SLUG)
    publish(lake, run)
    written = read_report(lake)
    assert (written["state"], written["failed_tasks"]) == ("success", [])
    context = context_of({("open_run", "return_value"): run})
    failed_run.report_failure(context, {"open_run": "success", "terminate_cluster": "failed"}, [])
    report = read_report(lake)
    [failure] = report["failed_tasks"]
    assert failure == {
        "task": "terminate_cluster",
        "kind": "unknown",
        "cause": "the log of the task has the reason",
        "advice": READ_TRACEBACK,
    }
    assert report == written | {"state": "failed", "failed_tasks": [failure]}
    page = (lake / "runs" / SLUG / "report.html").read_text()
    assert "The results of this run are published, but the run has failed." in page
    assert "terminate_cluster" in page
    assert "How many components are needed" in page


def test_reports_of_published_and_failed_runs_are_one_table(lake: Path, opened: Opened) -> None:
    run = opened(max_reject_ratio=0.5)
    write_run(lake, slug=run["slug"])
    publish(lake, run)
    failed = opened() | {"slug": SLUG}
    failed_run.report_failure(context_of({("open_run", "return_value"): failed}), {"open_run": "success"}, [])
    lines = [json.loads(path.read_text()) for path in sorted(lake.glob("reports/run=*/report.json"))]
    table = pd.DataFrame(lines).set_index("run")
    assert table.loc[[run["slug"], SLUG], "state"].tolist() == ["success", "failed"]
    assert table.loc[SLUG, "published_run"] == run["slug"]
    assert None not in lines[-1].values(), "a column that is always null in a file has no type"


@pytest.mark.usefixtures("lake")
def test_xcoms_of_a_task_that_did_not_run_again_are_from_before_it_was_cleared(lake: Path, opened: Opened) -> None:
    xcoms = {
        ("open_run", "return_value"): opened() | {"slug": SLUG},
        ("wait_pca", FAILURE): DISK_FULL,
        ("add_pca", "job_flow_id"): "j-OLD",
    }
    states = {"open_run": "success", "create_cluster": "failed", "add_pca": "upstream_failed", "wait_pca": "skipped"}
    failed_run.report_failure(context_of(xcoms), states, [])
    report = read_report(lake)
    assert [failure["task"] for failure in report["failed_tasks"]] == ["create_cluster"]
    assert report["cluster"]["id"] == ""


def test_failure_of_a_task_is_recorded_with_the_autopsy_or_the_exception(caplog: pytest.LogCaptureFixture) -> None:
    diagnosis = Diagnosis(Kind.OUT_OF_MEMORY, "memory ran out", (), "Use larger instances.")
    wrapped = AirflowFailException("NoImagesError: no file")
    wrapped.__cause__ = NoImagesError("no file")
    for error, expected in [
        (wrapped, {"kind": "NoImagesError", "cause": "NoImagesError: no file", "advice": CORRECT_CAUSE}),
        (
            DiagnosedError("text for the log", diagnosis),
            {"kind": "out of memory", "cause": "memory ran out", "advice": "Use larger instances."},
        ),
        (KeyError("x"), {"kind": "KeyError", "cause": "'x'", "advice": READ_TRACEBACK}),
        (None, {"kind": "unknown", "cause": "the log of the task has the reason", "advice": READ_TRACEBACK}),
    ]:
        context = context_of({})
        record_failure({**context, "exception": error})
        assert context["ti"].pushed == {FAILURE: expected}
    record_failure({"ti": None})  # type: ignore[typeddict-item]
    assert "The cause of the failure cannot be stored" in caplog.text
