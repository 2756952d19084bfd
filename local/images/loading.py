"""Bringing a folder of images into the lake, whose ``data/`` then mirrors it.

What was loaded is written down in a ledger at the lake's root, so that a second folder replaces the first, and files
that were put into the lake in another way are never changed or deleted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from spark_jobs.args import name_matcher

LEDGER = ".loaded_images.json"

Identity = list[int | str]
"""What tells two versions of a file apart: numbers and texts, as JSON keeps them."""


class ImagesError(RuntimeError):
    """The images cannot be brought into the lake; nothing that was there is lost."""


@dataclass(frozen=True)
class Loaded:
    """What loading has done: counts of files."""

    images: int
    added: int
    removed: int
    kept: int
    """Files that the ledger names and that have changed since: they are left alone."""


def find_images(folder: Path, pattern: str) -> dict[str, Path]:
    """Return the image files under a folder: their path below ``data/`` to the file.

    A file's label is the name of the folder that it is in, so files that lie at the top get the folder's own name.

    Raises
    ------
    ImagesError
        When the folder is missing, or holds no file that the pattern takes.
    """
    if not folder.is_dir():
        raise ImagesError(f"IMAGES={folder}: not a folder; expected a folder such as IMAGES/<label>/<name>.jpg")
    top = folder.resolve().name
    found: dict[str, Path] = {}
    for path in walk_files(folder, name_matcher(pattern)):
        _check_name(path)
        relative = path.relative_to(folder)
        name = relative.as_posix() if len(relative.parts) > 1 else f"{top}/{relative.name}"
        if name in found:
            raise ImagesError(f"{found[name]} and {path} would both become data/{name}; rename one")
        found[name] = path
    if not found:
        raise ImagesError(f"IMAGES={folder}: no file matches {pattern!r}; expected IMAGES/<label>/<name>.jpg")
    return found


def _check_name(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise ImagesError(f"the name of {shown} is not valid UTF-8; rename it") from None


def walk_files(folder: Path, matches: Callable[[str], bool]) -> Iterator[Path]:
    """Yield the files under a folder whose names match; links to folders are followed, save one that it is already in.

    Raises
    ------
    ImagesError
        When a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise ImagesError(f"{error.filename} cannot be read: {error.strerror}") from error

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        above = {Path(parent).resolve(), *Path(parent).resolve().parents}
        folders[:] = sorted(name for name in folders if Path(parent, name).resolve() not in above)
        for name in sorted(names):
            if matches(name):
                yield Path(parent) / name


class Destination(Protocol):
    """The lake's ``data/``, a folder or in a bucket; names are paths below it."""

    shown: str
    """Its location, for people."""

    def identify(self, source: Path) -> Identity:
        """Return what an image that is brought has in common with its source."""

    def identity(self, name: str) -> Identity | None:
        """Return the identity of what is there, None when nothing is."""

    def names(self) -> Iterator[str]:
        """Yield the names of all files that are there."""

    def check(self, folder: Path, found: Mapping[str, Path]) -> None:
        """Refuse what cannot be brought here, before anything is changed.

        Raises
        ------
        ImagesError
            With the reason.
        """

    def bring(self, images: Sequence[tuple[Path, str]]) -> None:
        """Bring files in, each in one step."""

    def remove(self, names: Sequence[str]) -> None:
        """Delete files, and the folders that are empty then."""

    def read_ledger(self) -> str | None:
        """Return the ledger's text, None when there is none."""

    def write_ledger(self, text: str) -> None:
        """Put the ledger there in one step."""


def load_images(folder: Path, destination: Destination, pattern: str) -> Loaded:
    """Make the lake's ``data/`` mirror a folder, as far as this function has loaded it.

    Parameters
    ----------
    folder : Path
        The images, ``<label>/<name>`` at any depth.
    destination : Destination
        The lake's ``data/``.
    pattern : str
        File names to take, as the featurize job takes them.

    Raises
    ------
    ImagesError
        When there are no images, or one would replace a file that was not loaded from here.
    """
    found = find_images(folder, pattern)
    destination.check(folder, found)
    wanted = {name: destination.identify(path) for name, path in found.items()}
    before = _read_ledger(destination)
    there = {name: destination.identity(name) for name in {**before, **wanted}}
    _refuse_foreign(destination, wanted, there, before, found)
    # What lies there already and is not ours, though it equals the image, stays out of the ledger: it is never deleted.
    ours = {
        name: identity
        for name, identity in wanted.items()
        if there[name] is None or there[name] in before.get(name, [])
    }
    # The union comes first: a load that is killed midway is still known to the next one.
    _write_ledger(
        destination,
        {name: [*before.get(name, []), identity] for name, identity in ours.items()}
        | {name: identities for name, identities in before.items() if name not in wanted},
    )
    new = [name for name, identity in ours.items() if there[name] != identity]
    destination.bring([(found[name], name) for name in new])
    gone = [name for name in before if name not in wanted and there[name] is not None]
    removed = [name for name in gone if there[name] in before[name]]
    destination.remove(removed)
    _write_ledger(destination, {name: [identity] for name, identity in ours.items()})
    return Loaded(images=len(wanted), added=len(new), removed=len(removed), kept=len(gone) - len(removed))


def holds_other_files(destination: Destination) -> bool:
    """Tell whether ``data/`` has files that were put there in another way than by :func:`load_images`."""
    loaded = _read_ledger(destination)
    return any(name not in loaded for name in destination.names())


def _refuse_foreign(
    destination: Destination,
    wanted: Mapping[str, Identity],
    there: Mapping[str, Identity | None],
    before: Mapping[str, list[Identity]],
    found: Mapping[str, Path],
) -> None:
    for name, identity in wanted.items():
        if there[name] is not None and there[name] not in [identity, *before.get(name, [])]:
            raise ImagesError(
                f"{destination.shown}/{name} is there, was not loaded by this command, and differs from {found[name]}; "
                "move one of them away"
            )


def _read_ledger(destination: Destination) -> dict[str, list[Identity]]:
    text = destination.read_ledger()
    if text is None:
        return {}
    try:
        record: dict[str, list[Identity]] = json.loads(text)
        if not isinstance(record, dict) or not all(isinstance(item, list) for item in record.values()):
            raise ValueError("expected an object of lists")
    except ValueError as error:
        raise ImagesError(
            f"the ledger {LEDGER} is damaged ({error}), beside {destination.shown}; delete it: what was loaded before "
            "then stays in the lake as it is"
        ) from error
    return record


def _write_ledger(destination: Destination, record: dict[str, list[Identity]]) -> None:
    destination.write_ledger(json.dumps(record, ensure_ascii=False))
