"""The S3 clients of a process, one per bucket: connections stay open from one file to the next."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Credential, S3Store
    from pyarrow import fs

RETRIES: Final = 15
RETRY_SECONDS: Final = 180
BACKOFF_BASE: Final = 3
"""How often, and for how long, a request is repeated while the store fails. A pause is drawn from 0.1 s to the base
times the last pause, at most 15 s. With object_store's default base of 2 the pauses hardly grow: 10 retries took 2.2 s,
which is too short for a bucket that S3 is scaling. After that the task fails, and Spark or Airflow repeats it."""

REQUEST_SECONDS: Final = 120
CONNECT_SECONDS: Final = 10


@dataclass(frozen=True)
class Bucket:
    """The clients of a bucket.

    Attributes
    ----------
    store : S3Store
        obstore's client.
    arrow : callable
        Returns pyarrow's client, for keys that object_store cannot address.
    lists_in_order : bool
        Whether the store lists in the order of the keys' UTF-8 bytes, as S3 does. SeaweedFS does not.
    """

    store: S3Store
    arrow: Callable[[], fs.S3FileSystem]
    lists_in_order: bool = False


OpenBucket: TypeAlias = Callable[[str], Bucket]
"""From the name of a bucket to its clients."""


_opener: OpenBucket | None = None


def open_bucket(name: str) -> Bucket:
    """Return the shared clients of a bucket, with the credentials of the environment or of the instance."""
    if _opener is not None:
        return _opener(name)
    return _open_bucket(name, os.environ.get("AWS_ENDPOINT_URL_S3"))


@contextmanager
def opened_by(buckets: OpenBucket) -> Iterator[None]:
    """Let the jobs' code in this process open buckets in another way, such as by a connection of Airflow.

    Parameters
    ----------
    buckets : callable
        Opens buckets while the block runs.
    """
    global _opener
    before, _opener = _opener, buckets
    try:
        yield
    finally:
        _opener = before


@cache
def _open_bucket(name: str, endpoint: str | None) -> Bucket:
    from pyarrow import fs

    # object_store reads the region neither from the machine nor from the profile; pyarrow does.
    other = fs.S3FileSystem(endpoint_override=endpoint)
    return Bucket(make_store(name, other.region, endpoint), lambda: other, lists_in_order=endpoint is None)


def make_store(
    bucket: str,
    region: str,
    endpoint: str | None,
    *,
    credentials: Callable[[], S3Credential] | None = None,
    retry_seconds: int = RETRY_SECONDS,
) -> S3Store:
    """Return a new client of a bucket.

    Parameters
    ----------
    bucket : str
        The bucket's name.
    region : str
        Its region.
    endpoint : str or None
        URL of an S3 store other than AWS.
    credentials : callable, optional
        Returns keys and their time of expiry, and is called again shortly before this time. By default, the client
        searches the environment, then the container, then the instance.
    retry_seconds : int
        For how long a request is repeated while the store fails.
    """
    from obstore.store import S3Store

    # A bucket whose name has dots does not fit a certificate as a part of the host's name.
    by_host = not endpoint and "." not in bucket
    config: S3Config = {
        "region": region,
        "virtual_hosted_style_request": by_host,
        "disable_bulk_delete": True,  # SeaweedFS answers bulk deletions that its policy refuses as if they were done
    }
    if endpoint:
        config["endpoint"] = endpoint
    return S3Store(
        bucket,
        config=config,
        client_options={
            "allow_http": bool(endpoint),
            "timeout": f"{REQUEST_SECONDS}s",
            "connect_timeout": f"{CONNECT_SECONDS}s",
        },
        retry_config={
            "max_retries": RETRIES,
            "retry_timeout": timedelta(seconds=retry_seconds),
            "backoff": {"base": BACKOFF_BASE},
        },
        credential_provider=credentials,
    )
