"""A script that runs the command of one step and ends all processes that the command started.

The command may create process groups and sessions (``timeout`` and pyspark's daemon do), and its processes may lose
their parent. The guard is their *subreaper* (prctl(2)): a descendant that loses its parent becomes a child of the
guard. So the guard finds all of them among its descendants, in any session. The kernel sends a signal to the guard when
the endpoint dies for any reason.

Usage: ``guard.py ENDPOINT_PID GRACE_SECONDS RESULT_FILE COMMAND…``. SIGTERM kills the command. SIGINT sends SIGTERM to
all its processes, and kills those that still run after the grace period. The result file has the exit code.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path

import psutil

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
WATCHED = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
COMMAND_NOT_FOUND = 127


def prctl(operation: int, argument: int) -> None:
    """Call prctl(2).

    Raises
    ------
    OSError
        If the kernel refuses it.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(operation, argument, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def become_subreaper() -> None:
    """Make this process the new parent of all descendants that lose their parent."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with(parent: int, by: signal.Signals) -> bool:
    """Ask the kernel for a signal when the thread that started this process ends; return False if that is too late."""
    prctl(PR_SET_PDEATHSIG, by)
    return os.getppid() == parent


def send_to_descendants(number: signal.Signals) -> int:
    """Send a signal to all living descendants, and return their number."""
    living = 0
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                living += 1
                process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
    return living


def reap() -> dict[int, int]:
    """Return the exit codes (negative: a signal) of the children that have ended, by process id."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = os.waitstatus_to_exitcode(status)


def kill_descendants() -> dict[int, int]:
    """Kill all descendants, also new ones; return the exit codes of those that were children."""
    ended: dict[int, int] = {}
    while psutil.Process().children(recursive=True):
        send_to_descendants(signal.SIGKILL)
        ended |= reap()
        time.sleep(0.01)
    return ended | reap()


def spawn(command: list[str]) -> int:
    """Start the command in a new session with default signal handlers, and return its process id."""
    defaults = [signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT]
    return os.posix_spawnp(command[0], command, os.environ, setsid=True, setsigmask=[], setsigdef=defaults)


def watch(child: int, grace_seconds: float) -> tuple[int, bool]:
    """Wait for the command; return its exit code and whether a signal to the guard stopped it."""
    ended: dict[int, int] = {}
    stopped = False
    deadline = float("inf")
    while child not in ended:
        seconds = min(max(deadline - time.monotonic(), 0), 3600)
        received = signal.sigtimedwait(WATCHED, seconds)
        ended |= reap()
        if child in ended:
            break
        if received and received.si_signo == signal.SIGINT and not stopped:
            stopped = True
            deadline = time.monotonic() + grace_seconds
            send_to_descendants(signal.SIGTERM)
        elif (received and received.si_signo == signal.SIGTERM) or time.monotonic() >= deadline:
            stopped = True
            ended |= kill_descendants()
    return ended[child], stopped


def main(arguments: list[str]) -> None:
    """Run the command given on the command line."""
    parent, grace_seconds, result, *command = arguments
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    become_subreaper()
    if not die_with(int(parent), signal.SIGTERM):
        return
    stopped = False
    try:
        child = spawn(command)
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]!r}: {error.strerror}\n")
        code = COMMAND_NOT_FOUND
    else:
        code, stopped = watch(child, float(grace_seconds))
        kill_descendants()
    temporary = Path(result + ".new")
    temporary.write_text(json.dumps({"exit_code": code, "stopped": stopped}), encoding="utf-8")
    temporary.replace(result)


if __name__ == "__main__":
    main(sys.argv[1:])
