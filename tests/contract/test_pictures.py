"""The pictures of the documents: they come from a real run, are small, and each is shown somewhere."""

from __future__ import annotations

import re
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scripts import write_pictures
from scripts.write_pictures import MAX_BYTES, PICTURES, SCREENSHOTS, main, show_only, terminal

ROOT = Path(__file__).resolve().parents[2]
BEGIN = datetime(2026, 11, 28, 3, 0, 0, tzinfo=UTC)
REPORT: Any = {"run": "r", "run_id": "manual__1", "cluster": {"id": "j-1"}}


def test_pictures_are_complete_small_and_shown() -> None:
    files = {file.name: file.stat().st_size for file in PICTURES.iterdir()}
    assert files.keys() == {*(f"{name}.png" for name in SCREENSHOTS), "terminal.svg"}
    assert sum(files.values()) <= MAX_BYTES
    text = "".join(file.read_text(encoding="utf-8") for file in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    assert sorted(name for name in files if f"pictures/{name}" not in text) == []


def test_missing_browser_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"chromium.*is on the PATH; install the package chromium"):
        main(["--lake", str(tmp_path)])


def test_lake_without_a_published_run_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(write_pictures, "find_browser", lambda: "chromium")
    with pytest.raises(SystemExit, match="run `make run` first"):
        main(["--lake", str(tmp_path)])


def test_terminal_shows_what_the_run_has_left_at_a_moment_of_featurize(tmp_path: Path) -> None:
    leave_traces(tmp_path)
    svg = terminal(tmp_path, REPORT).decode()
    shown = re.sub(r"<[^>]*>", " ", svg).replace("&#160;", " ")
    lines = [" ".join(line.split()) for line in shown.splitlines() if line.strip()]
    assert any("featurize 60/90 images, 10 images/s, 0:00:03 left" in line for line in lines)
    assert any("[ 5.0 s] open_run done" in line for line in lines)
    assert "wait_featurize done" not in " ".join(lines), "later than the moment"
    assert "@font-face" not in svg, "a picture reads nothing from the network"


def test_terminal_of_a_run_without_traces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="the traces of manual__1 are not in"):
        terminal(tmp_path, REPORT)


def leave_traces(state: Path) -> None:
    """Write what Airflow and the local endpoint leave: Airflow's times are in UTC, those of the log are local."""
    (state / "airflow").mkdir()
    connection = sqlite3.connect(state / "airflow" / "airflow.db")
    with connection:
        connection.execute("CREATE TABLE task_instance (run_id, task_id, state, start_date, end_date)")
        for task, start, end in [("open_run", 0, 5), ("add_featurize", 5, 7), ("wait_featurize", 20, 21)]:
            dates = [str((BEGIN + timedelta(seconds=each)).replace(tzinfo=None)) for each in (start, end)]
            connection.execute("INSERT INTO task_instance VALUES ('manual__1', ?, 'success', ?, ?)", [task, *dates])
    connection.close()
    log = state / "emr" / "stamp" / "clusters" / "j-1" / "steps" / "s-1" / "stdout"
    log.parent.mkdir(parents=True)
    lines = []
    for seconds, done in [(10, 0), (12, 30), (15, 60), (18, 90)]:
        moment = (BEGIN + timedelta(seconds=seconds)).astimezone().strftime("%Y-%m-%d %H:%M:%S,000")
        lines.append(f"{moment} INFO spark_jobs.runtime.progress: progress featurize: {done}/90 images ({done} %)\n")
    log.write_text("".join(lines))


def test_section_is_shown_alone_without_the_policy_that_forbids_the_style() -> None:
    page = '<head><meta http-equiv="Content-Security-Policy" content="x"></head><main><section id="map"></main>'
    assert "Content-Security-Policy" not in show_only(page, "map")
    assert "main > :not(:has(#map)) { display: none !important; }" in show_only(page, "map")
    assert show_only(page, "") == page
