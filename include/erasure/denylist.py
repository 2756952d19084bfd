"""The key of the lake's keyed hashes, and the denylist of erased photos."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from typing import cast

from include.lake.layout import Lake
from include.lake.objects import LakePath
from spark_jobs.lake.storage import StoreError, create, read_tagged, replace
from spark_jobs.records import DenylistRecord

KEY_BYTES = 32
"""Length of the key: that of the digest (RFC 2104, section 3)."""

TRIES = 10
"""How often the list is read and replaced, while other erasures replace it too."""


def ensure_key(lake: Lake, aws_conn_id: str | None) -> bytes:
    """Return the key of the lake's keyed hashes; the first erasure creates it with an empty denylist."""
    return bytes.fromhex(add_contents(lake, (), aws_conn_id)["key"])


def find_key(lake: Lake, aws_conn_id: str | None) -> bytes | None:
    """Return the key of the lake's keyed hashes, or None if nothing has ever been erased."""
    try:
        record = json.loads(LakePath(lake.denylist, aws_conn_id).read_bytes())
    except FileNotFoundError:
        return None
    return bytes.fromhex(cast(DenylistRecord, record)["key"])


def add_contents(lake: Lake, contents: Iterable[str], aws_conn_id: str | None) -> DenylistRecord:
    """Add keyed hashes of photos to the denylist, and return it. No entry is lost if several erasures do so at a time.

    Parameters
    ----------
    lake : Lake
        The lake.
    contents : iterable of str
        Keyed hashes of the photos' bytes.
    aws_conn_id : str or None
        Airflow's connection for S3.

    Raises
    ------
    StoreError
        If others replace the list again and again.
    """
    wanted, path = set(contents), LakePath(lake.denylist, aws_conn_id)
    for _ in range(TRIES):
        found = read_tagged(path.uri, path.buckets)
        if found is None:
            record: DenylistRecord = {"key": secrets.token_hex(KEY_BYTES), "contents": sorted(wanted)}
            is_written = create(path.uri, _encode(record), path.buckets)
        else:
            record = cast(DenylistRecord, json.loads(found[0]))
            if wanted <= set(record["contents"]):
                return record
            record = {"key": record["key"], "contents": sorted(wanted | set(record["contents"]))}
            is_written = replace(path.uri, _encode(record), found[1], path.buckets)
        if is_written:
            return record
    raise StoreError(f"{path} is replaced by others again and again: repeat the erasure")


def _encode(record: DenylistRecord) -> bytes:
    return (json.dumps(record, indent=2, sort_keys=True) + "\n").encode()
