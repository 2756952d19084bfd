"""Whether Airflow may use the lake: what is refused is named before a cluster is paid for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from include.lake.access import PROBE, AccessError, AccessRefusedError, check_access
from include.lake.layout import Lake
from local.s3.process import free_ports
from tests.s3_store import Store, connection


def refusal(lake: str, conn_id: str | None) -> str:
    """Return the message with which a lake is refused: no retry can help."""
    with pytest.raises(AccessRefusedError) as refused:
        check_access(Lake(lake), conn_id)
    return str(refused.value)


@pytest.mark.parametrize("who", ["local", "worker"])
@pytest.mark.parametrize("folder", ["", "/deep/folder #1 é%20+"])
def test_good_lake_passes_and_is_left_as_it_was(
    store: Store, lake_bucket: str, monkeypatch: pytest.MonkeyPatch, who: str, folder: str
) -> None:
    """Whether its folder is there already or not: on S3, folders come with the first object."""
    store.put(lake_bucket, "data/Kiwi/1.jpg")
    for _ in range(2):
        check_access(Lake(f"s3://{lake_bucket}{folder}"), store.connection(monkeypatch, who))
    assert store.keys(lake_bucket) == {"data/Kiwi/1.jpg"}


def test_keys_that_may_only_read(store: Store, lake_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = refusal(f"s3://{lake_bucket}/a/b", store.connection(monkeypatch, "reader"))
    assert told.startswith(
        f"cannot write to the bucket '{lake_bucket}', folder 'a/b' (FRUITS_LAKE=s3://{lake_bucket}/a/b)"
    )
    assert "PermissionError: Access Denied" in told
    assert told.endswith(
        "s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject on it for the keys or the role that Airflow uses"
    )
    assert store.keys(lake_bucket) == set()


@pytest.mark.parametrize(
    ("key", "secret", "cause"),
    [
        ("stranger", "stranger", "The access key ID you provided does not exist in our records"),
        ("worker", "wrong", "The request signature we calculated does not match the signature you provided"),
    ],
)
def test_wrong_keys(
    store: Store, lake_bucket: str, monkeypatch: pytest.MonkeyPatch, key: str, secret: str, cause: str
) -> None:
    told = refusal(f"s3://{lake_bucket}", store.connection(monkeypatch, key, secret))
    assert told.startswith(f"cannot write to the bucket '{lake_bucket}' (FRUITS_LAKE=s3://{lake_bucket}): ")
    assert cause in told


def test_missing_bucket(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    told = refusal("s3://friuts", store.connection(monkeypatch, "local"))
    assert told.startswith("cannot write to the bucket 'friuts' (FRUITS_LAKE=s3://friuts): FileNotFoundError: ")
    assert "The specified bucket does not exist" in told
    assert "Expected an existing bucket" in told
    assert "friuts" not in [bucket["Name"] for bucket in store.s3.list_buckets()["Buckets"]]


@pytest.mark.parametrize(
    ("action", "operation"),
    [("s3:ListBucket", "list"), ("s3:GetObject", "read from"), ("s3:DeleteObject", "delete from")],
)
def test_single_permission_that_is_missing(
    store: Store, lake_bucket: str, monkeypatch: pytest.MonkeyPatch, action: str, operation: str
) -> None:
    store.put(lake_bucket, "object")
    attempts = {
        "s3:ListBucket": lambda: store.s3.list_objects_v2(Bucket=lake_bucket),
        "s3:GetObject": lambda: store.read(lake_bucket, "object"),
        "s3:DeleteObject": lambda: store.delete_nothing(lake_bucket),
    }
    store.deny(lake_bucket, action, attempts[action])
    told = refusal(f"s3://{lake_bucket}", store.connection(monkeypatch, "worker"))
    assert told.startswith(f"cannot {operation} the bucket '{lake_bucket}' (FRUITS_LAKE=s3://{lake_bucket}): ")
    assert "PermissionError: Access Denied" in told


def test_store_that_does_not_answer_may_do_so_later(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    conn_id = connection(monkeypatch, url, "local", config_kwargs={"retries": {"max_attempts": 0}})
    with pytest.raises(
        AccessError, match=r"cannot write to the bucket 'fruits'.*Could not connect to the endpoint"
    ) as it:
        check_access(Lake("s3://fruits"), conn_id)
    assert not isinstance(it.value, AccessRefusedError)
    assert url in str(it.value)


def test_folder_passes_and_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    check_access(Lake(f"file://{tmp_path}"), None)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_folder_that_is_not_there_yet_is_made(tmp_path: Path) -> None:
    check_access(Lake(f"file://{tmp_path}/new/lake 100%"), None)
    assert list((tmp_path / "new" / "lake 100%").iterdir()) == []


def test_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("mine")
    told = refusal(f"file://{tmp_path}/lake", None)
    assert re.match(rf"cannot write to the folder FRUITS_LAKE=file://{tmp_path}/lake: \w+Error: ", told)
    assert told.endswith("Expected a folder that Airflow's user may write to")
    assert (tmp_path / "lake").read_text() == "mine"


def test_another_run_that_starts_right_now_is_suspected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from include.lake import access

    monkeypatch.setattr(access, "write_bytes", lambda path, data: (tmp_path / PROBE).write_bytes(b"somebody else's"))
    with pytest.raises(AccessError, match=r"does not contain what was just written.*another run") as it:
        check_access(Lake(f"file://{tmp_path}"), None)
    assert not isinstance(it.value, AccessRefusedError), "a retry helps"
