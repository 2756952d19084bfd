"""Reading of images: one file's bytes or a reject, and many files ahead of whoever takes them, in bounded memory."""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeAlias

from spark_jobs.images.rejects import Reject
from spark_jobs.lake import storage
from spark_jobs.lake.object_store import RETRIES, open_bucket
from spark_jobs.lake.storage import StoreError, first_line

if TYPE_CHECKING:
    from obstore import Bytes
    from obstore.store import S3Store
    from pyarrow import fs

Data: TypeAlias = "bytes | Bytes"
Read: TypeAlias = "Callable[[str, int], Data | Reject]"
"""From a path without its scheme and a size in bytes, as listed, to the file's content or why there is none."""

_REFUSED_KEYS: Final = (
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
)
"""S3's codes of a 403 that says something of the job's credentials and nothing of the object (S3 API, error codes)."""

_LOCAL_REASONS: Final = {
    errno.ENOENT: "vanished",
    errno.ENOTDIR: "vanished",
    errno.ESTALE: "vanished",
    errno.EACCES: "access_denied",
    errno.EPERM: "access_denied",
}


def reader(uri: str) -> Read:
    """Return the function that reads the files of a folder.

    Parameters
    ----------
    uri : str
        ``file:///absolute/path`` or ``s3://bucket/key``, as everywhere in :mod:`spark_jobs.lake.storage`.
    """
    return read_local if storage.is_local(uri) else _s3_reader(uri.partition("://")[2].partition("/")[0])


def read_local(path: str, size: int) -> Data | Reject:
    """Read a file of this machine."""
    try:
        # The locale must not decide how names are encoded; and opening a named pipe must not wait for a writer.
        descriptor = os.open(path.encode(), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return Reject("unreadable", "not a regular file")
            # One byte more than was listed: never more memory than was planned with, and growth is seen.
            data = file.read(size + 1)
    except OSError as error:
        return Reject(_LOCAL_REASONS.get(error.errno or 0, "unreadable"), str(error))
    return data if len(data) == size else changed(size, max(status.st_size, len(data)))


def changed(listed: int, found: int) -> Reject:
    """Return the reject of a file whose size is no longer the listed one."""
    return Reject("changed", f"{found} bytes, but {listed} when it was listed: the next run takes it as it is then")


def _s3_reader(bucket: str) -> Read:
    """Return the function that reads the objects of a bucket, one request each."""

    def read(path: str, size: int) -> Data | Reject:
        key = path.partition("/")[2]
        clients = open_bucket(bucket)
        try:
            return read_object(clients.store, key, size)
        except ValueError:  # a name with control characters, which S3 allows and object_store does not
            return _read_by_pyarrow(clients.arrow(), path, size)

    return read


def read_object(store: S3Store, key: str, size: int) -> Bytes | Reject:
    """Read an object.

    Raises
    ------
    ValueError
        When object_store does not take the key.
    StoreError
        When the store fails again and again, or refuses the job's credentials: nothing that the object is to blame for.
    """
    import obstore
    from obstore.exceptions import BaseError, PermissionDeniedError

    try:
        answer = obstore.get(store, key)
        found = answer.meta["size"]
        return answer.bytes() if found == size else changed(size, found)
    except FileNotFoundError as error:
        return Reject("vanished", first_line(error))
    except PermissionDeniedError as error:
        if any(code in str(error) for code in _REFUSED_KEYS):
            raise StoreError(f"the store refuses the job's credentials: {first_line(error)}") from error
        return Reject("access_denied", first_line(error))
    except BaseError as error:
        raise StoreError(f"{key} cannot be read, in {RETRIES} tries: {first_line(error)}") from error


def _read_by_pyarrow(filesystem: fs.FileSystem, path: str, size: int) -> bytes | Reject:
    """Read an object that object_store cannot name; pyarrow asks twice for each, and its errors differ by text only."""
    try:
        with filesystem.open_input_file(path) as file:
            found = file.size()
            return bytes(file.read()) if found == size else changed(size, found)
    except FileNotFoundError as error:
        return Reject("vanished", str(error))
    except OSError as error:
        if "ACCESS_DENIED" in str(error):
            return Reject("access_denied", str(error))
        raise StoreError(f"{path} cannot be read: {error}") from error


def read_ahead(
    files: Iterable[tuple[str, int]], read: Read, *, max_reads: int, max_bytes: int, max_file_bytes: int
) -> Iterator[Data | Reject]:
    """Read files with many reads in flight, and yield their content in the order of the files.

    Parameters
    ----------
    files : iterable of (str, int)
        Path and size, as listed.
    read : callable
        What reads one of them; called in threads.
    max_reads : int
        Most files that are being read, or are read and wait for their turn.
    max_bytes : int
        Most bytes that these files have, whatever their number.
    max_file_bytes : int
        A file with more is a reject and is not read; at most ``max_bytes``, since a file is read whole.

    Yields
    ------
    bytes-like or Reject
        The content counts as in flight until the next is asked for.
    """
    held: deque[tuple[Future[Data | Reject], int]] = deque()
    held_bytes = 0
    with ThreadPoolExecutor(max_reads, thread_name_prefix="read") as pool:
        try:
            for path, size in files:
                too_large = size > max_file_bytes
                cost = 0 if too_large else size
                while held and (len(held) >= max_reads or held_bytes + cost > max_bytes):
                    future, done = held.popleft()
                    yield future.result()
                    held_bytes -= done
                held.append((pool.submit(_read_listed, read, path, size, max_file_bytes), cost))
                held_bytes += cost
            while held:
                yield held.popleft()[0].result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _read_listed(read: Read, path: str, size: int, max_file_bytes: int) -> Data | Reject:
    if path.endswith("/"):
        return Reject("directory", "a folder with the name of an image")
    if size > max_file_bytes:
        return Reject("file_too_large", f"{size} bytes, more than {max_file_bytes}")
    return read(path, size)
