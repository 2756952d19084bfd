"""The lake's ``data/`` as a folder: images are linked into it, or copied if links are impossible."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from local.images.loading import Destination, Identity, ImagesError, walk_files
from spark_jobs.args import LOADED_IMAGES_FILE, NOT_LOADED_FILE

UNFINISHED = ".loading"
"""Suffix of a temporary file; such a file remains if a load is killed."""


class ImageFolder(Destination):
    """The ``data/`` folder of a lake on this machine.

    Parameters
    ----------
    lake : Path
        The lake's root.
    """

    def __init__(self, lake: Path) -> None:
        self._data = lake / "data"
        self._ledger = lake / LOADED_IMAGES_FILE
        self.location = str(self._data)

    def identify_source(self, source: Path) -> Identity:
        """Return size and modification time: a link shares them with its source, and a copy keeps them.

        A link that cannot be followed is loaded as a link, so that the job rejects it with the reason.
        """
        try:
            status = source.stat()
        except OSError:
            status = source.lstat()
        return [status.st_size, status.st_mtime_ns]

    def identify(self, name: str) -> Identity | None:
        """Return size and modification time of a file, None if it does not exist."""
        target = self._data / name
        return self.identify_source(target) if os.path.lexists(target) else None

    def names(self) -> Iterator[str]:
        """Yield the names of all files, except hidden ones; temporary files are hidden."""
        if self._data.exists():
            for path in walk_files(self._data, "*", include_hidden=False)[0]:
                yield path.relative_to(self._data).as_posix()

    def check(self, folder: Path, images: Mapping[str, Path]) -> None:
        """Refuse a folder that contains the lake or is inside it, and images whose folder in the lake is a file.

        Raises
        ------
        ImagesError
            With the reason.
        """
        source, target = folder.resolve(), self._data.resolve()
        if source == target or target in source.parents:
            raise ImagesError(f"IMAGES={folder} is in the lake's own data folder; omit IMAGES to use it as it is")
        if source in target.parents:
            raise ImagesError(
                f"IMAGES={folder} contains the lake's data folder {self._data}; set LAKE to a folder outside of it"
            )
        for name, image in images.items():
            for parent in Path(name).parents[:-1]:
                blocked = self._data / parent
                if os.path.lexists(blocked) and not blocked.is_dir():
                    raise ImagesError(f"{blocked} is a file, but {image} needs a folder of that name; move it away")

    def add(self, images: Sequence[tuple[Path, str]]) -> None:
        """Link each image atomically, or copy it."""
        for source, name in images:
            _add(source, self._data / name)

    def remove(self, names: Sequence[str]) -> None:
        """Delete files and the folders that become empty."""
        for name in names:
            target = self._data / name
            target.unlink()
            for parent in target.parents:
                if parent == self._data or any(parent.iterdir()):
                    break
                parent.rmdir()

    def write_not_loaded(self, text: str | None) -> None:
        """Replace the record of the files that were not loaded atomically, or delete it."""
        if text is None:
            (self._data / NOT_LOADED_FILE).unlink(missing_ok=True)
        else:
            _replace(self._data / NOT_LOADED_FILE, text)

    def read_ledger(self) -> str | None:
        """Return the text of the ledger, None if it does not exist."""
        try:
            return self._ledger.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None

    def write_ledger(self, text: str) -> None:
        """Replace the ledger atomically."""
        _replace(self._ledger, text)


def _replace(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{uuid.uuid4().hex}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


def _add(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex}{UNFINISHED}")
    if os.path.exists(source):  # noqa: PTH110 (Path.exists raises an error if a folder on the way cannot be read)
        source = source.resolve()  # a hard link to a relative symbolic link would dangle
    try:
        try:
            os.link(source, temporary)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP}:
                raise
            _link_symbolically_or_copy(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _link_symbolically_or_copy(source: Path, target: Path) -> None:
    if not os.path.exists(source):  # noqa: PTH110 (as above)
        shutil.copy2(source, target, follow_symlinks=False)  # the link itself, with its size and time
        return
    try:
        target.symlink_to(source.resolve())
    except OSError:
        shutil.copy2(source, target)
