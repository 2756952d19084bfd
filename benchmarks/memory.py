"""Peak memory of a process and all its descendants, measured in the same way for every side of a comparison.

A sample is the sum of the proportional set sizes (PSS). PSS divides a shared page, such as a page of a forked worker or
of an object store, among the processes that share it, so that the sum counts it once.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

MARKER = "BENCHMARK_PROCESS_TREE"
"""Environment variable whose value all processes of a tree inherit."""

PERIOD_SECONDS = 0.2
"""Time between two readings of the resident set sizes. A reading takes one or two milliseconds."""

GROWTH_FACTOR = 1.01
"""PSS is read when the total resident set has grown by this factor since the largest reading, for each reading takes
2 ms of CPU per 100 MB on the measured cores: the kernel walks through all pages."""

MAX_INTERVAL_SECONDS = 2.0
"""PSS is read at least this often."""

PROC = Path("/proc")

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

KERNEL_THREAD = 0x00200000
"""PF_KTHREAD of the kernel's include/linux/sched.h."""

Process = tuple[int, int]
"""Process id, and start time in clock ticks since boot: the kernel may reuse an id."""


class Tree:
    """The processes of a tree: those with its marker, and their descendants. Once found, a process stays in the tree.

    An orphaned worker still has its marker. A process that overwrites its environment with its title, as Ray's workers
    do, is found as the child of a known process.

    Parameters
    ----------
    marker : str
        Value of :data:`MARKER` in the first process's environment.
    """

    def __init__(self, marker: str) -> None:
        self._entry = f"{MARKER}={marker}".encode()
        self._known: set[Process] = set()
        self._foreign: set[Process] = set()

    def living(self) -> dict[Process, int]:
        """Return the running processes of the tree and their resident set sizes in bytes."""
        seen = {process: (parent, resident) for process, parent, resident in _processes()}
        parents = {process: parent for process, (parent, _) in seen.items()}
        self._known &= parents.keys()
        self._foreign &= parents.keys()
        new = parents.keys() - self._known - self._foreign
        environments = {process: _environment(process) for process in new}
        self._known |= {process for process, entries in environments.items() if self._entry in entries}
        numbers = {number for number, _ in self._known}
        while born := {process for process in new - self._known if parents[process] in numbers}:
            self._known |= born
            numbers |= {number for number, _ in born}
        # A process that is being started has no environment yet: check it again next time.
        self._foreign |= {process for process in new - self._known if environments[process]}
        return {process: seen[process][1] for process in self._known}


def _environment(process: Process) -> list[bytes]:
    try:
        return [entry for entry in (PROC / str(process[0]) / "environ").read_bytes().split(b"\0") if entry]
    except OSError:  # it has ended or belongs to another user
        return []


def _processes() -> Iterator[tuple[Process, int, int]]:
    """Yield each process, its parent's id and its resident set size in bytes; skip zombies and kernel threads."""
    for folder in PROC.glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:  # it has ended
            continue
        # Fields 3, 4, 9, 22 and 24 of proc_pid_stat(5); the id is field 1, the name field 2.
        state, parent, flags, start, pages = (fields[0], *(int(fields[index]) for index in (1, 6, 19, 21)))
        if state not in (b"Z", b"X") and not flags & KERNEL_THREAD:
            yield (int(folder.name), start), parent, pages * PAGE_BYTES


def high_water_bytes(number: int) -> int:
    """Return the peak resident set size of a process in bytes; 0 if it has ended."""
    return _kib_field(number, "status", b"VmHWM:") * 1024


def command_line(number: int) -> str:
    """Return a process's command line, separated by spaces; empty if it has ended."""
    try:
        return (PROC / str(number) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def proportional_bytes(number: int) -> int:
    """Return a process's proportional set size in bytes; 0 if it has ended."""
    return _kib_field(number, "smaps_rollup", b"Pss:") * 1024


def _kib_field(number: int, name: str, field: bytes) -> int:
    """Return a field in KiB of a process's file in /proc; 0 if the process has ended."""
    try:
        with (PROC / str(number) / name).open("rb") as file:
            for line in file:
                if line.startswith(field):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


class Sampler:
    """Sample a tree's memory in a thread, within a ``with`` block.

    Parameters
    ----------
    marker : str
        Value of :data:`MARKER` in the first process's environment.
    period_seconds : float
        Time between two readings of the resident set sizes.

    Attributes
    ----------
    peak_bytes : int
        Largest sample of the whole tree's memory.
    samples : int
        Number of samples.
    single : dict of Process to (str, int)
        Last command line and peak resident set size of each process. The kernel records the peak; it includes all
        shared pages.
    """

    def __init__(self, marker: str, period_seconds: float = PERIOD_SECONDS) -> None:
        self.peak_bytes = 0
        self.samples = 0
        self.single: dict[Process, tuple[str, int]] = {}
        self._tree = Tree(marker)
        self._period_seconds = period_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory sampler", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        most_resident, last = 0, float("-inf")
        while True:
            living = self._tree.living()
            for process in living:
                if peak := high_water_bytes(process[0]):
                    self.single[process] = (command_line(process[0]), peak)
            resident = sum(living.values())
            if resident > GROWTH_FACTOR * most_resident or time.monotonic() - last > MAX_INTERVAL_SECONDS:
                memory = sum(proportional_bytes(number) for number, _ in living)
                self.peak_bytes = max(self.peak_bytes, memory)
                self.samples += 1
                most_resident, last = max(most_resident, resident), time.monotonic()
            if self._ended.wait(self._period_seconds):
                return
