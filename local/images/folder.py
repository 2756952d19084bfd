"""The lake's ``data/`` as a folder: images are linked into it where possible."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from local.images.loading import LEDGER, Identity, ImagesError, walk_files


class ImageFolder:
    """The ``data/`` folder of a lake on this machine.

    Parameters
    ----------
    lake : Path
        The lake's root.
    """

    def __init__(self, lake: Path) -> None:
        self._data = lake / "data"
        self._ledger = lake / LEDGER
        self.shown = str(self._data)

    def identify(self, source: Path) -> Identity:
        """Return size and modification time: what a link shares with its source, and a copy keeps."""
        try:
            status = source.stat()
        except FileNotFoundError:  # a dangling link
            status = source.lstat()
        return [status.st_size, status.st_mtime_ns]

    def identity(self, name: str) -> Identity | None:
        """Return the identity of what is there, None when nothing is."""
        target = self._data / name
        return self.identify(target) if os.path.lexists(target) else None

    def names(self) -> Iterator[str]:
        """Yield the names of all files that are there."""
        if self._data.exists():
            for path in walk_files(self._data, lambda _: True):
                if path.suffix != ".loading":  # left by a load that was killed
                    yield path.relative_to(self._data).as_posix()

    def check(self, folder: Path, found: Mapping[str, Path]) -> None:
        """Refuse folders that hold each other, and images that a file is in the way of.

        Raises
        ------
        ImagesError
            With the reason.
        """
        self._refuse_overlap(folder)
        for name, source in found.items():
            target = self._data / name
            for parent in target.relative_to(self._data).parents[:-1]:
                blocked = self._data / parent
                if os.path.lexists(blocked) and not blocked.is_dir():
                    raise ImagesError(f"{blocked} is a file, and {source} needs a folder there; move it away")

    def _refuse_overlap(self, folder: Path) -> None:
        images, target = folder.resolve(), self._data.resolve()
        if images == target or target in images.parents:
            raise ImagesError(f"IMAGES={folder} is in the lake's own data folder; leave IMAGES out to take it as it is")
        if images in target.parents:
            raise ImagesError(
                f"IMAGES={folder} holds the lake's data folder {self._data}; set LAKE to a folder outside of it"
            )

    def bring(self, images: Sequence[tuple[Path, str]]) -> None:
        """Link the images, each in one step, or copy them."""
        for source, name in images:
            _bring(source, self._data / name)

    def remove(self, names: Sequence[str]) -> None:
        """Delete files, and the folders that are empty then."""
        for name in names:
            target = self._data / name
            target.unlink()
            for parent in target.parents:
                if parent == self._data or any(parent.iterdir()):
                    break
                parent.rmdir()

    def read_ledger(self) -> str | None:
        """Return the ledger's text, None when there is none."""
        try:
            return self._ledger.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None

    def write_ledger(self, text: str) -> None:
        """Put the ledger there in one step."""
        self._ledger.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._ledger.with_name(f"{self._ledger.name}.{uuid.uuid4().hex}")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self._ledger)


def _bring(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex}.loading")
    if source.exists():
        source = source.resolve()  # a hard link to a relative symbolic link would point nowhere
    try:
        try:
            os.link(source, temporary)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP}:
                raise
            _link_or_copy(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source.resolve())
    except OSError:
        shutil.copy2(source, target)
