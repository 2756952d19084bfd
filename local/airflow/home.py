"""Airflow's home for local runs: its lock and its database."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from local.processes.children import running
from local.processes.lock import exclusive_lock


class RunError(RuntimeError):
    """A local run cannot start; the message says what to do."""


@contextlib.contextmanager
def lock_folder(lock: Path, conflict: str) -> Iterator[None]:
    """Hold the lock of a folder that a local run needs for itself.

    Parameters
    ----------
    lock : Path
        File in the folder; see :func:`local.processes.lock.exclusive_lock`.
    conflict : str
        Message of the error, without the process that holds the lock.

    Raises
    ------
    RunError
        If another process holds the lock, or the folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(exclusive_lock(lock, lambda holder: RunError(f"{conflict}. It is {holder}")))
        except OSError as error:
            raise RunError(
                f"{lock.parent} cannot be written: {error.strerror}; choose a folder that you may write"
            ) from None
        yield


def state_lock(state: Path) -> AbstractContextManager[None]:
    """Return the lock of a state folder: only one local Airflow may use it at a time."""
    return lock_folder(
        state / "run.lock",
        f"another `make run` is working in {state} (wait for it, or stop it with Ctrl-C), "
        "or `make up` runs there (`make down` ends it)",
    )


def migrate_database(environ: dict[str, str], log: Path, report: Callable[[str], None]) -> Path:
    """Create Airflow's database, or migrate it to the installed version; return its file.

    Raises
    ------
    RunError
        If ``airflow db migrate`` fails; the message names its log.
    """
    home = Path(environ["AIRFLOW_HOME"])
    mark, database = home / "migrated", home / "airflow.db"
    version = subprocess.run(
        [sys.executable, "-c", "from importlib.metadata import version; print(version('apache-airflow'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    # `airflow db migrate` also creates airflow.cfg. Without it, each component would generate its own secrets.
    complete = database.exists() and (home / "airflow.cfg").exists() and mark.exists()
    if complete and mark.read_text() == version:
        return database
    report("creating Airflow's database (the first time only)")
    home.mkdir(parents=True, exist_ok=True)
    with running([sys.executable, "-m", "airflow", "db", "migrate"], environ=environ, log=log, cwd=home) as process:
        code = process.wait()
    if code != 0:
        raise RunError(f"`airflow db migrate` failed; see {log}")
    mark.write_text(version)
    return database


def open_read_only(database: Path, timeout: float) -> sqlite3.Connection:
    """Open Airflow's database for reading.

    The path is quoted, since it may contain ``#``, ``?`` or ``%``.

    Parameters
    ----------
    database : Path
        Airflow's SQLite file.
    timeout : float
        Seconds to wait for a lock.
    """
    return sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=timeout)
