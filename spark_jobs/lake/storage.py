"""Access to files by URI through pyarrow's file systems: the operations that the jobs need."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa
from pyarrow import fs


def locate(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a URI and the path in it.

    The path is never URL-decoded, since labels may contain ``%``, ``#`` and ``+``.

    Parameters
    ----------
    uri : str
        ``file:///absolute/path`` or ``s3://bucket/key``.

    Raises
    ------
    ValueError
        If the URI has another form.
    """
    scheme, separator, rest = uri.partition("://")
    if separator and scheme == "file" and rest.startswith("/"):
        return fs.LocalFileSystem(), rest.rstrip("/") or "/"
    if separator and scheme == "s3" and rest.strip("/"):
        return fs.S3FileSystem(endpoint_override=os.environ.get("AWS_ENDPOINT_URL_S3")), rest.rstrip("/")
    raise ValueError(f"{uri!r} is not a location: expected file:///absolute/path or s3://bucket/key")


def join(uri: str, *parts: str) -> str:
    """Return the URI of something under ``uri``."""
    return "/".join([uri.rstrip("/"), *parts])


def exists(uri: str) -> bool:
    """Return whether a file or a folder exists."""
    filesystem, path = locate(uri)
    return bool(filesystem.get_file_info(path).type != fs.FileType.NotFound)


def read_bytes(uri: str) -> bytes:
    """Return a file's bytes.

    Raises
    ------
    FileNotFoundError
        If the file does not exist; the message names it.
    """
    filesystem, path = locate(uri)
    with filesystem.open_input_stream(path) as stream:
        return bytes(stream.read())


@contextmanager
def writing(uri: str) -> Iterator[pa.NativeFile]:
    """Write a file atomically from a stream: readers see either the old content or the complete new content.

    Yields
    ------
    NativeFile
        The stream to write to. If the block raises, its output is deleted.
    """
    filesystem, path = locate(uri)
    parent, _, name = path.rpartition("/")
    local = isinstance(filesystem, fs.LocalFileSystem)
    # S3 shows an object when its upload is complete. On a disk, a temporary name does the same.
    target = f"{parent}/.{name}.{uuid.uuid4().hex}" if local else path
    if local:
        filesystem.create_dir(parent)
    try:
        with filesystem.open_output_stream(target) as stream:
            yield stream
    except BaseException:
        delete(f"{uri.partition('://')[0]}://{target}")
        raise
    if local:
        filesystem.move(target, path)


def write_bytes(uri: str, data: bytes) -> None:
    """Write a file atomically: readers see either the old content or the complete new content."""
    with writing(uri) as stream:
        stream.write(data)


def write_json(uri: str, record: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    write_bytes(uri, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(uri: str) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises
    ------
    FileNotFoundError
        If the file does not exist; the message names it.
    """
    record: dict[str, Any] = json.loads(read_bytes(uri))
    return record


def delete(uri: str) -> None:
    """Delete a file, or a folder with its content; do nothing if it does not exist."""
    filesystem, path = locate(uri)
    kind = filesystem.get_file_info(path).type
    # S3 may list a folder for a moment after its last object was deleted.
    with suppress(FileNotFoundError):
        if kind == fs.FileType.Directory:
            filesystem.delete_dir(path)
        elif kind != fs.FileType.NotFound:
            filesystem.delete_file(path)
