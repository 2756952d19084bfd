"""Child processes that do not outlive the benchmark."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from benchmarks import memory

GRACE_SECONDS = 20


@dataclass(frozen=True)
class Measured:
    """What a command has cost.

    Attributes
    ----------
    output : str
        Its standard output.
    seconds : float
        Wall clock from its start to its end.
    peak_memory_mib : float
        Most memory of it and all its descendants at a time, in MiB (:mod:`benchmarks.memory`).
    single_peaks_mib : tuple of (str, float)
        Command line and peak of the resident set, in MiB, of each of these processes.
    """

    output: str
    seconds: float
    peak_memory_mib: float
    single_peaks_mib: tuple[tuple[str, float], ...] = ()


def run(command: Sequence[str], *, folder: Path, environment: Mapping[str, str], log_file: Path) -> str:
    """Run a command to its end and return its standard output; its standard error goes to the log file.

    Raises
    ------
    SystemExit
        When the command fails; the message has the end of its output.
    """
    return measure(command, folder=folder, environment=environment, log_file=log_file).output


def measure(
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    log_file: Path,
    time_limit_seconds: float | None = None,
) -> Measured:
    """Run a command to its end, as :func:`run`, and return what it has cost.

    What it leaves running is ended before this returns, and is not part of the time.

    Raises
    ------
    SystemExit
        When the command fails or takes longer than the limit; the message has the end of its output.
    """
    marker = uuid.uuid4().hex
    # A file and no pipe: what a command leaves running holds a pipe open, and would be waited for.
    with log_file.open("w") as log, tempfile.TemporaryFile("w+") as printed:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env={**environment, memory.MARKER: marker}, stdout=printed, stderr=log
        )
        timed_out = False
        try:
            with memory.Sampler(marker) as sampler:
                process.wait(time_limit_seconds)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            seconds = time.perf_counter() - begin
            if process.returncode is None:
                _end(process)
            _end_rest(marker)
        printed.seek(0)
        output = printed.read()
    if timed_out or process.returncode:
        tail = "\n".join([*log_file.read_text(errors="replace").splitlines()[-15:], *output.splitlines()[-5:]])
        why = f"took more than {time_limit_seconds} s" if timed_out else f"failed with exit code {process.returncode}"
        raise SystemExit(f"{command[0]} … {why}, its output ends with\n{tail}")
    single = tuple((command, peak / 2**20) for command, peak in sampler.single.values())
    return Measured(output, seconds, sampler.peak_bytes / 2**20, single)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end: ``timeout`` passes SIGTERM on to spark-submit, which SIGKILL would leave behind."""
    process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_rest(marker: str) -> None:
    """Wait for what a command has left running, and kill what is still there after the grace time."""
    tree = memory.Tree(marker)
    deadline = time.monotonic() + GRACE_SECONDS
    while (left := tree.living()) and time.monotonic() < deadline:
        time.sleep(0.2)
    for number, _ in left:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


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
