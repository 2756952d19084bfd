"""Listing of images: every file whose name the pattern takes, whatever else its name looks like."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from spark_jobs import schemas, storage
from spark_jobs.errors import JobError


@dataclass(frozen=True)
class Entry:
    """One thing in a folder: its name, and for a file its size in bytes and its modification time in UTC."""

    name: str
    is_folder: bool
    size: int
    modification_time: datetime


def write(images: str, pattern: str, target: str, *, rows_per_group: int) -> int:
    """List a folder's images into a Parquet file, without ever holding more than a row group of them.

    Parameters
    ----------
    images : str
        URI of the folder.
    pattern : str
        Glob patterns of file names, separated by commas, matched in any case.
    target : str
        URI of the Parquet file, of the columns ``schemas.LISTING``, in the order of the paths' bytes.
    rows_per_group : int
        Rows of each row group but the last.

    Returns
    -------
    int
        Files listed.

    Raises
    ------
    JobError
        When the folder does not exist, when nothing in it matches, or when a name in it is not valid UTF-8 or, on S3,
        has two slashes in a row.
    """
    filesystem, path = storage.locate(images)
    if filesystem.get_file_info(path).type != fs.FileType.Directory:
        raise JobError(f"the images' folder {images} does not exist: check --images")
    rows = list_images(images, pattern)
    count = 0
    with storage.writing(target) as stream, pq.ParquetWriter(stream, schemas.LISTING) as writer:
        while group := list(islice(rows, rows_per_group)):
            writer.write_table(pa.Table.from_pylist(group, schema=schemas.LISTING), row_group_size=rows_per_group)
            count += len(group)
        if not count:
            raise JobError(f"no file in {images} matches the pattern {pattern!r}: check --images and --pattern")
    return count


def list_images(images: str, pattern: str) -> Iterator[dict[str, Any]]:
    """Yield a row of ``schemas.LISTING`` for every file under a folder that the pattern takes.

    A folder's entries are in memory while that folder and those below it are walked, never the whole tree. Folders
    that symbolic links lead to are followed, save one that the walk is already in.

    Yields
    ------
    dict
        In the order of the paths' UTF-8 bytes, which is also that of their code points.
    """
    filesystem, root = storage.locate(images)
    read_folder: Callable[[str], Iterable[Entry]]
    read_folder = _read_local_folder if isinstance(filesystem, fs.LocalFileSystem) else _remote_reader(filesystem)
    scheme = images.partition("://")[0]
    for path, label, entry in _walk(root, read_folder, matcher(pattern), ()):
        yield {
            "path": f"{scheme}://{path}",
            "label": label,
            "size": entry.size,
            "modification_time": entry.modification_time,
        }


def matcher(pattern: str) -> Callable[[str], bool]:
    """Return the test of a file name against glob patterns separated by commas, in any case.

    Examples
    --------
    >>> matches = matcher("*.jpg, *.jpeg")
    >>> matches("_x.JPG"), matches("x.jpg.txt")
    (True, False)
    """
    globs = [glob.strip().lower() for glob in pattern.split(",") if glob.strip()]
    return lambda name: any(fnmatch.fnmatchcase(name.lower(), glob) for glob in globs)


def _walk(
    folder: str,
    read_folder: Callable[[str], Iterable[Entry]],
    matches: Callable[[str], bool],
    inside: tuple[tuple[int, int], ...],
) -> Iterator[tuple[str, str, Entry]]:
    """Yield path, label and entry of the files that match, depth first, in the order of the paths.

    Parameters
    ----------
    inside : tuple
        Device and inode of the local folders that the walk is in: a link back to one of them is not followed.
    """
    identity = _identity(folder) if read_folder is _read_local_folder else None
    if identity is not None:
        if identity in inside:
            return
        inside = (*inside, identity)
    label = folder.rpartition("/")[2]
    # A folder sorts as its name with the slash that follows it in the paths of what it holds.
    for entry in sorted(read_folder(folder), key=lambda entry: entry.name + "/" * entry.is_folder):
        path = f"{folder.rstrip('/')}/{entry.name}"
        if entry.is_folder:
            yield from _walk(path, read_folder, matches, inside)
        elif matches(entry.name):
            yield path, label, entry


def _read_local_folder(folder: str) -> Iterator[Entry]:
    """Yield the entries of a folder of this machine.

    The operating system is asked, since pyarrow leaves out links that lead nowhere. It is asked in bytes, since the
    locale must not decide how names are decoded.
    """
    with os.scandir(folder.encode()) as entries:
        for entry in entries:
            try:
                name = entry.name.decode()
            except UnicodeDecodeError:
                raise JobError(
                    f"the name {entry.name!r} in the folder {folder} is not valid UTF-8: rename it, or take it away"
                ) from None
            yield _local_entry(name, entry)


def _local_entry(name: str, entry: os.DirEntry[bytes]) -> Entry:
    """Return an entry; of a link that leads nowhere, the link itself."""
    try:
        status = entry.stat()
    except OSError:
        status = entry.stat(follow_symlinks=False)
    return Entry(name, stat.S_ISDIR(status.st_mode), status.st_size, _utc(status.st_mtime_ns))


def _remote_reader(filesystem: fs.FileSystem) -> Callable[[str], Iterator[Entry]]:
    def read_folder(folder: str) -> Iterator[Entry]:
        for info in filesystem.get_file_info(fs.FileSelector(folder)):
            if info.path.rstrip("/") != f"{folder}/{info.base_name}":  # pyarrow would not find what it holds
                raise JobError(
                    f"the folder {folder} holds names that begin with a slash ({info.path!r}): rename these objects, "
                    "or take them away"
                )
            is_folder = info.type == fs.FileType.Directory
            changed = _utc(0 if info.mtime_ns is None else info.mtime_ns)
            yield Entry(info.base_name, is_folder, info.size or 0, changed)

    return read_folder


def _utc(nanoseconds: int) -> datetime:
    """Return a time given in nanoseconds since 1970, to the microsecond below."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder.encode())  # noqa: PTH116 (a Path is not made of bytes)
    return status.st_dev, status.st_ino
