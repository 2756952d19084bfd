"""Folders with the number of photos that a measurement needs, filled by repeating existing photos."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from benchmarks.inputs import PATTERN
from benchmarks.table import Bench
from local.images.loading import find_images


def prepare(bench: Bench, sizes: Iterable[int]) -> dict[int, Path]:
    """Create a folder of photos for each size, and read all photos once: all sides then find them in the page cache."""
    folders = {size: bench.work / "photos" / str(size) for size in sizes}
    for size, folder in folders.items():
        repeat(bench.images, folder, size)
        read_once(folder)
    return folders


def repeat(source: Path, target: Path, count: int) -> None:
    """Create a folder of ``count`` photos, which repeat the photos of another folder under new names.

    The 13th repetition of a photo is ``<label>/<stem>-r00012.jpg``. All photos are repeated equally often; the rest is
    spread evenly over the source, so that a small folder has all labels too. The photos are hard links if both folders
    are on one file system, else copies.

    Parameters
    ----------
    source : Path
        Folder of <label>/*.jpg.
    target : Path
        Folder to create; it must not exist. Missing parents are created.
    count : int
        Number of photos.

    Raises
    ------
    ValueError
        If ``count`` is less than 1.
    FileExistsError
        If the target exists.
    ImagesError
        If the source has no photos.
    """
    if count < 1:
        raise ValueError(f"{count} photos requested, expected 1 or more")
    photos = sorted(find_images(source, PATTERN).items())
    target.mkdir(parents=True)
    rounds, rest = divmod(count, len(photos))
    for number in range(rounds):
        for name, photo in photos:
            _link(photo, _renamed(target / name, number))
    for index in range(rest):
        name, photo = photos[index * len(photos) // rest]
        _link(photo, _renamed(target / name, rounds))


def _renamed(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-r{number:05}{path.suffix}")


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def read_once(folder: Path) -> int:
    """Read every photo of a folder, and return the number of bytes."""
    return sum(len(photo.read_bytes()) for photo in find_images(folder, PATTERN).values())
