"""Airflow's components, each a child process under a guard.

They are the components of ``airflow standalone``, without its two faults: its log servers listen on every network
interface, whatever is configured, and it does not report that a component has ended. The log servers are omitted: the
API server reads the tasks' logs from the disk.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from local.airflow import preloaded
from local.processes import guard

GRACE_SECONDS = 8.0
RESTART_SECONDS = 5.0
"""Time between the end of a component and its restart."""


@dataclass
class Component:
    """One of Airflow's components. Its guard kills it when this process exits, however it exits."""

    name: str
    command: list[str]
    environ: dict[str, str]
    home: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None
    ended: float | None = None
    """Time at which :meth:`restart_if_ended` noticed its end, on the monotonic clock."""

    def start(self) -> None:
        """Start the component."""
        head = [sys.executable, "-I", guard.__file__, str(os.getpid()), str(GRACE_SECONDS), f"{self.log}.exit"]
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                [*head, *self.command],
                env=self.environ,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,  # Ctrl-C reaches only this process, which stops the others in order
            )
        self.ended = None

    @property
    def alive(self) -> bool:
        """Whether it is running."""
        return self.process is not None and self.process.poll() is None

    def restart_if_ended(self, report: Callable[[str], None]) -> None:
        """Report that the component has ended; start it again :data:`RESTART_SECONDS` later."""
        if self.alive:
            return
        if self.ended is None:
            self.ended = time.monotonic()
            report(f"the {self.name} has ended unexpectedly; restarting it (see {self.log})")
        elif time.monotonic() - self.ended >= RESTART_SECONDS:
            self.start()

    def interrupt(self) -> None:
        """Send SIGINT. The guard kills what is still running after :data:`GRACE_SECONDS`."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def tail(self) -> str:
        """Return the last 2,000 characters of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-2_000:] if self.log.exists() else ""


def component_commands() -> dict[str, list[str]]:
    """Return the command of each component, by its name."""
    airflow = [sys.executable, "-m", "airflow"]
    return {
        "dag-processor": [*airflow, "dag-processor"],
        "api-server": [*airflow, "api-server"],
        "triggerer": [*airflow, "triggerer", "--skip-serve-logs"],
        "scheduler": [sys.executable, "-m", preloaded.__name__, "scheduler", "--skip-serve-logs"],
    }


def fresh_log(log: Path) -> Path:
    """Rename the last log of this name to ``<name>.old``, which replaces an older one; return the log's path."""
    if log.exists():
        log.replace(log.with_name(f"{log.name}.old"))
    return log
