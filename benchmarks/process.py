"""Child processes: run a program, measure its duration and memory, and end everything that it starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks import REPOSITORY, memory

GRACE_SECONDS = 20


@dataclass(frozen=True)
class Measured:
    """Output, duration and memory of a command.

    Attributes
    ----------
    output : str
        Standard output.
    seconds : float
        Wall-clock time from start to end.
    peak_memory_mib : float
        Peak memory of the command and all its descendants together, in MiB (:mod:`benchmarks.memory`).
    single_peaks_mib : tuple of (str, float)
        Command line and peak resident set size, in MiB, of each of these processes.
    """

    output: str
    seconds: float
    peak_memory_mib: float
    single_peaks_mib: tuple[tuple[str, float], ...] = ()

    @property
    def figures(self) -> dict[str, Any]:
        """The last line of the output, parsed as JSON."""
        parsed: dict[str, Any] = json.loads(self.output.splitlines()[-1])
        return parsed


def measure_module(
    module: str,
    *arguments: str,
    folder: Path,
    environment: Mapping[str, str],
    log_file: Path,
    python: Path | str = sys.executable,
    time_limit_seconds: float | None = None,
) -> Measured:
    """Run a module of this repository with ``python -m``; everything else is as in :func:`measure`."""
    return measure(
        [str(python), "-m", module, *arguments],
        folder=folder,
        environment={**environment, "PYTHONPATH": str(REPOSITORY)},
        log_file=log_file,
        time_limit_seconds=time_limit_seconds,
    )


def measure(
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    log_file: Path,
    time_limit_seconds: float | None = None,
) -> Measured:
    """Run a command to its end and measure it. Its standard error goes to the log file.

    Processes that the command leaves running are ended before this function returns; the duration excludes that.

    Raises
    ------
    SystemExit
        If the command fails or exceeds the time limit; the message ends with the last lines of its output.
    """
    marker = uuid.uuid4().hex
    # Standard output is a file: a process that is left running would hold a pipe open, and reading it would block.
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
            _end_descendants(marker)
        printed.seek(0)
        output = printed.read()
    if timed_out or process.returncode:
        tail = "\n".join([*log_file.read_text(errors="replace").splitlines()[-15:], *output.splitlines()[-5:]])
        why = f"took more than {time_limit_seconds} s" if timed_out else f"failed with exit code {process.returncode}"
        raise SystemExit(f"{command[0]} … {why}, its output ends with\n{tail}")
    single = tuple((command, peak / 2**20) for command, peak in sampler.single.values())
    return Measured(output, seconds, sampler.peak_bytes / 2**20, single)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM first: ``timeout`` forwards it to spark-submit, which a SIGKILL would leave running."""
    process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_descendants(marker: str) -> None:
    """Wait until the processes of a tree have ended; kill those that still run after the grace period."""
    tree = memory.Tree(marker)
    deadline = time.monotonic() + GRACE_SECONDS
    while (left := tree.living()) and time.monotonic() < deadline:
        time.sleep(0.2)
    for number, _ in left:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Raise SystemExit on SIGTERM, as Ctrl-C raises KeyboardInterrupt: children are ended and folders deleted."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
