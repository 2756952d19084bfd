"""The message of a failed `make run`: one sentence with the cause, one with the remedy, one with the places."""

from __future__ import annotations

import io
import json
import sqlite3
from pathlib import Path

import pytest

from include.records import FAILURE
from local.emr.process import EndpointProcessError
from local.run import __main__ as run_command
from local.run import service
from local.run.console import PlainTextConsole
from local.run.failure import failure_text
from local.run.watch import Failure, read_failures

DAG, RUN = "fruit_features", "manual__1"
DISK_FULL = {"kind": "disk full", "cause": "a disk is full: No space left\n  on device.", "advice": "Free space."}


def database_of(folder: Path, *tasks: tuple[str, str, str | None, dict[str, str] | None]) -> Path:
    """Airflow's database with the task instances of a run: id, state, end, and what the failed task has stored."""
    database = folder / "airflow.db"
    connection = sqlite3.connect(database)
    with connection:
        connection.execute(
            "CREATE TABLE task_instance (dag_id TEXT, run_id TEXT, task_id TEXT, state TEXT, end_date TEXT)"
        )
        connection.execute("CREATE TABLE xcom (dag_id TEXT, run_id TEXT, task_id TEXT, key TEXT, value JSON)")
        for run in ("manual__0", RUN):
            for task, state, end, why in tasks if run == RUN else [("open_run", "failed", "0", {"cause": "old"})]:
                connection.execute("INSERT INTO task_instance VALUES (?, ?, ?, ?, ?)", [DAG, run, task, state, end])
                rows = [(DAG, run, task, "return_value", "1")]
                rows += [(DAG, run, task, FAILURE, json.dumps(why))] if why else []
                connection.executemany("INSERT INTO xcom VALUES (?, ?, ?, ?, ?)", rows)
    connection.close()
    return database


def test_first_failed_task_gives_the_cause_and_the_remedy_once(tmp_path: Path) -> None:
    log = tmp_path / "airflow.log"
    log.write_text("OSError: No space left on device\n" * 5 + "AirflowFailException: disk full: No space left\n")
    database = database_of(
        tmp_path,
        ("close_run", "failed", "2026-11-28 09", {"cause": "AirflowFailException: the run has failed", "advice": "x"}),
        ("terminate_cluster", "failed", "2026-11-28 08", {"cause": "no answer", "advice": "y"}),
        ("wait_pca", "failed", "2026-11-28 07", DISK_FULL),
        ("publish_results", "upstream_failed", None, None),
        ("open_run", "success", "2026-11-28 06", None),
    )
    failures = read_failures(database, DAG, RUN)
    assert failures == [
        Failure("wait_pca", DISK_FULL["cause"], "Free space."),
        Failure("terminate_cluster", "no answer", "y"),
    ]
    assert failure_text(failures, log, "file:///my lake/runs/r/report.html").splitlines() == [
        "The run failed in wait_pca and terminate_cluster: a disk is full: No space left on device.",
        "What to do: Free space.",
        f"The report is /my lake/runs/r/report.html; Airflow's log is {log}",
    ]


def test_failure_of_the_last_task_alone_is_reported(tmp_path: Path) -> None:
    database = database_of(tmp_path, ("close_run", "failed", "1", {"cause": "no lake", "advice": "Mount it."}))
    assert read_failures(database, DAG, RUN) == [Failure("close_run", "no lake", "Mount it.")]


@pytest.mark.parametrize("failures", [[], [Failure("wait_pca")]])
def test_without_a_stored_cause_the_last_error_of_the_log_is_shown(tmp_path: Path, failures: list[Failure]) -> None:
    log = tmp_path / "airflow.log"
    log.write_bytes(b"ValueError: first\nnoise\nairflow.exceptions.AirflowException: \xc3\xa9 \xff\nnoise\n")
    cause, advice, place = failure_text(failures, log).splitlines()
    assert cause.endswith(": airflow.exceptions.AirflowException: é \ufffd.")
    assert advice == "What to do: Read the end of the log."
    assert place == f"Airflow's log is {log}"


def test_failure_without_a_log_has_a_message(tmp_path: Path) -> None:
    cause, _, place = failure_text([], tmp_path / "missing.log").splitlines()
    assert cause == "The run failed: Airflow ended without an error message."
    assert "missing.log" in place


def test_names_in_a_cause_cannot_control_the_terminal(tmp_path: Path) -> None:
    """Markup, emoji codes, right-to-left overrides, escape sequences and lone surrogates in the name of a label."""
    name = "[bold]:apple:[/bold]\u202egpj.\x1b[2J\udc80תפוח 🍎"
    console = PlainTextConsole(io.StringIO(), force_terminal=True, width=40)
    console.print(failure_text([Failure("wait_featurize", f"no photo in {name}", "Add one.")], tmp_path / "log"))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue().splitlines()[0]
    escaped = r"[bold]:apple:[/bold]\u202egpj.\x1b[2J\udc80תפוח 🍎"
    assert shown == f"The run failed in wait_featurize: no photo in {escaped}."


def test_endpoint_that_does_not_start_ends_a_command_with_its_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(*_: object) -> int:
        raise EndpointProcessError("the local EMR endpoint did not come up; the end of [x]/endpoint.log:\ndisk full")

    monkeypatch.setattr(run_command, "run", fail)
    monkeypatch.setattr(service, "serve", fail)
    lake = ["--lake", str(tmp_path / "lake")]
    message = "the local EMR endpoint did not come up; the end of [x]/endpoint.log:\ndisk full\n"
    assert run_command.main(lake) == 2
    assert capsys.readouterr().out == f"make run: {message}"
    assert service.main(["serve", *lake]) == 2
    assert capsys.readouterr().out == message
