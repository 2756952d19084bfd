"""Files of the lake are written atomically, listed and counted, in a folder and on S3, whatever their names are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from include.lake.objects import (
    LakePath,
    atomic_write,
    folder_bytes,
    parquet_files,
    read_json,
    write_bytes,
    write_json,
)

ODD_NAMES = ["with space", "100%25", "a#b", "a+b", "crème brûlée", "question?mark", "a&b=c", "[1]", "{x}", "~", "*"]
LARGE = 12 * 1024 * 1024  # more than obstore sends in one part


@pytest.fixture
def folder(tmp_path: Path) -> LakePath:
    return LakePath(f"file://{tmp_path}")


def names(folder: LakePath) -> list[str]:
    return [item.name for item in parquet_files(folder)]


def test_file_is_written_and_found_under_exactly_its_name(tmp_path: Path, folder: LakePath) -> None:
    for name in ODD_NAMES:
        write_bytes(folder / name / f"{name}.parquet", b"bytes")
        assert (tmp_path / name / f"{name}.parquet").read_bytes() == b"bytes"
        assert LakePath(f"file://{tmp_path}/{name}/{name}.parquet").read_bytes() == b"bytes"
        assert names(folder / name) == [f"{name}.parquet"]


@pytest.mark.slow
def test_object_is_written_and_found_under_exactly_its_name(bucket: Any) -> None:
    for name in ODD_NAMES:
        write_bytes(LakePath(f"s3://{bucket.name}/{name}/{name}.parquet"), b"bytes")
        assert LakePath(f"s3://{bucket.name}/{name}/{name}.parquet").read_bytes() == b"bytes"
    assert {item.key for item in bucket.objects.all()} == {f"{name}/{name}.parquet" for name in ODD_NAMES}


def write_half(path: LakePath, size: int) -> None:
    """Write some bytes of a file, then fail."""

    def write() -> None:
        with atomic_write(path) as stream:
            stream.write(b"x" * size)
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write()


def test_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, folder: LakePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    write_bytes(folder / "file", b"old")
    for size in (3, LARGE):
        write_half(folder / "file", size)
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_bytes(folder / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208 - names, hidden ones too


@pytest.mark.slow
def test_failed_write_leaves_the_old_object_and_nothing_else(bucket: Any) -> None:
    write_bytes(LakePath(f"s3://{bucket.name}/file"), b"old")
    for size in (3, LARGE):
        for name in ("file", "new"):
            write_half(LakePath(f"s3://{bucket.name}/{name}"), size)
    assert {item.key: item.get()["Body"].read() for item in bucket.objects.all()} == {"file": b"old"}
    assert list(bucket.multipart_uploads.all()) == [], "S3 bills the parts of unfinished uploads"


@pytest.mark.slow
def test_object_is_replaced_by_each_write(bucket: Any) -> None:
    path = LakePath(f"s3://{bucket.name}/file")
    for size in (1, 0, 3, LARGE, 2):
        write_bytes(path, b"x" * size)
        assert bucket.Object("file").get()["Body"].read() == path.read_bytes() == b"x" * size


@pytest.mark.slow
def test_objects_of_other_processes_are_seen(bucket: Any) -> None:
    root = f"s3://{bucket.name}/runs"
    bucket.put_object(Key="runs/a.parquet", Body=b"1")
    assert names(LakePath(root)) == ["a.parquet"]
    bucket.put_object(Key="runs/b.parquet", Body=b"1")
    assert names(LakePath(root)) == ["a.parquet", "b.parquet"]


def test_parquet_files_are_sorted_and_exclude_hidden_files(tmp_path: Path, folder: LakePath) -> None:
    for name in ("part-2.parquet", "part-1.parquet", "_SUCCESS", "_x.parquet", ".part-1.parquet.crc", ".y.parquet"):
        (tmp_path / name).write_bytes(b"x")
    assert names(folder) == ["part-1.parquet", "part-2.parquet"]
    assert parquet_files(folder / "missing") == []
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"1234")
    assert folder_bytes(folder) == 6 + 4


def test_json_is_readable_by_people_and_its_writer_is_named_if_it_cannot_be_read(
    tmp_path: Path, folder: LakePath
) -> None:
    path = folder / "x.json"
    with pytest.raises(FileNotFoundError, match=r"x.json does not exist: featurize writes it"):
        read_json(path, "featurize writes it")
    write_json(path, {"b": 1, "a": "crème"})
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == '{\n  "a": "crème",\n  "b": 1\n}\n'
    assert read_json(path, "the record") == {"b": 1, "a": "crème"}
    for text, message in [("{", "is not JSON .*"), ("", "is not JSON .*"), ("[1]", "contains a JSON list, .* object")]:
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(ValueError, match=f"x.json {message}: featurize writes it"):
            read_json(path, "featurize writes it")
