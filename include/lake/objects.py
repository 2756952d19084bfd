"""Files of the lake as Airflow reads and writes them: the jobs' storage layer with the credentials of a connection."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from include.lake.buckets import open_bucket
from spark_jobs.lake import storage
from spark_jobs.lake.object_store import OpenBucket


@dataclass(frozen=True)
class LakePath:
    """A file or a folder of the lake.

    Attributes
    ----------
    uri : str
        ``file:///absolute/path`` or ``s3://bucket/key``.
    aws_conn_id : str or None
        Airflow's connection for S3; None uses the credentials of the environment or of the instance.
    """

    uri: str
    aws_conn_id: str | None = None

    def __str__(self) -> str:
        return self.uri

    def __truediv__(self, name: str) -> LakePath:
        return LakePath(storage.join(self.uri, name), self.aws_conn_id)

    @property
    def name(self) -> str:
        """The last part of the URI."""
        return self.uri.rstrip("/").rpartition("/")[2]

    @property
    def buckets(self) -> OpenBucket:
        """What opens buckets with the credentials of the connection."""
        return partial(open_bucket, aws_conn_id=self.aws_conn_id)

    def exists(self) -> bool:
        """Return whether the file or the folder exists. On S3, a folder exists if it contains anything."""
        return storage.exists(self.uri, self.buckets)

    def size(self) -> int | None:
        """Return the file's size in bytes, or None if there is no such file."""
        return storage.size(self.uri, self.buckets)

    def names(self) -> list[str]:
        """Return the sorted names of the files and folders in the folder; none if it does not exist."""
        return storage.names(self.uri, self.buckets)

    def read_bytes(self) -> bytes:
        """Return the file's bytes."""
        return storage.read_bytes(self.uri, self.buckets)

    def open(self) -> BinaryIO:
        """Open the file for reading; on S3, each read is a request for exactly its bytes."""
        return storage.open_file(self.uri, self.buckets)


@contextmanager
def atomic_write(path: LakePath) -> Iterator[BinaryIO]:
    """Open a file for writing so that readers see the whole file or none of it."""
    with storage.writing(path.uri, path.buckets) as stream:
        yield stream


def write_bytes(path: LakePath, data: bytes) -> None:
    """Write a file atomically: a reader sees either the old bytes or the new bytes."""
    storage.write_bytes(path.uri, data, path.buckets)


def write_file(path: LakePath, source: Path) -> None:
    """Copy a file of this machine into the lake atomically, without loading it into memory."""
    with source.open("rb") as content, atomic_write(path) as stream:
        shutil.copyfileobj(content, stream, 8 * 1024 * 1024)


def write_json(path: LakePath, record: Mapping[str, object]) -> None:
    """Write a JSON file atomically."""
    write_bytes(path, (json.dumps(record, indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode())


def delete_file(path: LakePath) -> None:
    """Delete one file.

    Raises
    ------
    OSError
        If the store refuses or, in a folder, if there is no such file.
    """
    storage.delete_file(path.uri, path.buckets)


def read_json(path: LakePath, writer: str) -> Any:
    """Return the object that a JSON file contains; the caller declares which record it is.

    Parameters
    ----------
    path : LakePath
        The file.
    writer : str
        Who writes the file, for the error message.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file does not contain a JSON object.
    """
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist: {writer}") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): {writer}") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path} contains a JSON {type(record).__name__}, expected an object: {writer}")
    return record


def parquet_files(folder: LakePath) -> list[LakePath]:
    """Return the Parquet files of a dataset's folder, sorted by name, without hidden files (``.…`` and ``_…``)."""
    return [folder / name for name in folder.names() if name.endswith(".parquet") and not name.startswith(("_", "."))]


def folder_bytes(folder: LakePath) -> int:
    """Return the total size of all files under a folder."""
    return storage.folder_bytes(folder.uri, folder.buckets)
