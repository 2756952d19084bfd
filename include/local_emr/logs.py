"""A step's logs: growing files here while it runs, compressed under the cluster's ``LogUri`` when it ends."""

from __future__ import annotations

import gzip
import logging
import os
import shutil
import uuid
from pathlib import Path

logger = logging.getLogger(__name__)

NAMES = ("stdout", "stderr", "controller")
TAIL_BYTES = 64 * 1024


def log_folder(log_uri: str, cluster_id: str, step_id: str) -> str:
    """Return the URI of a step's log folder, as EMR lays it out; ``log_uri`` is taken raw, never URL-decoded."""
    return f"{log_uri.rstrip('/')}/{cluster_id}/steps/{step_id}"


def tail(path: Path) -> str:
    """Return the end of a text file; empty when there is no such file."""
    if not path.exists():
        return ""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return stream.read().decode("utf-8", errors="replace")


def deliver(folder: Path, uri: str) -> None:
    """Copy a step's logs, compressed, to their place; when that cannot be done, say so and go on.

    Parameters
    ----------
    folder : Path
        Where the plain files are.
    uri : str
        ``file:///…`` or ``s3://bucket/…`` folder, as :func:`log_folder` returns it.
    """
    try:
        if uri.startswith("file:///"):
            _deliver_to_folder(folder, Path(uri.removeprefix("file://")))
        else:
            _deliver_to_s3(folder, uri)
    except OSError as error:
        # A lost log is no reason to lose the step: EMR too delivers logs on a best effort.
        logger.error("the logs of %s did not get to %s: %s", folder.name, uri, error)


def _deliver_to_folder(folder: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        temporary = target / f".{name}.{uuid.uuid4().hex}"
        with (folder / name).open("rb") as plain, gzip.open(temporary, "wb") as compressed:
            shutil.copyfileobj(plain, compressed)
        temporary.replace(target / f"{name}.gz")


def _deliver_to_s3(folder: Path, uri: str) -> None:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        logger.warning("logs stay in %s: %s needs AWS_ENDPOINT_URL_S3 (this endpoint never calls AWS)", folder, uri)
        return
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, key = uri.partition("://")[2].partition("/")
    # Named explicitly: AWS_IGNORE_CONFIGURED_ENDPOINT_URLS would send the request to AWS.
    client = boto3.client("s3", endpoint_url=endpoint, region_name=os.environ.get("AWS_REGION", "eu-west-3"))
    try:
        for name in NAMES:
            body = gzip.compress((folder / name).read_bytes())
            client.put_object(Bucket=bucket, Key=f"{key}/{name}.gz", Body=body)
    except (BotoCoreError, ClientError) as error:
        logger.error("the logs of %s did not get to %s: %s", folder.name, uri, error)
