"""The walk through sorted keys finds what the walk through the same files in folders finds."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from spark_jobs.args import NOT_LOADED_FILE, name_matcher
from spark_jobs.walk import KeyWalk, OutOfOrderError, walk_local_folder

FOLDERS = ["Apple", "Apple 2", "Apple-2", "x.jpg", "x.jpg-2", ".git", "@eaDir", "__MACOSX", "pêche", "50 %#+"]
FILES = ["1.jpg", "2.JPG", ".1.jpg", "Thumbs.db", "notes.txt", "x", "é.jpeg", "x.jpg.jpg", "桃.png", NOT_LOADED_FILE]


def keys_of(root: Path) -> list[tuple[str, int, int]]:
    """The files as S3 would list them."""
    files = [Path(parent) / name for parent, _, names in os.walk(root) for name in names]
    paths = sorted((path.relative_to(root).as_posix() for path in files), key=str.encode)
    return [(path, (root / path).stat().st_size, 7) for path in paths]


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
    return KeyWalk("bucket/data", name_matcher("*.jpg"), False, [(path, 1, 0) for path in paths])


def test_markers_of_folders_are_no_images_and_hide_nothing() -> None:
    found = walk("a/", "a/1.jpg", "b.jpg/", "c/.hidden/", "c/.hidden/1.jpg")
    assert [image.path for image in found.images()] == ["bucket/data/a/1.jpg", "bucket/data/b.jpg/"]
    assert found.left_out.record("there", "*.jpg")["hidden"] == 1


@pytest.mark.parametrize("paths", [("a/1.jpg", "a b/1.jpg"), ("1.jpg", "1.jpg"), ("é.jpg", "z.jpg")])
def test_another_order_than_that_of_the_keys_is_noticed(paths: tuple[str, str]) -> None:
    with pytest.raises(OutOfOrderError, match=paths[1]):
        list(walk(*paths).images())


def test_keys_are_read_as_they_are_needed() -> None:
    read = []

    def keys() -> Iterator[tuple[str, int, int]]:
        for number in range(1_000_000):
            read.append(number)
            yield f"a/{number:07}.jpg", 1, 0

    images = KeyWalk("bucket/data", name_matcher("*.jpg"), False, keys()).images()
    assert [next(images).path for _ in range(2)] == ["bucket/data/a/0000000.jpg", "bucket/data/a/0000001.jpg"]
    assert read == [0, 1]
