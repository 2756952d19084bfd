"""The walk through a folder of images: which files are images by their names, and which are left out.

Standard library only: the job's listing, the loader of ``make run`` and the count of ``open_run`` have the same rules.
"""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

from spark_jobs.args import IMAGE_ENDINGS, NOT_LOADED_FILE, is_hidden, name_matcher
from spark_jobs.errors import JobError
from spark_jobs.external_sort import sort_records
from spark_jobs.left_out import LeftOutCounter


class WalkError(JobError):
    """A folder cannot be read, or a name in it is not valid UTF-8 or is empty."""


class Entry(NamedTuple):
    """One thing in a folder: its name, and for a file its size in bytes and its modification time.

    The time is in nanoseconds since 1970. The class is a tuple, since a folder may contain a million of them.
    """

    name: str
    is_folder: bool
    size: int
    modified: int


class Image(NamedTuple):
    """An image: its path, label, size in bytes, modification time in microseconds since 1970 and, if known, its ETag.

    All but the ETag are the columns of ``schemas.LISTING``. The path of a folder ends with a slash.
    """

    path: str
    label: str
    size: int
    modified: int
    etag: str | None = None


@dataclass
class Walk(ABC):
    """A walk through a folder and all its subfolders.

    Attributes
    ----------
    root : str
        Path in the file system.
    matches : callable
        The test of a name.
    include_hidden : bool
        Whether hidden names (:func:`spark_jobs.args.is_hidden`) are treated like others.
    left_out : LeftOutCounter
        The files left out so far.
    has_record : bool
        Whether the walk has seen :data:`spark_jobs.args.NOT_LOADED_FILE`, which is no image.
    """

    root: str
    matches: Callable[[str], bool]
    include_hidden: bool
    left_out: LeftOutCounter = field(default_factory=LeftOutCounter, init=False)
    has_record: bool = field(default=False, init=False)

    @abstractmethod
    def images(self) -> Iterator[Image]:
        """Yield the images, depth first.

        A folder whose own name is that of an image is yielded too, beside the images in it.

        Yields
        ------
        Image
            In the order of the paths' UTF-8 bytes, which is also that of their code points.
        """

    def _is_hidden(self, name: str) -> bool:
        return not self.include_hidden and is_hidden(name)

    def _is_image_folder(self, name: str) -> bool:
        return self.matches(name) and name.lower().endswith(IMAGE_ENDINGS)


@dataclass
class KeyWalk(Walk):
    """A walk through a folder on S3, in constant memory.

    Attributes
    ----------
    keys : iterable of (str, int, int, str or None)
        Path in the folder, size in bytes, modification time in microseconds since 1970 and ETag of every object, in the
        order of the paths' UTF-8 bytes. The path of a folder's marker ends with a slash.
    """

    keys: Iterable[tuple[str, int, int, str | None]]

    def images(self) -> Iterator[Image]:
        """Yield the images; see :meth:`Walk.images`."""
        label, is_shown = "", True
        folder: str | None = None
        shown: list[str] = []
        for key, size, modified, etag in self.keys:
            if key.partition("/")[0] == NOT_LOADED_FILE:
                self.has_record = True
                continue
            parent, _, name = key.rpartition("/")
            if parent != folder:
                before, folders = shown, parent.split("/") if parent else []
                shown = list(takewhile(lambda part: not self._is_hidden(part), folders))
                folder, is_shown = parent, len(shown) == len(folders)
                label = parent.rpartition("/")[2] or self.root.rpartition("/")[2]
                yield from self._entered(before, shown)
            if not name:
                continue
            if not is_shown or self._is_hidden(name):
                self.left_out.hidden += 1
            elif self.matches(name):
                self.left_out.keep(label)
                yield Image(f"{self.root}/{key}", label, size, modified, etag)
            else:
                self.left_out.skip(name, label, at_top=not parent)

    def _entered(self, before: list[str], folders: list[str]) -> Iterator[Image]:
        """Yield the folders with the name of an image that the walk enters on its way from one folder to the next."""
        for depth, name in enumerate(folders):
            if folders[: depth + 1] != before[: depth + 1] and self._is_image_folder(name):
                parent = "/".join([self.root, *folders[:depth]])
                yield Image(f"{parent}/{name}/", parent.rpartition("/")[2], 0, 0)


@dataclass
class FolderWalk(Walk):
    """A walk that reads one folder at a time.

    Attributes
    ----------
    read_folder : callable
        From a folder's path to its entries.
    count_files : callable
        From the path of a hidden folder to the number of files in it, at any depth.
    """

    read_folder: Callable[[str], Iterable[Entry]]
    count_files: Callable[[str], int]

    def images(self) -> Iterator[Image]:
        """Yield the images; see :meth:`Walk.images`.

        Memory does not depend on the number of files (:func:`spark_jobs.external_sort.sort_records`). Links to folders
        are followed, except a link to a folder that the walk is in.

        Raises
        ------
        WalkError
            If a folder cannot be read, or the path of an image is not valid UTF-8.
        """
        return self._folder(self.root, ())

    def _folder(self, folder: str, inside: tuple[tuple[int, int], ...]) -> Iterator[Image]:
        """Walk a folder; ``inside`` are device and inode of the local folders that the walk is in."""
        identity = _identity(folder) if self.read_folder is read_local_folder else None
        if identity is not None:
            if identity in inside:
                return
            inside = (*inside, identity)
        label, at_top = folder.rpartition("/")[2], folder == self.root
        # A folder sorts as its name with the slash that follows it in the paths of its files.
        entries = ((entry.name + "/" * entry.is_folder, *entry[1:]) for entry in self.read_folder(folder))
        for sorted_name, is_folder, size, modified in sort_records(entries):
            name, path = sorted_name.removesuffix("/"), f"{folder.rstrip('/')}/{sorted_name}"
            if at_top and name == NOT_LOADED_FILE:
                self.has_record = True
                continue
            if self._is_hidden(name):
                self.left_out.hidden += self.count_files(path[:-1]) if is_folder else 1
                continue
            if self._is_image_folder(name) if is_folder else self.matches(name):
                _check_encoding(path)
                if not is_folder:
                    self.left_out.keep(label)
                yield Image(path, label, size, modified // 1000)
            elif not is_folder:
                self.left_out.skip(name, label, at_top=at_top)
            if is_folder:
                yield from self._folder(path[:-1], inside)


def walk_local_folder(folder: str, pattern: str, *, include_hidden: bool) -> FolderWalk:
    """Return the walk through a folder of this machine, given its absolute path without a slash at the end."""
    return FolderWalk(folder, name_matcher(pattern), include_hidden, read_local_folder, count_local_files)


def read_local_folder(folder: str) -> Iterator[Entry]:
    """Yield the entries of a folder of this machine.

    The operating system is asked in bytes, since the locale must not decide how names are decoded.

    Raises
    ------
    WalkError
        If the folder cannot be read. A folder that no longer exists has no entries.
    """
    try:
        with os.scandir(_bytes(folder)) as entries:
            for entry in entries:
                yield _local_entry(entry)
    except FileNotFoundError:
        return
    except OSError as error:
        raise WalkError(
            f"the folder {folder} cannot be read ({error.strerror}): change its permissions, or move it away"
        ) from error


def _local_entry(entry: os.DirEntry[bytes]) -> Entry:
    """Return an entry; if a link cannot be followed, for whatever reason, the link itself."""
    name = entry.name.decode("utf-8", "surrogateescape")
    try:
        status = entry.stat()
    except OSError:
        status = entry.stat(follow_symlinks=False)
    is_folder = stat.S_ISDIR(status.st_mode)
    return Entry(name, is_folder, 0 if is_folder else status.st_size, status.st_mtime_ns)


def count_local_files(folder: str) -> int:
    """Return the number of files in a folder of this machine; links are not followed, unreadable folders are empty."""
    if os.path.islink(_bytes(folder)):  # noqa: PTH114 (a Path is not made of bytes)
        return 1
    return _count_files(_bytes(folder))


def _count_files(folder: bytes) -> int:
    """Count in constant memory; ``os.walk`` has all names of a folder in memory."""
    count = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                count += _count_files(entry.path)
            elif not _is_folder(entry):
                count += 1
    return count


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that cannot be followed
        return False


def _check_encoding(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        shown = _bytes(path).decode("utf-8", "backslashreplace")
        raise WalkError(f"the name of {shown} is not valid UTF-8: rename it, or move it away") from None


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        status = os.stat(_bytes(folder))  # noqa: PTH116 (a Path is not made of bytes)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")
