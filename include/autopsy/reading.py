"""Read the logs that a cluster leaves under its ``LogUri``, and wait for them.

EMR copies logs there every few minutes, and the last ones after the step has ended (EMR Management Guide, "View log
files"): ``<cluster>/steps/<step>/{controller,stderr,stdout}.gz``, then
``<cluster>/containers/<application>/<container>/stderr.gz``; the logs of bootstrap actions are
``<cluster>/node/<instance>/bootstrap-actions/<number>/stderr.gz``. Sizes and waiting times are limited. Reading never
raises: the notes say what could not be read, because the failure itself matters more than its logs.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from include.autopsy.logs import EXIT_CODE, ContainerLog, StepLogs
from include.autopsy.symptoms import CONTAINER_ID, CONTAINER_REASON
from include.lake.objects import LakePath

TAIL_BYTES = 256 * 1024
"""Maximum size of the part of a step's log that is read, from its end."""

CONTAINER_TAIL_BYTES = 32 * 1024
MAX_CONTAINERS = 4
MAX_COMPRESSED_BYTES = 64 * 1024 * 1024
MAX_PLAIN_BYTES = 1024 * 1024 * 1024
"""Gzip has no index: to read its end, a log is decompressed from its start, up to these limits."""

CHUNK_BYTES = 1024 * 1024
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, PAUSE_GROWTH = 2.0, 30.0, 1.5

SUBMITTED = re.compile(r"[Ss]ubmitt(?:ed|ing) application (application_\d+_\d+)")
"""Written by ``YarnClientImpl`` and by Spark's ``Client`` in the driver's log."""

INSTANCE_ID = re.compile(r"\bi-[0-9A-Za-z]{8,}\b")
ACTION_NUMBER = re.compile(r"bootstrap action (\d+)")


@dataclass(frozen=True)
class _Outcome:
    """The last part of a log, None if the log does not exist; a note about a problem; whether access was denied."""

    text: str | None = None
    note: str = ""
    denied: bool = False


@dataclass(frozen=True)
class _Reader:
    """Where the logs are, and how long to wait for them."""

    root: str
    aws_conn_id: str | None
    deadline: float
    sleep: Callable[[float], None]
    clock: Callable[[], float]

    def attempts(self) -> Iterator[bool]:
        """Yield, for each attempt to read, whether it is the last one; pauses in between grow."""
        pause = FIRST_PAUSE_SECONDS
        while (left := self.deadline - self.clock()) > 0:
            yield False
            self.sleep(min(pause, left))
            pause = min(pause * PAUSE_GROWTH, LONGEST_PAUSE_SECONDS)
        yield True

    def read(self, uri: str, max_bytes: int = TAIL_BYTES) -> _Outcome:
        return _read_log(uri, self.aws_conn_id, max_bytes)

    def names(self, uri: str) -> list[str]:
        """Return the names in a folder; none if it does not exist or cannot be listed."""
        try:
            return LakePath(uri, self.aws_conn_id).names()
        except Exception:  # reading never raises: see the module's docstring
            return []


def normalize_root(log_uri: str) -> str:
    """Return a ``LogUri`` with the scheme that S3 clients accept; EMR itself writes ``s3n://`` instead of ``s3://``."""
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
    """Return the logs of a step; wait until EMR has delivered them.

    They are complete when the controller's log contains the exit code. If the driver names failed containers, this
    function then waits for their logs too.

    Parameters
    ----------
    log_uri : str or None
        ``LogUri`` of the cluster, from DescribeCluster.
    cluster_id, step_id : str
        Their ids.
    aws_conn_id : str or None
        Airflow's connection for ``s3://``.
    wait_seconds : float
        How long to wait before the available logs are returned.
    sleep, clock : callable
        Replacements for ``time.sleep`` and ``time.monotonic``.
    """
    if not log_uri:
        return StepLogs(folder="", notes=("the cluster has no LogUri, so its logs are lost",))
    root = f"{normalize_root(log_uri)}/{cluster_id}"
    reader = _Reader(root, aws_conn_id, clock() + wait_seconds, sleep, clock)
    logs = _await_files(reader, f"{root}/steps/{step_id}", wait_seconds)
    return logs if logs.is_empty else _with_containers(reader, logs)


def read_bootstrap_logs(
    log_uri: str | None,
    cluster_id: str,
    reason: str,
    aws_conn_id: str | None,
    wait_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> StepLogs:
    """Return the logs of a failed bootstrap action on one node.

    Parameters
    ----------
    log_uri, cluster_id, aws_conn_id, wait_seconds, sleep, clock
        As for :func:`read_step_logs`.
    reason : str
        EMR's message, for example ``On the master instance (i-…), bootstrap action 1 returned a non-zero return code``.
    """
    if not log_uri:
        return StepLogs(folder="", notes=("the cluster has no LogUri, so its logs are lost",))
    root = f"{normalize_root(log_uri)}/{cluster_id}"
    reader = _Reader(root, aws_conn_id, clock() + wait_seconds, sleep, clock)
    named, number = INSTANCE_ID.search(reason), ACTION_NUMBER.search(reason)
    node = named.group() if named else next(iter(reader.names(f"{root}/node")), "")
    if not node:
        return StepLogs(folder=f"{root}/node", notes=("EMR names no instance, and there are no logs of nodes yet",))
    folder = f"{root}/node/{node}/bootstrap-actions/{number[1] if number else 1}"
    return _await_files(reader, folder, wait_seconds)


def _await_files(reader: _Reader, folder: str, wait_seconds: float) -> StepLogs:
    """Return the three logs of a folder when the controller's contains the exit code, or at the deadline."""
    complete = False
    for last in reader.attempts():
        controller = reader.read(f"{folder}/controller.gz")
        was_complete, complete = complete, bool(EXIT_CODE.search(controller.text or ""))
        if not (complete or last or controller.denied):
            continue
        outputs = [reader.read(f"{folder}/{name}.gz") for name in ("stdout", "stderr")]
        # A missing output may be late, or empty: one more attempt decides.
        if all(output.text is not None for output in outputs) or was_complete or last or controller.denied:
            return _collect(folder, [controller, *outputs], complete, wait_seconds)
    raise AssertionError("the last attempt returns")


def _collect(folder: str, reads: Sequence[_Outcome], complete: bool, wait_seconds: float) -> StepLogs:
    controller, stdout, stderr = (read.text or "" for read in reads)
    notes = list(dict.fromkeys(read.note for read in reads if read.note))
    if not complete and not any(read.denied for read in reads):
        what = "not all of the logs" if any(read.text for read in reads) else "no logs"
        notes.append(
            f"{what} arrived within {wait_seconds:g} s: EMR delivers logs minutes later, so check the folder again"
        )
    return StepLogs(folder, stdout, stderr, controller, complete=complete, notes=tuple(notes))


def _with_containers(reader: _Reader, logs: StepLogs) -> StepLogs:
    driver = f"{logs.stderr}\n{logs.stdout}"
    reasons = " ".join(match.group() for match in CONTAINER_REASON.finditer(driver))
    failed = list(dict.fromkeys(match.group() for match in CONTAINER_ID.finditer(reasons)))
    application = _application(reader, driver)
    if application is None and not failed:
        return logs
    for last in reader.attempts():
        application = application or _application(reader, driver)
        folder = f"{reader.root}/containers/{application}"
        present = reader.names(folder) if application else []
        if last or not failed or any(name in present for name in failed):
            chosen = [name for name in failed if name in present] + [name for name in present if name not in failed]
            containers = _read_containers(reader, folder, chosen[:MAX_CONTAINERS])
            missing = [name for name in failed if name not in present]
            notes = [f"the log of {name} has not arrived in {folder}" for name in missing[:MAX_CONTAINERS]]
            return replace(logs, containers=containers, notes=(*logs.notes, *notes))
    raise AssertionError("the last attempt returns")


def _application(reader: _Reader, driver: str) -> str | None:
    """Return the id of the step's application: from the driver's log, or else the cluster's last application."""
    submitted = SUBMITTED.findall(driver)
    if submitted:
        return str(submitted[-1])
    named = CONTAINER_ID.search(driver)
    if named:
        return f"application_{named[1]}"
    applications = [name for name in reader.names(f"{reader.root}/containers") if name.startswith("application_")]
    return applications[-1] if applications else None


def _read_containers(reader: _Reader, folder: str, names: Sequence[str]) -> tuple[ContainerLog, ...]:
    reads = [(name, reader.read(f"{folder}/{name}/stderr.gz", CONTAINER_TAIL_BYTES)) for name in names]
    return tuple(ContainerLog(name, read.text) for name, read in reads if read.text)


def _read_log(uri: str, aws_conn_id: str | None, max_bytes: int) -> _Outcome:
    try:
        text, problem = read_tail(uri, aws_conn_id, max_bytes)
    except FileNotFoundError:
        return _Outcome()
    except Exception as error:  # reading never raises: see the module's docstring
        denied = isinstance(error, PermissionError)
        hint = "; Airflow's role needs s3:GetObject and s3:ListBucket on it, and the KMS key" if denied else ""
        return _Outcome(note=f"{uri} cannot be read ({type(error).__name__}: {error}){hint}", denied=denied)
    return _Outcome(text, f"{uri} {problem}" if problem else "")


def read_tail(uri: str, aws_conn_id: str | None, max_bytes: int = TAIL_BYTES) -> tuple[str, str]:
    """Return the last part of a gzipped log, and a note about a problem (empty without a problem).

    Raises
    ------
    OSError
        If it does not exist, or cannot be read.
    """
    with LakePath(uri, aws_conn_id).open() as stream:
        end, problem = decompress_tail(stream, max_bytes)
    return end.decode("utf-8", errors="replace"), problem


def decompress_tail(stream: BinaryIO, max_bytes: int) -> tuple[bytes, str]:
    """Return the last bytes of a gzipped stream, and a note about a problem (empty without a problem).

    A stream may have several gzip members, be truncated (EMR was still writing, or the node was lost) or be damaged:
    the part before the damage is used.
    """
    tail, plain_bytes, compressed_bytes, is_complete = b"", 0, 0, False
    decoder = zlib.decompressobj(wbits=31)
    while chunk := stream.read(CHUNK_BYTES):
        compressed_bytes += len(chunk)
        while chunk:
            if plain_bytes > MAX_PLAIN_BYTES or compressed_bytes > MAX_COMPRESSED_BYTES:
                return tail, f"is too long: only its first {plain_bytes} bytes were read"
            try:
                plain = decoder.decompress(chunk, CHUNK_BYTES)
            except zlib.error:
                return tail, f"is damaged after {plain_bytes} bytes of text"
            plain_bytes += len(plain)
            tail = (tail + plain)[-max_bytes:]
            is_complete = decoder.eof
            if is_complete:
                chunk, decoder = decoder.unused_data, zlib.decompressobj(wbits=31)
            else:
                chunk = decoder.unconsumed_tail
    return (tail + decoder.flush())[-max_bytes:], "" if is_complete else "is truncated"
