"""The record of the service: which processes ``make up`` started, for ``make down`` to stop."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Record:
    """The processes of a service.

    Attributes
    ----------
    pid : int
        Process id of the supervisor.
    created : float
        Start time of the supervisor, in seconds since the epoch. The kernel reuses process ids; an id and a start time
        identify a process.
    url : str
        URL of Airflow's UI.
    children : dict
        Start time of each descendant of the supervisor, by process id, when the record was last written.
    """

    pid: int
    created: float
    url: str
    children: dict[str, float] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether the supervisor is running."""
        return start_time(self.pid) == self.created

    def running_children(self) -> list[int]:
        """Return the process ids of the recorded descendants that are running."""
        return [int(pid) for pid, created in self.children.items() if start_time(int(pid)) == created]


def start_time(pid: int) -> float | None:
    """Return the start time of a process, in seconds since the epoch; None if it does not exist or is a zombie."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.NoSuchProcess:
        return None


def record_file(state: Path) -> Path:
    """Return the file of the record."""
    return state / "service.json"


def read_record(state: Path) -> Record | None:
    """Return the record of the service that is running or was killed; None if there is no record."""
    try:
        return Record(**json.loads(record_file(state).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def write_record(state: Path, url: str) -> None:
    """Write the record of this process and its descendants."""
    supervisor = psutil.Process()
    children = {}
    for child in supervisor.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            children[str(child.pid)] = child.create_time()
    record = Record(supervisor.pid, supervisor.create_time(), url, children)
    temporary = record_file(state).with_suffix(".new")
    temporary.write_text(json.dumps(asdict(record)), encoding="utf-8")
    temporary.replace(record_file(state))


@contextlib.contextmanager
def recorded(state: Path, url: str) -> Iterator[None]:
    """Write the record of this process, and delete it at the end of the block."""
    write_record(state, url)
    try:
        yield
    finally:
        record_file(state).unlink(missing_ok=True)
