"""The files under a folder of this machine or on S3, as a stream."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from spark_jobs.external_sort import sort_records
from spark_jobs.lake.locations import local_path, split
from spark_jobs.lake.object_store import OpenBucket, open_bucket
from spark_jobs.lake.store_errors import StoreError, UnaddressableKeyError, naming, reason

if TYPE_CHECKING:
    from obstore.store import S3Store

KEYS_AT_ONCE = 1000
"""Number of keys that S3 answers to one request for a listing."""


class StoredFile(NamedTuple):
    """A file in a folder: its path in the folder, its size in bytes, its modification time and its ETag.

    The time is in microseconds since 1970. The ETag has no quotes; it is None in a folder of this machine. The path of
    a marker, which consoles create for a folder, ends with a slash. The class is a tuple, since a folder may contain
    millions of files.
    """

    path: str
    size: int
    modified: int
    etag: str | None


def list_files(uri: str, buckets: OpenBucket = open_bucket) -> Iterator[StoredFile]:
    """Yield the files under a folder, at any depth, in constant memory; none if it does not exist.

    The order is that of the store. Links to folders are not followed.

    Raises
    ------
    UnaddressableKeyError
        If object_store cannot address a key.
    PermissionError, StoreError
        If the store refuses, or does not answer.
    """
    bucket, path = split(uri)
    if bucket is None:
        yield from _list_local(os.fsencode(local_path(path)), b"")
        return
    store = buckets(bucket).store
    skipped = len(path) + 1 if path else 0
    for chunk in list_chunks(uri, buckets):
        for item in chunk:
            key = item["path"]
            if key != path:
                # object_store shows the marker of a folder, `key/`, as an empty file with the name of the folder.
                marker = item["size"] == 0 and _is_marker(store, key)
                etag = item["e_tag"]
                yield StoredFile(
                    key[skipped:] + "/" * marker,
                    item["size"],
                    (item["last_modified"] - _EPOCH) // _MICROSECOND,
                    etag and etag.strip('"'),
                )


_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


def list_local_folder(uri: str) -> Iterator[StoredFile]:
    """Yield the files of a folder of this machine, without those in its subfolders."""
    return _list_local(os.fsencode(local_path(split(uri)[1])), b"", recursive=False)


def list_sorted(uri: str, buckets: OpenBucket = open_bucket) -> Iterator[StoredFile]:
    """Yield the files under a folder in the order of their paths' UTF-8 bytes, in constant memory.

    S3 lists in this order: its listing is passed on as it comes, and checked. Folders of this machine and other stores
    have another order, or none: SeaweedFS lists a folder before ``<folder>-2``. What they list is sorted before the
    first file is yielded, with temporary files if it is long (:func:`spark_jobs.external_sort.sort_records`).

    Raises
    ------
    UnaddressableKeyError
        If object_store cannot address a key.
    PermissionError, StoreError
        If the store refuses, does not answer, or lists in another order than declared (``Bucket.lists_in_order``).
    """
    bucket, _ = split(uri)
    files = list_files(uri, buckets)
    if bucket is not None and buckets(bucket).lists_in_order:
        return _check_order(uri, files)
    return _sort(files)


def _check_order(uri: str, files: Iterable[StoredFile]) -> Iterator[StoredFile]:
    """Yield files that come in order; the order of UTF-8 bytes is that of code points."""
    last = ""
    for file in files:
        path = file.path
        if path <= last and file.size == 0:
            # A folder's marker beside a file of the same name: the request for the file did not tell them apart.
            path += "/"
        if path <= last:
            raise StoreError(f"{uri} is listed with {path} after {last}: expected the order of the paths' UTF-8 bytes")
        last = path
        yield file if path is file.path else file._replace(path=path)


def _sort(files: Iterable[StoredFile]) -> Iterator[StoredFile]:
    records = (
        (file.path.encode("utf-8", "surrogateescape"), file.size, file.modified, file.etag or "") for file in files
    )
    waiting: StoredFile | None = None
    for path, size, modified, etag in sort_records(records):
        file = StoredFile(path.decode("utf-8", "surrogateescape"), size, modified, etag or None)
        # Of two with the same path, the first is a folder's marker beside a file of the same name: it is empty.
        if waiting is not None and waiting.path != file.path:
            yield waiting
        waiting = file
    if waiting is not None:
        yield waiting


def _list_local(folder: bytes, prefix: bytes, *, recursive: bool = True) -> Iterator[StoredFile]:
    """Yield the files under a folder of this machine; in bytes, since the locale must not decide how names are decoded.

    Only one entry of each folder on the way is in memory. What is gone by the time it is looked at is not listed.
    """
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue
            path = prefix + entry.name
            if not stat.S_ISDIR(status.st_mode):
                name = path.decode("utf-8", "surrogateescape")
                yield StoredFile(name, status.st_size, status.st_mtime_ns // 1000, None)
            elif recursive and not entry.is_symlink():
                yield from _list_local(entry.path, path + b"/")


def list_chunks(uri: str, buckets: OpenBucket) -> Iterator[Any]:
    """Yield the objects under a folder on S3 as obstore describes them, a list for each answer of the store."""
    import obstore
    from obstore.exceptions import InvalidPathError

    bucket, path = split(uri)
    store = buckets(bucket or "").store
    with naming(uri):
        try:
            yield from obstore.list(store, path or None, chunk_size=KEYS_AT_ONCE)
        except InvalidPathError as error:
            raise UnaddressableKeyError(f"{uri}: {reason(error)}") from error


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
