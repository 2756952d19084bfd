"""Walks through a folder of images on this machine or on S3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from spark_jobs.args import name_matcher
from spark_jobs.lake import storage
from spark_jobs.lake.object_store import OpenBucket, open_bucket
from spark_jobs.walk import Entry, FolderWalk, KeyWalk, Walk, WalkError, walk_local_folder

if TYPE_CHECKING:
    from pyarrow import fs

T = TypeVar("T")


def walk_through(
    images: str, pattern: str, use: Callable[[Walk], T], *, include_hidden: bool, buckets: OpenBucket = open_bucket
) -> T:
    """Return what a function makes of the walk through a folder of images.

    Images come in the order of their paths' UTF-8 bytes, on every store, in memory that does not depend on their
    number. The exception is a folder on S3 with keys that object_store cannot address: the function is called again,
    with a walk that has the entries of a folder in memory and knows no ETags.

    Parameters
    ----------
    images : str
        URI of the folder.
    pattern : str
        Patterns of file names, as for :func:`spark_jobs.args.name_matcher`.
    use : callable
        Takes the walk. Its effects must be repeatable.
    include_hidden : bool
        Whether hidden names (:func:`spark_jobs.args.is_hidden`) are treated like others.
    buckets : callable
        Opens the bucket.

    Raises
    ------
    WalkError
        If a folder of this machine cannot be read, or the path of an image is not valid UTF-8 or, on S3, has two
        slashes in a row.
    """
    root = images.partition("://")[2].rstrip("/")
    if storage.is_local(images):
        return use(walk_local_folder(root, pattern, include_hidden=include_hidden))
    matches = name_matcher(pattern)
    try:
        return use(KeyWalk(root, matches, include_hidden, storage.list_sorted(images, buckets)))
    except storage.UnaddressableKeyError:
        files = buckets(root.partition("/")[0]).arrow()
        return use(FolderWalk(root, matches, include_hidden, _folder_reader(files), _counter(files)))


def _folder_reader(filesystem: fs.FileSystem) -> Callable[[str], Iterator[Entry]]:
    from pyarrow import fs

    def read_folder(folder: str) -> Iterator[Entry]:
        for info in filesystem.get_file_info(fs.FileSelector(folder)):
            if info.path.rstrip("/") != f"{folder}/{info.base_name}":  # pyarrow would not find what it holds
                raise WalkError(
                    f"the folder {folder} holds names that begin with a slash ({info.path!r}): rename these objects, "
                    "or take them away"
                )
            is_folder = info.type == fs.FileType.Directory
            yield Entry(info.base_name, is_folder, info.size or 0, info.mtime_ns or 0)

    return read_folder


def _counter(filesystem: fs.FileSystem) -> Callable[[str], int]:
    from pyarrow import fs

    def count_files(folder: str) -> int:
        infos = filesystem.get_file_info(fs.FileSelector(folder, recursive=True))
        return sum(info.type == fs.FileType.File for info in infos)

    return count_files
