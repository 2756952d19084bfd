"""Reading and writing files of the lake from Airflow, in a folder or on S3."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from airflow.sdk import ObjectStoragePath

from spark_jobs.args import NOT_LOADED_FILE, is_hidden, name_matcher
from spark_jobs.walk import walk_local_folder


def lake_path(uri: str, aws_conn_id: str | None = None) -> ObjectStoragePath:
    """Return a URI as a path object with a fresh view of the store; ``aws_conn_id`` is used for ``s3://`` only."""
    path = ObjectStoragePath(uri, conn_id=aws_conn_id if uri.startswith("s3://") else None)
    # A process keeps its S3 clients, and these cache listings forever, although other processes write to the bucket.
    # Without a connection, one client lists and another one opens files.
    for client in (path.fs, path.__wrapped__.fs):
        client.invalidate_cache()
    return path


@contextmanager
def atomic_write(path: ObjectStoragePath) -> Iterator[BinaryIO]:
    """Open a file for writing so that readers see the whole file or none of it.

    An object on S3 becomes visible when its upload is complete. In a folder, the data goes to a hidden temporary file,
    which is renamed at the end, or deleted if writing fails.
    """
    if path.protocol != "file":
        # Closing the file completes the upload even after an error; the transaction then discards it.
        with path.fs.transaction, path.open("wb") as stream:  # type: ignore[no-untyped-call]
            yield stream
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}"
    try:
        with temporary.open("wb") as stream:  # type: ignore[no-untyped-call]
            yield stream
        os.replace(temporary.path, path.path)  # noqa: PTH105 - both are paths of fsspec, not of pathlib
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: ObjectStoragePath, data: bytes) -> None:
    """Write a file atomically: a reader sees either the old bytes or the new bytes."""
    with atomic_write(path) as stream:
        stream.write(data)


def write_file(path: ObjectStoragePath, source: Path) -> None:
    """Copy a file of this machine into the lake atomically, without loading it into memory."""
    with source.open("rb") as content, atomic_write(path) as stream:
        shutil.copyfileobj(content, stream, 8 * 1024 * 1024)


def write_json(path: ObjectStoragePath, record: Mapping[str, object]) -> None:
    """Write a JSON file atomically."""
    write_bytes(path, (json.dumps(record, indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode())


def delete_file(path: ObjectStoragePath) -> None:
    """Delete one file.

    Raises
    ------
    OSError
        If the store refuses. (``unlink`` on S3 uses a bulk delete, whose errors s3fs ignores.)
    """
    if path.protocol == "file":
        path.unlink()
    else:
        path.fs.rm_file(path.path)


def read_json(path: ObjectStoragePath, writer: str) -> Any:
    """Return the object that a JSON file contains; the caller declares which record it is.

    Parameters
    ----------
    path : ObjectStoragePath
        The file.
    writer : str
        Who writes the file, for the error message.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file does not contain a JSON object.
    """
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist: {writer}") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): {writer}") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path} contains a JSON {type(record).__name__}, expected an object: {writer}")
    return record


def parquet_files(folder: ObjectStoragePath) -> list[ObjectStoragePath]:
    """Return the Parquet files of a dataset's folder, sorted by name, without hidden files (``.…`` and ``_…``)."""
    items = folder.iterdir() if folder.exists() else []
    files = [item for item in items if item.name.endswith(".parquet") and not item.name.startswith(("_", "."))]
    return sorted(files, key=lambda item: item.name)


def folder_bytes(folder: ObjectStoragePath) -> int:
    """Return the total size of all files under a folder."""
    if folder.protocol == "file":
        return sum((Path(parent) / name).stat().st_size for parent, _, names in os.walk(folder.path) for name in names)
    return int(folder.fs.du(folder.path))


def count_matching_files(folder: ObjectStoragePath, pattern: str, *, include_hidden: bool = False) -> int:
    """Return the number of files under a folder, at any depth, that featurize will list.

    Parameters
    ----------
    folder : ObjectStoragePath
        The folder.
    pattern : str
        Patterns of file names, as for :func:`spark_jobs.args.name_matcher`.
    include_hidden : bool
        Whether hidden names (:func:`spark_jobs.args.is_hidden`) are treated like others.

    Raises
    ------
    WalkError
        If a folder of this machine cannot be read, or the path of an image is not valid UTF-8.
    """
    if folder.protocol == "file":
        if not folder.exists():
            return 0
        walk = walk_local_folder(folder.path.rstrip("/"), pattern, include_hidden=include_hidden)
        return sum(not image.path.endswith("/") for image in walk.images())
    matches = name_matcher(pattern)

    def is_image(parent: str, name: str) -> bool:
        path = f"{parent}/{name}".removeprefix(f"{folder.path.rstrip('/')}/")
        shown = include_hidden or not any(is_hidden(part) for part in path.split("/"))
        # Consoles create a marker object for an empty folder; it is listed as a file without a name.
        return bool(name) and path != NOT_LOADED_FILE and matches(name) and shown

    return sum(is_image(parent, name) for parent, _, names in folder.fs.walk(folder.path) for name in names)
