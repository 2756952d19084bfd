"""Airflow's configuration under ``make up``: everything listens on loopback; the UI has one user."""

from __future__ import annotations

import json
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

USER = "admin"
PARALLEL_TASKS = 4
"""Maximum number of tasks at a time. A run has two at most; a sensor should not wait for a free worker."""


def component_environment(port: int, passwords: Path, since: datetime) -> dict[str, str]:
    """Return the environment variables that the components need, besides those of the local environment.

    Parameters
    ----------
    port : int
        Port of the API server and its UI.
    passwords : Path
        File of the UI's users; :func:`read_password` creates it.
    since : datetime
        Start of the schedule. With an earlier start, Airflow would at once start the run of last midnight, and a
        triggered run would wait for it.
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
        # Each parse costs three seconds of CPU time. A file that has changed is parsed at once all the same.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        # Interval at which a worker checks whether its task has ended; five seconds by default. If a sensor's next
        # poke is due before the scheduler knows that the last one has ended, the task counts as lost and uses up a try.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "FRUITS_POKE_INTERVAL_SECONDS": "3",
        # A restart of the endpoint takes some seconds.
        "FRUITS_RETRY_DELAY_SECONDS": "10",
        # A task that was killed with the service is retried after this time; five minutes by default.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        "FRUITS_START_DATE": since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def read_password(passwords: Path) -> str:
    """Return the password of the UI's user; the first call generates it, in a file that only its owner can read.

    Loopback needs a password too: other users of this machine, and web pages in its browser, can reach the port.
    """
    if not passwords.exists():
        passwords.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(passwords, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump({USER: secrets.token_urlsafe(12)}, stream)
    return str(json.loads(passwords.read_text(encoding="utf-8"))[USER])
