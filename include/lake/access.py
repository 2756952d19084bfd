"""Whether Airflow may use the lake: tried before a cluster is paid for."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from botocore.exceptions import BotoCoreError, ClientError

from include.lake.layout import Lake
from include.lake.objects import delete_file, lake_path, write_bytes

PROBE = ".access"
"""Name of the file at the lake's root that is put there and deleted again."""

REFUSALS = (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError, ClientError)
"""What s3fs and folders answer when the same will be answered again."""


class AccessError(RuntimeError):
    """The lake does not answer; a retry may help."""


class AccessRefusedError(AccessError):
    """The lake is not there, or refuses what every run does; a retry cannot help."""


def check_access(lake: Lake, aws_conn_id: str | None) -> None:
    """Write a small file at the lake's root, list, read it and delete it.

    Parameters
    ----------
    lake : Lake
        The lake.
    aws_conn_id : str or None
        Airflow's connection for S3.

    Raises
    ------
    AccessRefusedError
        When the bucket is missing, the keys are wrong or a permission is; the message names bucket and operation.
    AccessError
        When the store does not answer.
    """
    token = uuid.uuid4().hex.encode()
    probe = lake_path(f"{lake.root}/{PROBE}", aws_conn_id)

    def read_back() -> None:
        if probe.read_bytes() != token:
            raise OSError(f"{probe} does not hold what was just written to it; does another run start right now?")

    _try(lake, "write to", lambda: write_bytes(probe, token))
    root = lake_path(lake.root, aws_conn_id)
    # Not iterdir: at the root of a bucket that goes through another client, which may remember an older listing.
    _try(lake, "list", lambda: root.fs.ls(root.path, detail=False))
    _try(lake, "read from", read_back)
    _try(lake, "delete from", lambda: delete_file(probe))


def _try(lake: Lake, what: str, action: Callable[[], object]) -> None:
    try:
        action()
    except (OSError, ClientError, BotoCoreError) as error:
        refused = isinstance(error, REFUSALS)
        kind = AccessRefusedError if refused else AccessError
        raise kind(
            f"cannot {what} {_place(lake)}: {type(error).__name__}: {str(error).rstrip('.')}. {_advice(lake)}"
        ) from error


def _place(lake: Lake) -> str:
    bucket, _, folder = lake.root.removeprefix("s3://").partition("/")
    if lake.root.startswith("s3://"):
        return f"the bucket {bucket!r}{f', folder {folder!r}' if folder else ''} (FRUITS_LAKE={lake.root})"
    return f"the folder of FRUITS_LAKE={lake.root}"


def _advice(lake: Lake) -> str:
    if lake.root.startswith("s3://"):
        return (
            "Expected an existing bucket, and s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject on it for "
            "the keys or the role that Airflow runs with"
        )
    return "Expected a folder that Airflow's user may write to"
