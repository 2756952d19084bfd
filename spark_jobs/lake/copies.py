"""Copies of files within a folder of this machine or within a bucket, without reading them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from spark_jobs.lake.conditional_writes import NO_LINKS
from spark_jobs.lake.locations import local_path, split, temporary_path
from spark_jobs.lake.object_store import OpenBucket, open_bucket
from spark_jobs.lake.store_errors import TooLargeError, naming

MOST_BYTES = 5 * 2**30
"""The largest object that S3 copies in one request (Amazon S3 API Reference, CopyObject)."""


def copy(source: str, target: str, buckets: OpenBucket = open_bucket) -> None:
    """Copy a file atomically: readers of the target see either the old content or the complete new content.

    The store copies it: no content passes through this machine. In a folder of this machine, both are names of the same
    file (hard links), so neither must be edited in place; files of the lake never are. Where the file system has no
    hard links, the content is copied.

    Parameters
    ----------
    source : str
        URI of the file to copy.
    target : str
        URI of the copy, in the same bucket or also on this machine.
    buckets : callable
        Opens the bucket.

    Raises
    ------
    ValueError
        If the two are in different buckets, or if only one is on S3.
    TooLargeError
        If the file is larger than S3 copies; nothing is copied.
    FileNotFoundError, PermissionError, StoreError
        If there is no such file, if the store refuses, or if it does not answer. A copy may be repeated.
    """
    import obstore

    (bucket, path), (other, copied) = split(source), split(target)
    if bucket != other:
        raise ValueError(f"cannot copy {source} to {target}: expected both in one bucket, or both on this machine")
    if bucket is None:
        _copy_local(local_path(path), local_path(copied))
        return
    store = buckets(bucket).store
    with naming(source):
        size = int(obstore.head(store, path)["size"])
    if size > MOST_BYTES:
        raise TooLargeError(
            f"{source} has {size:,} bytes: S3 copies at most {MOST_BYTES:,} (5 GiB) in one request, write smaller files"
        )
    with naming(f"{source}, copied to {target}"):
        obstore.copy(store, path, copied)


def _copy_local(source: Path, target: Path) -> None:
    source = source.resolve(strict=True)  # a link to a file is copied as the file
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(target)
    try:
        try:
            os.link(source, temporary)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            shutil.copyfile(source, temporary)
        temporary.replace(target)
    finally:
        # A rename to another name of the same file does nothing: the temporary name stays.
        temporary.unlink(missing_ok=True)
