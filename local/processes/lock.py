"""Locks on files: one process at a time; a lock ends with its process, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def exclusive_lock(file: Path, conflict: Callable[[str], Exception]) -> Iterator[int]:
    """Hold the lock of a file, which is created if it is missing; yield its file descriptor.

    The file contains the process that took the lock last. This is for messages only: the kernel knows who holds it. A
    child process that inherits the descriptor holds the lock too.

    Parameters
    ----------
    file : Path
        The file.
    conflict : callable
        Returns the error to raise if another process holds the lock, given a description of that process.

    Raises
    ------
    Exception
        That error.
    OSError
        If the file cannot be written or locked.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+", encoding="utf-8", errors="replace") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise conflict(stream.read().strip() or "an unknown process") from None
        stream.truncate(0)
        stream.write(f"process {os.getpid()}, {shlex.join(['python', *sys.orig_argv[1:]])}\n")
        stream.flush()
        yield stream.fileno()
