"""Folders of as many photos as a measurement needs, made of those there are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from benchmarks.inputs import PATTERN
from local.images.loading import find_images


def repeat(source: Path, target: Path, count: int) -> None:
    """Repeat a folder's photos under new names, until there are so many: ``<label>/<stem>-r00012.jpg`` is the 13th.

    Whole rounds first; what is left of the last round is spread evenly over the source, so that a few photos are of all
    labels too. They are hard links where the two folders are on one disk, and copies elsewhere.

    Parameters
    ----------
    source : Path
        Folder of <label>/*.jpg.
    target : Path
        Folder to make; its parent may be missing, itself must be.
    count : int
        Photos to make.

    Raises
    ------
    ValueError
        When the count is less than 1.
    FileExistsError
        When the target is there already.
    ImagesError
        When the source has no photos.
    """
    if count < 1:
        raise ValueError(f"{count} photos asked for, expected 1 or more")
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
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)


def read_once(folder: Path) -> int:
    """Read every photo, so that no side is the one that fills the system's cache, and return the bytes."""
    return sum(len(photo.read_bytes()) for photo in find_images(folder, PATTERN).values())
