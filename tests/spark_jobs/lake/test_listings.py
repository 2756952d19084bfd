"""Listings in the order of the paths' bytes, on every store and in constant memory."""

from __future__ import annotations

import dataclasses
import os
import tracemalloc
import uuid
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.s3_listing import Keys, ListingServer
from spark_jobs import external_sort
from spark_jobs.lake import listings, object_store, storage
from tests.s3_store import Store, use_environment

NAMES = ["a", "a-b", "a0", "a b", "a.b", "A", "é", "桃", "~", "zz"]
PATHS = st.lists(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join), min_size=1, max_size=15, unique=True
)


def without_folders(paths: Iterable[str]) -> list[str]:
    """The paths, except those that are folders of others: a folder of this machine cannot have both."""
    return [path for path in paths if not any(other.startswith(f"{path}/") for other in paths)]


def key_order(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


@pytest.fixture(autouse=True)
def few_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RECORDS_IN_MEMORY": 4, "BATCH": 2, "MOST_RUNS": 2}.items():
        monkeypatch.setattr(external_sort, name, value)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paths=PATHS)
def test_files_come_in_the_order_of_their_paths_bytes(lake: str, paths: list[str]) -> None:
    folder, expected = storage.join(lake, uuid.uuid4().hex), without_folders(paths)
    for path in expected:
        storage.write_bytes(storage.join(folder, path), path.encode())
    listed = list(storage.list_sorted(folder))
    assert [file.path for file in listed] == sorted(expected, key=key_order)
    assert listed == sorted(storage.list_files(folder), key=lambda file: key_order(file.path))


def test_names_that_are_not_utf_8_are_listed_by_their_bytes(tmp_path: Path) -> None:
    for name in (b"\x80", b"caf\xe9", "é".encode(), "\uffee".encode(), "😀".encode(), b"\xff"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    listed = [key_order(file.path) for file in storage.list_sorted(tmp_path.as_uri())]
    assert listed == [b"caf\xe9", b"\x80", "é".encode(), "\uffee".encode(), "😀".encode(), b"\xff"]


def test_a_listing_of_a_folder_has_no_links_to_folders_and_nothing_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "file").write_bytes(b"12")
    os.utime(tmp_path / "data" / "deep" / "file", ns=(0, 7_000_000))
    (tmp_path / "data" / "folder").symlink_to(tmp_path / "data" / "deep")
    (tmp_path / "data" / "link").symlink_to("deep/file")
    (tmp_path / "data" / "gone").symlink_to("nowhere")
    found = list(storage.list_sorted((tmp_path / "data").as_uri()))
    assert found == [("deep/file", 2, 7_000, None), ("link", 2, 7_000, None)]
    for nothing in ("none", "data/deep/file"):
        assert list(storage.list_files((tmp_path / nothing).as_uri())) == []


@pytest.mark.slow
def test_files_have_the_etags_of_the_store(store: Store, lake_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_environment(monkeypatch, store.url)
    for key in ("a", "b"):
        store.put(lake_bucket, f"data/{key}", key.encode())
    expected = [store.s3.head_object(Bucket=lake_bucket, Key=f"data/{key}")["ETag"].strip('"') for key in "ab"]
    assert [file.etag for file in storage.list_files(f"s3://{lake_bucket}/data")] == expected
    assert len(set(expected)) == 2


def in_order(name: str, url: str) -> object_store.Bucket:
    """A bucket that lists as S3 does, according to its declaration."""
    keys = {"access_key_id": "local", "secret_access_key": "local", "token": None, "expires_at": None}
    store = object_store.make_store(name, "eu-west-3", url, credentials=lambda: keys)  # type: ignore[arg-type, return-value]
    return object_store.Bucket(store, lambda: pytest.fail("pyarrow is not needed"), lists_in_order=True)


@pytest.mark.slow
def test_a_store_in_another_order_than_declared_is_an_error(store: Store, lake_bucket: str) -> None:
    for key in ("data/Apple/1.jpg", "data/Apple 2/1.jpg"):
        store.put(lake_bucket, key)
    with pytest.raises(storage.StoreError, match=r"/data is listed with Apple 2/1\.jpg after Apple/1\.jpg: expected"):
        list(storage.list_sorted(f"s3://{lake_bucket}/data", partial(in_order, url=store.url)))


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"not empty"])
def test_a_file_and_the_marker_of_a_folder_of_the_same_name_are_told_apart(
    bucket: Any, s3_server: str, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    for key in ("data/a", "data/a-b", "data/a/", "data/a0"):
        bucket.put_object(Key=key, Body=content if key == "data/a" else b"")
    listed = storage.list_sorted(f"s3://{bucket.name}/data", partial(in_order, url=s3_server))
    assert [(file.path, file.size) for file in listed] == [("a", len(content)), ("a-b", 0), ("a/", 0), ("a0", 0)]
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server)
    listed = storage.list_sorted(f"s3://{bucket.name}/data")
    assert [(file.path, file.size) for file in listed] == [("a", len(content)), ("a-b", 0), ("a0", 0)]


def test_only_the_listing_of_aws_is_declared_to_be_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    assert object_store.open_bucket("lake").lists_in_order
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    assert not object_store.open_bucket("lake").lists_in_order


@pytest.mark.slow
@pytest.mark.parametrize("ordered", [True, False], ids=["passed on", "sorted"])
def test_a_listing_of_any_length_takes_constant_memory(monkeypatch: pytest.MonkeyPatch, ordered: bool) -> None:
    monkeypatch.setattr(external_sort, "RECORDS_IN_MEMORY", 1_000)
    monkeypatch.setattr(external_sort, "BATCH", 100)
    keys = Keys(12_000)
    with ListingServer(len(keys)) as server:
        bucket = dataclasses.replace(in_order("many", server.url), lists_in_order=ordered)
        tracemalloc.start()
        try:
            for number, file in enumerate(storage.list_sorted("s3://many/data", lambda _: bucket)):
                assert file.path == keys[number].removeprefix("data/")
                if ordered and number == 4_000:
                    assert server.requests()["GET"] <= 6, "nothing is listed before it is needed"
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert number == len(keys) - 1
    assert peak < 2.5 * 2**20, "all of them take 3.8 MB"


def test_a_listing_in_order_writes_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def files(_uri: str, _buckets: object) -> Iterator[storage.StoredFile]:
        for number in range(100):
            yield storage.StoredFile(f"{number:03}", 1, 0, None)

    monkeypatch.setattr(listings, "list_files", files)
    monkeypatch.setattr(external_sort.tempfile, "TemporaryFile", lambda: pytest.fail("a file was written"))
    bucket = object_store.Bucket(None, lambda: None, lists_in_order=True)  # type: ignore[arg-type, return-value]
    assert len(list(listings.list_sorted("s3://lake/data", lambda _: bucket))) == 100
