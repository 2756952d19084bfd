"""Load a folder of images into the lake, so that the lake's ``data/`` mirrors the folder.

A ledger at the lake's root records which files were loaded. A second folder therefore replaces the first one, and files
that were not loaded by this module are never changed or deleted.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spark_jobs.args import LOADED_IMAGES_FILE
from spark_jobs.left_out import LeftOutCounter, advise, describe
from spark_jobs.records import LeftOut
from spark_jobs.walk import WalkError, walk_local_folder

Identity = list[int | str]
"""Distinguishes two versions of a file: numbers and texts, which JSON can store."""

Ledger = dict[str, list[Identity]]
"""Maps the name of each loaded file to the identities with which it may have been written."""


class ImagesError(RuntimeError):
    """The images cannot be loaded into the lake; files in the lake are not lost."""


@dataclass(frozen=True)
class LoadResult:
    """Counts of files after a load."""

    images: int
    added: int
    removed: int
    kept: int
    """Loaded files that are no longer in the folder but were changed by others, and therefore not deleted."""
    left_out: LeftOut | None = field(default=None, compare=False)
    """Files of the folder that were not loaded; None if all were."""


class Destination(ABC):
    """The lake's ``data/``, in a folder or in a bucket; names are paths below it."""

    location: str
    """Location of ``data/``, for messages."""

    @abstractmethod
    def identify_source(self, source: Path) -> Identity:
        """Return the identity that an image will have in the lake.

        Raises
        ------
        OSError
            If the image cannot be read.
        """

    @abstractmethod
    def identify(self, name: str) -> Identity | None:
        """Return the identity of a file in the lake, None if it does not exist."""

    @abstractmethod
    def names(self) -> Iterator[str]:
        """Yield the names of all files in ``data/``, except hidden ones (:func:`spark_jobs.args.is_hidden`)."""

    @abstractmethod
    def check(self, folder: Path, images: Mapping[str, Path]) -> None:
        """Refuse images that cannot be loaded, before any change.

        Raises
        ------
        ImagesError
            With the reason.
        """

    @abstractmethod
    def add(self, images: Sequence[tuple[Path, str]]) -> None:
        """Add images, given as source and name; each appears in the lake completely or not at all."""

    @abstractmethod
    def remove(self, names: Sequence[str]) -> None:
        """Delete files and the folders that become empty."""

    @abstractmethod
    def write_not_loaded(self, text: str | None) -> None:
        """Replace the record of the files that were not loaded, or delete it if None; featurize reports it."""

    @abstractmethod
    def read_ledger(self) -> str | None:
        """Return the text of the ledger, None if it does not exist."""

    @abstractmethod
    def write_ledger(self, text: str) -> None:
        """Replace the ledger atomically."""


def find_images(folder: Path, pattern: str) -> dict[str, Path]:
    """Map the name of each image below ``data/`` to its file in a folder; hidden files are left out.

    Raises
    ------
    ImagesError
        As for :func:`load_images`.
    """
    return _find_images(folder, pattern, include_hidden=False)[0]


def _find_images(folder: Path, pattern: str, *, include_hidden: bool) -> tuple[dict[str, Path], LeftOutCounter]:
    """Map names below ``data/`` to files, and count the other files.

    The label of an image is the name of its folder; images at the top level have the name of ``folder`` as label.
    """
    if not folder.is_dir():
        raise ImagesError(f"IMAGES={folder}: not a folder; expected a folder such as IMAGES/<label>/<name>.jpg")
    label = folder.resolve().name
    images: dict[str, Path] = {}
    paths, left_out = walk_files(folder, pattern, include_hidden=include_hidden)
    for path in paths:
        relative = path.relative_to(folder)
        name = relative.as_posix() if len(relative.parts) > 1 else f"{label}/{relative.name}"
        if name in images:
            raise ImagesError(f"{images[name]} and {path} would both become data/{name}; rename one")
        images[name] = path
    if not images:
        record = left_out.record(str(folder), pattern)
        found = "; ".join(describe(record)) or "the folder is empty"
        advice = f". {advise(record)}" if left_out.skipped else ""
        raise ImagesError(
            f"IMAGES={folder}: no file matches {pattern!r}; expected IMAGES/<label>/<name>.jpg. Found: {found}{advice}"
        )
    return images, left_out


def walk_files(folder: Path, pattern: str, *, include_hidden: bool) -> tuple[list[Path], LeftOutCounter]:
    """Return the files in a folder and its subfolders whose names match, and the count of the others.

    This is the walk of the featurize job (:mod:`spark_jobs.walk`), so both treat names and links alike.

    Raises
    ------
    ImagesError
        If a folder cannot be read, or the name of an image is not valid UTF-8.
    """
    root = os.path.abspath(folder)  # noqa: PTH100 (Path.absolute keeps "..")
    walk = walk_local_folder(root.rstrip("/"), pattern, include_hidden=include_hidden)
    try:
        paths = [image.path for image in walk.images()]
    except WalkError as error:
        raise ImagesError(str(error)) from error
    return [folder / path[len(walk.root) + 1 :] for path in paths if not path.endswith("/")], walk.left_out


def load_images(folder: Path, destination: Destination, pattern: str, *, include_hidden: bool = False) -> LoadResult:
    """Make the lake's ``data/`` mirror a folder; files that were not loaded by this function stay unchanged.

    Parameters
    ----------
    folder : Path
        The images, ``<label>/<name>`` at any depth.
    destination : Destination
        The lake's ``data/``.
    pattern : str
        Pattern of file names, as in the featurize job.
    include_hidden : bool
        Whether hidden files are loaded too, as in the featurize job.

    Raises
    ------
    ImagesError
        If there are no images, a folder cannot be read, the name of an image is not valid UTF-8, or an image would
        replace a file that was not loaded by this function.
    """
    images, left_out = _find_images(folder, pattern, include_hidden=include_hidden)
    destination.check(folder, images)
    wanted = _identify(images, destination, left_out)
    record = left_out.record(str(folder), pattern)
    not_loaded = record if describe(record) else None
    if not wanted:
        raise ImagesError(f"IMAGES={folder}: none of the {len(images)} images can be read")
    ledger = _read_ledger(destination)
    existing = {name: destination.identify(name) for name in {**ledger, **wanted}}
    for name, identity in wanted.items():
        if existing[name] is not None and existing[name] not in [identity, *ledger.get(name, [])]:
            raise ImagesError(
                f"{destination.location}/{name} exists, was not loaded by this command, and differs from "
                f"{images[name]}; move one of them away"
            )
    # An existing file that is equal to the image but not in the ledger stays out of the ledger, so it is never deleted.
    owned = {
        name: identity
        for name, identity in wanted.items()
        if existing[name] is None or existing[name] in ledger.get(name, [])
    }
    # The ledger first records old and new identities: if this load is killed, the next one recognizes its files.
    _write_ledger(
        destination,
        {name: [*ledger.get(name, []), identity] for name, identity in owned.items()}
        | {name: identities for name, identities in ledger.items() if name not in wanted},
    )
    destination.write_not_loaded(json.dumps(not_loaded, ensure_ascii=False) if not_loaded else None)
    new = [name for name, identity in owned.items() if existing[name] != identity]
    destination.add([(images[name], name) for name in new])
    obsolete = [name for name in ledger if name not in wanted and existing[name] is not None]
    removed = [name for name in obsolete if existing[name] in ledger[name]]
    destination.remove(removed)
    _write_ledger(destination, {name: [identity] for name, identity in owned.items()})
    return LoadResult(len(wanted), len(new), len(removed), len(obsolete) - len(removed), not_loaded)


def _identify(images: Mapping[str, Path], destination: Destination, left_out: LeftOutCounter) -> dict[str, Identity]:
    """Return the identity of each image that can be read, and count the others."""
    wanted: dict[str, Identity] = {}
    for name, path in images.items():
        try:
            wanted[name] = destination.identify_source(path)
        except OSError as error:
            left_out.unreadable.append(f"{path} ({error.strerror})")
    return wanted


def has_unloaded_files(destination: Destination) -> bool:
    """Return whether ``data/`` has files that were not loaded by :func:`load_images`."""
    ledger = _read_ledger(destination)
    return any(name not in ledger for name in destination.names())


def forget_removed_images(destination: Destination) -> None:
    """Delete the record of the files that were not loaded if no loaded file is left in ``data/``."""
    if not any(destination.identify(name) for name in _read_ledger(destination)):
        destination.write_not_loaded(None)


def _read_ledger(destination: Destination) -> Ledger:
    text = destination.read_ledger()
    if text is None:
        return {}
    try:
        ledger: Ledger = json.loads(text)
        if not isinstance(ledger, dict) or not all(isinstance(item, list) for item in ledger.values()):
            raise ValueError("expected an object of lists")
    except ValueError as error:
        raise ImagesError(
            f"the ledger {LOADED_IMAGES_FILE} next to {destination.location} is damaged ({error}); delete it: the "
            "images that were loaded before then stay in the lake"
        ) from error
    return ledger


def _write_ledger(destination: Destination, ledger: Ledger) -> None:
    destination.write_ledger(json.dumps(ledger, ensure_ascii=False))
