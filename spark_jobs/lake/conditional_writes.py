"""Writes that take effect only if a file is as expected: what a commit protocol is made of.

Two writers never both succeed, and an answer of the store that is lost does not change that: whatever is not known for
certain is decided by reading the file back.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NewType

from spark_jobs.lake.locations import local_path, split, temporary_path
from spark_jobs.lake.object_store import OpenBucket, open_bucket
from spark_jobs.lake.store_errors import StoreError, naming

if TYPE_CHECKING:
    from obstore import PutMode

Tag = NewType("Tag", str)
"""What identifies the content of a file: its ETag on S3, its SHA-256 in a folder of this machine."""

NO_LINKS = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK)
"""Errors of a file system that has no hard links, or not between two files, or not another one of a file."""


def read_tagged(uri: str, buckets: OpenBucket = open_bucket) -> tuple[bytes, Tag] | None:
    """Return a file's bytes and their tag for :func:`replace`, or None if there is no such file.

    Raises
    ------
    PermissionError
        If the store refuses.
    StoreError
        If the store does not answer, or gives no ETag.
    """
    import obstore

    bucket, path = split(uri)
    if bucket is None:
        return _read_local(local_path(path))
    try:
        with naming(uri):
            found = obstore.get(buckets(bucket).store, path)
            etag = found.meta["e_tag"]
            data = bytes(found.bytes())
    except FileNotFoundError:
        return None
    if etag is None:
        raise StoreError(f"{uri}: the store gives no ETag, which conditional writes need")
    return data, Tag(etag)


def create(uri: str, data: bytes, buckets: OpenBucket = open_bucket) -> bool:
    """Write a file if there is none; of several writers at a time, exactly one succeeds.

    Parameters
    ----------
    uri : str
        URI of the file.
    data : bytes
        The content, at most 5 GiB. It must be unique to this writer, for example by an identifier in it: a file that
        holds exactly this content counts as written by this call, since the store's answer to it may have been lost.
    buckets : callable
        Opens the bucket.

    Returns
    -------
    bool
        True if the file holds the content. False if it holds another one.

    Raises
    ------
    FileNotFoundError, PermissionError
        If there is no such bucket, or if the store refuses.
    StoreError
        If it is not known whether the file was written. Do not delete it: call again with the same content.
    """
    bucket, path = split(uri)
    if bucket is None:
        return _create_local(local_path(path), data)
    return _put(uri, data, None, buckets)


def replace(uri: str, data: bytes, expected: Tag | None, buckets: OpenBucket = open_bucket) -> bool:
    """Replace a file if it still has the expected content (compare-and-swap).

    Parameters
    ----------
    uri : str
        URI of the file.
    data : bytes
        The new content, unique to this writer as for :func:`create`.
    expected : Tag or None
        The tag of the content to replace, from :func:`read_tagged`. None: there must be no file.
    buckets : callable
        Opens the bucket.

    Returns
    -------
    bool
        True if the file holds the new content. False if it holds neither the new nor the expected content, or if it is
        gone. If the store's answer was lost and another writer replaced the new content at once, this is False too.

    Raises
    ------
    FileNotFoundError, PermissionError
        If there is no such bucket, or if the store refuses.
    StoreError
        If it is not known whether the file was replaced. Call again with the same arguments.
    """
    bucket, path = split(uri)
    if expected is None:
        return create(uri, data, buckets)
    if bucket is None:
        return _replace_local(local_path(path), data, expected)
    return _put(uri, data, expected, buckets)


def _put(uri: str, data: bytes, expected: Tag | None, buckets: OpenBucket) -> bool:
    """Put an object if its tag is as expected; None if there must be none."""
    import obstore

    bucket, path = split(uri)
    mode: PutMode = "create" if expected is None else {"e_tag": expected}
    try:
        with naming(uri):
            obstore.put(buckets(bucket or "").store, path, data, mode=mode, use_multipart=False)
    except OSError as error:
        return _look(uri, data, expected, buckets, error)
    return True


def _look(uri: str, data: bytes, expected: Tag | None, buckets: OpenBucket, error: OSError) -> bool:
    """Return whether a put whose answer is an error was successful.

    The condition may have failed because of an earlier attempt of the same put whose answer was lost: object_store
    repeats requests. It reports S3's conflict of two simultaneous puts (409), after which there may be no file, as an
    existing file.
    """
    try:
        found = read_tagged(uri, buckets)
    except OSError as second:
        if isinstance(error, PermissionError):
            raise error from None
        raise StoreError(f"{error}; whether the file was written is not known, it cannot be read: {second}") from error
    if found is not None and found[0] == data:
        return True
    if isinstance(error, PermissionError):
        raise error
    if (found and found[1]) != expected:
        return False
    if isinstance(error, FileNotFoundError):
        raise error
    raise StoreError(f"{error}; the file is still as it was, call again to write it") from error


def _create_local(target: Path, data: bytes) -> bool:
    with _written_beside(target, data) as file:
        try:
            os.link(file, target)
        except FileExistsError:
            return _holds(target, data)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            with _locked(target):
                if target.exists():
                    return _holds(target, data)
                file.replace(target)
        _sync_folder(target.parent)
    return True


def _replace_local(target: Path, data: bytes, expected: Tag) -> bool:
    with _written_beside(target, data) as file, _locked(target):
        found = _read_local(target)
        if found is None or found[1] != expected:
            return found is not None and found[0] == data
        file.replace(target)
        _sync_folder(target.parent)
    return True


def _read_local(file: Path) -> tuple[bytes, Tag] | None:
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return None
    return data, Tag(hashlib.sha256(data).hexdigest())


def _holds(file: Path, data: bytes) -> bool:
    try:
        return file.read_bytes() == data
    except OSError as error:
        raise StoreError(f"{file} exists, but cannot be read: {error.strerror}") from error


@contextmanager
def _written_beside(target: Path, data: bytes) -> Iterator[Path]:
    """Write and sync a temporary file in the folder of a file; delete it at the end, unless it was renamed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    file = temporary_path(target)
    try:
        with file.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        yield file
    finally:
        file.unlink(missing_ok=True)


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Hold the lock of a file; the kernel releases it when the process ends, however it ends.

    The lock file is never deleted: a writer that waits for a deleted one would not exclude those that create another.
    """
    descriptor = os.open(target.with_name(f".{target.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
