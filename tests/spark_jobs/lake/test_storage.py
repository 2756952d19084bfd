"""Files are written whole or not at all; what may be gone already is deleted."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.s3_listing import ListingServer
from spark_jobs.lake import object_store, storage
from tests.s3_store import Store, use_environment

Observer: TypeAlias = Callable[[], dict[str, bytes]]


@pytest.mark.parametrize("kind", ["nothing", "file", "folder"])
def test_delete_is_idempotent(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    if kind == "file":
        target.write_text("x")
    elif kind == "folder":
        (target / "deep").mkdir(parents=True)
        (target / "deep" / "file").write_text("x")
    storage.delete(target.as_uri())
    storage.delete(target.as_uri())
    assert not target.exists()
    assert tmp_path.exists()


@pytest.fixture(params=["folder", "bucket"])
def target(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a file in a folder or on S3; temporary files go to a folder of the test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    if request.param == "folder":
        return f"file://{tmp_path}/lake/part.parquet"
    store: Store = request.getfixturevalue("store")
    use_environment(monkeypatch, store.url)
    return f"s3://{request.getfixturevalue('lake_bucket')}/lake/part.parquet"


@pytest.mark.slow
def test_a_parquet_file_whose_writer_fails_is_not_there_and_the_old_one_is_kept(target: str, tmp_path: Path) -> None:
    """The end of pyarrow's writer makes what it has written a valid but short file."""
    rows = pa.table({"x": list(range(2_000_000))})  # more than S3's smallest part of 5 MiB

    def write(fail: bool) -> None:
        with storage.writing(target) as stream, pq.ParquetWriter(stream, rows.schema, compression="none") as writer:
            writer.write_table(rows)
            if fail:
                raise RuntimeError("interrupted")
            writer.write_table(rows)

    with pytest.raises(RuntimeError, match="interrupted"):
        write(fail=True)
    assert not storage.exists(target)
    write(fail=False)
    with pytest.raises(RuntimeError, match="interrupted"):
        write(fail=True)
    assert pq.read_metadata(io.BytesIO(storage.read_bytes(target))).num_rows == 4_000_000
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.slow
def test_a_late_attempt_that_fails_keeps_the_file_of_its_successor(target: str) -> None:
    def write_late() -> None:
        with storage.writing(target) as stream:
            stream.write(b"x" * 6 * 2**20)
            storage.write_bytes(target, b"of the successor")
            raise RuntimeError("late")

    with pytest.raises(RuntimeError, match="late"):
        write_late()
    assert storage.read_bytes(target) == b"of the successor"


ODD_KEYS = ["a é/50 %#+/x", "%20", "a+b", "ends with #", "=&?*[1]{x}~", "a b/c"]


@pytest.fixture(params=["folder", "bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Observer]:
    """The URI of an empty folder in a folder or on S3, and what another program finds there."""
    if request.param == "folder":
        folder = tmp_path / "lake é"

        def files() -> dict[str, bytes]:
            found = [path for path in folder.rglob("*") if path.is_file()]
            return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}

        return f"file://{folder}", files
    store: Store = request.getfixturevalue("store")
    use_environment(monkeypatch, store.url)
    bucket = request.getfixturevalue("lake_bucket")

    def objects() -> dict[str, bytes]:
        return {key.removeprefix("lake é/"): store.read(bucket, key) for key in store.keys(bucket)}

    return f"s3://{bucket}/lake é", objects


@pytest.mark.slow
def test_files_are_written_read_listed_and_deleted_under_exactly_their_names(root: tuple[str, Observer]) -> None:
    uri, files = root
    assert (storage.exists(uri), storage.names(uri), storage.folder_bytes(uri)) == (False, [], 0)
    for key in ODD_KEYS:
        storage.write_bytes(storage.join(uri, key), key.encode())
    assert files() == {key: key.encode() for key in ODD_KEYS}
    assert storage.names(uri) == sorted({key.partition("/")[0] for key in ODD_KEYS})
    assert storage.folder_bytes(uri) == sum(len(key.encode()) for key in ODD_KEYS)
    for key in ODD_KEYS:
        file = storage.join(uri, key)
        assert (storage.read_bytes(file), storage.size(file)) == (key.encode(), len(key.encode()))
    assert storage.size(storage.join(uri, "a b")) is None, "a folder has no size"
    assert [storage.is_folder(storage.join(uri, name)) for name in ("a b", "a+b", "none")] == [True, False, False]
    storage.delete_file(storage.join(uri, "ends with #"))
    storage.delete(storage.join(uri, "a é"))
    storage.delete(storage.join(uri, "a"))
    assert files() == {key: key.encode() for key in ["%20", "a+b", "=&?*[1]{x}~", "a b/c"]}
    storage.delete(uri)
    assert files() == {}


@pytest.mark.slow
def test_a_file_is_read_at_any_place(root: tuple[str, Observer]) -> None:
    uri, content = f"{root[0]}/file", bytes(range(256)) * 100
    storage.write_bytes(uri, content)
    with storage.open_file(uri) as stream:
        for begin, length in [(0, 4), (25_000, 600), (25_599, 1), (25_600, 5), (30_000, 1), (7, 0), (10, -1)]:
            assert stream.seek(begin) == begin
            data = stream.read(length)
            assert data == (content[begin:] if length < 0 else content[begin : begin + length])
            assert stream.tell() == begin + len(data)
        assert stream.seek(-10, 2) == len(content) - 10
        assert stream.read() == content[-10:]
    with pytest.raises(FileNotFoundError, match="none"):
        storage.open_file(f"{root[0]}/none")
    with pytest.raises(FileNotFoundError, match="none"):
        storage.read_bytes(f"{root[0]}/none")


@pytest.mark.slow
def test_a_parquet_file_is_read_from_its_footer(root: tuple[str, Observer]) -> None:
    table = pa.table({"label": ["a", "b"] * 5_000, "number": range(10_000)})
    uri = f"{root[0]}/part.parquet"
    with storage.writing(uri) as stream:
        pq.write_table(table, stream, row_group_size=1_000)
    with storage.open_file(uri) as stream:
        file = pq.ParquetFile(stream)
        assert file.metadata.num_row_groups == 10
        assert file.read_row_group(3, columns=["number"]).equals(table.slice(3_000, 1_000).select(["number"]))


@pytest.mark.slow
def test_versions_of_an_object_are_not_mixed(store: Store, lake_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_environment(monkeypatch, store.url)
    store.put(lake_bucket, "key", b"old old")
    with storage.open_file(f"s3://{lake_bucket}/key") as stream:
        assert stream.read(3) == b"old"
        store.put(lake_bucket, "key", b"new new")
        with pytest.raises(OSError, match=f"s3://{lake_bucket}/key: .*pre-conditions"):
            stream.read()


@pytest.mark.slow
def test_an_upload_that_the_store_breaks_off_is_aborted(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.s3.models import S3Backend

    upload_part, sent = S3Backend.upload_part, []

    def fail_second(self: Any, bucket_name: str, multipart_id: str, part_id: int, value: bytes) -> Any:
        sent.append(part_id)
        if part_id == 2:
            raise OSError("no space left")
        return upload_part(self, bucket_name, multipart_id, part_id, value)

    monkeypatch.setattr(S3Backend, "upload_part", fail_second)
    monkeypatch.setattr(object_store, "RETRIES", 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", bucket.meta.client.meta.endpoint_url)
    bucket.put_object(Key="old", Body=b"old")
    for key in ("old", "new"):
        with pytest.raises(storage.StoreError, match=f"/{key}: "):
            storage.write_bytes(f"s3://{bucket.name}/{key}", b"x" * 12 * 2**20)
    assert {1, 2} <= set(sent)
    assert {item.key: item.get()["Body"].read() for item in bucket.objects.all()} == {"old": b"old"}
    assert list(bucket.multipart_uploads.all()) == [], "S3 bills the parts of unfinished uploads"


@pytest.mark.slow
def test_files_are_listed_in_the_order_of_the_store_with_size_time_and_etag(bucket: Any, s3_server: str) -> None:
    def open_bucket(name: str) -> object_store.Bucket:
        keys = {"access_key_id": "x", "secret_access_key": "x", "token": None, "expires_at": None}
        store = object_store.make_store(name, "eu-west-3", s3_server, credentials=lambda: keys)  # type: ignore[arg-type, return-value]
        return object_store.Bucket(store, lambda: pytest.fail("pyarrow is not needed"))

    for key in ["data/", "data/a/1", "data/a-b/1", "data/empty", "data/folder/", "data/é #", "other"]:
        bucket.put_object(Key=key, Body=key.encode() if key[-1] not in "/y" else b"")
    expected = [
        (item.key.removeprefix("data/"), item.size, int(item.last_modified.timestamp()), item.e_tag.strip('"'))
        for item in bucket.objects.filter(Prefix="data/")
        if item.key != "data/"
    ]
    found = list(storage.list_files(f"s3://{bucket.name}/data", open_bucket))
    assert [(file.path, file.size, file.modified // 10**6, file.etag) for file in found] == expected
    assert [file.path for file in found] == ["a-b/1", "a/1", "empty", "folder/", "é #"]


@pytest.mark.slow
def test_a_listing_is_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it takes a key, it has asked for the page of this key and at most for the next one."""
    with ListingServer(20_000) as server:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "x")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
        for number, _file in enumerate(storage.list_files("s3://many/data"), 1):
            if number in (1, 5_000, 15_000):
                assert server.requests()["GET"] <= -(-number // 1_000) + 1
        assert (number, server.requests()["GET"]) == (20_000, 20)
