"""The S3 clients of the lake's files: obstore with the address and the credentials of Airflow's connection."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from spark_jobs.lake.object_store import Bucket, make_store

if TYPE_CHECKING:
    from obstore.store import S3Credential
    from pyarrow import fs

LIFE = timedelta(minutes=10)
"""How long keys are declared valid. obstore asks again 5 minutes earlier, so the keys of a connection that changes are
in use 5 minutes later. Temporary keys are valid for 10 minutes or more, since botocore renews them before that."""

RETRY_SECONDS = 60
"""For how long a request is repeated while the store fails: pages of the UI wait for it, the jobs wait longer."""


def file_client(aws_conn_id: str | None) -> Any:
    """Return a boto3 client of S3 that has the region and the address of the clients of the lake's files."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    return S3Hook(aws_conn_id=aws_conn_id).conn


@cache
def open_bucket(name: str, aws_conn_id: str | None) -> Bucket:
    """Return the shared clients of a bucket.

    Parameters
    ----------
    name : str
        The bucket's name.
    aws_conn_id : str or None
        Airflow's connection for S3; None uses the credentials of the environment or of the instance.
    """
    meta = file_client(aws_conn_id).meta
    region, url = str(meta.region_name), str(meta.endpoint_url)
    endpoint = None if url == f"https://s3.{region}.amazonaws.com" else url

    def credentials() -> S3Credential:
        """Read the connection, and return its keys as they are now."""
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        found = S3Hook(aws_conn_id=aws_conn_id).get_session().get_credentials()
        if found is None:
            raise PermissionError(f"the connection {aws_conn_id!r} has no keys, nor have environment and instance")
        keys = found.get_frozen_credentials()
        return {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "token": keys.token,
            "expires_at": datetime.now(UTC) + LIFE,
        }

    def arrow() -> fs.S3FileSystem:
        from pyarrow import fs

        keys = credentials()
        return fs.S3FileSystem(
            access_key=keys["access_key_id"],
            secret_key=keys["secret_access_key"],
            session_token=keys["token"],
            region=region,
            endpoint_override=endpoint,
        )

    store = make_store(name, region, endpoint, credentials=credentials, retry_seconds=RETRY_SECONDS)
    return Bucket(store, arrow, lists_in_order=endpoint is None)
