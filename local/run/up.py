"""``make up``: start the service in the background, and return when it is ready."""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from include.settings.dag_ids import FEATURES_DAG
from local.airflow.components import fresh_log
from local.airflow.configuration import USER, read_password
from local.airflow.supervisor import ServiceError
from local.environment import PROJECT
from local.run.console import PlainTextConsole
from local.run.leftovers import stop_leftovers
from local.run.record import read_record, record_file

POLL_SECONDS = 0.2
READY = "ready"
"""The line that the service prints when a run can be triggered."""


def up(options: argparse.Namespace, console: PlainTextConsole) -> int:
    """Start the service in the background; return the exit code.

    Raises
    ------
    ServiceError
        If it is running, or if its port is in use.
    """
    state = options.state.expanduser().absolute()
    record = read_record(state)
    if record is not None and record.alive:
        raise ServiceError(f"it runs already, at {record.url}; end it with `make down`")
    if record is not None:
        console.print("the last service was killed; waiting until its processes have exited")
        stop_leftovers(record, state)
        record_file(state).unlink(missing_ok=True)
    check_port(options.port)
    log = fresh_log(state / "logs" / "service.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "local.run.service", "serve", "--state", str(state)]
    command += ["--lake", options.lake, "--store", options.store]
    command += ["--port", str(options.port)]
    command += ["--images", str(options.images)] if options.images else []
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,  # it keeps running when this command and its terminal end
        )
    try:
        code = relay_output(process, log, console)
    except BaseException:  # Ctrl-C during the start stops the service
        process.send_signal(signal.SIGINT)
        process.wait()
        raise
    if code is None:
        console.print(welcome(state, options.port))
        return 0
    return code


def check_port(port: int) -> None:
    """Check that a port is free.

    Raises
    ------
    ServiceError
        If it is in use; the message says how to choose another.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ServiceError(
                f"port {port} on 127.0.0.1 is not available ({error.strerror}); choose another: make up PORT={port + 1}"
            ) from None


def relay_output(process: subprocess.Popen[bytes], log: Path, console: PlainTextConsole) -> int | None:
    """Print the output of the service until it is ready.

    Returns
    -------
    int or None
        None when the service is ready; its exit code if it exits before.
    """
    with log.open(encoding="utf-8", errors="replace") as stream:
        while True:
            code = process.poll()
            for line in stream:
                if line.strip() == READY:
                    return None
                console.print(line.rstrip("\n"))
            if code is not None:
                return code
            time.sleep(POLL_SECONDS)


def welcome(state: Path, port: int) -> str:
    """Return what a user needs to trigger a run and to read its results."""
    passwords = state / "airflow" / "passwords.json"
    return "\n".join(
        [
            "",
            f"Airflow     http://127.0.0.1:{port}/dags/{FEATURES_DAG}",
            f"user        {USER}",
            f"password    {read_password(passwords)}  (stored in {passwords})",
            "a run       Trigger (top right), change the form if you like, Trigger",
            f"all runs    http://127.0.0.1:{port}/plugin/fruit-features",
            f"logs        {state / 'logs'}",
            "every day   a scheduled run at midnight, Europe/Paris, while the service is up",
            "stop it     make down",
        ]
    )
