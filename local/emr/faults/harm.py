"""Doing harm to a running step: killing its driver or an executor, or stopping it where it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import psutil

EXECUTOR = "org.apache.spark.executor.CoarseGrainedExecutorBackend"
"""Main class of the executors of ``local-cluster``: processes of their own, as a cluster's are."""

GONE_SECONDS = 10.0


def freeze(family: Callable[[], Sequence[psutil.Process]]) -> list[psutil.Process]:
    """Stop a command where it is, all but its time limit; return what was stopped: nothing when it has not begun."""
    stopped: list[psutil.Process] = []
    while found := [process for process in family() if not _is_limit(process) and process not in stopped]:
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        stopped += found  # look again: one of them may have started another just before
    return stopped


def kill_command(family: Callable[[], Sequence[psutil.Process]]) -> None:
    """Kill a command, all but its time limit.

    It is stopped first: between two kills, one of its processes must not get on with its work.
    """
    command = freeze(family)
    for process in command:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(command, timeout=GONE_SECONDS)


def find_executors(family: Sequence[psutil.Process]) -> list[tuple[int, psutil.Process]]:
    """Return a step's executors with their ids, the oldest first."""
    found = []
    for process in family:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            words = process.cmdline()
            if EXECUTOR in words and "--executor-id" in words and process.status() != psutil.STATUS_ZOMBIE:
                found.append((int(words[words.index("--executor-id") + 1]), process))
    return sorted(found, key=lambda member: member[0])


def kill_executor(executor: psutil.Process) -> None:
    """Kill an executor with its Python workers, as the loss of its instance does."""
    family = [executor]
    with suppress(psutil.NoSuchProcess):
        family += executor.children(recursive=True)
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    deadline = time.monotonic() + GONE_SECONDS
    while time.monotonic() < deadline and any(_lives(process) for process in family):
        time.sleep(0.01)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _is_limit(process: psutil.Process) -> bool:
    try:
        return bool(process.name() == "timeout")
    except psutil.NoSuchProcess:
        return False
