"""Abandoned multipart uploads: S3 keeps and bills their parts, although no listing of objects shows them."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from botocore.exceptions import BotoCoreError, ClientError

from include.lake.layout import Lake
from include.settings.deployment import Settings

log = logging.getLogger(__name__)

STALE = timedelta(days=1)
"""Age after which an upload is abandoned: no step may run that long."""


def abort_uploads(
    lake: Lake, folder: str, settings: Settings, *, names: str = "", older_than: timedelta | None = None
) -> int:
    """Abort the unfinished uploads under a folder of the lake; a lake in a folder has none.

    A refusal is logged as a warning and does not fail the run: the bucket's lifecycle rule
    (``AbortIncompleteMultipartUpload``) aborts the uploads later.

    Parameters
    ----------
    lake : Lake
        The lake.
    folder : str
        URI of a folder in the lake.
    settings : Settings
        The deployment settings.
    names : str
        How the names in the folder begin; by default all are meant.
    older_than : timedelta, optional
        Skip younger uploads, which may still be in progress.

    Returns
    -------
    int
        Number of aborted uploads.
    """
    if not lake.root.startswith("s3://"):
        return 0
    try:
        aborted = _abort(f"{folder.rstrip('/')}/{names}", settings, datetime.now(UTC) - (older_than or timedelta(0)))
    except (BotoCoreError, ClientError) as error:
        log.warning("Unfinished uploads under %s could not be aborted: %s", folder, error)
        return 0
    if aborted:
        log.info("Aborted %d unfinished uploads of killed processes under %s", aborted, folder)
    return aborted


def _abort(prefix: str, settings: Settings, before: datetime) -> int:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    client = S3Hook(aws_conn_id=settings.aws_conn_id, region_name=settings.region).conn
    bucket, _, key = prefix.removeprefix("s3://").partition("/")
    # List all pages first: an abort in between would shift the next page.
    pages = list(client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=key))
    uploads = [upload for page in pages for upload in page.get("Uploads", []) if upload["Initiated"] <= before]
    for upload in uploads:
        client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    return len(uploads)
