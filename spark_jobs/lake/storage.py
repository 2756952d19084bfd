"""Files by URI, in folders of this machine and on S3: the one storage layer of the jobs and of Airflow.

S3 is reached by obstore. A function's last parameter opens buckets: by default with the credentials of the environment,
on the Airflow side with those of a connection. Keys are never URL-decoded, since labels may contain ``%``, ``#`` and
``+``.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from spark_jobs.lake.conditional_writes import Tag, create, read_tagged, replace
from spark_jobs.lake.copies import copy
from spark_jobs.lake.listings import (
    StoredFile,
    folder_bytes,
    list_chunks,
    list_files,
    list_local_folder,
    list_sorted,
)
from spark_jobs.lake.locations import is_local, join, local_path, split, temporary_path
from spark_jobs.lake.object_store import OpenBucket, open_bucket
from spark_jobs.lake.store_errors import StoreError, TooLargeError, UnaddressableKeyError, first_line, naming

if TYPE_CHECKING:
    from obstore.store import S3Store

__all__ = [
    "StoreError",
    "StoredFile",
    "Tag",
    "TooLargeError",
    "UnaddressableKeyError",
    "copy",
    "create",
    "delete",
    "delete_file",
    "exists",
    "first_line",
    "folder_bytes",
    "is_folder",
    "is_local",
    "join",
    "list_files",
    "list_local_folder",
    "list_sorted",
    "names",
    "open_file",
    "read_bytes",
    "read_json",
    "read_tagged",
    "replace",
    "size",
    "write_bytes",
    "write_json",
    "writing",
]


def size(uri: str, buckets: OpenBucket = open_bucket) -> int | None:
    """Return a file's size in bytes, or None if there is no such file."""
    import obstore

    bucket, path = split(uri)
    if bucket is None:
        file = local_path(path)
        return file.stat().st_size if file.is_file() else None
    if not path:
        return None
    try:
        with naming(uri):
            return int(obstore.head(buckets(bucket).store, path)["size"])
    except FileNotFoundError:
        return None


def exists(uri: str, buckets: OpenBucket = open_bucket) -> bool:
    """Return whether a file or a folder exists. On S3, a folder exists if it contains anything."""
    return size(uri, buckets) is not None or is_folder(uri, buckets)


def is_folder(uri: str, buckets: OpenBucket = open_bucket) -> bool:
    """Return whether a folder exists. On S3, a folder exists if it contains anything."""
    bucket, path = split(uri)
    if bucket is None:
        return local_path(path).is_dir()
    try:
        return any(list_chunks(uri, buckets))
    except UnaddressableKeyError:
        return True
    except FileNotFoundError:
        return False


def read_bytes(uri: str, buckets: OpenBucket = open_bucket) -> bytes:
    """Return a file's bytes.

    Raises
    ------
    FileNotFoundError
        If the file does not exist; the message names it.
    PermissionError
        If the store refuses.
    StoreError
        If the store does not answer.
    """
    import obstore

    bucket, path = split(uri)
    if bucket is None:
        return local_path(path).read_bytes()
    with naming(uri):
        return bytes(obstore.get(buckets(bucket).store, path).bytes())


def open_file(uri: str, buckets: OpenBucket = open_bucket) -> BinaryIO:
    """Open a file for reading; on S3, each read is a request for exactly its bytes.

    Raises
    ------
    FileNotFoundError, PermissionError, StoreError
        As :func:`read_bytes`, when it is opened or while it is read.
    """
    bucket, path = split(uri)
    if bucket is None:
        return local_path(path).open("rb")
    return _RangeReader(uri, buckets(bucket).store, path)  # type: ignore[return-value]


class _RangeReader(io.RawIOBase):
    """An object on S3 as a file; all reads are from the version that was opened."""

    def __init__(self, uri: str, store: S3Store, key: str) -> None:
        import obstore

        self._uri, self._store, self._key = uri, store, key
        with naming(uri):
            found = obstore.head(store, key)
        self._size, self._etag, self._position = found["size"], found["e_tag"], 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int | None = -1) -> bytes:
        import obstore

        end = self._size if size is None or size < 0 else min(self._size, self._position + size)
        if end <= self._position:
            return b""
        with naming(self._uri):
            options = {"range": (self._position, end), "if_match": self._etag}
            data = bytes(obstore.get(self._store, self._key, options=options).bytes())  # type: ignore[arg-type]
        self._position = end
        return data

    def readall(self) -> bytes:
        return self.read()


@contextmanager
def writing(uri: str, buckets: OpenBucket = open_bucket) -> Iterator[BinaryIO]:
    """Write a file atomically from a stream: readers see either the old content or the complete new content.

    The content is collected in a file of this machine: beside the target in a folder, which is then renamed; in the
    folder of temporary files for S3, which is then uploaded. An upload that fails is aborted and never completed.

    Yields
    ------
    BinaryIO
        The stream to write to. If the block raises, the target is unchanged.

    Raises
    ------
    FileNotFoundError, PermissionError, StoreError
        If there is no such bucket, if the store refuses, or if it does not answer.
    """
    import obstore

    bucket, path = split(uri)
    target = local_path(path)
    if bucket is None:
        target.parent.mkdir(parents=True, exist_ok=True)
        collected = temporary_path(target)
    else:
        collected = temporary_path(Path(tempfile.gettempdir(), target.name))
    try:
        with collected.open("wb") as stream:
            yield stream
        if bucket is None:
            collected.replace(target)
        else:
            with naming(uri):
                obstore.put(buckets(bucket).store, path, collected)
    finally:
        collected.unlink(missing_ok=True)


def write_bytes(uri: str, data: bytes, buckets: OpenBucket = open_bucket) -> None:
    """Write a file atomically: readers see either the old content or the complete new content."""
    with writing(uri, buckets) as stream:
        stream.write(data)


def write_json(uri: str, record: Mapping[str, Any], buckets: OpenBucket = open_bucket) -> None:
    """Write a JSON file atomically."""
    write_bytes(uri, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode(), buckets)


def read_json(uri: str, buckets: OpenBucket = open_bucket) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises
    ------
    FileNotFoundError
        If the file does not exist; the message names it.
    """
    record: dict[str, Any] = json.loads(read_bytes(uri, buckets))
    return record


def delete_file(uri: str, buckets: OpenBucket = open_bucket) -> None:
    """Delete one file.

    Raises
    ------
    FileNotFoundError
        If there is no such file in a folder of this machine, or no such bucket.
    PermissionError, StoreError
        If the store refuses, or does not answer.
    """
    import obstore

    bucket, path = split(uri)
    if bucket is None:
        local_path(path).unlink()
    else:
        with naming(uri):
            obstore.delete(buckets(bucket).store, path)


def delete(uri: str, buckets: OpenBucket = open_bucket) -> None:
    """Delete a file, or a folder with its content; do nothing if it does not exist."""
    bucket, path = split(uri)
    if bucket is None:
        target = local_path(path)
        with suppress(FileNotFoundError):
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink()
        return
    import obstore

    # In a bucket with versions, the deletion of a file that is not there would leave a marker.
    if size(uri, buckets) is not None:
        delete_file(uri, buckets)
    for paths in list_chunks(uri, buckets):
        with naming(uri):
            obstore.delete(buckets(bucket).store, [item["path"] for item in paths])


def names(uri: str, buckets: OpenBucket = open_bucket) -> list[str]:
    """Return the sorted names of the files and folders in a folder; none if it does not exist."""
    import obstore

    bucket, path = split(uri)
    if bucket is None:
        folder = local_path(path)
        return sorted(item.name for item in folder.iterdir()) if folder.exists() else []
    with naming(uri):
        found = obstore.list_with_delimiter(buckets(bucket).store, path or None)
    paths = [*found["common_prefixes"], *(item["path"] for item in found["objects"])]
    return sorted({item.rpartition("/")[2] for item in paths if item != path})
