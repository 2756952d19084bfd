"""Processor cores that a measurement may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def available() -> list[int]:
    """Return the numbers of the cores that this process may run on."""
    return sorted(os.sched_getaffinity(0))


@contextmanager
def pinned(count: int) -> Iterator[None]:
    """Keep this thread, and all processes and threads that it starts, on so many cores: a JVM's and children's too.

    Raises
    ------
    SystemExit
        When there are fewer.
    """
    before = available()
    if count > len(before):
        raise SystemExit(f"{count} cores asked for, and this process may use {len(before)}")
    os.sched_setaffinity(0, before[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
