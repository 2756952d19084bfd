"""Faults of the processes of a running step: its command is suspended or killed, or an executor is killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import psutil

EXECUTOR = "org.apache.spark.executor.CoarseGrainedExecutorBackend"
"""Main class of the executors of ``local-cluster``, which are separate processes, as on a cluster."""

KILL_TIMEOUT_SECONDS = 10.0


def suspend_command(find_processes: Callable[[], Sequence[psutil.Process]]) -> list[psutil.Process]:
    """Suspend the processes of a command, except its time limit.

    Parameters
    ----------
    find_processes : callable
        Returns the living processes of the step.

    Returns
    -------
    list of psutil.Process
        The suspended processes; empty if the command has not started yet.
    """
    suspended: list[psutil.Process] = []
    while found := [process for process in find_processes() if not _is_timeout(process) and process not in suspended]:
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        suspended += found  # search again: one of them may have started another process before it was suspended
    return suspended


def kill_command(find_processes: Callable[[], Sequence[psutil.Process]]) -> None:
    """Kill the processes of a command, except its time limit.

    They are suspended first. Otherwise, some would continue their work while others are killed.
    """
    processes = suspend_command(find_processes)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=KILL_TIMEOUT_SECONDS)


def find_executors(processes: Sequence[psutil.Process]) -> list[tuple[int, psutil.Process]]:
    """Return the executors among the processes of a step, with their ids, the oldest first."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            words = process.cmdline()
            if EXECUTOR in words and "--executor-id" in words and process.status() != psutil.STATUS_ZOMBIE:
                found.append((int(words[words.index("--executor-id") + 1]), process))
    return sorted(found, key=lambda member: member[0])


def kill_executor(executor: psutil.Process) -> None:
    """Kill an executor and its Python workers, as the loss of its instance does."""
    processes = [executor]
    with suppress(psutil.NoSuchProcess):
        processes += executor.children(recursive=True)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    deadline = time.monotonic() + KILL_TIMEOUT_SECONDS
    while time.monotonic() < deadline and any(_is_alive(process) for process in processes):
        time.sleep(0.01)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _is_timeout(process: psutil.Process) -> bool:
    """Return whether the process is timeout(1), the time limit of the command."""
    try:
        return bool(process.name() == "timeout")
    except psutil.NoSuchProcess:
        return False
