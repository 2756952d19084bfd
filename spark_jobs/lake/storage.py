"""Access to files by URI through pyarrow's file systems: the operations that the jobs need."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from spark_jobs.lake.object_store import open_bucket


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

    The content is collected in a file of this machine: beside the target in a folder, which is then renamed; in the
    folder of temporary files for S3, which is then uploaded. pyarrow's stream to S3 cannot be used: whenever it is
    closed, also after an error, it completes the upload of what was written so far.

    Yields
    ------
    NativeFile
        The stream to write to. If the block raises, the target is unchanged.
    """
    filesystem, path = locate(uri)
    parent, _, name = path.rpartition("/")
    local = isinstance(filesystem, fs.LocalFileSystem)
    if local:
        filesystem.create_dir(parent)
    collected = f"{parent if local else tempfile.gettempdir()}/.{name}.{uuid.uuid4().hex}"
    try:
        with fs.LocalFileSystem().open_output_stream(collected) as stream:
            yield stream
        if local:
            filesystem.move(collected, path)
        else:
            _upload(Path(collected), path)
    finally:
        with suppress(FileNotFoundError):
            fs.LocalFileSystem().delete_file(collected)


def _upload(source: Path, path: str) -> None:
    """Upload a file; an upload that fails is aborted and never completed."""
    import obstore

    bucket, _, key = path.partition("/")
    store, _ = open_bucket(bucket, os.environ.get("AWS_ENDPOINT_URL_S3"))
    obstore.put(store, key, source)


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
