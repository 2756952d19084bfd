"""CPU cores that a measurement may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def available() -> list[int]:
    """Return the numbers of the cores that this process may run on."""
    return sorted(os.sched_getaffinity(0))


@contextmanager
def pinned(count: int) -> Iterator[None]:
    """Pin this thread, and all threads and processes that it starts, to this number of cores.

    Raises
    ------
    SystemExit
        If fewer cores are available.
    """
    before = available()
    if count > len(before):
        raise SystemExit(f"{count} cores requested, but this process may use only {len(before)}")
    os.sched_setaffinity(0, before[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
