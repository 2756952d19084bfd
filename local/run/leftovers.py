"""Processes that are still running after their service was killed or stopped."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from local.airflow.supervisor import STATE_VARIABLE
from local.run.record import Record

EXIT_SECONDS = 20.0
"""Time in which the processes of a killed service exit by themselves, since their guards stop them."""

POLL_SECONDS = 0.2


def find_leftovers(record: Record, state: Path) -> list[int]:
    """Return the ids of the processes of a service that are running, in ascending order.

    They are the recorded ones, and later ones that have the state folder in :data:`STATE_VARIABLE`.
    """
    found = set(record.running_children())
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(STATE_VARIABLE) == str(state) and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process.pid)
    return sorted(found)


def stop_leftovers(record: Record, state: Path) -> None:
    """Wait until the processes of a service have exited, and kill those that have not after :data:`EXIT_SECONDS`."""
    if wait_until(lambda: not find_leftovers(record, state), EXIT_SECONDS):
        return
    for pid in find_leftovers(record, state):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            for member in (*process.children(recursive=True), process):
                member.kill()


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition is true; return False if it is not true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
