"""Airflow's components beside each other on loopback: their environment, their commands, the password of their UI.

They are those of ``airflow standalone``, started by us: its log servers listen on every network interface, whatever is
configured, and it neither notices nor tells when a component has ended. The log servers are left out, since the API
server reads the tasks' logs from this machine's disk.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path

USER = "admin"
PARALLEL_TASKS = 4
"""Most tasks at a time: a run has two at most, and a look at a step should not wait for either."""


def component_commands() -> dict[str, list[str]]:
    """Return each component's command, by its name."""
    airflow = [sys.executable, "-m", "airflow"]
    return {
        "dag-processor": [*airflow, "dag-processor"],
        "api-server": [*airflow, "api-server"],
        "triggerer": [*airflow, "triggerer", "--skip-serve-logs"],
        "scheduler": [*airflow, "scheduler", "--skip-serve-logs"],
    }


def component_environment(port: int, passwords: Path, since: datetime) -> dict[str, str]:
    """Return what the components need beyond the environment of the local run.

    Parameters
    ----------
    port : int
        Port of the API server and its UI.
    passwords : Path
        The file that :func:`read_password` has made.
    since : datetime
        When the schedule begins. With an earlier one Airflow would at once start the run of last midnight, and a run
        that somebody triggers would wait for it.
    """
    url = f"http://127.0.0.1:{port}"
    return {
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__INSTANCE_NAME": "Fruit features on this machine",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(PARALLEL_TASKS),
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        # A worker sees after so long that its task has ended, by default five seconds. A sensor that is looked at again
        # before the scheduler has heard of its last look is taken for lost, and loses a try.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "FRUITS_POKE_INTERVAL_SECONDS": "3",
        # The endpoint is away for some seconds when it is started again.
        "FRUITS_RETRY_DELAY_SECONDS": "10",
        # A task that was killed with the service is tried again after this, not after five minutes.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        "FRUITS_START_DATE": since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def read_password(passwords: Path) -> str:
    """Return the password of the UI's user; it is made once, in a file that only its owner reads.

    A password also on loopback: other users of this machine, and pages in its browser, reach the port too.
    """
    if not passwords.exists():
        passwords.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(passwords, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump({USER: secrets.token_urlsafe(12)}, stream)
    return str(json.loads(passwords.read_text(encoding="utf-8"))[USER])
