"""A copy is made by the store, and readers see it whole or not at all."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from benchmarks.s3_faults import Rule
from benchmarks.s3_proxy import S3Proxy
from spark_jobs.lake import copies, object_store, storage
from tests.s3_store import Store, use_environment


def test_a_copy_has_the_content_and_replaces_what_was_there(lake: str) -> None:
    source, target = f"{lake}/segments/50 %+#é/part.parquet", f"{lake}/results/a b/part.parquet"
    storage.write_bytes(source, b"first")
    storage.write_bytes(target, b"of before")
    for content in (b"first", b"second"):
        storage.write_bytes(source, content)
        storage.copy(source, target)
        storage.copy(source, target)  # a repeated copy leaves nothing behind either
        assert storage.read_bytes(source) == storage.read_bytes(target) == content
    assert storage.names(f"{lake}/results/a b") == ["part.parquet"]
    storage.delete_file(source)
    assert storage.read_bytes(target) == b"second"


def test_a_missing_source_is_named_and_the_target_stays(lake: str) -> None:
    storage.write_bytes(f"{lake}/target", b"of before")
    with pytest.raises(FileNotFoundError, match="none"):
        storage.copy(f"{lake}/none", f"{lake}/target")
    assert storage.read_bytes(f"{lake}/target") == b"of before"
    assert storage.names(lake) == ["target"]


def test_readers_see_one_content_or_the_other(lake: str) -> None:
    contents = [bytes([number]) * 300_000 for number in range(2)]
    for number, content in enumerate(contents):
        storage.write_bytes(f"{lake}/{number}", content)
    storage.copy(f"{lake}/0", f"{lake}/target")
    ended, seen = threading.Event(), set()

    def read() -> None:
        while not ended.is_set():
            seen.add(storage.read_bytes(f"{lake}/target"))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(40):
            storage.copy(f"{lake}/{number % 2}", f"{lake}/target")
    finally:
        ended.set()
        reader.join()
    assert seen
    assert seen <= set(contents)


@pytest.mark.slow
def test_no_content_passes_through_this_machine(
    store: Store, lake_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(lake_bucket, "segments/part.parquet", os.urandom(6 * 2**20))
    with S3Proxy(store.url) as proxy:
        use_environment(monkeypatch, proxy.url)
        storage.copy(f"s3://{lake_bucket}/segments/part.parquet", f"s3://{lake_bucket}/results/part.parquet")
        counts = proxy.counts()
    assert counts.requests == {("HEAD", "segments/part.parquet"): 1, ("PUT", "results/part.parquet"): 1}
    assert counts.bytes_sent == 0
    assert store.read(lake_bucket, "results/part.parquet") == store.read(lake_bucket, "segments/part.parquet")


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["reset_after", "error_in_ok", "internal_error"])
def test_a_copy_whose_answer_is_lost_or_an_error_is_repeated(
    store: Store, lake_bucket: str, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """S3 may report an error of a copy in the body of an answer with the status 200."""
    monkeypatch.setattr(object_store, "RETRIES", 2)
    store.put(lake_bucket, "source", b"content")
    source, target = f"s3://{lake_bucket}/source", f"s3://{lake_bucket}/target"
    with S3Proxy(store.url, rules=[Rule("target", fault, times=1, methods=("PUT",))]) as proxy:
        use_environment(monkeypatch, proxy.url)
        storage.copy(source, target)
        assert store.read(lake_bucket, "target") == b"content"
        assert proxy.counts().faults == 1
        proxy.set_rules([Rule("target", fault, methods=("PUT",))])
        with pytest.raises(storage.StoreError, match=f"{source}, copied to {target}: "):
            storage.copy(source, target)


@pytest.mark.slow
def test_what_s3_would_refuse_to_copy_is_named_before(
    store: Store, lake_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert copies.MOST_BYTES == 5_368_709_120
    monkeypatch.setattr(copies, "MOST_BYTES", 2_000)
    use_environment(monkeypatch, store.url)
    for size, key in ((2_000, "fits"), (2_001, "large")):
        store.put(lake_bucket, key, bytes(size))
    storage.copy(f"s3://{lake_bucket}/fits", f"s3://{lake_bucket}/copy")
    with pytest.raises(storage.TooLargeError, match=rf"s3://{lake_bucket}/large has 2,001 bytes: .* at most 2,000"):
        storage.copy(f"s3://{lake_bucket}/large", f"s3://{lake_bucket}/copy")
    assert len(store.read(lake_bucket, "copy")) == 2_000


@pytest.mark.parametrize("ends", [("s3://a/x", "s3://b/x"), ("s3://a/x", "file:///x"), ("file:///x", "s3://a/x")])
def test_both_ends_are_in_one_place(ends: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="expected both in one bucket, or both on this machine"):
        storage.copy(*ends)


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK])
def test_without_hard_links_the_content_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(_source: Path, _target: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"content")
    target.write_bytes(b"of before")
    before = target.open("rb")
    storage.copy(source.as_uri(), target.as_uri())
    with before:
        assert before.read() == b"of before"
    assert target.read_bytes() == b"content"
    assert not target.samefile(source)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["source", "target"]


def test_a_failed_copy_leaves_the_target_and_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", fail)
    (tmp_path / "source").write_bytes(b"content")
    (tmp_path / "target").write_bytes(b"of before")
    with pytest.raises(OSError, match="No space left"):
        storage.copy((tmp_path / "source").as_uri(), (tmp_path / "target").as_uri())
    assert (tmp_path / "target").read_bytes() == b"of before"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["source", "target"]


def test_a_link_to_a_file_is_copied_as_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    storage.copy((tmp_path / "link").as_uri(), (tmp_path / "deep" / "copy").as_uri())
    assert (tmp_path / "deep" / "copy").read_bytes() == b"content"
    assert not (tmp_path / "deep" / "copy").is_symlink()
