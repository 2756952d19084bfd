"""The settings of an endpoint."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path


def half_of_memory_mb() -> int:
    """Return half of this machine's memory in MiB, the default limit of a Spark driver."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**21


SHORT_JOB_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""JVM options for steps of about a minute: with the default options, half of the CPU time is spent on compiling."""

PAGE_SIZE = 50
"""Number of items in one answer of a List action, as in EMR (EMR API Reference, ListClusters and ListSteps)."""


@dataclass(frozen=True)
class Options:
    """The settings of an endpoint.

    Parameters
    ----------
    state_dir : Path
        Absolute path of the folder with the journal, the record of the endpoint, the logs of steps and scratch space.
    python : str
        Python interpreter of drivers and workers.
    master : str
        Spark master that ``--master yarn`` becomes: ``local…`` or ``local-cluster[n,cores,MiB]``.
    driver_memory_cap_mb : int
        Maximum memory of a driver, in MiB.
    jvm_options : str
        Options of the driver's JVM, separated by spaces.
    clock_rate : float
        Timers (idle timeout, boot time, staleness, delays of faults) run this many times faster.
    boot_seconds : float
        Time from RunJobFlow to a ready cluster; one half is STARTING, the other BOOTSTRAPPING.
    interrupt_grace_seconds : float
        Time from the interruption of a step to its kill.
    pass_environment : tuple of str
        Names of more environment variables that steps receive.
    page_size : int
        Number of items in one answer of a List action.
    shuffle_seed : int or None
        Seed of the order of lists whose order EMR does not promise; None lists the newest first.
    staleness_seconds : float
        ListClusters and DescribeCluster answer with the state of this long ago (eventual consistency). ListClusters
        does not list a cluster that is younger; DescribeCluster describes it.
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
    page_size: int = PAGE_SIZE
    shuffle_seed: int | None = None
    staleness_seconds: float = 0.0

    def shorten(self, seconds: float) -> float:
        """Return the real duration, in seconds, of a timer."""
        return seconds / self.clock_rate
