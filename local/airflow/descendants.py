"""Stop signals, and the descendants of a process that must not outlive it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Collection, Iterator

import psutil

from local.processes import guard

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def stop_descendants_at_exit() -> Iterator[None]:
    """Raise KeyboardInterrupt on a stop signal, adopt orphaned descendants, and kill all descendants at the end."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for number in STOP_SIGNALS:
        signal.signal(number, interrupt)
    guard.become_subreaper()
    try:
        yield
    finally:
        guard.kill_descendants()


def kill_other_children(known: Collection[int]) -> None:
    """Kill the children of this process that are not known by their process id, with their descendants."""
    for child in psutil.Process().children():
        if child.pid not in known:
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in (*child.children(recursive=True), child):
                    process.kill()
                child.wait(timeout=10)


def ignore_stop_signals() -> None:
    """Ignore further stop signals while this process stops."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
