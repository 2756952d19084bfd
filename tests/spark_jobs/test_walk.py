"""The walk through sorted keys finds what the walk through the same files in folders finds."""

from __future__ import annotations

import os
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from spark_jobs import external_sort
from spark_jobs.args import NOT_LOADED_FILE, name_matcher
from spark_jobs.walk import Entry, FolderWalk, KeyWalk, count_local_files, walk_local_folder

FOLDERS = ["Apple", "Apple 2", "Apple-2", "x.jpg", "x.jpg-2", ".git", "@eaDir", "__MACOSX", "pêche", "50 %#+"]
FILES = ["1.jpg", "2.JPG", ".1.jpg", "Thumbs.db", "notes.txt", "x", "é.jpeg", "x.jpg.jpg", "桃.png", NOT_LOADED_FILE]


def keys_of(root: Path) -> list[tuple[str, int, int, str | None]]:
    """The files as S3 would list them."""
    files = [Path(parent) / name for parent, _, names in os.walk(root) for name in names]
    paths = sorted((path.relative_to(root).as_posix() for path in files), key=str.encode)
    return [(path, (root / path).stat().st_size, 7, "etag") for path in paths]


@pytest.mark.parametrize("seed", range(30))
def test_keys_and_folders_give_the_same_images_in_the_same_order(tmp_path: Path, seed: int) -> None:
    chosen = random.Random(seed)
    root = tmp_path / "data"
    root.mkdir()
    for number in range(chosen.randint(1, 40)):
        folder = root.joinpath(*chosen.choices(FOLDERS, k=chosen.randint(0, 3)))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / chosen.choice(FILES)
        if not path.is_dir():
            path.write_bytes(b"x" * number)
    for hidden in (False, True):
        for pattern in ("*.jpg,*.jpeg", "*", "all"):
            expected = walk_local_folder(str(root), pattern, include_hidden=hidden)
            found = KeyWalk(str(root), name_matcher(pattern), hidden, keys_of(root))
            images = [(*image[:2], 0 if image.path.endswith("/") else image.size) for image in found.images()]
            assert images == [
                (*image[:2], 0 if image.path.endswith("/") else image.size) for image in expected.images()
            ]
            assert found.left_out.record("there", pattern) == expected.left_out.record("there", pattern)
            assert found.has_record == expected.has_record


def walk(*paths: str) -> KeyWalk:
    return KeyWalk("bucket/data", name_matcher("*.jpg"), False, [(path, 1, 0, None) for path in paths])


def test_files_of_a_hidden_folder_are_counted_without_following_links(tmp_path: Path) -> None:
    hidden = tmp_path / ".git"
    (hidden / "deep" / "empty").mkdir(parents=True)
    for name in ("1", "deep/2", "deep/.3"):
        (hidden / name).touch()
    (hidden / "folder").symlink_to(tmp_path)
    (hidden / "nowhere").symlink_to("none")
    (hidden / "loop").symlink_to("loop")
    (hidden / "file").symlink_to("1")
    assert count_local_files(str(hidden)) == sum(len(names) for _, _, names in os.walk(hidden)) == 6
    assert [count_local_files(str(hidden / name)) for name in ("folder", "none", "deep/empty")] == [1, 0, 0]


def test_markers_of_folders_are_no_images_and_hide_nothing() -> None:
    found = walk("a/", "a/1.jpg", "b.jpg/", "c/.hidden/", "c/.hidden/1.jpg")
    assert [image.path for image in found.images()] == ["bucket/data/a/1.jpg", "bucket/data/b.jpg/"]
    assert found.left_out.record("there", "*.jpg")["hidden"] == 1


def test_keys_are_read_as_they_are_needed() -> None:
    read = []

    def keys() -> Iterator[tuple[str, int, int, str | None]]:
        for number in range(1_000_000):
            read.append(number)
            yield f"a/{number:07}.jpg", 1, 0, None

    images = KeyWalk("bucket/data", name_matcher("*.jpg"), False, keys()).images()
    assert [next(images).path for _ in range(2)] == ["bucket/data/a/0000000.jpg", "bucket/data/a/0000001.jpg"]
    assert read == [0, 1]


def test_an_image_has_the_etag_of_its_key() -> None:
    keys = [("a.jpg", 1, 0, "0a"), ("b.jpg", 1, 0, None)]
    images = KeyWalk("bucket/data", name_matcher("*.jpg"), False, keys).images()
    assert [image.etag for image in images] == ["0a", None]


@pytest.mark.slow
def test_a_folder_of_any_size_is_walked_in_constant_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_sort, "RECORDS_IN_MEMORY", 1_000)
    monkeypatch.setattr(external_sort, "BATCH", 100)
    count = 10_000

    def read_folder(_folder: str) -> Iterator[Entry]:
        for number in range(count):
            yield Entry(f"{number * 7_919 % count:08}.jpg", False, number, 0)

    walk = FolderWalk("/data", name_matcher("*.jpg"), False, read_folder, lambda _: 0)
    tracemalloc.start()
    try:
        last, listed = "", 0
        for image in walk.images():
            assert image.path > last
            last, listed = image.path, listed + 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert listed == count
    assert peak < 2**20, "all entries together take 3 MB"
