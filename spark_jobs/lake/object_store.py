"""The S3 clients of a process, one per bucket: connections stay open from one file to the next."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Final

from pyarrow import fs

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Store

RETRIES: Final = 15
RETRY_SECONDS: Final = 180
BACKOFF_BASE: Final = 3
"""How often, and for how long, a request is repeated while the store fails. A pause is drawn from 0.1 s to the base
times the last pause, at most 15 s. With object_store's default base of 2 the pauses hardly grow: 10 retries took 2.2 s,
which is too short for a bucket that S3 is scaling. After that the task fails, and Spark repeats it."""

REQUEST_SECONDS: Final = 120
CONNECT_SECONDS: Final = 10


@cache
def open_bucket(bucket: str, endpoint: str | None) -> tuple[S3Store, fs.S3FileSystem]:
    """Return the shared clients of a bucket: obstore's, and pyarrow's for keys that object_store refuses.

    Parameters
    ----------
    bucket : str
        The bucket's name.
    endpoint : str or None
        URL of an S3 store other than AWS.
    """
    from obstore.store import S3Store

    other = fs.S3FileSystem(endpoint_override=endpoint)
    # object_store reads the region neither from the machine nor from the profile. A bucket whose name has dots does not
    # fit a certificate as a part of the host's name.
    by_host = not endpoint and "." not in bucket
    config: S3Config = {"region": other.region, "virtual_hosted_style_request": by_host}
    if endpoint:
        config["endpoint"] = endpoint
    store = S3Store(
        bucket,
        config=config,
        client_options={
            "allow_http": bool(endpoint),
            "timeout": f"{REQUEST_SECONDS}s",
            "connect_timeout": f"{CONNECT_SECONDS}s",
        },
        retry_config={
            "max_retries": RETRIES,
            "retry_timeout": timedelta(seconds=RETRY_SECONDS),
            "backoff": {"base": BACKOFF_BASE},
        },
    )
    return store, other
