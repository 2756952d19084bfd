"""Processes of steps: started under a guard each, ended with all that they started.

A guard ends its step when the endpoint dies, however that dies. That takes a moment, and a guard can be killed too: an
endpoint that starts therefore waits for what an earlier one of its state folder has left, and kills what stays.
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
"""Environment variable of a step's processes, by which another endpoint finds them."""

PATIENCE_SECONDS = 5.0
"""Time that the guards of an endpoint that is gone have to end their steps; it takes them some hundredths."""

_guards: set[int] = set()
_spawning = threading.Lock()


@dataclass(frozen=True)
class Exit:
    """How a command ended.

    Parameters
    ----------
    code : int or None
        Exit code; negative for the signal that ended it; None when its guard was lost.
    stopped : bool
        Whether it ended because it was told to.
    """

    code: int | None
    stopped: bool


class GuardedProcess:
    """A command under its guard. The thread that starts it must live until :meth:`wait` has returned.

    (The kernel tells a guard that the endpoint is gone when the *thread* that started the guard ends.)
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
        # -I: the guard itself takes nothing from the step's environment or folder.
        head = [sys.executable, "-I", guard.__file__, str(os.getpid()), str(grace_seconds), str(result)]
        with stdout.open("ab") as out, stderr.open("ab") as err, _spawning:
            self._guard = subprocess.Popen(
                [*head, *argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                env={**environment, STEP_FOLDER: str(folder.resolve())},
                start_new_session=True,  # a terminal's Ctrl-C is for the endpoint, which ends its steps in order
            )
            _guards.add(self._guard.pid)

    def wait(self) -> Exit:
        """Wait until the command and all that it started are gone."""
        self._guard.wait()
        with _spawning:
            _guards.discard(self._guard.pid)
        if not self._result.exists():
            end_strays()
            return Exit(code=None, stopped=self._stopped)
        result = json.loads(self._result.read_text(encoding="utf-8"))
        return Exit(code=result["exit_code"], stopped=result["stopped"])

    def family(self) -> list[psutil.Process]:
        """Return the command's living processes."""
        try:
            return _descendants(psutil.Process(self._guard.pid))
        except psutil.NoSuchProcess:
            return []

    def interrupt(self) -> None:
        """Ask the command to end, and kill it after the grace."""
        self._stopped = True
        self._guard.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Kill the command and all that it started."""
        self._stopped = True
        self._guard.terminate()


def end_strays() -> int:
    """Kill what a lost guard left behind, which is now a child of this process, and return how many were killed."""
    with _spawning:
        strays = [child for child in psutil.Process().children() if child.pid not in _guards]
        family = [member for stray in strays for member in (stray, *_descendants(stray))]
        for process in family:
            _kill(process)
        psutil.wait_procs(family, timeout=10)
    if family:
        logger.warning("killed %d processes that had lost their guard", len(family))
    return len(family)


def end_leftovers(state_dir: Path) -> int:
    """End what steps of an earlier endpoint of a state folder have left; return how many had to be killed."""
    killed = 0
    psutil.wait_procs([process for process in _left_in(state_dir) if _is_guard(process)], timeout=PATIENCE_SECONDS)
    while left := _left_in(state_dir):
        logger.warning("killing %d processes of steps that an earlier endpoint had left", len(left))
        for process in left:
            _kill(process)
        killed += len(left)
        psutil.wait_procs(left, timeout=PATIENCE_SECONDS)
    return killed


def _is_guard(process: psutil.Process) -> bool:
    try:
        return guard.__file__ in process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _left_in(state_dir: Path) -> list[psutil.Process]:
    left = []
    for process in psutil.process_iter():
        try:
            folder = process.environ().get(STEP_FOLDER, "")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if Path(folder).is_relative_to(state_dir.resolve()) and process.pid != os.getpid():
            left.append(process)
    return left


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
