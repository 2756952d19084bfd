"""Load a folder of images into the lake, so that the lake's ``data/`` mirrors the folder.

A ledger at the lake's root records which files were loaded. A second folder therefore replaces the first one, and files
that were not loaded by this module are never changed or deleted.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spark_jobs.args import name_matcher

LEDGER = ".loaded_images.json"

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


class Destination(ABC):
    """The lake's ``data/``, in a folder or in a bucket; names are paths below it."""

    location: str
    """Location of ``data/``, for messages."""

    @abstractmethod
    def identify_source(self, source: Path) -> Identity:
        """Return the identity that an image will have in the lake."""

    @abstractmethod
    def identify(self, name: str) -> Identity | None:
        """Return the identity of a file in the lake, None if it does not exist."""

    @abstractmethod
    def names(self) -> Iterator[str]:
        """Yield the names of all files in ``data/``."""

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
    def read_ledger(self) -> str | None:
        """Return the text of the ledger, None if it does not exist."""

    @abstractmethod
    def write_ledger(self, text: str) -> None:
        """Replace the ledger atomically."""


def find_images(folder: Path, pattern: str) -> dict[str, Path]:
    """Map the name of each image below ``data/`` to its file in a folder.

    The label of an image is the name of its folder; images at the top level have the name of ``folder`` as label.

    Raises
    ------
    ImagesError
        If the folder does not exist, or no file matches the pattern.
    """
    if not folder.is_dir():
        raise ImagesError(f"IMAGES={folder}: not a folder; expected a folder such as IMAGES/<label>/<name>.jpg")
    label = folder.resolve().name
    images: dict[str, Path] = {}
    for path in walk_files(folder, name_matcher(pattern)):
        _check_encoding(path)
        relative = path.relative_to(folder)
        name = relative.as_posix() if len(relative.parts) > 1 else f"{label}/{relative.name}"
        if name in images:
            raise ImagesError(f"{images[name]} and {path} would both become data/{name}; rename one")
        images[name] = path
    if not images:
        raise ImagesError(f"IMAGES={folder}: no file matches {pattern!r}; expected IMAGES/<label>/<name>.jpg")
    return images


def _check_encoding(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise ImagesError(f"the name of {shown} is not valid UTF-8; rename it") from None


def walk_files(folder: Path, matches: Callable[[str], bool]) -> Iterator[Path]:
    """Yield the files in a folder and its subfolders whose names match.

    Links to folders are followed, except links to a folder that contains the link.

    Raises
    ------
    ImagesError
        If a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise ImagesError(f"{error.filename} cannot be read: {error.strerror}") from error

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        ancestors = {Path(parent).resolve(), *Path(parent).resolve().parents}
        folders[:] = sorted(name for name in folders if Path(parent, name).resolve() not in ancestors)
        for name in sorted(names):
            if matches(name):
                yield Path(parent) / name


def load_images(folder: Path, destination: Destination, pattern: str) -> LoadResult:
    """Make the lake's ``data/`` mirror a folder; files that were not loaded by this function stay unchanged.

    Parameters
    ----------
    folder : Path
        The images, ``<label>/<name>`` at any depth.
    destination : Destination
        The lake's ``data/``.
    pattern : str
        Pattern of file names, as in the featurize job.

    Raises
    ------
    ImagesError
        If there are no images, or an image would replace a file that was not loaded by this function.
    """
    images = find_images(folder, pattern)
    destination.check(folder, images)
    wanted = {name: destination.identify_source(path) for name, path in images.items()}
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
    new = [name for name, identity in owned.items() if existing[name] != identity]
    destination.add([(images[name], name) for name in new])
    obsolete = [name for name in ledger if name not in wanted and existing[name] is not None]
    removed = [name for name in obsolete if existing[name] in ledger[name]]
    destination.remove(removed)
    _write_ledger(destination, {name: [identity] for name, identity in owned.items()})
    return LoadResult(images=len(wanted), added=len(new), removed=len(removed), kept=len(obsolete) - len(removed))


def has_unloaded_files(destination: Destination) -> bool:
    """Return whether ``data/`` has files that were not loaded by :func:`load_images`."""
    ledger = _read_ledger(destination)
    return any(name not in ledger for name in destination.names())


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
            f"the ledger {LEDGER} next to {destination.location} is damaged ({error}); delete it: the images that were "
            "loaded before then stay in the lake"
        ) from error
    return ledger


def _write_ledger(destination: Destination, ledger: Ledger) -> None:
    destination.write_ledger(json.dumps(ledger, ensure_ascii=False))
