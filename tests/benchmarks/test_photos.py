from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import photos
from benchmarks.table import Bench


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for name in ("Apple Braeburn/0_100.jpg", "Apple Braeburn/1_100.jpg", "Lemon/0_100.jpg", "Lemon/1_100.JPG"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_whole_rounds_keep_labels_and_contents(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "made" / "eight"
    photos.repeat(source, target, 8)
    assert names(target) == [
        "Apple Braeburn/0_100-r00000.jpg",
        "Apple Braeburn/0_100-r00001.jpg",
        "Apple Braeburn/1_100-r00000.jpg",
        "Apple Braeburn/1_100-r00001.jpg",
        "Lemon/0_100-r00000.jpg",
        "Lemon/0_100-r00001.jpg",
        "Lemon/1_100-r00000.JPG",
        "Lemon/1_100-r00001.JPG",
    ]
    assert (target / "Lemon/0_100-r00001.jpg").read_bytes() == b"Lemon/0_100.jpg"


def test_the_rest_is_spread_over_the_labels(source: Path, tmp_path: Path) -> None:
    photos.repeat(source, tmp_path / "two", 2)
    assert names(tmp_path / "two") == ["Apple Braeburn/0_100-r00000.jpg", "Lemon/0_100-r00000.jpg"]
    photos.repeat(source, tmp_path / "six", 6)
    assert len(names(tmp_path / "six")) == 6


def test_the_photos_are_hard_links(source: Path, tmp_path: Path) -> None:
    photos.repeat(source, tmp_path / "made", 12)
    original = source / "Lemon/0_100.jpg"
    assert (tmp_path / "made" / "Lemon/0_100-r00002.jpg").samefile(original)
    assert original.stat().st_nlink == 1 + 3


def test_the_photos_are_copies_on_another_disk(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(photos.os, "link", refuse)
    photos.repeat(source, tmp_path / "made", 4)
    assert (tmp_path / "made" / "Lemon/0_100-r00000.jpg").read_bytes() == b"Lemon/0_100.jpg"
    assert (source / "Lemon/0_100.jpg").stat().st_nlink == 1


def test_an_existing_folder_is_refused(source: Path, tmp_path: Path) -> None:
    photos.repeat(source, tmp_path / "made", 4)
    with pytest.raises(FileExistsError):
        photos.repeat(source, tmp_path / "made", 4)


def test_a_count_of_zero_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 photos requested"):
        photos.repeat(source, tmp_path / "made", 0)


def test_each_size_has_a_folder(source: Path, tmp_path: Path) -> None:
    bench = Bench(source, 4, tmp_path, tmp_path, tmp_path / "work", "local[1]")
    folders = photos.prepare(bench, (2, 6))
    assert {size: len(names(folder)) for size, folder in folders.items()} == {2: 2, 6: 6}


def test_reading_once_reads_every_byte(source: Path) -> None:
    assert photos.read_once(source) == sum(path.stat().st_size for path in source.rglob("*.*") if path.is_file())
