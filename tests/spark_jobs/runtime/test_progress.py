"""A job publishes how far it is, at most so often, and nothing depends on it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spark_jobs.runtime import progress


class Context:
    """A Spark context: one job has completed some tasks, and another one, of a job group, 100 tasks."""

    completed = 0

    def statusTracker(self) -> Any:  # noqa: N802 (as Spark names it)
        return SimpleNamespace(
            getActiveJobsIds=lambda: [7, 8],
            getJobIdsForGroup=lambda: [6, 7],
            getJobInfo=lambda job: SimpleNamespace(stageIds=[{7: 3, 8: 4}[job]]),
            getStageInfo=lambda stage: SimpleNamespace(numCompletedTasks={3: self.completed, 4: 100}[stage]),
        )


def track(context: Context, rejects: Callable[[], int] | None = None) -> Any:
    figures: Any = {"total": 10, "unit": "images", "per_task": 4, "seconds": 0.01}
    return progress.track(context, "pca-scores", rejects=rejects, **figures)  # type: ignore[arg-type]


def wait_for(found: Callable[[], Any]) -> Any:
    """Return what a function returns as soon as it is true; the test's own time limit ends the wait."""
    while not (result := found()):
        time.sleep(0.005)
    return result


def test_the_file_says_how_many_units_are_done_and_rejected(tmp_path: Path) -> None:
    file, context = tmp_path / "runs" / "é x" / "progress" / "pca.json", Context()

    def read(done: int) -> Any:
        record = json.loads(file.read_text()) if file.exists() else {}
        return record if record.get("done") == done else None

    with progress.published("pca", f"file://{file}", 0.001), track(context, rejects=lambda: context.completed):
        first = wait_for(lambda: read(0))
        context.completed = 2
        second = wait_for(lambda: read(8))
        context.completed = 3
        third = wait_for(lambda: read(10))
    names = {"job": "pca", "stage": "pca-scores", "total": 10, "unit": "images", "started_at": first["started_at"]}
    for record, rejects in ((first, 0), (second, 2), (third, 3)):
        assert names.items() <= record.items()
        assert record["rejects"] == rejects
        assert datetime.fromisoformat(record["updated_at"]) >= datetime.fromisoformat(record["started_at"])


def test_nothing_is_published_unless_a_job_is_told_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    context = Context()
    for published in (progress.published("pca", f"file://{tmp_path}/pca.json", 0.0), None):
        context.completed = 0
        caplog.clear()
        with published or progress.published("pca", "", 0.0), track(context):
            context.completed = 1
            wait_for(lambda: "4/10 images" in caplog.text)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_logged_once_and_the_job_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "progress").touch()
    context = Context()
    with progress.published("pca", f"file://{tmp_path}/progress/pca.json", 1e-9), track(context):
        for completed in (1, 2):
            context.completed = completed
            wait_for(lambda done=4 * completed: f"{done}/10 images" in caplog.text)
    assert caplog.text.count("the progress is not published: ") == 1
    assert "10/10 images (100 %)" in caplog.text


def test_the_file_is_written_at_most_once_in_the_given_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    target = progress.Target("pca", f"file://{tmp_path}/pca.json", 5.0)
    assert target.is_due()
    target.write({})  # type: ignore[typeddict-item]
    for moment, is_due in ((100.0, False), (104.9, False), (105.0, True)):
        clock[0] = moment
        assert target.is_due() is is_due
