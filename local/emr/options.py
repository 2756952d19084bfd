"""Settings of an endpoint."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path


def half_of_memory_mb() -> int:
    """Return half of this machine's memory, in MiB: the most a Spark driver gets by default."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**21


SHORT_JOB_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""JVM options that suit steps of a minute: half of a default JVM's CPU time goes into compiling what ends soon."""


@dataclass(frozen=True)
class Options:
    """How an endpoint runs.

    Parameters
    ----------
    state_dir : Path
        Absolute folder for the endpoint's journal and record, step logs and scratch space.
    python : str
        Interpreter of the steps, driver and workers.
    master : str
        Spark master that ``--master yarn`` becomes: ``local…`` or ``local-cluster[n,cores,MiB]``.
    driver_memory_cap_mb : int
        Most memory that a step's driver gets, in MiB.
    jvm_options : str
        Options of the driver's JVM, separated by spaces.
    clock_rate : float
        Waiting timers (idle timeout, boot time, delays of faults) pass this many times faster.
    boot_seconds : float
        Time between RunJobFlow and a ready cluster, half of it starting and half bootstrapping.
    interrupt_grace_seconds : float
        Time that an interrupted step has to end by itself before it is killed.
    pass_environment : tuple of str
        Names of environment variables that steps get besides the usual ones.
    """

    state_dir: Path
    python: str
    master: str = "local[*]"
    driver_memory_cap_mb: int = field(default_factory=half_of_memory_mb)
    jvm_options: str = SHORT_JOB_JVM
    clock_rate: float = 1.0
    boot_seconds: float = 0.0
    interrupt_grace_seconds: float = 10.0
    pass_environment: tuple[str, ...] = ()

    def shorten(self, seconds: float) -> float:
        """Return how long a waiting timer of so many seconds really takes."""
        return seconds / self.clock_rate
