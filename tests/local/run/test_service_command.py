"""`make up` and `make down` without Airflow: their checks, the record, the configuration and the API client."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psutil
import pytest
from airflow.timetables.base import TimeRestriction
from airflow.timetables.trigger import CronTriggerTimetable

from include.settings.deployment import read_settings
from local.airflow.api import AirflowApi
from local.airflow.components import component_commands, fresh_log
from local.airflow.configuration import component_environment, read_password
from local.airflow.home import state_lock
from local.airflow.supervisor import ServiceError
from local.run import leftovers
from local.run.record import Record, read_record, record_file, start_time
from local.run.service import main
from local.run.up import check_port, relay_output

PARIS = ZoneInfo("Europe/Paris")


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process
        process.kill()


def test_port_in_use_is_refused_with_another_one(
    tmp_path: Path, taken_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["up", "--state", str(tmp_path), "--port", str(taken_port)]) == 2
    output = capsys.readouterr().out
    assert output.startswith(f"make up: port {taken_port} on 127.0.0.1 is not available")
    assert f"make up PORT={taken_port + 1}" in output
    assert list(tmp_path.iterdir()) == [], "nothing was started"


def test_port_with_closed_connections_is_free(taken_port: int) -> None:
    with socket.socket() as client:
        client.connect(("127.0.0.1", taken_port))
    with pytest.raises(ServiceError, match=str(taken_port)):
        check_port(taken_port)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
    check_port(port)


def test_up_is_refused_during_make_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
    with state_lock(tmp_path):
        assert main(["up", "--state", str(tmp_path), "--lake", str(tmp_path / "lake"), "--port", str(port)]) == 2
    assert "`make run`" in capsys.readouterr().out
    assert not (tmp_path / "lake").exists()
    assert not record_file(tmp_path).exists()


def test_down_says_when_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["down", "--state", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "make down: nothing is running\n"


def test_up_is_refused_while_the_service_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sleeper: subprocess.Popen[bytes]
) -> None:
    put_record(tmp_path, sleeper.pid)
    assert main(["up", "--state", str(tmp_path)]) == 2
    assert "it runs already, at http://127.0.0.1:1; end it with `make down`" in capsys.readouterr().out


def test_process_with_a_reused_id_is_not_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sleeper: subprocess.Popen[bytes]
) -> None:
    put_record(tmp_path, sleeper.pid, created=1.0, children={str(sleeper.pid): 1.0})
    assert main(["down", "--state", str(tmp_path)]) == 0
    assert "it was killed" in capsys.readouterr().out
    assert sleeper.poll() is None
    assert read_record(tmp_path) is None


def test_processes_of_a_killed_service_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sleeper: subprocess.Popen[bytes]
) -> None:
    monkeypatch.setattr(leftovers, "EXIT_SECONDS", 0.5)
    put_record(
        tmp_path, os.getpid(), created=1.0, children={str(sleeper.pid): psutil.Process(sleeper.pid).create_time()}
    )
    assert main(["down", "--state", str(tmp_path)]) == 0
    assert sleeper.wait(10) == -9


def put_record(state: Path, pid: int, created: float | None = None, children: dict[str, float] | None = None) -> None:
    created = psutil.Process(pid).create_time() if created is None else created
    record_file(state).write_text(
        json.dumps({"pid": pid, "created": created, "url": "http://127.0.0.1:1", "children": children or {}})
    )
    (state / "airflow").mkdir()
    read_password(state / "airflow" / "passwords.json")


def test_process_that_has_ended_is_not_alive(sleeper: subprocess.Popen[bytes]) -> None:
    created = start_time(sleeper.pid)
    assert created is not None
    record = Record(sleeper.pid, created, "", {str(sleeper.pid): created})
    assert record.alive
    assert record.running_children() == [sleeper.pid]
    sleeper.kill()
    deadline = time.monotonic() + 10
    while record.alive and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not record.alive, "a zombie counts as ended"
    assert record.running_children() == []


def test_password_is_generated_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    passwords = tmp_path / "airflow" / "passwords.json"
    password = read_password(passwords)
    assert len(password) >= 16
    assert passwords.stat().st_mode & 0o777 == 0o600
    assert read_password(passwords) == password
    assert read_password(tmp_path / "other.json") != password


def test_everything_listens_on_loopback_only(tmp_path: Path) -> None:
    environ = component_environment(8123, tmp_path, datetime.now(UTC))
    assert environ["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert environ["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:8123/execution/"
    for name in ("scheduler", "triggerer"):
        assert "--skip-serve-logs" in component_commands()[name], "log servers listen on every interface"


def test_airflow_knows_the_settings(tmp_path: Path) -> None:
    from airflow.configuration import conf

    for name in component_environment(8123, tmp_path, datetime.now(UTC)):
        if name.startswith("AIRFLOW__"):
            _, section, option = name.lower().split("__")
            assert option in conf.configuration_description[section]["options"], name


@pytest.mark.parametrize("hour", [0, 9, 23])
def test_schedule_starts_at_the_next_midnight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hour: int) -> None:
    """A run that was missed while the machine was off is not started at once."""
    now = datetime(2026, 11, 22, hour, 30, 40, tzinfo=PARIS)
    since = now.replace(second=0)
    start = read_settings(component_environment(8123, tmp_path, since) | {"AIRFLOW_HOME": ""}).schedule_start
    assert start == since
    assert start <= now, "runs that are triggered from the form have the present as their date"
    monkeypatch.setattr("airflow.timetables.trigger.utcnow", lambda: now.astimezone(UTC))
    timetable = CronTriggerTimetable("@daily", timezone="Europe/Paris")
    info = timetable.next_dagrun_info(
        last_automated_data_interval=None,
        restriction=TimeRestriction(earliest=sdk_pendulum(start), latest=None, catchup=False),
    )
    assert info is not None
    assert info.run_after == datetime(2026, 11, 23, tzinfo=PARIS)


def sdk_pendulum(moment: datetime) -> Any:
    import pendulum

    return pendulum.instance(moment)


def test_only_the_last_log_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "scheduler.log"
    for text in ("first", "second"):
        fresh_log(log).write_text(text)
    assert fresh_log(log) == log
    assert [path.read_text() for path in tmp_path.iterdir()] == ["second"]


@pytest.mark.parametrize(("lines", "code", "expected"), [(["a", "ready"], None, ["a"]), (["a", "b"], 2, ["a", "b"])])
def test_output_is_printed_until_the_service_is_ready_or_exits(
    tmp_path: Path, lines: list[str], code: int | None, expected: list[str]
) -> None:
    printed: list[str] = []

    class Console:
        def print(self, line: str, **_: Any) -> None:
            printed.append(line)

    class Process:
        def poll(self) -> int | None:
            return code

    log = tmp_path / "service.log"
    log.write_text("\n".join(lines) + "\n")
    assert relay_output(Process(), log, Console()) == code  # type: ignore[arg-type]
    assert printed == expected


@contextlib.contextmanager
def answering(answers: dict[str, tuple[int, Any]]) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """Serve JSON by method and path; yield the URL and the received requests with their tokens."""
    requests: list[tuple[str, str | None]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            key = f"{self.command} {self.path}"
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            requests.append((key, self.headers.get("Authorization")))
            status, body = answers[key]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        do_GET = do_POST = do_PATCH = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()
        thread.join()


def test_api_logs_in_once_and_uses_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    answers = {
        "POST /auth/token": (201, {"access_token": "t"}),
        "GET /api/v2/dags/fruit": (200, {"dag_id": "fruit"}),
        "GET /api/v2/dags/other": (404, {}),
        "PATCH /api/v2/dags/fruit": (200, {}),
        "GET /api/v2/monitor/health": (200, {"dag_processor": {"status": "healthy"}, "triggerer": None}),
    }
    with answering(answers) as (url, requests):
        api = AirflowApi(url, "admin", "secret")
        assert api.health() == {"api-server": "healthy", "dag-processor": "healthy"}
        assert api.dag("fruit") == {"dag_id": "fruit"}
        assert api.dag("other") is None
        api.unpause("fruit")
    assert [key for key, _ in requests].count("POST /auth/token") == 1
    assert {token for key, token in requests if "/dags/" in key} == {"Bearer t"}


def test_server_without_an_answer_is_not_healthy() -> None:
    assert AirflowApi("http://127.0.0.1:1", "admin", "secret").health() == {}
