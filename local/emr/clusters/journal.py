"""The endpoint's journal: a SQLite file with the current description of every cluster."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VERSION = 2
"""Version of the file format (``PRAGMA user_version``). Version 1 was a text file, ``journal.jsonl``."""


class JournalError(RuntimeError):
    """The journal cannot be read or written; the message names the file and says what to do."""


class Journal:
    """A SQLite file that holds the clusters of an endpoint. Several threads may use it.

    A description is on the disk when :meth:`save` returns. Only one process may use the file: the caller holds the lock
    of the state directory.

    Parameters
    ----------
    path : Path
        The file. It is created if it does not exist.

    Attributes
    ----------
    path : Path
        The file.
    clusters : dict of str to dict
        The descriptions that the file contained when it was opened, by cluster id, the oldest cluster first.

    Raises
    ------
    JournalError
        If the file is damaged, cannot be opened, or has another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            # With isolation_level=None each statement is a transaction of its own.
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                self.clusters = self._open()
            except BaseException:
                self._database.close()
                raise
        except (sqlite3.Error, ValueError) as error:
            raise JournalError(
                f"the state cannot be read from {path} ({error}). Nothing was changed. Restore a copy of the file, or "
                "its permissions, or move the file away to start without its clusters"
            ) from error

    def _open(self) -> dict[str, dict[str, Any]]:
        """Check the file, or create its table, and return its clusters."""
        execute = self._database.execute
        # EXTRA is FULL plus a sync of the directory: only then is a commit on the disk in this journal mode (DELETE).
        execute("PRAGMA synchronous = EXTRA")
        [check] = execute("PRAGMA quick_check(1)").fetchone()
        if check != "ok":
            raise sqlite3.DatabaseError(" ".join(check.split()))
        if execute("PRAGMA page_count").fetchone() == (0,):
            self._database.executescript(
                "BEGIN; CREATE TABLE clusters (number INTEGER PRIMARY KEY, id TEXT UNIQUE, description BLOB);"
                f"PRAGMA user_version = {VERSION}; COMMIT"
            )
        [version] = execute("PRAGMA user_version").fetchone()
        if version != VERSION:
            raise sqlite3.DatabaseError(f"its version is {version}, this endpoint reads version {VERSION}")
        rows = execute("SELECT id, description FROM clusters ORDER BY number")
        return {cluster_id: json.loads(description) for cluster_id, description in rows}

    def save(self, cluster_id: str, description: Mapping[str, Any]) -> None:
        """Write the description of a cluster, in place of an earlier one; it is on the disk afterwards.

        Raises
        ------
        JournalError
            If it cannot be written.
        """
        statement = (
            "INSERT INTO clusters (id, description) VALUES (?, ?) "
            "ON CONFLICT (id) DO UPDATE SET description = excluded.description"
        )
        try:
            with self._lock:
                self._database.execute(statement, (cluster_id, json.dumps(description).encode()))
        except sqlite3.Error as error:
            raise JournalError(
                f"the state cannot be written to {self.path} ({error}): free space on the disk, or correct the "
                "permissions of the folder, and start the endpoint again"
            ) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()
