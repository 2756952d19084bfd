"""The file that an endpoint keeps its state in: records that are appended, and read again when it starts."""

from __future__ import annotations

import json
import logging
import os
import threading
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

logger = logging.getLogger(__name__)

VERSION = 1
HEADER = {"journal": "local EMR endpoint", "version": VERSION}


class JournalError(RuntimeError):
    """The journal cannot be read or written; the message names the file and says what to do."""


class Journal:
    """An append-only file of JSON records, one a line, each behind its checksum.

    A record is on the disk when :meth:`append` returns. Whatever ends the process, and whenever, leaves whole lines
    and at most one without its end, which was never acknowledged: it is left out with a warning, and cut off. Anything
    else that does not fit is damage, and an error. Nothing is ever rewritten: the daily run of a year is a few MB.

    Parameters
    ----------
    path : Path
        The file; made when it is not there. Who opens it holds the folder's lock.

    Attributes
    ----------
    path : Path
        The file.
    records : list of dict
        What was in it, in the order it was appended.

    Raises
    ------
    JournalError
        When it is damaged, or of another version.
    OSError
        When it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self.records, size = _read(path)
        if not size:
            _create(path)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)
        if size and size < path.stat().st_size:
            os.ftruncate(self._file, size)
            os.fsync(self._file)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record; it is on the disk afterwards.

        Raises
        ------
        JournalError
            When it cannot be written; the journal then takes no more.
        """
        line = _line(record)
        with self._lock:
            try:
                while line:
                    line = line[os.write(self._file, line) :]
                os.fsync(self._file)
            except OSError as error:
                raise JournalError(
                    f"the state cannot be written to {self.path} ({error.strerror}): make room, or mend the folder's "
                    "permissions, and start the endpoint again"
                ) from error

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _line(record: Mapping[str, Any]) -> bytes:
    text = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _create(path: Path) -> None:
    """Make a journal without records, whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as stream:
        stream.write(_line(HEADER))
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the records, and how many bytes of the file are whole lines: 0 when a new file is to be made."""
    data = path.read_bytes() if path.exists() else b""
    *lines, torn = data.split(b"\n")
    if torn and not lines and not _line(HEADER).startswith(torn):
        raise _damage(path, 1, "this is no journal of an endpoint")
    if torn:
        logger.warning("%s: a record of %d bytes was never finished, and is left out", path, len(torn))
    if not lines:
        return [], 0
    _, *records = [_record(path, number, line) for number, line in enumerate(lines, start=1)]
    return records, len(data) - len(torn)


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        raise _damage(path, number, "its checksum does not fit")
    try:
        record = json.loads(text)
    except ValueError:
        raise _damage(path, number, "it is not JSON") from None
    if not isinstance(record, dict):
        raise _damage(path, number, "it is not a JSON object")
    if number == 1:
        _check_header(path, record)
    return record


def _check_header(path: Path, header: Mapping[str, Any]) -> None:
    if header.get("journal") != HEADER["journal"]:
        raise _damage(path, 1, "this is no journal of an endpoint")
    if header.get("version") != VERSION:
        raise JournalError(
            f"{path} is of version {header.get('version')!r}, this endpoint reads version {VERSION}: use the endpoint "
            "that wrote it, or move the file away to start without its clusters"
        )


def _damage(path: Path, number: int, how: str) -> JournalError:
    return JournalError(
        f"{path} is damaged in line {number}: {how}. Nothing was changed. Put back a copy of the file, or delete that "
        "line and those after it to keep what came before, or move the file away to start without its clusters"
    )
