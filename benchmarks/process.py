"""Child processes that do not outlive the benchmark."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

GRACE_SECONDS = 20


def run(command: Sequence[str], *, folder: Path, environment: Mapping[str, str], log_file: Path) -> str:
    """Run a command to its end and return its standard output; its standard error goes to the log file.

    Raises
    ------
    SystemExit
        When the command fails; the message has the end of its output.
    """
    with log_file.open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=dict(environment), stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            output, _ = process.communicate()
        except BaseException:
            _end(process)
            raise
    if process.returncode:
        tail = "\n".join([*log_file.read_text().splitlines()[-15:], *output.splitlines()[-5:]])
        raise SystemExit(f"{command[0]} … failed with exit code {process.returncode}, its output ends with\n{tail}")
    return output


def _end(process: subprocess.Popen[str]) -> None:
    """Ask a process to end: ``timeout`` passes SIGTERM on to spark-submit, which SIGKILL would leave behind."""
    process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that children are ended and folders deleted."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
