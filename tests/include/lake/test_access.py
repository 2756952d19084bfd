"""A lake that Airflow cannot use is refused, with the bucket and the operation, before a run pays for a cluster."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from include.lake.access import PROBE, AccessError, AccessRefusedError, check_access
from include.lake.layout import Lake
from local.processes.ports import free_ports
from spark_jobs.lake import object_store
from tests.s3_store import Store, connection


def refusal(lake: str, conn_id: str | None) -> str:
    """Return the message of the error that says that a retry cannot help."""
    with pytest.raises(AccessRefusedError) as refused:
        check_access(Lake(lake), conn_id)
    return str(refused.value)


@pytest.mark.slow
def test_usable_lake_is_left_unchanged(store: Store, lake_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not its folder exists: on S3, a folder exists as soon as it has an object."""
    store.put(lake_bucket, "data/Kiwi/1.jpg")
    for who in ("local", "worker"):
        for folder in ("", "/deep/folder #1 é%20+"):
            check_access(Lake(f"s3://{lake_bucket}{folder}"), store.connection(monkeypatch, who))
    assert store.keys(lake_bucket) == {"data/Kiwi/1.jpg"}


@pytest.mark.slow
def test_keys_that_may_only_read(store: Store, lake_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    message = refusal(f"s3://{lake_bucket}/a/b", store.connection(monkeypatch, "reader"))
    assert message.startswith(
        f"cannot write to the bucket '{lake_bucket}', folder 'a/b' (FRUITS_LAKE=s3://{lake_bucket}/a/b)"
    )
    assert f"PermissionError: s3://{lake_bucket}/a/b/.access: Access Denied" in message
    assert message.endswith(
        "s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject on it for the keys or the role that Airflow uses"
    )
    assert store.keys(lake_bucket) == set()


@pytest.mark.slow
def test_wrong_keys(store: Store, lake_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, secret, cause in [
        ("stranger", "stranger", "The access key ID you provided does not exist in our records"),
        ("worker", "wrong", "The request signature we calculated does not match the signature you provided"),
    ]:
        message = refusal(f"s3://{lake_bucket}", store.connection(monkeypatch, key, secret))
        assert message.startswith(f"cannot write to the bucket '{lake_bucket}' (FRUITS_LAKE=s3://{lake_bucket}): ")
        assert cause in message


@pytest.mark.slow
def test_missing_bucket(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    message = refusal("s3://friuts", store.connection(monkeypatch, "local"))
    assert message.startswith("cannot write to the bucket 'friuts' (FRUITS_LAKE=s3://friuts): FileNotFoundError: ")
    assert "The specified bucket does not exist" in message
    assert "Expected an existing bucket" in message
    assert "friuts" not in [bucket["Name"] for bucket in store.s3.list_buckets()["Buckets"]]


@pytest.mark.slow
def test_each_missing_permission_is_named(store: Store, lake_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(lake_bucket, "object")
    for action, operation, attempt in [
        ("s3:ListBucket", "list", lambda: store.s3.list_objects_v2(Bucket=lake_bucket)),
        ("s3:GetObject", "read from", lambda: store.read(lake_bucket, "object")),
        ("s3:DeleteObject", "delete from", lambda: store.delete_nothing(lake_bucket)),
    ]:
        store.deny(lake_bucket, action, attempt)
        message = refusal(f"s3://{lake_bucket}", store.connection(monkeypatch, "worker"))
        assert message.startswith(f"cannot {operation} the bucket '{lake_bucket}' (FRUITS_LAKE=s3://{lake_bucket}): ")
        assert re.search(r"PermissionError: s3://\S+: Access Denied", message)
        store.allow(lake_bucket, attempt)


def test_store_that_does_not_answer_may_be_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    conn_id = connection(monkeypatch, url, "local")
    monkeypatch.setattr(object_store, "RETRIES", 0)
    with pytest.raises(AccessError, match=r"cannot write to the bucket 'fruits'.*error sending request") as it:
        check_access(Lake("s3://fruits"), conn_id)
    assert not isinstance(it.value, AccessRefusedError)
    assert url in str(it.value)


def test_usable_folder_is_created_if_needed_and_left_unchanged(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    check_access(Lake(f"file://{tmp_path}"), None)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    check_access(Lake(f"file://{tmp_path}/new/lake 100%"), None)
    assert list((tmp_path / "new" / "lake 100%").iterdir()) == []


def test_file_with_the_name_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("mine")
    message = refusal(f"file://{tmp_path}/lake", None)
    assert re.match(rf"cannot write to the folder FRUITS_LAKE=file://{tmp_path}/lake: \w+Error: ", message)
    assert message.endswith("Expected a folder that Airflow's user may write to")
    assert (tmp_path / "lake").read_text() == "mine"


def test_probe_that_another_run_overwrites_may_be_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from include.lake import access

    monkeypatch.setattr(access, "write_bytes", lambda path, data: (tmp_path / PROBE).write_bytes(b"somebody else's"))
    with pytest.raises(AccessError, match=r"does not contain what was just written.*another run") as it:
        check_access(Lake(f"file://{tmp_path}"), None)
    assert not isinstance(it.value, AccessRefusedError), "a retry helps"
