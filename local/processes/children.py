"""Child processes that stop when this process exits, however it exits."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

from local.processes import guard


@contextlib.contextmanager
def running(
    command: Sequence[str], *, environ: dict[str, str], log: Path, cwd: Path, output: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a new session and write its output to a file; kill the whole session when the block exits.

    ``output`` may be ``subprocess.PIPE``: then only standard error goes to the file.
    The session receives SIGKILL, not SIGTERM: Airflow's tasks catch SIGTERM, and the run would continue with the next
    task.
    """
    with log.open("ab") as stream:
        process = subprocess.Popen(
            command,
            env=environ,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stream if output is None else output,
            stderr=stream,
            start_new_session=True,  # Ctrl-C reaches only this process, which stops the others in order
            preexec_fn=kill_with_parent if sys.platform == "linux" else None,
        )
    try:
        yield process
    finally:
        _kill_session(process)
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def start_in_thread(
    launch: Callable[[], subprocess.Popen[bytes]], *, name: str, stop: Callable[[], object]
) -> Iterator[None]:
    """Start a child process from a new thread that lives as long as the child; stop it if the block fails.

    The child continues to run after a block that succeeds. If an exception (also KeyboardInterrupt, at any moment from
    the start on) leaves the block, the child is stopped, or not launched at all.

    The kernel sends the parent-death signal (prctl(2)) when the *thread* that started the child exits, not when the
    parent process exits. The thread is a daemon thread: it does not keep the parent process alive.

    Parameters
    ----------
    launch : callable
        Launches and returns the process. Its exceptions are raised here.
    name : str
        Name of the thread.
    stop : callable
        Stops the process; called only if the launch succeeded.
    """
    launched: Future[subprocess.Popen[bytes]] = Future()

    def launch_and_wait() -> None:
        if not launched.set_running_or_notify_cancel():
            return
        try:
            process = launch()
        except BaseException as error:
            launched.set_exception(error)
            return
        launched.set_result(process)
        process.wait()

    try:
        threading.Thread(target=launch_and_wait, name=name, daemon=True).start()
        launched.result()
        yield
    except BaseException:
        # An interrupt may come while the other thread launches the process: exception() waits for the launch.
        if not launched.cancel() and launched.exception() is None:
            stop()
        raise


def kill_with_parent() -> None:
    """Have the kernel kill this process when its parent dies (``preexec_fn`` of :class:`subprocess.Popen`, Linux)."""
    guard.prctl(guard.PR_SET_PDEATHSIG, signal.SIGKILL)


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
