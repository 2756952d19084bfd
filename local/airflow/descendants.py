"""Stop signals, and the descendants of a process that must not outlive it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

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


def ignore_stop_signals() -> None:
    """Ignore further stop signals while this process stops."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
