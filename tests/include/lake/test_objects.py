"""Reading and writing the lake: files that are whole or not there, on a folder and on S3, under any name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath

from include.lake.objects import (
    atomic_write,
    count_matching_files,
    folder_bytes,
    lake_path,
    parquet_files,
    read_json,
    write_bytes,
    write_json,
)

ODD_NAMES = ["with space", "100%25", "a#b", "a+b", "crème brûlée", "question?mark", "a&b=c", "[1]", "{x}", "~", "*"]
LARGE = 12 * 1024 * 1024  # more than s3fs sends in one part


def uri(folder: Path) -> str:
    return f"file://{folder}"


@pytest.mark.parametrize("name", ODD_NAMES)
def test_file_is_written_and_found_under_exactly_its_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    write_bytes(lake_path(uri(folder)) / f"{name}.parquet", b"bytes")
    assert (folder / f"{name}.parquet").read_bytes() == b"bytes"
    assert lake_path(f"{uri(folder)}/{name}.parquet").read_bytes() == b"bytes"
    assert [item.name for item in parquet_files(lake_path(uri(folder)))] == [f"{name}.parquet"]
    assert count_matching_files(lake_path(uri(tmp_path)), "*.parquet") == 1


@pytest.mark.parametrize("name", ODD_NAMES)
def test_object_is_written_and_found_under_exactly_its_name(bucket: Any, name: str) -> None:
    write_bytes(lake_path(f"s3://{bucket.name}/{name}/{name}.parquet"), b"bytes")
    assert [item.key for item in bucket.objects.all()] == [f"{name}/{name}.parquet"]
    assert lake_path(f"s3://{bucket.name}/{name}/{name}.parquet").read_bytes() == b"bytes"


def write_half(path: ObjectStoragePath, size: int) -> None:
    """Fail after some bytes of a file."""
    with atomic_write(path) as stream:
        stream.write(b"x" * size)
        raise RuntimeError("power cut")


@pytest.mark.parametrize("size", [3, LARGE])
def test_failure_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path: Path, size: int) -> None:
    write_bytes(lake_path(uri(tmp_path)) / "file", b"old")
    with pytest.raises(RuntimeError, match="power cut"):
        write_half(lake_path(uri(tmp_path)) / "file", size)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208 - names, hidden ones too


@pytest.mark.parametrize("size", [3, LARGE])
def test_failure_in_the_middle_leaves_the_old_object_and_nothing_else(bucket: Any, size: int) -> None:
    write_bytes(lake_path(f"s3://{bucket.name}/file"), b"old")
    for name in ("file", "new"):
        with pytest.raises(RuntimeError, match="power cut"):
            write_half(lake_path(f"s3://{bucket.name}/{name}"), size)
    assert {item.key: item.get()["Body"].read() for item in bucket.objects.all()} == {"file": b"old"}
    assert list(bucket.multipart_uploads.all()) == [], "parts that nobody completes are paid for"


@pytest.mark.parametrize("size", [0, 3, LARGE])
def test_object_is_replaced_in_one_put(bucket: Any, size: int) -> None:
    path = lake_path(f"s3://{bucket.name}/file")
    write_bytes(path, b"old")
    write_bytes(path, b"x" * size)
    assert bucket.Object("file").get()["Body"].read() == b"x" * size
    write_bytes(path, b"again")
    assert path.read_bytes() == b"again", "a failed or finished write must not hold back later ones"


def test_failure_of_the_last_step_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(lake_path(uri(tmp_path)) / "file", b"old")

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_bytes(lake_path(uri(tmp_path)) / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_what_others_put_there_is_seen_at_the_next_look(bucket: Any) -> None:
    root = f"s3://{bucket.name}/runs"
    bucket.put_object(Key="runs/a.parquet", Body=b"1")
    assert [item.name for item in parquet_files(lake_path(root))] == ["a.parquet"]
    bucket.put_object(Key="runs/b.parquet", Body=b"1")
    assert [item.name for item in parquet_files(lake_path(root))] == ["a.parquet", "b.parquet"]


def test_data_files_are_neither_hidden_nor_markers_and_come_by_name(tmp_path: Path) -> None:
    for name in ("part-2.parquet", "part-1.parquet", "_SUCCESS", "_x.parquet", ".part-1.parquet.crc", ".y.parquet"):
        (tmp_path / name).write_bytes(b"x")
    assert [item.name for item in parquet_files(lake_path(uri(tmp_path)))] == ["part-1.parquet", "part-2.parquet"]
    assert parquet_files(lake_path(uri(tmp_path / "missing"))) == []


@pytest.mark.parametrize("name", ["a.JPG", "_a.jpg", ".a.jpg", "é.jpeg", "a.b.JpEg"])
def test_names_that_sparks_own_listing_loses_are_counted(tmp_path: Path, name: str) -> None:
    (tmp_path / "_label" / "deep").mkdir(parents=True)
    (tmp_path / "_label" / "deep" / name).touch()  # an empty file is a reject, but it is an image to look at
    assert count_matching_files(lake_path(uri(tmp_path)), "*.jpg, *.jpeg") == 1


def test_nothing_is_counted_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "b.jpg").mkdir()
    assert count_matching_files(lake_path(uri(tmp_path)), "*.jpg") == 0
    assert count_matching_files(lake_path(uri(tmp_path / "missing")), "*.jpg") == 0


def test_all_that_lies_under_a_folder_counts_for_its_size(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.parquet").write_bytes(b"1234")
    (tmp_path / "_c").write_bytes(b"56")
    assert folder_bytes(lake_path(uri(tmp_path))) == 6


def test_links_to_folders_are_followed_as_the_job_does(tmp_path: Path) -> None:
    (tmp_path / "photos" / "Kiwi").mkdir(parents=True)
    (tmp_path / "photos" / "Kiwi" / "1.jpg").touch()
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "linked").symlink_to(tmp_path / "photos")
    (tmp_path / "lake" / "circle").symlink_to(tmp_path / "lake")
    assert count_matching_files(lake_path(uri(tmp_path / "lake")), "*.jpg") == 1
    assert count_matching_files(lake_path(uri(tmp_path / "lake")), "*.png") == 0


def test_marker_of_an_empty_folder_is_no_image(bucket: Any) -> None:
    bucket.put_object(Key="data/", Body=b"")
    folder = lake_path(f"s3://{bucket.name}/data")
    assert count_matching_files(folder, "*") == 0
    assert count_matching_files(folder, "*.jpg,") == 0
    bucket.put_object(Key="data/Kiwi/é #%+ .JPG", Body=b"")
    assert count_matching_files(lake_path(f"s3://{bucket.name}/data"), "*.jpg") == 1


def test_json_is_read_back_and_readable_by_people(tmp_path: Path) -> None:
    write_json(lake_path(uri(tmp_path)) / "x.json", {"b": 1, "a": "crème"})
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == '{\n  "a": "crème",\n  "b": 1\n}\n'
    assert read_json(lake_path(uri(tmp_path)) / "x.json", "the record") == {"b": 1, "a": "crème"}


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (None, FileNotFoundError, "does not exist: featurize writes it"),
        ("{", ValueError, "is not JSON .*: featurize writes it"),
        ("", ValueError, "is not JSON .*: featurize writes it"),
        ("[1]", ValueError, "contains a JSON list, expected an object: featurize writes it"),
    ],
)
def test_json_that_cannot_be_read_is_named_with_its_writer(
    tmp_path: Path, text: str | None, error: type[Exception], message: str
) -> None:
    if text is not None:
        (tmp_path / "x.json").write_text(text)
    with pytest.raises(error, match=f"x.json {message}"):
        read_json(lake_path(uri(tmp_path)) / "x.json", "featurize writes it")
