"""The lake's S3 clients use the connection as it is now: changed and renewed keys need no new process."""

from __future__ import annotations

import json

import pytest
from botocore.credentials import RefreshableCredentials

from include.lake import buckets
from include.lake.objects import LakePath, write_bytes
from tests.s3_store import Store, await_true, connection

pytestmark = pytest.mark.slow


def may_read(path: LakePath) -> bool:
    try:
        return path.read_bytes() == b"x"
    except PermissionError:
        return False


def test_keys_of_a_connection_that_change_are_used_by_the_clients_of_a_running_process(
    store: Store, lake_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "LIFE", buckets.LIFE * 0)
    store.put(lake_bucket, "key", b"x")
    conn_id = store.connection(monkeypatch, "worker", "expired")
    path = LakePath(f"s3://{lake_bucket}/key", conn_id)
    opened = path.buckets(lake_bucket)
    with pytest.raises(PermissionError, match="signature"):
        path.read_bytes()
    connection(monkeypatch, store.url, "reader", conn_id=conn_id)
    await_true(lambda: may_read(path), "the new keys are used")
    with pytest.raises(PermissionError, match="Access Denied"):
        write_bytes(path, b"new")
    assert path.buckets(lake_bucket) is opened
    assert store.read(lake_bucket, "key") == b"x"


def test_without_keys_the_connection_is_named(store: Store, lake_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    record = {"conn_type": "aws", "extra": {"endpoint_url": store.url, "region_name": "eu-west-3"}}
    monkeypatch.setenv("AIRFLOW_CONN_NO_KEYS", json.dumps(record))
    with pytest.raises(PermissionError, match="the connection 'no_keys' has no keys"):
        LakePath(f"s3://{lake_bucket}/key", "no_keys").read_bytes()


def test_temporary_keys_are_asked_for_again_before_they_expire() -> None:
    """botocore renews keys that expire in less than this time, so those that it returns are valid for longer."""
    assert buckets.LIFE.total_seconds() <= RefreshableCredentials._mandatory_refresh_timeout


def test_airflow_and_the_jobs_address_a_store_other_than_aws_in_the_same_way(
    store: Store, lake_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn_id = store.connection(monkeypatch, "worker")
    for key in ("a/%20#+ é", "ends with #", "%", "a+b/c d"):
        write_bytes(LakePath(f"s3://{lake_bucket}/{key}", conn_id), key.encode())
        assert store.read(lake_bucket, key) == key.encode()
        assert LakePath(f"s3://{lake_bucket}/{key}", conn_id).size() == len(key.encode())
    assert LakePath(f"s3://{lake_bucket}", conn_id).names() == ["%", "a", "a+b", "ends with #"]
