"""URIs of files and folders: ``file:///absolute/path`` or ``s3://bucket/key``."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def is_local(uri: str) -> bool:
    """Return whether a URI is that of a file or folder of this machine."""
    return split(uri)[0] is None


def split(uri: str) -> tuple[str | None, str]:
    """Return the bucket and the key of a URI; None and the path for a file of this machine."""
    scheme, separator, rest = uri.partition("://")
    if separator and scheme == "file" and rest.startswith("/"):
        return None, rest.rstrip("/") or "/"
    if separator and scheme == "s3" and rest.strip("/"):
        bucket, _, key = rest.rstrip("/").partition("/")
        return bucket, key
    raise ValueError(f"{uri!r} is not a location: expected file:///absolute/path or s3://bucket/key")


def join(uri: str, *parts: str) -> str:
    """Return the URI of something under ``uri``."""
    return "/".join([uri.rstrip("/"), *parts])


def local_path(path: str) -> Path:
    """Return a path of this machine; the locale must not decide how its name is encoded."""
    return Path(os.fsdecode(path.encode("utf-8", "surrogateescape")))


def temporary_path(target: Path) -> Path:
    """Return a new, hidden name in the folder of a file, from which a rename to the file is atomic."""
    return target.with_name(f".{target.name}.{uuid.uuid4().hex}")
