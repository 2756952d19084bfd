"""Locks on files: one process at a time; a lock ends with its process, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path


class LockedError(RuntimeError):
    """Another process holds a lock; the message says which one, if it is known."""


@contextlib.contextmanager
def exclusive_lock(file: Path) -> Iterator[int]:
    """Hold the lock of a file, which is created if it is missing; yield its file descriptor.

    The file contains the process that took the lock last. This is for messages only: the kernel knows who holds it. A
    child process that inherits the descriptor holds the lock too.

    Raises
    ------
    LockedError
        If another process holds the lock.
    OSError
        If the file cannot be written or locked.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+", encoding="utf-8", errors="replace") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise LockedError(stream.read().strip() or "an unknown process") from None
        stream.truncate(0)
        stream.write(f"process {os.getpid()}, {shlex.join(['python', *sys.orig_argv[1:]])}\n")
        stream.flush()
        yield stream.fileno()
