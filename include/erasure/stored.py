"""The files of the lake with all their versions. A folder has one version of a file; a bucket may keep old ones.

obstore lists no versions, so this module uses boto3. It deletes by version only: a plain deletion in a versioned bucket
keeps the bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from include.lake.buckets import file_client
from include.lake.garbage import is_temporary
from include.lake.layout import Lake
from include.lake.objects import LakePath
from spark_jobs.lake.storage import is_local, list_files, list_local_folder

AT_ONCE = 1000
"""Most versions that S3 deletes in one request (Amazon S3 API Reference, DeleteObjects)."""


@cache
def _client(aws_conn_id: str | None) -> Any:
    """Return the client of this process: creating one takes half a second. Its keys are renewed by botocore."""
    return file_client(aws_conn_id)


class DeletionError(RuntimeError):
    """The store refuses to delete a version."""


class Stored(NamedTuple):
    """A version of a file: its path relative to the lake's root, and on S3 its version's id."""

    path: str
    version: str | None = None
    is_current: bool = True
    is_marker: bool = False
    """Whether it only says that the file is deleted."""

    @property
    def is_temporary(self) -> bool:
        """Whether a killed writer has left it in a folder of this machine."""
        return self.version is None and is_temporary(self.path)


def list_stored(lake: Lake, prefix: str, aws_conn_id: str | None) -> Iterator[Stored]:
    """Yield all versions of the files of a folder, or of one file.

    Parameters
    ----------
    lake : Lake
        The lake.
    prefix : str
        A folder with a slash at its end, or a file, relative to the lake's root.
    aws_conn_id : str or None
        Airflow's connection for S3.
    """
    if is_local(lake.root):
        yield from _list_local(lake, prefix)
        return
    bucket, root = _place(lake)
    pages = _client(aws_conn_id).get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=root + prefix)
    for page in pages:
        for kind, is_marker in (("Versions", False), ("DeleteMarkers", True)):
            for item in page.get(kind, []):
                path = item["Key"].removeprefix(root)
                if path == prefix or prefix.endswith("/"):
                    yield Stored(path, item["VersionId"], item["IsLatest"], is_marker)


def _list_local(lake: Lake, prefix: str) -> Iterator[Stored]:
    if prefix.endswith("/"):
        for file in list_files(lake.absolute(prefix.rstrip("/"))):
            yield Stored(prefix + file.path)
        return
    if "/" not in prefix:  # a killed writer leaves a temporary file beside it
        for file in list_local_folder(lake.root):
            if file.path.startswith(f".{prefix}.") and is_temporary(file.path):
                yield Stored(file.path)
    if LakePath(lake.absolute(prefix)).size() is not None:
        yield Stored(prefix)


def read_stored(lake: Lake, file: Stored, aws_conn_id: str | None) -> bytes:
    """Return the bytes of a version.

    Raises
    ------
    FileNotFoundError
        If there is no such file in a folder.
    """
    if file.version is None:
        return LakePath(lake.absolute(file.path), aws_conn_id).read_bytes()
    bucket, root = _place(lake)
    client = _client(aws_conn_id)
    answer = client.get_object(Bucket=bucket, Key=root + file.path, VersionId=file.version)
    return bytes(answer["Body"].read())


def delete_stored(lake: Lake, files: Iterable[Stored], aws_conn_id: str | None) -> int:
    """Delete versions for good; return their number. A version that is gone already is no error.

    Raises
    ------
    DeletionError
        If the store refuses.
    """
    chosen = list(files)
    if is_local(lake.root):
        for file in chosen:
            path = Path(lake.absolute(file.path).removeprefix("file://"))
            with suppress(FileNotFoundError):
                path.unlink()
        return len(chosen)
    bucket, root = _place(lake)
    client = _client(aws_conn_id)
    for start in range(0, len(chosen), AT_ONCE):
        names = [{"Key": root + file.path, "VersionId": file.version} for file in chosen[start : start + AT_ONCE]]
        errors = client.delete_objects(Bucket=bucket, Delete={"Objects": names, "Quiet": True}).get("Errors", [])
        if errors:
            reason = f"{errors[0].get('Code')}: {errors[0].get('Message')}"
            raise DeletionError(
                f"{len(errors)} versions in {lake.root} cannot be deleted: {reason}. "
                "Expected s3:DeleteObjectVersion, which the policy in infra/erasure.yaml allows"
            )
    return len(chosen)


def _place(lake: Lake) -> tuple[str, str]:
    """Return the bucket of a lake, and the beginning of its keys."""
    bucket, _, folder = lake.root.removeprefix("s3://").partition("/")
    return bucket, f"{folder}/" if folder else ""
