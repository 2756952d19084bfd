"""What is expensive to build and only read: built once per test run, whichever worker needs it first."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def build_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """Return a folder that the first worker to ask for it has built; the others wait for it.

    Parameters
    ----------
    factory : TempPathFactory
    name : str
        Name of the folder, unique in the test run.
    build : callable
        Fills the empty folder. If it fails, the next worker starts again.
    """
    own = factory.getbasetemp()
    common = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    folder, complete = common / name, common / f"{name}.complete"
    with (common / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            folder.mkdir()
            build(folder)
            complete.touch()
    return folder
