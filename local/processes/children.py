"""Child processes that end with this one, whatever ends it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1


@contextlib.contextmanager
def running(
    command: Sequence[str], *, environ: dict[str, str], log: Path, cwd: Path, output: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a session of its own, its output in a file; kill all of its session at the block's end.

    ``output`` may be ``subprocess.PIPE``: then only standard error goes to the file.
    It is killed, not asked to end: Airflow's tasks catch SIGTERM, and the run would go on with its next task.
    """
    with log.open("ab") as stream:
        process = subprocess.Popen(
            command,
            env=environ,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stream if output is None else output,
            stderr=stream,
            start_new_session=True,  # Ctrl-C reaches this process, which ends the others in order
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
    try:
        yield process
    finally:
        _end(process)
        if process.stdout is not None:
            process.stdout.close()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
