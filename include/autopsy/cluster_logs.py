"""Reading the logs that a cluster leaves in its ``LogUri``, as EMR lays them out, and waiting for them.

EMR copies logs there every few minutes, and the last ones after the step has ended (EMR Management Guide, «View log
files»): ``<cluster>/steps/<step>/{controller,stderr,stdout}.gz``, then
``<cluster>/containers/<application>/<container>/stderr.gz``; those of bootstrap actions are
``<cluster>/node/<instance>/bootstrap-actions/<number>/stderr.gz``. Reading is bounded, and never raises: what could not
be read is said in the notes, since the failure that is looked into counts more than its logs.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from include.autopsy.step_logs import EXIT_CODE, ContainerLog, StepLogs
from include.autopsy.symptoms import CONTAINER_ID, CONTAINER_REASON
from include.lake.objects import lake_path

KEPT_BYTES = 256 * 1024
"""Of the end of each log of a step."""

KEPT_CONTAINER_BYTES = 32 * 1024
MOST_CONTAINERS = 4
MOST_COMPRESSED_BYTES = 64 * 1024 * 1024
MOST_PLAIN_BYTES = 1024 * 1024 * 1024
"""Gzip has no index: to see its end, a log is decompressed from its beginning, up to here."""

CHUNK_BYTES = 1024 * 1024
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, PAUSE_GROWTH = 2.0, 30.0, 1.5

SUBMITTED = re.compile(r"[Ss]ubmitt(?:ed|ing) application (application_\d+_\d+)")
"""In the driver's log, by ``YarnClientImpl`` and by Spark's ``Client``."""

INSTANCE_ID = re.compile(r"\bi-[0-9A-Za-z]{8,}\b")
ACTION_NUMBER = re.compile(r"bootstrap action (\d+)")


@dataclass(frozen=True)
class _Read:
    """A log's end: None when it is not there; a note when something is wrong; whether that is for good."""

    text: str | None = None
    note: str = ""
    denied: bool = False


@dataclass(frozen=True)
class _Reader:
    """Where logs are, and how to wait for them."""

    root: str
    aws_conn_id: str | None
    deadline: float
    sleep: Callable[[float], None]
    clock: Callable[[], float]

    def looks(self) -> Iterator[bool]:
        """Yield whether it is the last look, with growing pauses in between."""
        pause = FIRST_PAUSE_SECONDS
        while (left := self.deadline - self.clock()) > 0:
            yield False
            self.sleep(min(pause, left))
            pause = min(pause * PAUSE_GROWTH, LONGEST_PAUSE_SECONDS)
        yield True

    def read(self, uri: str, keep: int = KEPT_BYTES) -> _Read:
        return _read(uri, self.aws_conn_id, keep)

    def names(self, uri: str) -> list[str]:
        """Return the names in a folder; none when it is not there or cannot be listed."""
        try:
            return sorted(path.name for path in lake_path(uri, self.aws_conn_id).iterdir())
        except Exception:  # see the module's docstring
            return []


def normalize_root(log_uri: str) -> str:
    """Return a ``LogUri`` as S3 clients take it; EMR itself writes ``s3n://`` for the ``s3://`` that it was given."""
    scheme, separator, rest = log_uri.partition("://")
    return f"{'s3' if scheme in {'s3n', 's3a'} else scheme}{separator}{rest}".rstrip("/")


def read_step_logs(
    log_uri: str | None,
    cluster_id: str,
    step_id: str,
    aws_conn_id: str | None,
    wait_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> StepLogs:
    """Return the logs of a step, waiting until EMR has delivered them.

    They are complete when the controller's log tells how the command ended. Then those of failed containers are waited
    for too, when the driver names any.

    Parameters
    ----------
    log_uri : str or None
        ``LogUri`` of the cluster, as DescribeCluster tells it.
    cluster_id, step_id : str
        The step.
    aws_conn_id : str or None
        Airflow's connection for ``s3://``.
    wait_seconds : float
        After so long, what is there is what there is.
    sleep, clock : callable
        What passes the time and tells it, in seconds.
    """
    if not log_uri:
        return StepLogs(folder="", notes=("the cluster has no LogUri: its logs went with it",))
    root = f"{normalize_root(log_uri)}/{cluster_id}"
    reader = _Reader(root, aws_conn_id, clock() + wait_seconds, sleep, clock)
    logs = _await_files(reader, f"{root}/steps/{step_id}", wait_seconds)
    return logs if logs.empty else _with_containers(reader, logs)


def read_bootstrap_logs(
    log_uri: str | None,
    cluster_id: str,
    reason: str,
    aws_conn_id: str | None,
    wait_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> StepLogs:
    """Return the logs of the bootstrap action that a cluster's last reason names, of one node.

    Parameters
    ----------
    log_uri, cluster_id, aws_conn_id, wait_seconds, sleep, clock
        As for :func:`read_step_logs`.
    reason : str
        EMR's message, as ``On the master instance (i-…), bootstrap action 1 returned a non-zero return code``.
    """
    if not log_uri:
        return StepLogs(folder="", notes=("the cluster has no LogUri: its logs went with it",))
    root = f"{normalize_root(log_uri)}/{cluster_id}"
    reader = _Reader(root, aws_conn_id, clock() + wait_seconds, sleep, clock)
    named, number = INSTANCE_ID.search(reason), ACTION_NUMBER.search(reason)
    node = named.group() if named else next(iter(reader.names(f"{root}/node")), "")
    if not node:
        return StepLogs(folder=f"{root}/node", notes=("EMR names no instance, and no node has left logs yet",))
    folder = f"{root}/node/{node}/bootstrap-actions/{number[1] if number else 1}"
    return _await_files(reader, folder, wait_seconds)


def _await_files(reader: _Reader, folder: str, wait_seconds: float) -> StepLogs:
    """Return the three logs of a folder once the controller's tells the end, or what is there at the deadline."""
    told = False
    for last in reader.looks():
        controller = reader.read(f"{folder}/controller.gz")
        told_before, told = told, bool(EXIT_CODE.search(controller.text or ""))
        if not (told or last or controller.denied):
            continue
        outputs = [reader.read(f"{folder}/{name}.gz") for name in ("stdout", "stderr")]
        # An output that is missing may be on its way, or empty: one more look tells.
        if all(output.text is not None for output in outputs) or told_before or last or controller.denied:
            return _collect(folder, [controller, *outputs], told, wait_seconds)
    raise AssertionError("looks end with the last one")


def _collect(folder: str, reads: Sequence[_Read], told: bool, wait_seconds: float) -> StepLogs:
    controller, stdout, stderr = (read.text or "" for read in reads)
    notes = list(dict.fromkeys(read.note for read in reads if read.note))
    if not told and not any(read.denied for read in reads):
        what = "not all of the logs" if any(read.text for read in reads) else "no logs"
        notes.append(
            f"{what} came within {wait_seconds:g} s: EMR delivers them with minutes of delay, look again later"
        )
    return StepLogs(folder, stdout, stderr, controller, complete=told, notes=tuple(notes))


def _with_containers(reader: _Reader, logs: StepLogs) -> StepLogs:
    driver = f"{logs.stderr}\n{logs.stdout}"
    reasons = " ".join(match.group() for match in CONTAINER_REASON.finditer(driver))
    failed = list(dict.fromkeys(match.group() for match in CONTAINER_ID.finditer(reasons)))
    application = _application(reader, driver)
    if application is None and not failed:
        return logs
    for last in reader.looks():
        application = application or _application(reader, driver)
        folder = f"{reader.root}/containers/{application}"
        there = reader.names(folder) if application else []
        if last or not failed or any(name in there for name in failed):
            chosen = [name for name in failed if name in there] + [name for name in there if name not in failed]
            found = _read_containers(reader, folder, chosen[:MOST_CONTAINERS])
            missing = [name for name in failed if name not in there]
            notes = [f"the log of {name} has not come to {folder}" for name in missing[:MOST_CONTAINERS]]
            return replace(logs, containers=found, notes=(*logs.notes, *notes))
    raise AssertionError("looks end with the last one")


def _application(reader: _Reader, driver: str) -> str | None:
    """Return the id of the step's application: as the driver's log names it, else the last one of the cluster."""
    submitted = SUBMITTED.findall(driver)
    if submitted:
        return str(submitted[-1])
    named = CONTAINER_ID.search(driver)
    if named:
        return f"application_{named[1]}"
    there = [name for name in reader.names(f"{reader.root}/containers") if name.startswith("application_")]
    return there[-1] if there else None


def _read_containers(reader: _Reader, folder: str, names: Sequence[str]) -> tuple[ContainerLog, ...]:
    reads = [(name, reader.read(f"{folder}/{name}/stderr.gz", KEPT_CONTAINER_BYTES)) for name in names]
    return tuple(ContainerLog(name, read.text) for name, read in reads if read.text)


def _read(uri: str, aws_conn_id: str | None, keep: int) -> _Read:
    try:
        text, problem = read_end(uri, aws_conn_id, keep)
    except FileNotFoundError:
        return _Read()
    except Exception as error:  # see the module's docstring
        denied = _is_denial(error)
        hint = "; Airflow's role needs s3:GetObject and s3:ListBucket on it, and the KMS key" if denied else ""
        return _Read(note=f"{uri} cannot be read ({type(error).__name__}: {error}){hint}", denied=denied)
    return _Read(text, f"{uri} {problem}" if problem else "")


def read_end(uri: str, aws_conn_id: str | None, keep: int = KEPT_BYTES) -> tuple[str, str]:
    """Return the end of a gzipped log, of at most so many bytes, and what was wrong with it; empty when nothing was.

    Raises
    ------
    OSError
        When it is not there, or cannot be read.
    """
    with lake_path(uri, aws_conn_id).open("rb") as stream:  # type: ignore[no-untyped-call]
        end, problem = decompress_end(stream, keep)
    return end.decode("utf-8", errors="replace"), problem


def _is_denial(error: Exception) -> bool:
    response = getattr(error, "response", None) or {}
    code = str((response.get("Error") or {}).get("Code") or "")
    return isinstance(error, PermissionError) or code in ("AccessDenied", "403", "Forbidden")


def decompress_end(stream: BinaryIO, keep: int) -> tuple[bytes, str]:
    """Return the last bytes of a gzipped stream, and what is wrong with it: empty when nothing is.

    A stream may have several gzip members, be cut off (EMR was still writing, or its node was lost) or be damaged: what
    comes before that counts.
    """
    end, made, taken, whole = b"", 0, 0, False
    decoder = zlib.decompressobj(wbits=31)
    while chunk := stream.read(CHUNK_BYTES):
        taken += len(chunk)
        while chunk:
            if made > MOST_PLAIN_BYTES or taken > MOST_COMPRESSED_BYTES:
                return end, f"is too long to be read to its end: this is the end of its first {made} bytes"
            try:
                plain = decoder.decompress(chunk, CHUNK_BYTES)
            except zlib.error:
                return end, f"is damaged after {made} bytes of text"
            made += len(plain)
            end = (end + plain)[-keep:]
            whole = decoder.eof
            if whole:
                chunk, decoder = decoder.unused_data, zlib.decompressobj(wbits=31)
            else:
                chunk = decoder.unconsumed_tail
    return (end + decoder.flush())[-keep:], "" if whole else "is cut off"
