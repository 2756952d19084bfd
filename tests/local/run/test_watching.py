"""The display of a run: its state from Airflow's database, its progress from the jobs' progress lines."""

from __future__ import annotations

import io
import logging
import os
import sqlite3
from pathlib import Path

import pytest
from rich.console import Console

from local.emr.faults import triggers
from local.run import display as display_module
from local.run.display import Display
from local.run.watch import Progress, RunState, known_runs, read_progress, read_state
from spark_jobs.runtime import progress as job_progress

DAG = "fruit_features"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database with one earlier run, in a folder whose name would break an unquoted URI."""
    path = tmp_path / "clone #1 50%3F?x" / "airflow.db"
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE dag_run (id INTEGER PRIMARY KEY, dag_id TEXT, run_id TEXT, state TEXT)")
        connection.execute("CREATE TABLE task_instance (dag_id TEXT, run_id TEXT, task_id TEXT, state TEXT)")
    connection.close()
    add_run(path, "old", "success")
    return path


def add_run(database: Path, run_id: str, state: str, dag_id: str = DAG, **tasks: str | None) -> None:
    connection = sqlite3.connect(database)
    with connection:
        connection.execute("INSERT INTO dag_run (dag_id, run_id, state) VALUES (?, ?, ?)", [dag_id, run_id, state])
        rows = [(dag_id, run_id, task, text) for task, text in tasks.items()]
        connection.executemany("INSERT INTO task_instance VALUES (?, ?, ?, ?)", rows)
    connection.close()


def test_new_run_is_found_with_its_tasks(database: Path) -> None:
    known = known_runs(database, DAG)
    assert known == {"old"}
    assert read_state(database, DAG, known) is None
    add_run(database, "another", "running", dag_id="other_dag")
    assert read_state(database, DAG, known) is None
    add_run(database, "new", "running", open_run="success", create_cluster=None)
    state = read_state(database, DAG, known)
    assert state == RunState("new", "running", {"open_run": "success", "create_cluster": "none"})
    assert state.tasks_in("success", "failed") == ["open_run"]


def test_missing_database_has_no_runs(tmp_path: Path) -> None:
    assert known_runs(tmp_path / "airflow.db", DAG) == frozenset()
    assert read_state(tmp_path / "airflow.db", DAG, frozenset()) is None
    assert not (tmp_path / "airflow.db").exists(), "reading does not create the file"


def test_database_without_tables_has_no_state_yet(tmp_path: Path) -> None:
    (tmp_path / "airflow.db").touch()
    assert read_state(tmp_path / "airflow.db", DAG, frozenset()) is None


def test_locked_database_has_no_state_yet(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, **(options | {"timeout": 0})))
    add_run(database, "new", "running")
    holder = connect(database, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        assert read_state(database, DAG, frozenset()) is None
    finally:
        holder.close()
    state = read_state(database, DAG, frozenset())
    assert state is not None
    assert state.run_id == "new"


def log_of(state_dir: Path, step: str, text: str, age: int = 0) -> Path:
    path = state_dir / "clusters" / "j-1" / "steps" / step / "stdout"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    os.utime(path, (1_000_000_000 - age, 1_000_000_000 - age))
    return path


def job_lines(*reports: tuple[str, int, int, str]) -> str:
    """Return progress lines, logged by the function that the jobs use."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    job_progress.logger.addHandler(handler)
    level = job_progress.logger.level
    job_progress.logger.setLevel(logging.INFO)
    try:
        for report in reports:
            job_progress.log(*report)
    finally:
        job_progress.logger.removeHandler(handler)
        job_progress.logger.setLevel(level)
    return stream.getvalue()


@pytest.mark.parametrize("name", ["featurize", "pca-moments", "pca-scores"])
def test_progress_lines_of_the_jobs_are_parsed(tmp_path: Path, name: str) -> None:
    lines = job_lines((name, 0, 960, "images"), (name, 512, 960, "images"))
    log_of(tmp_path, "s-1", "é WARN starting\n" + lines)
    assert read_progress(tmp_path) == Progress(name, 512, 960, "images")
    match = triggers.PROGRESS.search(lines.splitlines()[-1].encode())
    assert match is not None, "the endpoint has a pattern of its own"
    assert (match["name"].decode(), match["percent"]) == (name, b"53")


def test_only_the_newest_step_is_read(tmp_path: Path) -> None:
    log_of(tmp_path, "s-2", job_lines(("featurize", 960, 960, "images")), age=100)
    newest = log_of(tmp_path, "s-1", "starting\n")
    assert read_progress(tmp_path) is None, "the progress of an earlier step is not that of this one"
    newest.write_text(job_lines(("pca-moments", 1, 2, "images")))
    assert read_progress(tmp_path) == Progress("pca-moments", 1, 2, "images")


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    log_of(tmp_path, "s-1", "é" * 100_001 + "\n" + job_lines(("featurize", 7, 9, "images")))
    assert read_progress(tmp_path) == Progress("featurize", 7, 9, "images")


def test_missing_log_has_no_progress(tmp_path: Path) -> None:
    assert read_progress(tmp_path / "missing") is None


def shown(*updates: tuple[RunState | None, Progress | None], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the lines that are printed if the output is not a terminal."""
    monkeypatch.setattr(display_module, "LINE_SECONDS", 0.0)
    console = Console(file=io.StringIO(), force_terminal=False, width=200)
    with Display(console) as display:
        for state, progress in updates:
            display.show(state, progress)
    assert isinstance(console.file, io.StringIO)
    return [" ".join(line.partition("] ")[2].split()) for line in console.file.getvalue().splitlines()]


def state_of(**tasks: str) -> RunState:
    return RunState("r", "running", tasks)


def test_without_a_terminal_each_change_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(
        (None, None),
        (state_of(open_run="running"), None),
        (state_of(open_run="running"), None),
        (state_of(open_run="success", wait_featurize="up_for_reschedule"), Progress("featurize", 5, 9, "images")),
        (state_of(open_run="success", wait_featurize="running"), Progress("featurize", 5, 9, "images")),
        (state_of(open_run="success", wait_featurize="failed", add_pca="upstream_failed"), None),
        monkeypatch=monkeypatch,
    )
    assert lines == [
        "open_run",
        "open_run done",
        "wait_featurize 5/9 images",
        "wait_featurize FAILED",
        "add_pca not run",
    ]


@pytest.mark.parametrize(
    ("task", "name", "mine"),
    [
        ("wait_featurize", "featurize", True),
        ("wait_pca", "pca-moments", True),
        ("wait_pca", "pca-scores", True),
        ("wait_pca", "featurize", False),
        ("verify_results", "pca-scores", False),
    ],
)
def test_progress_is_shown_with_the_task_that_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, task: str, name: str, mine: bool
) -> None:
    [line] = shown((state_of(**{task: "running"}), Progress(name, 5, 9, "images")), monkeypatch=monkeypatch)
    assert line == (f"{task} 5/9 images" if mine else task)


def test_names_with_brackets_are_printed_as_they_are() -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=200)
    with Display(console) as display:
        display.print_line("images: 3 from /data/[bold]fruits[/bold]")
    assert isinstance(console.file, io.StringIO)
    assert "[bold]fruits[/bold]" in console.file.getvalue()


def test_terminal_gets_a_bar() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with Display(console) as display:
        display.show(state_of(wait_featurize="running"), Progress("featurize", 5, 9, "images"))
    assert isinstance(console.file, io.StringIO)
    assert "5/9 images" in console.file.getvalue()
