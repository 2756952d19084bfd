"""Listing of images: everything whose name the pattern takes, whatever else it looks like."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from spark_jobs.args import IMAGE_ENDINGS, name_matcher
from spark_jobs.errors import JobError
from spark_jobs.lake import schemas, storage


class Entry(NamedTuple):
    """One thing in a folder: its name, and for a file its size in bytes and its time of change.

    The time is in nanoseconds since 1970, and the class a tuple, since a folder may hold a million of them.
    """

    name: str
    is_folder: bool
    size: int
    modified: int


class Image(NamedTuple):
    """A row of ``schemas.LISTING``; the time is in microseconds since 1970, as pyarrow makes timestamps of."""

    path: str
    label: str
    size: int
    modified: int


@dataclass(frozen=True)
class Listed:
    """What was listed.

    Attributes
    ----------
    sizes : ndarray of int64, shape (n,)
        Bytes of each listed image, in the listing's order.
    skipped : int
        Files whose names the pattern does not take.
    """

    sizes: npt.NDArray[np.int64]
    skipped: int


@dataclass
class Walk:
    """A walk through a folder and all below it.

    Attributes
    ----------
    root : str
        Path in the file system.
    read_folder : callable
        From a folder's path to its entries.
    matches : callable
        The test of a name.
    skipped : int
        Files passed so far that are not images by their names.
    """

    root: str
    read_folder: Callable[[str], Iterable[Entry]]
    matches: Callable[[str], bool]
    skipped: int = field(default=0, init=False)

    def images(self) -> Iterator[Image]:
        """Yield what the pattern takes, depth first.

        A folder's entries are in memory while that folder and those below it are walked, never the whole tree. Folders
        that symbolic links lead to are followed, save one that the walk is already in. A folder whose own name is that
        of an image is a row too, with a slash at the path's end, beside the rows of what it holds.

        Yields
        ------
        Image
            In the order of the paths' UTF-8 bytes, which is also that of their code points.
        """
        return self._folder(self.root, ())

    def _folder(self, folder: str, inside: tuple[tuple[int, int], ...]) -> Iterator[Image]:
        """Walk a folder; ``inside`` are device and inode of the local folders that the walk is in."""
        identity = _identity(folder) if self.read_folder is _read_local_folder else None
        if identity is not None:
            if identity in inside:
                return
            inside = (*inside, identity)
        label = folder.rpartition("/")[2]
        # A folder sorts as its name with the slash that follows it in the paths of what it holds.
        for entry in sorted(self.read_folder(folder), key=lambda entry: entry.name + "/" * entry.is_folder):
            path = f"{folder.rstrip('/')}/{entry.name}" + "/" * entry.is_folder
            if self.matches(entry.name) and (not entry.is_folder or entry.name.lower().endswith(IMAGE_ENDINGS)):
                yield Image(path, label, entry.size, entry.modified // 1000)
            elif not entry.is_folder:
                self.skipped += 1
            if entry.is_folder:
                yield from self._folder(path[:-1], inside)


def write(images: str, pattern: str, target: str, *, rows_per_group: int) -> Listed:
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
    Listed

    Raises
    ------
    JobError
        When the folder does not exist, when nothing in it matches, or when a name in it is not valid UTF-8 or, on S3,
        has two slashes in a row.
    """
    walk = walk_through(images, pattern)
    rows = walk.images()
    sizes: list[npt.NDArray[np.int64]] = []
    with storage.writing(target) as stream, pq.ParquetWriter(stream, schemas.LISTING) as writer:
        while group := list(islice(rows, rows_per_group)):
            table = _table(group, images.partition("://")[0])
            writer.write_table(table, row_group_size=rows_per_group)
            sizes.append(table["size"].to_numpy())
        if not sizes:
            raise JobError(
                f"no file in {images} matches the pattern {pattern!r} ({walk.skipped} others are there): "
                "check --images and --pattern"
            )
    return Listed(np.concatenate(sizes), walk.skipped)


def walk_through(images: str, pattern: str) -> Walk:
    """Return the walk through a folder of images.

    Raises
    ------
    JobError
        When the folder does not exist.
    """
    filesystem, root = storage.locate(images)
    if filesystem.get_file_info(root).type != fs.FileType.Directory:
        raise JobError(f"the images' folder {images} does not exist: check --images")
    local = isinstance(filesystem, fs.LocalFileSystem)
    return Walk(root, _read_local_folder if local else _remote_reader(filesystem), name_matcher(pattern))


def _table(rows: list[Image], scheme: str) -> pa.Table:
    paths, labels, sizes, modified = zip(*rows, strict=True)
    return pa.table([[f"{scheme}://{path}" for path in paths], labels, sizes, modified], schema=schemas.LISTING)


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
    is_folder = stat.S_ISDIR(status.st_mode)
    return Entry(name, is_folder, 0 if is_folder else status.st_size, status.st_mtime_ns)


def _remote_reader(filesystem: fs.FileSystem) -> Callable[[str], Iterator[Entry]]:
    def read_folder(folder: str) -> Iterator[Entry]:
        for info in filesystem.get_file_info(fs.FileSelector(folder)):
            if info.path.rstrip("/") != f"{folder}/{info.base_name}":  # pyarrow would not find what it holds
                raise JobError(
                    f"the folder {folder} holds names that begin with a slash ({info.path!r}): rename these objects, "
                    "or take them away"
                )
            is_folder = info.type == fs.FileType.Directory
            yield Entry(info.base_name, is_folder, info.size or 0, info.mtime_ns or 0)

    return read_folder


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder.encode())  # noqa: PTH116 (a Path is not made of bytes)
    return status.st_dev, status.st_ino
