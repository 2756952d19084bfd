"""The report of a run that found nothing to do, and its row in the table of all reports."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from include.records import Unchanged
from include.tasks import results
from include.tasks.unchanged_run import report_unchanged
from tests.include.run_folders import found_of, write_run
from tests.include.run_records import JOBS, MODEL_FILE, created_record, found_record, plan_record

Opened = Callable[..., dict[str, Any]]
LATER = "20261123T120000Z-0123abcd"
NOTHING = {"everything": None, "nothing_to_do": "nothing has changed since the state 1", "new": 0, "work": 0}


def test_report_has_the_figures_of_the_published_state_and_is_a_row_of_the_table(lake: Path, opened: Opened) -> None:
    run: Any = opened(max_reject_ratio=0.5)
    found: Any = found_of(write_run(lake, slug=run["slug"]))
    results.publish_results(
        run,
        found,
        results.verify_results(run, found, JOBS),
        plan_record(),
        created_record(),
        None,  # type: ignore[arg-type]
    )
    before = {path: path.read_bytes() for path in lake.rglob("*") if path.is_file()}
    later: Any = run | {"slug": LATER, "run_id": "scheduled", "opened_at": "2026-11-23T12:00:00+00:00"}
    nothing: Any = found_record(run=LATER, listed=6, work_bytes=0, **NOTHING)
    report_unchanged(later, nothing)
    report = json.loads((lake / "runs" / LATER / "report.json").read_text())
    assert set(report) == set(Unchanged.__annotations__)
    seconds = timedelta(seconds=report.pop("duration"))
    passed = datetime.fromisoformat(report.pop("finished_at")) - datetime.fromisoformat("2026-11-23T12:00:00+00:00")
    assert abs(passed - seconds) <= timedelta(seconds=1)
    assert report == {
        "run": LATER,
        "run_id": "scheduled",
        "state": "unchanged",
        "published_run": run["slug"],
        "images": 5,
        "changes": {"listed": 6, "new": 0, "changed": 0, "gone": 0, "work": 0, "work_bytes": 0},
        "featurized": 0,
        "rejects": 1,
        "k": 2,
        "variance_reached": 0.9,
        "basis": {"digest": hashlib.sha256(MODEL_FILE).hexdigest(), "since": run["slug"]},
    }
    lines = [path.read_text() for path in sorted((lake / "reports").glob("run=*/report.json"))]
    table = pd.DataFrame([json.loads(line) for line in lines]).set_index("run")
    assert table.loc[[run["slug"], LATER], "state"].tolist() == ["success", "unchanged"]
    assert table["images"].tolist() == [5, 5]
    assert {path: path.read_bytes() for path in before} == before


def test_state_that_has_disappeared_is_an_error(opened: Opened) -> None:
    with pytest.raises(RuntimeError, match=r"current\.json names no state any more: trigger a new run"):
        report_unchanged(opened(), found_record(**NOTHING))  # type: ignore[arg-type]
