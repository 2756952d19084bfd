"""Reading: a file's bytes as they were listed, or the reason why not; and many files ahead, in bounded memory."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.s3_faults import Rule
from benchmarks.s3_proxy import S3Proxy
from spark_jobs.images import reading
from spark_jobs.images.reading import StoreError, read_ahead, read_local, reader
from spark_jobs.images.rejects import Reject
from spark_jobs.lake import object_store
from tests.s3_store import Store, use_environment

LIMITS = {"max_reads": 8, "max_bytes": 10_000, "max_file_bytes": 1_000}


def reason(outcome: object) -> str:
    assert isinstance(outcome, Reject), outcome
    return outcome.reason


def read_hundred_files() -> tuple[list[str], Iterator[reading.Data | Reject]]:
    """Return the paths whose reading has started, which grows, and the contents of 100 empty files."""
    started: list[str] = []

    def read(path: str, _size: int) -> bytes:
        started.append(path)
        return b""

    return started, read_ahead([(f"/{number}", 0) for number in range(100)], read, **LIMITS)


class TestLocal:
    @pytest.mark.parametrize("size", [0, 1, 5_000, 3_000_000])
    def test_the_bytes_are_the_files(self, tmp_path: Path, size: int) -> None:
        file = tmp_path / "pêche #1%20.jpg"
        file.write_bytes(os.urandom(size))
        assert read_local(str(file), size) == file.read_bytes()

    @pytest.mark.parametrize("found", [9, 11, 10_000_000])
    def test_a_file_of_another_size_than_listed_has_changed(self, tmp_path: Path, found: int) -> None:
        (tmp_path / "1.jpg").write_bytes(bytes(found))
        outcome = read_local(f"{tmp_path}/1.jpg", 10)
        assert outcome == reading.changed(10, found)
        assert reason(outcome) == "changed"

    def test_what_is_not_there_has_vanished(self, tmp_path: Path) -> None:
        (tmp_path / "dangling.jpg").symlink_to("nowhere")
        (tmp_path / "file").write_bytes(b"x")
        for name in ("gone.jpg", "dangling.jpg", "file/1.jpg"):
            assert reason(read_local(f"{tmp_path}/{name}", 10)) == "vanished"

    def test_what_is_no_regular_file_is_unreadable(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.jpg")  # opening it must not wait for a writer
        (tmp_path / "folder.jpg").mkdir()
        (tmp_path / "circle.jpg").symlink_to("circle.jpg")
        for name in ("pipe.jpg", "folder.jpg", "circle.jpg"):
            assert reason(read_local(f"{tmp_path}/{name}", 0)) == "unreadable"

    @pytest.mark.parametrize(
        ("code", "expected"),
        [(errno.EACCES, "access_denied"), (errno.EPERM, "access_denied"), (errno.EIO, "unreadable")],
    )
    def test_a_refused_file_and_a_broken_disk_are_told_apart(
        self, monkeypatch: pytest.MonkeyPatch, code: int, expected: str
    ) -> None:
        def refuse(path: bytes, _flags: int) -> int:
            raise OSError(code, os.strerror(code), path)

        monkeypatch.setattr(reading.os, "open", refuse)  # root may read whatever permissions say
        outcome = read_local("/data/1.jpg", 10)
        assert reason(outcome) == expected
        assert "/data/1.jpg" in outcome.detail  # type: ignore[union-attr]


class TestAhead:
    def test_the_order_is_that_of_the_files(self) -> None:
        def read(path: str, size: int) -> bytes:
            time.sleep(0.002 * (size % 3))
            return path.encode()

        files = [(f"/{number}", number) for number in range(60)]
        assert list(read_ahead(files, read, **LIMITS)) == [path.encode() for path, _ in files]

    def test_as_many_as_allowed_are_read_at_a_time(self) -> None:
        barrier = threading.Barrier(8, timeout=20)

        def read(_path: str, _size: int) -> bytes:
            barrier.wait()  # passes only when eight are here at once
            return b""

        assert len(list(read_ahead([("/x", 1)] * 24, read, **LIMITS))) == 24

    @pytest.mark.parametrize("sizes", [[300] * 50, [1_000, 1, 999, 1] * 12, [1] * 200, list(range(1_000, 0, -9))])
    def test_bytes_in_flight_stay_under_the_cap(self, sizes: list[int]) -> None:
        lock = threading.Lock()
        held = most = 0

        def read(_path: str, size: int) -> bytes:
            nonlocal held, most
            with lock:
                held += size
                most = max(most, held)
            return bytes(size)

        for data in read_ahead(
            [("/x", size) for size in sizes], read, max_reads=100, max_bytes=1_000, max_file_bytes=1_000
        ):
            time.sleep(0.0005)
            with lock:
                held -= len(data)  # type: ignore[arg-type]
        assert held == 0
        assert 0 < most <= 1_000

    def test_no_more_files_are_held_than_allowed(self) -> None:
        started, contents = read_hundred_files()
        next(contents)
        time.sleep(0.1)
        assert len(started) == 8
        assert len(list(contents)) == 99

    def test_large_files_and_folders_are_never_read(self) -> None:
        def read(path: str, _size: int) -> bytes:
            raise AssertionError(f"{path} is read")

        files = [("/big.jpg", 1_001), ("/data/x.jpg/", 0)]
        outcomes = list(read_ahead(files, read, **LIMITS))
        assert [reason(outcome) for outcome in outcomes] == ["file_too_large", "directory"]

    def test_an_error_of_the_store_ends_it(self) -> None:
        def read(path: str, _size: int) -> bytes:
            if path == "/3":
                raise StoreError("the store is down")
            return b"x"

        contents = read_ahead([(f"/{number}", 1) for number in range(1_000)], read, **LIMITS)
        assert [next(contents) for _ in range(3)] == [b"x"] * 3
        with pytest.raises(StoreError, match="the store is down"):
            next(contents)
        assert list(contents) == []

    def test_leaving_early_reads_no_more(self) -> None:
        started, contents = read_hundred_files()
        next(contents)
        contents.close()  # type: ignore[attr-defined]
        assert len(started) <= 8


@dataclass(frozen=True)
class Bucket:
    """A bucket behind a proxy that can make faults."""

    store: Store
    proxy: S3Proxy
    name: str

    def put(self, key: str, data: bytes) -> tuple[str, int]:
        self.store.put(self.name, key, data)
        return f"{self.name}/{key}", len(data)

    def read(self, key: str, size: int) -> object:
        outcome = reader(f"s3://{self.name}/data")(f"{self.name}/{key}", size)
        return outcome if isinstance(outcome, Reject) else bytes(outcome)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with contextlib.closing(Store(tmp_path_factory.mktemp("store"))) as started:
        yield started


@pytest.fixture
def bucket(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with S3Proxy(store.url) as proxy:
        use_environment(monkeypatch, proxy.url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
        yield Bucket(store, proxy, store.new_bucket())


@pytest.mark.slow
class TestS3:
    def test_keys_are_read_as_they_are_listed_in_one_request_each(self, bucket: Bucket) -> None:
        keys = ["data/a b/50 %.jpg", "data/%20/a#b+c?.jpg", "data/pêche/_é.JPG", "data/.x/y&z=1.jpg", "data/~/桃.jpg"]
        for key in keys:
            bucket.put(key, key.encode())
        for key in keys:
            assert bucket.read(key, len(key.encode())) == key.encode()
        assert bucket.proxy.counts().total("GET") == len(keys)
        assert bucket.proxy.counts().total("HEAD") == 0

    def test_empty_and_large_objects_are_read_whole(self, bucket: Bucket) -> None:
        large = os.urandom(9_000_000)
        bucket.put("data/0.jpg", b"")
        bucket.put("data/9.jpg", large)
        assert bucket.read("data/0.jpg", 0) == b""
        assert bucket.read("data/9.jpg", len(large)) == large

    def test_a_name_with_control_characters_is_read_too(self, bucket: Bucket) -> None:
        bucket.put("data/new\nline.jpg", b"12345")
        assert bucket.read("data/new\nline.jpg", 5) == b"12345"
        assert reason(bucket.read("data/new\nline.jpg", 4)) == "changed"
        assert reason(bucket.read("data/no\tne.jpg", 4)) == "vanished"

    def test_an_object_that_is_gone_has_vanished(self, bucket: Bucket) -> None:
        assert reason(bucket.read("data/gone.jpg", 10)) == "vanished"

    def test_an_object_of_another_size_has_changed(self, bucket: Bucket) -> None:
        bucket.put("data/1.jpg", bytes(50))
        assert bucket.read("data/1.jpg", 49) == reading.changed(49, 50)

    def test_a_refused_object_is_access_denied_and_others_are_read(self, bucket: Bucket) -> None:
        for key in ("data/secret.jpg", "data/open.jpg"):
            bucket.put(key, b"x")
        bucket.proxy.set_rules([Rule("data/secret.jpg", "access_denied")])
        refused = bucket.read("data/secret.jpg", 1)
        assert reason(refused) == "access_denied"
        assert "Debug source" not in refused.detail  # type: ignore[attr-defined]
        assert bucket.read("data/open.jpg", 1) == b"x"

    @pytest.mark.parametrize("fault", ["internal_error", "slow_down", "reset", "reset_in_body"])
    def test_errors_of_the_moment_are_retried_and_never_become_rejects(self, bucket: Bucket, fault: str) -> None:
        data = os.urandom(200_000)
        bucket.put("data/1.jpg", data)
        bucket.proxy.set_rules([Rule("data/1.jpg", fault, times=3)])
        assert bucket.read("data/1.jpg", len(data)) == data
        assert bucket.proxy.counts().faults == 3

    def test_a_store_that_stays_broken_is_an_error_that_names_the_object(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in (reading, object_store):
            monkeypatch.setattr(module, "RETRIES", 2)
        object_store._open_bucket.cache_clear()
        bucket.put("data/1.jpg", b"x")
        bucket.proxy.set_rules([Rule("data/*", "slow_down")])
        with pytest.raises(StoreError, match=r"data/1\.jpg cannot be read, in 2 tries: .*503"):
            bucket.read("data/1.jpg", 1)
        assert bucket.proxy.counts().faults == 3

    def test_refused_credentials_are_an_error_and_no_reject(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bucket.put("data/1.jpg", b"x")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        object_store._open_bucket.cache_clear()
        with pytest.raises(StoreError, match="refuses the job's credentials"):
            bucket.read("data/1.jpg", 1)

    def test_many_reads_are_in_flight_while_bytes_stay_under_the_cap(self, bucket: Bucket) -> None:
        files = [bucket.put(f"data/{number}.jpg", bytes(10_000)) for number in range(60)]
        bucket.proxy.set_delay(0.03)
        read = reader(f"s3://{bucket.name}/data")
        limits = {"max_reads": 16, "max_file_bytes": 100_000}
        assert len(list(read_ahead(files, read, max_bytes=1_000_000, **limits))) == 60
        assert bucket.proxy.counts().requests_in_flight == 16
        bucket.proxy.reset_counts()
        assert len(list(read_ahead(files, read, max_bytes=100_000, **limits))) == 60
        counts = bucket.proxy.counts()
        assert 1 < counts.requests_in_flight <= 10
        assert counts.bytes_in_flight <= 100_000
