"""Processes of steps. Each step runs under a guard, which ends it with all processes that it started.

A guard ends its step when the endpoint dies for any reason. That takes a moment, and a guard can be killed too. So an
endpoint that starts waits until the guards of an earlier endpoint in its state directory have ended, and kills the
processes that remain.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from local.processes import guard

logger = logging.getLogger(__name__)

STEP_FOLDER = "LOCAL_EMR_STEP_FOLDER"
"""Environment variable of the processes of a step: a later endpoint finds them by it."""

GUARD_TIMEOUT_SECONDS = 5.0
"""Maximum time until the guards of a dead endpoint have ended their steps; usually some hundredths of a second."""

_guards: set[int] = set()
_spawning = threading.Lock()


@dataclass(frozen=True)
class Exit:
    """How a command ended.

    Parameters
    ----------
    code : int or None
        Exit code; negative for the signal that ended it; None if its guard was killed.
    stopped : bool
        Whether it ended because the endpoint stopped it.
    """

    code: int | None
    stopped: bool


class GuardedProcess:
    """A command under its guard. The thread that starts it must live until :meth:`wait` has returned.

    The kernel signals the death of the endpoint to a guard when the *thread* that started the guard ends.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        stdout: Path,
        stderr: Path,
        result: Path,
        grace_seconds: float,
    ) -> None:
        result.unlink(missing_ok=True)
        self._result = result
        self._stopped = False
        # -I: the guard imports nothing from the environment or the folder of the step.
        head = [sys.executable, "-I", guard.__file__, str(os.getpid()), str(grace_seconds), str(result)]
        with stdout.open("ab") as out, stderr.open("ab") as err, _spawning:
            self._guard = subprocess.Popen(
                [*head, *argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                env={**environment, STEP_FOLDER: str(folder.resolve())},
                start_new_session=True,  # a terminal's Ctrl-C goes to the endpoint, which stops its steps in order
            )
            _guards.add(self._guard.pid)

    def wait(self) -> Exit:
        """Wait until the command and all processes that it started have ended."""
        self._guard.wait()
        with _spawning:
            _guards.discard(self._guard.pid)
        if not self._result.exists():
            kill_unguarded_children()
            return Exit(code=None, stopped=self._stopped)
        result = json.loads(self._result.read_text(encoding="utf-8"))
        return Exit(code=result["exit_code"], stopped=result["stopped"])

    def descendants(self) -> list[psutil.Process]:
        """Return the living processes of the command."""
        try:
            return _descendants(psutil.Process(self._guard.pid))
        except psutil.NoSuchProcess:
            return []

    def interrupt(self) -> None:
        """Ask the command to end, and kill it after the grace period."""
        self._stopped = True
        self._guard.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Kill the command and all processes that it started."""
        self._stopped = True
        self._guard.terminate()


def kill_unguarded_children() -> int:
    """Kill the processes of killed guards, which are now children of this process; return their number."""
    with _spawning:
        children = [child for child in psutil.Process().children() if child.pid not in _guards]
        processes = [member for child in children for member in (child, *_descendants(child))]
        for process in processes:
            _kill(process)
        psutil.wait_procs(processes, timeout=10)
    if processes:
        logger.warning("killed %d processes whose guard had been killed", len(processes))
    return len(processes)


def end_earlier_steps(state_dir: Path) -> int:
    """End the steps of an earlier endpoint in a state directory; return the number of killed processes."""
    killed = 0
    guards = [process for process in _step_processes(state_dir) if _is_guard(process)]
    psutil.wait_procs(guards, timeout=GUARD_TIMEOUT_SECONDS)
    while processes := _step_processes(state_dir):
        logger.warning("killing %d processes of steps of an earlier endpoint", len(processes))
        for process in processes:
            _kill(process)
        killed += len(processes)
        psutil.wait_procs(processes, timeout=GUARD_TIMEOUT_SECONDS)
    return killed


def _is_guard(process: psutil.Process) -> bool:
    try:
        return guard.__file__ in process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _step_processes(state_dir: Path) -> list[psutil.Process]:
    """Return all processes of steps of a state directory."""
    found = []
    for process in psutil.process_iter():
        try:
            folder = process.environ().get(STEP_FOLDER, "")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if Path(folder).is_relative_to(state_dir.resolve()) and process.pid != os.getpid():
            found.append(process)
    return found


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
