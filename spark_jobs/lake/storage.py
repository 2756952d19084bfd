"""Files by URI, in folders of this machine and on S3: the one storage layer of the jobs and of Airflow.

S3 is reached by obstore. A function's last parameter opens buckets: by default with the credentials of the environment,
on the Airflow side with those of a connection. Keys are never URL-decoded, since labels may contain ``%``, ``#`` and
``+``.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from spark_jobs.lake.object_store import OpenBucket, open_bucket

if TYPE_CHECKING:
    from obstore.store import S3Store

KEYS_AT_ONCE = 1000
"""Number of keys that S3 answers to one request for a listing."""


class StoreError(OSError):
    """The store did not answer as expected, although the request was repeated. A retry may help."""


class UnaddressableKeyError(StoreError):
    """A folder holds keys that object_store cannot address: with control characters, or with two slashes in a row."""


class StoredFile(NamedTuple):
    """A file in a folder: its path in the folder, its size in bytes and its modification time.

    The time is in microseconds since 1970. The path of a marker, which consoles create for a folder, ends with a slash.
    The class is a tuple, since a folder may contain millions of files.
    """

    path: str
    size: int
    modified: int


def is_local(uri: str) -> bool:
    """Return whether a URI is that of a file or folder of this machine."""
    return _split(uri)[0] is None


def _split(uri: str) -> tuple[str | None, str]:
    """Return the bucket and the key of a URI; None and the path for a file of this machine."""
    scheme, separator, rest = uri.partition("://")
    if separator and scheme == "file" and rest.startswith("/"):
        return None, rest.rstrip("/") or "/"
    if separator and scheme == "s3" and rest.strip("/"):
        bucket, _, key = rest.rstrip("/").partition("/")
        return bucket, key
    raise ValueError(f"{uri!r} is not a location: expected file:///absolute/path or s3://bucket/key")


def _local(path: str) -> Path:
    """Return a path of this machine; the locale must not decide how its name is encoded."""
    return Path(os.fsdecode(path.encode("utf-8", "surrogateescape")))


def join(uri: str, *parts: str) -> str:
    """Return the URI of something under ``uri``."""
    return "/".join([uri.rstrip("/"), *parts])


def size(uri: str, buckets: OpenBucket = open_bucket) -> int | None:
    """Return a file's size in bytes, or None if there is no such file."""
    import obstore

    bucket, path = _split(uri)
    if bucket is None:
        file = _local(path)
        return file.stat().st_size if file.is_file() else None
    if not path:
        return None
    try:
        with _naming(uri):
            return int(obstore.head(buckets(bucket).store, path)["size"])
    except FileNotFoundError:
        return None


def exists(uri: str, buckets: OpenBucket = open_bucket) -> bool:
    """Return whether a file or a folder exists. On S3, a folder exists if it contains anything."""
    return size(uri, buckets) is not None or is_folder(uri, buckets)


def is_folder(uri: str, buckets: OpenBucket = open_bucket) -> bool:
    """Return whether a folder exists. On S3, a folder exists if it contains anything."""
    bucket, path = _split(uri)
    if bucket is None:
        return _local(path).is_dir()
    try:
        return any(_list_chunks(uri, buckets))
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

    bucket, path = _split(uri)
    if bucket is None:
        return _local(path).read_bytes()
    with _naming(uri):
        return bytes(obstore.get(buckets(bucket).store, path).bytes())


def open_file(uri: str, buckets: OpenBucket = open_bucket) -> BinaryIO:
    """Open a file for reading; on S3, each read is a request for exactly its bytes.

    Raises
    ------
    FileNotFoundError, PermissionError, StoreError
        As :func:`read_bytes`, when it is opened or while it is read.
    """
    bucket, path = _split(uri)
    if bucket is None:
        return _local(path).open("rb")
    return _RangeReader(uri, buckets(bucket).store, path)  # type: ignore[return-value]


class _RangeReader(io.RawIOBase):
    """An object on S3 as a file; all reads are from the version that was opened."""

    def __init__(self, uri: str, store: S3Store, key: str) -> None:
        import obstore

        self._uri, self._store, self._key = uri, store, key
        with _naming(uri):
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
        with _naming(self._uri):
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

    bucket, path = _split(uri)
    parent, _, name = path.rpartition("/")
    folder = _local(parent or "/") if bucket is None else Path(tempfile.gettempdir())
    if bucket is None:
        folder.mkdir(parents=True, exist_ok=True)
    collected = folder / _local(f".{name}.{uuid.uuid4().hex}")
    try:
        with collected.open("wb") as stream:
            yield stream
        if bucket is None:
            collected.replace(_local(path))
        else:
            with _naming(uri):
                obstore.put(buckets(bucket).store, path, collected)
    finally:
        collected.unlink(missing_ok=True)


def write_bytes(uri: str, data: bytes, buckets: OpenBucket = open_bucket) -> None:
    """Write a file atomically: readers see either the old content or the complete new content."""
    with writing(uri, buckets) as stream:
        stream.write(data)


def write_json(uri: str, record: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    write_bytes(uri, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(uri: str) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises
    ------
    FileNotFoundError
        If the file does not exist; the message names it.
    """
    record: dict[str, Any] = json.loads(read_bytes(uri))
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

    bucket, path = _split(uri)
    if bucket is None:
        _local(path).unlink()
    else:
        with _naming(uri):
            obstore.delete(buckets(bucket).store, path)


def delete(uri: str, buckets: OpenBucket = open_bucket) -> None:
    """Delete a file, or a folder with its content; do nothing if it does not exist."""
    bucket, path = _split(uri)
    if bucket is None:
        target = _local(path)
        with suppress(FileNotFoundError):
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink()
        return
    import obstore

    delete_file(uri, buckets)
    for paths in _list_chunks(uri, buckets):
        with _naming(uri):
            obstore.delete(buckets(bucket).store, [item["path"] for item in paths])


def names(uri: str, buckets: OpenBucket = open_bucket) -> list[str]:
    """Return the sorted names of the files and folders in a folder; none if it does not exist."""
    import obstore

    bucket, path = _split(uri)
    if bucket is None:
        folder = _local(path)
        return sorted(item.name for item in folder.iterdir()) if folder.exists() else []
    with _naming(uri):
        found = obstore.list_with_delimiter(buckets(bucket).store, path or None)
    paths = [*found["common_prefixes"], *(item["path"] for item in found["objects"])]
    return sorted({item.rpartition("/")[2] for item in paths if item != path})


def list_files(uri: str, buckets: OpenBucket = open_bucket) -> Iterator[StoredFile]:
    """Yield the files under a folder, at any depth, in constant memory; none if it does not exist.

    S3 lists in the order of the keys' UTF-8 bytes; folders of this machine, and SeaweedFS, have another order.

    Raises
    ------
    UnaddressableKeyError
        If object_store cannot address a key.
    PermissionError, StoreError
        If the store refuses, or does not answer.
    """
    bucket, path = _split(uri)
    if bucket is None:
        yield from _list_local(path)
        return
    store = buckets(bucket).store
    skipped = len(path) + 1 if path else 0
    for chunk in _list_chunks(uri, buckets):
        for item in chunk:
            key = item["path"]
            if key != path:
                # object_store shows the marker of a folder, `key/`, as an empty file with the name of the folder.
                marker = item["size"] == 0 and _is_marker(store, key)
                name = key[skipped:] + "/" * marker
                yield StoredFile(name, item["size"], (item["last_modified"] - _EPOCH) // _MICROSECOND)


def _list_local(folder: str) -> Iterator[StoredFile]:
    root = _local(folder)
    for parent, _, files in os.walk(root):
        for name in files:
            file = Path(parent, name)
            status = file.stat()
            path = os.fsencode(file.relative_to(root)).decode("utf-8", "surrogateescape")
            yield StoredFile(path, status.st_size, status.st_mtime_ns // 1000)


_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


def _list_chunks(uri: str, buckets: OpenBucket) -> Iterator[Any]:
    """Yield the objects under a folder on S3 as obstore describes them, a list for each answer of the store."""
    import obstore
    from obstore.exceptions import InvalidPathError

    bucket, path = _split(uri)
    store = buckets(bucket or "").store
    with _naming(uri):
        try:
            yield from obstore.list(store, path or None, chunk_size=KEYS_AT_ONCE)
        except InvalidPathError as error:
            raise UnaddressableKeyError(f"{uri}: {_reason(error)}") from error


def _is_marker(store: S3Store, key: str) -> bool:
    import obstore
    from obstore.exceptions import BaseError

    try:
        obstore.head(store, key)
    except FileNotFoundError:
        return True
    except BaseError:  # what may not be read is a file
        return False
    return False


def folder_bytes(uri: str, buckets: OpenBucket = open_bucket) -> int:
    """Return the total size of all files under a folder."""
    return sum(file.size for file in list_files(uri, buckets))


@contextmanager
def _naming(uri: str) -> Iterator[None]:
    """Raise the errors of obstore as Python's own, with the URI and the store's words."""
    from obstore.exceptions import BaseError, UnauthenticatedError

    try:
        yield
    except (FileNotFoundError, BaseError) as error:
        kind: type[OSError] = PermissionError if isinstance(error, UnauthenticatedError) else StoreError
        if status := _STATUS.search(str(error)):  # the error of a listing has no class of its own
            kind = _KINDS.get(status[1], kind)
        raise kind(f"{uri}: {_reason(error)}") from error


_STATUS = re.compile(r"status code: (\d{3})")
_KINDS: dict[str, type[OSError]] = {"401": PermissionError, "403": PermissionError, "404": FileNotFoundError}
_MESSAGE = re.compile(r"<Message>(.*?)</Message>", re.DOTALL)


def _reason(error: Exception) -> str:
    """Return S3's message, or else object_store's without the debugging output that follows it."""
    if found := _MESSAGE.search(str(error)):
        return found[1]
    return first_line(error)


def first_line(error: Exception) -> str:
    """Return an error's message without the debugging output that object_store puts below it."""
    return str(error).partition("\n\nDebug source")[0].replace("\n", " ")
