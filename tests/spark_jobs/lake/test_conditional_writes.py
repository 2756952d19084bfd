"""Of several writers exactly one succeeds, whatever answer is lost and whoever is killed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.s3_faults import Rule
from benchmarks.s3_proxy import S3Proxy
from spark_jobs.lake import object_store, storage
from tests.conftest import ROOT
from tests.s3_store import Store, await_true, use_environment

WRITERS = 8
ROUNDS = 6


class Writers:
    """Processes that write at the same time."""

    def __init__(self, store: Store) -> None:
        command = [sys.executable, "-m", "tests.spark_jobs.lake.conditional_writer"]
        keys = {"AWS_ENDPOINT_URL_S3": store.url, "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._processes = [
            subprocess.Popen(command, cwd=ROOT, env={**os.environ, **keys}, text=True, **pipes)  # type: ignore[call-overload]
            for _ in range(WRITERS)
        ]

    def write(self, uri: str, expected: str | None) -> list[bool]:
        """Return which of them has written; the content of each is its number."""
        for number, process in enumerate(self._processes):
            process.stdin.write(json.dumps({"uri": uri, "data": f"{number} {uri}", "expected": expected}) + "\n")
        for process in self._processes:
            process.stdin.flush()
        return [json.loads(process.stdout.readline()) for process in self._processes]

    def close(self) -> None:
        for process in self._processes:
            process.stdin.close()
            process.wait()
            process.stdout.close()


@pytest.fixture(scope="module")
def writers(store: Store) -> Iterator[Writers]:
    with contextlib.closing(Writers(store)) as started:
        yield started


def read(uri: str) -> tuple[bytes, storage.Tag]:
    found = storage.read_tagged(uri)
    assert found is not None
    return found


@pytest.mark.slow
def test_of_concurrent_creations_exactly_one_succeeds(lake: str, writers: Writers) -> None:
    for number in range(ROUNDS):
        uri = f"{lake}/manifests/{number} %.json"
        written = writers.write(uri, None)
        assert written.count(True) == 1
        assert storage.read_bytes(uri) == f"{written.index(True)} {uri}".encode()


@pytest.mark.slow
def test_of_concurrent_replacements_exactly_one_succeeds(lake: str, writers: Writers) -> None:
    uri = f"{lake}/current.json"
    for number in range(ROUNDS):
        before = f"before {number}".encode()
        storage.write_bytes(uri, before)
        written = writers.write(uri, read(uri)[1])
        assert written.count(True) == 1
        assert storage.read_bytes(uri) == f"{written.index(True)} {uri}".encode()


def test_a_file_is_created_once_and_replaced_by_who_knows_its_content(lake: str) -> None:
    uri = f"{lake}/current.json"
    assert storage.read_tagged(uri) is None
    assert storage.replace(uri, b"1", storage.Tag("of nothing")) is False
    assert storage.replace(uri, b"1", None) is True
    assert storage.create(uri, b"other") is storage.replace(uri, b"other", None) is False
    data, tag = read(uri)
    assert data == b"1"
    assert storage.replace(uri, b"2", tag) is True
    assert storage.replace(uri, b"3", tag) is False
    assert read(uri)[0] == b"2"
    assert [name for name in storage.names(lake) if not name.endswith(".lock")] == ["current.json"]


def test_a_repeated_write_of_the_same_content_is_a_success(lake: str) -> None:
    """Its writer was killed before it knew of its success, or the answer was lost."""
    uri = f"{lake}/current.json"
    assert [storage.create(uri, b"1"), storage.create(uri, b"1")] == [True, True]
    tag = read(uri)[1]
    assert [storage.replace(uri, b"2", tag), storage.replace(uri, b"2", tag)] == [True, True]


# ------------------------------------------------------------------------------------------------------------------ S3


@pytest.fixture
def proxy(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    """A proxy in front of the store; a request is repeated twice."""
    monkeypatch.setattr(object_store, "RETRIES", 2)
    with S3Proxy(store.url) as started:
        use_environment(monkeypatch, started.url)
        yield started


@pytest.fixture
def uri(lake_bucket: str) -> str:
    return f"s3://{lake_bucket}/current.json"


def lose_puts(fault: str, times: int | None = None) -> Rule:
    return Rule("current.json", fault, times=times, methods=("PUT",))


LOST = pytest.mark.parametrize("times", [1, None], ids=["one is lost", "all are lost"])


@pytest.mark.slow
@LOST
def test_a_creation_whose_answer_is_lost_is_a_success(proxy: S3Proxy, store: Store, uri: str, times: int) -> None:
    proxy.set_rules([lose_puts("reset_after", times)])
    assert storage.create(uri, b"mine") is True
    assert proxy.counts().faults >= 1
    assert store.read(uri.split("/")[2], "current.json") == b"mine"
    assert storage.create(uri, b"of another") is False
    assert store.read(uri.split("/")[2], "current.json") == b"mine"


@pytest.mark.slow
@LOST
def test_a_replacement_whose_answer_is_lost_is_a_success(proxy: S3Proxy, store: Store, uri: str, times: int) -> None:
    storage.create(uri, b"before")
    tag = read(uri)[1]
    proxy.set_rules([lose_puts("reset_after", times)])
    assert storage.replace(uri, b"mine", tag) is True
    assert proxy.counts().faults >= 1
    assert store.read(uri.split("/")[2], "current.json") == b"mine"
    assert storage.replace(uri, b"of another", tag) is False
    assert store.read(uri.split("/")[2], "current.json") == b"mine"


@pytest.mark.slow
def test_exactly_one_succeeds_while_answers_are_lost(proxy: S3Proxy, store: Store, uri: str) -> None:
    """The first put changes the file: whoever repeats it finds the condition broken, by itself or by another."""
    bucket, tag = uri.split("/")[2], None
    for number in range(4):
        proxy.set_rules([lose_puts("reset_after", 3)])
        contents = [f"{number} {writer}".encode() for writer in range(WRITERS)]
        with ThreadPoolExecutor(WRITERS) as pool:
            written = list(pool.map(lambda data, expected=tag: storage.replace(uri, data, expected), contents))
        assert written.count(True) == 1
        assert store.read(bucket, "current.json") == contents[written.index(True)]
        tag = read(uri)[1]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["reset", "internal_error", "slow_down", "conflict"])
def test_a_write_that_does_not_arrive_is_an_error_and_can_be_repeated(proxy: S3Proxy, uri: str, fault: str) -> None:
    proxy.set_rules([lose_puts(fault)])
    with pytest.raises(storage.StoreError, match=r"current\.json: .*; the file is still as it was, call again"):
        storage.create(uri, b"1")
    assert storage.read_tagged(uri) is None
    proxy.set_rules([])
    assert storage.create(uri, b"1") is True
    tag = read(uri)[1]
    proxy.set_rules([lose_puts(fault)])
    with pytest.raises(storage.StoreError, match="the file is still as it was"):
        storage.replace(uri, b"2", tag)
    assert read(uri)[0] == b"1"


@pytest.mark.slow
def test_a_write_that_cannot_be_read_back_is_an_error_and_deletes_nothing(proxy: S3Proxy, uri: str) -> None:
    proxy.set_rules([lose_puts("reset_after"), Rule("current.json", "internal_error")])
    with pytest.raises(storage.StoreError, match=r"whether the file was written is not known, it cannot be read: s3:"):
        storage.create(uri, b"1")
    proxy.set_rules([])
    assert storage.read_bytes(uri) == b"1"
    assert proxy.counts().total("DELETE") == 0


@pytest.mark.slow
def test_refusals_and_a_missing_bucket_are_no_lost_races(
    store: Store, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(monkeypatch, store.url, "reader")
    for expected in (None, storage.Tag('"0"')):
        with pytest.raises(PermissionError, match="Access Denied"):
            storage.replace(uri, b"1", expected)
    store.put(uri.split("/")[2], "current.json", b"of another")
    with pytest.raises(PermissionError, match="Access Denied"):
        storage.create(uri, b"1")
    use_environment(monkeypatch, store.url)
    object_store._open_bucket.cache_clear()
    with pytest.raises(FileNotFoundError, match="bucket"):
        storage.create("s3://no-such-bucket/current.json", b"1")


# -------------------------------------------------------------------------------------------- folders of this machine


HOLD = """
import sys, time
from pathlib import Path
from spark_jobs.lake.conditional_writes import _locked
with _locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_the_lock_of_a_killed_writer_is_released_to_the_next(tmp_path: Path) -> None:
    target = tmp_path / "current.json"
    assert storage.create(target.as_uri(), b"before")
    tag = read(target.as_uri())[1]
    command = [sys.executable, "-c", HOLD, str(target)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        inode = (tmp_path / ".current.json.lock").stat().st_ino
        written: list[bool] = []
        second = threading.Thread(target=lambda: written.append(storage.replace(target.as_uri(), b"second", tag)))
        second.start()
        await_true(lambda: is_awaited(inode), "the second writer waits for the lock")
        assert (written, target.read_bytes()) == ([], b"before")
        holder.send_signal(signal.SIGKILL)
        second.join(60)
    assert (written, target.read_bytes()) == ([True], b"second")
    assert sorted(item.name for item in tmp_path.iterdir()) == [".current.json.lock", "current.json"]


def is_awaited(inode: int) -> bool:
    """Return whether a process waits for the lock of a file, proc_locks(5)."""
    return any("-> FLOCK" in line and f":{inode} " in line for line in Path("/proc/locks").read_text().splitlines())


def test_a_file_system_without_hard_links_creates_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_source: Path, _target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    uri = (tmp_path / "current.json").as_uri()
    assert [storage.create(uri, data) for data in (b"1", b"2", b"1")] == [True, False, True]
    assert storage.read_bytes(uri) == b"1"
    assert sorted(item.name for item in tmp_path.iterdir()) == [".current.json.lock", "current.json"]


def test_what_exists_but_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "current.json").mkdir()
    with pytest.raises(storage.StoreError, match=r"current\.json exists, but cannot be read: Is a directory"):
        storage.create((tmp_path / "current.json").as_uri(), b"1")
    assert [item.name for item in tmp_path.iterdir()] == ["current.json"]
