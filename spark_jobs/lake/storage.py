"""Where bytes are: URIs to pyarrow file systems, and the few operations that the jobs need of them."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa
from pyarrow import fs


def locate(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a URI and the path in it.

    The path is taken as it is written: never URL-decoded, since labels may hold ``%``, ``#`` and ``+``.

    Parameters
    ----------
    uri : str
        ``file:///absolute/path`` or ``s3://bucket/key``.

    Raises
    ------
    ValueError
        When the URI is of another kind.
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
    """Tell whether a file or a folder is there."""
    filesystem, path = locate(uri)
    return bool(filesystem.get_file_info(path).type != fs.FileType.NotFound)


def read_bytes(uri: str) -> bytes:
    """Return a file's bytes.

    Raises
    ------
    FileNotFoundError
        When there is no such file; the message names it.
    """
    filesystem, path = locate(uri)
    with filesystem.open_input_stream(path) as stream:
        return bytes(stream.read())


@contextmanager
def writing(uri: str) -> Iterator[pa.NativeFile]:
    """Put a file there in one step, piece by piece: a reader sees the old bytes or the new ones, never a part of them.

    Yields
    ------
    NativeFile
        A stream to write to. When the block raises, nothing of what it wrote stays.
    """
    filesystem, path = locate(uri)
    parent, _, name = path.rpartition("/")
    local = isinstance(filesystem, fs.LocalFileSystem)
    # A store shows an object when its upload is complete; on a disk that is done by a name of its own until then.
    written = f"{parent}/.{name}.{uuid.uuid4().hex}" if local else path
    if local:
        filesystem.create_dir(parent)
    try:
        with filesystem.open_output_stream(written) as stream:
            yield stream
    except BaseException:
        delete(f"{uri.partition('://')[0]}://{written}")
        raise
    if local:
        filesystem.move(written, path)


def write_bytes(uri: str, data: bytes) -> None:
    """Put a file there in one step: a reader sees the old bytes or the new ones, never a part of them."""
    with writing(uri) as stream:
        stream.write(data)


def write_json(uri: str, record: dict[str, Any]) -> None:
    """Put a JSON file there in one step."""
    write_bytes(uri, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(uri: str) -> dict[str, Any]:
    """Return the object of a JSON file.

    Raises
    ------
    FileNotFoundError
        When there is no such file; the message names it.
    """
    record: dict[str, Any] = json.loads(read_bytes(uri))
    return record


def delete(uri: str) -> None:
    """Delete a file, or a folder with all that is in it; nothing happens when it is not there."""
    filesystem, path = locate(uri)
    kind = filesystem.get_file_info(path).type
    # A store may tell of a folder for a moment after the last object in it has gone.
    with suppress(FileNotFoundError):
        if kind == fs.FileType.Directory:
            filesystem.delete_dir(path)
        elif kind != fs.FileType.NotFound:
            filesystem.delete_file(path)
