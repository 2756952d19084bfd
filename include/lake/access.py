"""Check of Airflow's access to the lake, before a run pays for a cluster."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from botocore.exceptions import BotoCoreError

from include.lake.layout import Lake
from include.lake.objects import LakePath, delete_file, write_bytes

PROBE = ".access"
"""Name of the temporary file that the check writes at the lake's root and deletes again."""

REFUSALS = (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError)
"""Errors that a retry would repeat."""


class AccessError(RuntimeError):
    """The lake does not answer. A retry may help."""


class AccessRefusedError(AccessError):
    """The lake does not exist, or refuses an operation that every run needs. A retry cannot help."""


def check_access(lake: Lake, aws_conn_id: str | None) -> None:
    """Write a small file at the lake's root, list the root, read the file and delete it.

    Parameters
    ----------
    lake : Lake
        The lake.
    aws_conn_id : str or None
        Airflow's connection for S3.

    Raises
    ------
    AccessRefusedError
        If the bucket does not exist, the keys are wrong or a permission is missing. The message names the bucket and
        the operation.
    AccessError
        If the store does not answer.
    """
    token = uuid.uuid4().hex.encode()
    probe = LakePath(f"{lake.root}/{PROBE}", aws_conn_id)

    def read_back() -> None:
        if probe.read_bytes() != token:
            raise OSError(f"{probe} does not contain what was just written to it; is another run starting now?")

    _attempt(lake, "write to", lambda: write_bytes(probe, token))
    root = LakePath(lake.root, aws_conn_id)
    _attempt(lake, "list", root.names)
    _attempt(lake, "read from", read_back)
    _attempt(lake, "delete from", lambda: delete_file(probe))


def _attempt(lake: Lake, operation: str, action: Callable[[], object]) -> None:
    try:
        action()
    except (OSError, BotoCoreError) as error:  # BotoCoreError: the connection has no keys
        kind = AccessRefusedError if isinstance(error, REFUSALS) else AccessError
        location, expected = _describe(lake)
        reason = f"{type(error).__name__}: {str(error).rstrip('.')}"
        raise kind(f"cannot {operation} {location}: {reason}. Expected {expected}") from error


def _describe(lake: Lake) -> tuple[str, str]:
    """Return the lake's location, and what a run needs there."""
    if not lake.root.startswith("s3://"):
        return f"the folder FRUITS_LAKE={lake.root}", "a folder that Airflow's user may write to"
    bucket, _, folder = lake.root.removeprefix("s3://").partition("/")
    location = f"the bucket {bucket!r}{f', folder {folder!r}' if folder else ''} (FRUITS_LAKE={lake.root})"
    actions = "s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject"
    return location, f"an existing bucket, and {actions} on it for the keys or the role that Airflow uses"
