"""The scripts of the stack: secrets, health checks, init."""

from __future__ import annotations

import base64
import inspect
import json
import re
import stat
import sys
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.compose.compose_files import ENV_EXAMPLE, load_script, read_env, variables

write_env = load_script("scripts/write_env.py")
healthy = load_script("docker/healthy.py")
init = load_script("docker/init.py")


# .env


def test_written_env_is_complete_has_fresh_secrets_and_is_readable_only_by_its_owner(tmp_path: Path) -> None:
    files = [tmp_path / "one", tmp_path / "two"]
    for file in files:
        assert write_env.main(["--output", str(file)]) == 0
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    one, two = (read_env(file.read_text(encoding="utf-8")) for file in files)
    needed = {variable.name for variable in variables() if variable.operator == ":?"}
    assert all(one[name] for name in needed)
    same = {name for name in one if one[name] == two[name]}
    assert set(write_env.VALUES) - same == set(write_env.VALUES) - {"START_DATE"}
    # Safe in a URL, in a .env file and in Compose's interpolation.
    assert all(re.fullmatch(r"[A-Za-z0-9_=-]{12,}", one[name]) for name in set(write_env.VALUES) - {"START_DATE"})
    secrets = [one[name] for name in write_env.VALUES if re.search(r"SECRET|PASSWORD|KEY", name)]
    assert len(set(secrets)) == len(secrets) == 7


def test_generated_fernet_key_is_valid() -> None:
    from cryptography.fernet import Fernet

    key = write_env.fernet_key()
    assert len(base64.urlsafe_b64decode(key)) == 32
    assert Fernet(key).decrypt(Fernet(key).encrypt(b"fruit")) == b"fruit"


def test_schedule_counts_from_the_moment_of_writing() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    assert before <= datetime.fromisoformat(write_env.now()) <= datetime.now(UTC)


def test_existing_env_is_not_changed(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("mine")
    assert write_env.main(["--output", str(file)]) == 1
    assert file.read_text() == "mine"


def test_template_without_a_variable_is_refused() -> None:
    text = ENV_EXAMPLE.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="UI_PASSWORD"):
        write_env.fill_in(text.replace("UI_PASSWORD=\n", ""))


# healthy.py


def test_url_is_healthy_if_it_responds_with_a_success(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses = [200, 503]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.pop(0))
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # Docker can set a proxy in every container
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        for code, error in ((0, ""), (1, "503")):
            thread = threading.Thread(target=server.handle_request)
            thread.start()
            assert healthy.main(["url", f"http://127.0.0.1:{server.server_port}/healthz"]) == code
            thread.join()
            printed = capsys.readouterr().err
            assert error in printed
            assert bool(printed) == bool(code)
    assert healthy.main(["url", "http://127.0.0.1:1/"]) == 1, "no process listens there"
    assert "http://127.0.0.1:1/" in capsys.readouterr().err


def test_job_is_healthy_if_its_heartbeat_is_recent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for age, code, error in ((0.5, 0, ""), (31.0, 1, "31 s old"), (None, 1, "no running SchedulerJob")):
        monkeypatch.setattr(healthy, "heartbeat_age", lambda _, age=age: age)
        assert healthy.main(["job", "SchedulerJob"]) == code, age
        assert error in capsys.readouterr().err


@pytest.mark.slow
def test_heartbeat_query_fits_the_tables_of_this_airflow() -> None:
    from airflow.configuration import conf
    from airflow.jobs.dag_processor_job_runner import DagProcessorJobRunner
    from airflow.jobs.job import Job, JobState
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
    from airflow.jobs.triggerer_job_runner import TriggererJobRunner

    query = healthy.NEWEST_HEARTBEAT
    assert f"FROM {Job.__tablename__} " in query
    for column in ("latest_heartbeat", "job_type", "hostname", "state"):
        assert column in Job.__table__.columns
        assert column in query
    assert f"state = '{JobState.RUNNING}'" in query
    for runner in (SchedulerJobRunner, DagProcessorJobRunner, TriggererJobRunner):
        assert healthy.read_options(["job", runner.job_type]).target == runner.job_type
    thresholds = {
        conf.getint("scheduler", "scheduler_health_check_threshold"),
        conf.getint("triggerer", "triggerer_health_check_threshold"),
    }
    assert thresholds == {healthy.HEARTBEAT_SECONDS}


# init.py


@pytest.mark.slow
def test_airflow_reads_the_written_passwords(tmp_path: Path) -> None:
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    file = tmp_path / "passwords.json"
    file.write_text(json.dumps({"someone": "else"}))
    init.write_passwords(file, "admin", 'it"s')
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]
    with file.open() as stream:
        assert SimpleAuthManager._get_passwords(stream) == {"admin": 'it"s'}


def test_init_stops_at_the_first_command_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passwords = tmp_path / "passwords.json"
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "someone:admin")
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", str(passwords))
    monkeypatch.setenv("UI_PASSWORD", "secret")
    for failing, code, expected in ((None, 0, ["one", "two"]), ("one", 3, ["one"])):
        trace = tmp_path / f"trace-{failing}"
        commands = [
            ["sh", "-c", f"echo {name} >> '{trace}'; exit {3 if name == failing else 0}"] for name in ("one", "two")
        ]
        monkeypatch.setattr(init, "commands", lambda _, commands=commands: commands)
        assert init.main() == code
        assert trace.read_text().split() == expected
        assert json.loads(passwords.read_text()) == {"someone": "secret"}


def test_scripts_import_only_the_standard_library() -> None:
    for script in (healthy, init, write_env):
        top = re.findall(r"^(?:import|from) (\w+)", inspect.getsource(script), flags=re.M)
        assert set(top) <= sys.stdlib_module_names, script.__name__
