"""Reading and writing the lake from Airflow, the same on a folder and on S3."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from airflow.sdk import ObjectStoragePath

from spark_jobs.args import name_matcher


def lake_path(uri: str, aws_conn_id: str | None = None) -> ObjectStoragePath:
    """Return the path object of a URI; ``aws_conn_id`` is used for ``s3://`` only."""
    path = ObjectStoragePath(uri, conn_id=aws_conn_id if uri.startswith("s3://") else None)
    # A process keeps its clients of S3, and these remember listings for ever, while others write there too. Without a
    # connection, the client that lists is not the one that opens files.
    for client in (path.fs, path.__wrapped__.fs):
        client.invalidate_cache()
    return path


@contextmanager
def atomic_write(path: ObjectStoragePath) -> Iterator[BinaryIO]:
    """Open a file for writing that appears whole, or not at all.

    A store shows an object when its upload is complete. A folder gets a hidden temporary file beside the target, which
    takes its name at the end, or goes when the writing fails.
    """
    if path.protocol != "file":
        # Leaving a file's own block completes the upload even after an error; a transaction then discards it.
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
    """Put a file there in one step: a reader sees the old bytes or the new ones, never a part of them."""
    with atomic_write(path) as stream:
        stream.write(data)


def write_file(path: ObjectStoragePath, source: Path) -> None:
    """Put a copy of a file of this machine there in one step, piece by piece."""
    with source.open("rb") as content, atomic_write(path) as stream:
        shutil.copyfileobj(content, stream, 8 * 1024 * 1024)


def write_json(path: ObjectStoragePath, record: dict[str, Any]) -> None:
    """Put a JSON file there in one step."""
    write_bytes(path, (json.dumps(record, indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode())


def delete_file(path: ObjectStoragePath) -> None:
    """Delete one file.

    Raises
    ------
    OSError
        When that is refused. (``unlink`` on S3 deletes in bulk, and s3fs passes over the errors in that answer.)
    """
    if path.protocol == "file":
        path.unlink()
    else:
        path.fs.rm_file(path.path)


def read_json(path: ObjectStoragePath, what: str) -> dict[str, Any]:
    """Return the object of a JSON file.

    Parameters
    ----------
    path : ObjectStoragePath
        The file.
    what : str
        What the file is and who writes it, for the error.

    Raises
    ------
    FileNotFoundError
        When it is not there.
    ValueError
        When it is not a JSON object.
    """
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is not there: {what}") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): {what}") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path} holds a JSON {type(record).__name__}, expected an object: {what}")
    return record


def parquet_files(folder: ObjectStoragePath) -> list[ObjectStoragePath]:
    """Return the Parquet files of a dataset's folder by name: neither hidden ones nor markers such as ``_SUCCESS``."""
    if not folder.exists():
        return []
    return sorted((item for item in folder.iterdir() if _is_data(item.name)), key=lambda item: item.name)


def _is_data(name: str) -> bool:
    return name.endswith(".parquet") and not name.startswith(("_", "."))


def folder_bytes(folder: ObjectStoragePath) -> int:
    """Return the size of all files under a folder."""
    if folder.protocol == "file":
        return sum((Path(parent) / name).stat().st_size for parent, names in _walk(folder) for name in names)
    return int(folder.fs.du(folder.path))


def count_matching_files(folder: ObjectStoragePath, pattern: str) -> int:
    """Return how many files under a folder, at any depth, have names that match a pattern.

    Parameters
    ----------
    folder : ObjectStoragePath
        Where to look.
    pattern : str
        Globs separated by commas, matched in any case, as the featurize job takes them.
    """
    matches = name_matcher(pattern)
    return sum(matches(name) for _, names in _walk(folder) for name in names)


def _walk(folder: ObjectStoragePath) -> Iterator[tuple[str, list[str]]]:
    """Yield every folder under a folder with the names of its files; links to folders are followed, as the job does."""
    if folder.protocol != "file":
        for parent, _, names in folder.fs.walk(folder.path):
            # The marker that consoles put for an empty folder is listed as a file without a name.
            yield parent, [name for name in names if name]
        return
    walked = set()
    for parent, folders, names in os.walk(folder.path, followlinks=True):
        walked.add(Path(parent).resolve())
        folders[:] = [name for name in folders if Path(parent, name).resolve() not in walked]
        yield parent, names
