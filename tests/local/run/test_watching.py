"""The display of a run: its state from Airflow's database, its progress from the jobs' progress lines."""

from __future__ import annotations

import io
import logging
import os
import pty
import re
import sqlite3
from pathlib import Path

import pytest

from local.emr.faults import triggers
from local.run.console import PlainTextConsole
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


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


Event = tuple[float, dict[str, str], Progress | None]
"""Seconds since the last event, the states of the tasks, and the progress of the job."""

BEFORE = {"open_run": "success", "wait_featurize": "success"}
RUN: list[Event] = [
    (1, {"open_run": "running"}, None),
    (1, {"open_run": "running"}, None),
    (6, {"open_run": "success", "wait_featurize": "up_for_reschedule"}, None),
    (6, {"open_run": "success", "wait_featurize": "running"}, Progress("featurize", 200, 1000, "images")),
    (10, {"open_run": "success", "wait_featurize": "up_for_reschedule"}, Progress("featurize", 300, 1000, "images")),
    (35, {"open_run": "success", "wait_featurize": "up_for_reschedule"}, Progress("featurize", 1000, 1000, "images")),
    (6, {**BEFORE, "wait_pca": "running"}, None),
    (6, {**BEFORE, "wait_pca": "running"}, Progress("pca-moments", 5, 9, "images")),
    (6, {**BEFORE, "wait_pca": "failed", "publish_results": "upstream_failed"}, None),
]
"""A run whose pca fails after 5 of 9 images, as it was read from Airflow's database and the log of the step."""


def replay(console: PlainTextConsole, events: list[Event]) -> str:
    """Show events on a console; return what it has written."""
    clock = Clock()
    with Display(console, clock) as display:
        for seconds, tasks, progress in events:
            clock.now += seconds
            display.show(RunState("r", "running", tasks), progress)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def on_terminal(width: int, **environ: str) -> PlainTextConsole:
    return PlainTextConsole(
        io.StringIO(), force_terminal=True, width=width, _environ={"TERM": "xterm-256color", **environ}
    )


def lines_of(text: str) -> list[str]:
    """The lines that a screen shows in the course of time: what stays, and each state of the live line."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return [line.rstrip() for line in re.split(r"[\r\n]+", plain) if line.strip()]


PLAIN = [
    "open_run",
    "wait_featurize",
    "open_run done",
    "featurize 200/1000 images",
    "featurize 300/1000 images, 10 images/s, 0:01:10 left",
    "featurize 1000/1000 images, 18 images/s",
    "wait_pca",
    "wait_featurize done",
    "pca-moments 5/9 images",
    "wait_pca FAILED",
]


@pytest.mark.parametrize(
    "console",
    [
        PlainTextConsole(io.StringIO(), force_terminal=False, width=200),
        on_terminal(200, TERM="dumb"),
        on_terminal(200, TTY_INTERACTIVE="0"),
        on_terminal(40, TERM="dumb", NO_COLOR="1"),
    ],
    ids=["pipe", "dumb", "not interactive", "dumb and narrow"],
)
def test_where_lines_cannot_be_redrawn_each_change_is_a_plain_line(console: PlainTextConsole) -> None:
    """A screen reader, a log file and a dumb terminal get text without control characters or spinner."""
    text = replay(console, RUN)
    assert "\x1b" not in text
    assert "\r" not in text
    assert [" ".join(line.partition("] ")[2].split()) for line in text.splitlines()] == PLAIN


@pytest.mark.parametrize(
    ("width", "live"),
    [
        (200, "━ featurize 300/1000 images, 10 images/s, 0:01:10 left"),
        (80, "━ featurize 300/1000 images, 10 images/s, 0:01:10 left"),
        (40, "featurize 30 %, 10/s, 0:01:10 left"),
    ],
)
def test_terminal_has_one_live_line_per_step_with_rate_and_time_left(width: int, live: str) -> None:
    lines = lines_of(replay(on_terminal(width), RUN))
    assert any(line.endswith(live) for line in lines)
    assert "wait_featurize 0:00:00" in lines, "a task without figures has the time since its start, and no bar"
    assert any(re.search(r"featurize 20(0/1000 images| %), 0:00:00$", line) for line in lines), "no rate yet"
    kept = [" ".join(line.partition("] ")[2].split()) for line in lines if line.startswith("[")]
    assert kept == [
        "open_run done",
        "featurize 1000/1000 images, 18 images/s",
        "wait_featurize done",
        "wait_pca FAILED",
    ]
    longest = max(len(line) for line in lines if not line.startswith("["))
    assert longest < width, "a line that wraps cannot be redrawn"


def test_live_line_of_a_million_images_fits_into_40_columns() -> None:
    million = [
        (10.0, {"wait_pca": "running"}, Progress("pca-moments", done, 1_000_000, "images")) for done in (1, 123_456)
    ]
    lines = lines_of(replay(on_terminal(40), million))
    assert "pca-moments 12 %, 12346/s, 0:01:12 left" in lines[-1]
    assert max(map(len, lines)) < 40


def test_no_color_has_no_colour_and_keeps_the_live_line() -> None:
    colour = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-9]|4[0-9]|9[0-7])(?:;[0-9;]*)?m")
    assert colour.search(replay(on_terminal(80), RUN)), "the terminal has colours"
    text = replay(on_terminal(80, NO_COLOR="1"), RUN)
    assert not colour.search(text)
    assert "featurize 300/1000 images" in text


@pytest.mark.parametrize(("term", "live"), [("xterm", True), ("dumb", False)])
def test_output_is_live_on_a_terminal_that_can_redraw_lines(
    term: str, live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A console on a real pseudo-terminal, chosen by nothing but the file and the environment, as in `make run`."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_INTERACTIVE", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", term)
    leader, follower = pty.openpty()
    with os.fdopen(leader, "rb", buffering=0) as screen:
        with os.fdopen(follower, "w", encoding="utf-8") as terminal, Display(PlainTextConsole(terminal)) as display:
            display.show(RunState("r", "running", {"open_run": "running"}), None)
        assert (b"\x1b[" in screen.read(65536)) is live


def test_progress_of_another_job_is_not_shown_with_a_task() -> None:
    progress = Progress("pca-scores", 5, 9, "images")
    for task in ("wait_featurize", "verify_results"):
        console = PlainTextConsole(io.StringIO(), force_terminal=False)
        [line] = replay(console, [(1, {task: "running"}, progress)]).splitlines()
        assert line.endswith(f"] {task}")


def test_names_are_printed_as_they_are() -> None:
    """Markup, emoji codes and right-to-left text in the path of a folder."""
    console = on_terminal(40)
    with Display(console) as display:
        display.print_line("images: 3 from /data/[bold]:apple:[/bold]/תפוח 🍎/\u202egpj")
    assert isinstance(console.file, io.StringIO)
    assert r"images: 3 from /data/[bold]:apple:[/bold]/תפוח 🍎/\u202egpj" in console.file.getvalue()
