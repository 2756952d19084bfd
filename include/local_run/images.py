"""Bringing a folder of images into the lake: linked where possible, and mirrored.

What was loaded is written down in a ledger at the lake's root, so that a second folder replaces the first, and files
that were put into the lake in another way are never changed or deleted.
"""

from __future__ import annotations

import errno
import fnmatch
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LEDGER = ".loaded_images.json"


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
    for path in _walk(folder, [glob.strip().lower() for glob in pattern.split(",") if glob.strip()]):
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


def _walk(folder: Path, globs: list[str]) -> Iterator[Path]:
    """Yield the files under a folder that match; links to folders are followed, save one that the walk is already in.

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
            if any(fnmatch.fnmatchcase(name.lower(), glob) for glob in globs):
                yield Path(parent) / name


def load_images(folder: Path, lake: Path, pattern: str) -> Loaded:
    """Make the lake's ``data/`` mirror a folder, as far as this function has loaded it.

    Parameters
    ----------
    folder : Path
        The images, ``<label>/<name>`` at any depth.
    lake : Path
        The lake's root.
    pattern : str
        File names to take, as the featurize job takes them.

    Raises
    ------
    ImagesError
        When there are no images, or one would replace a file that was not loaded from here.
    """
    data, ledger = lake / "data", lake / LEDGER
    _refuse_overlap(folder, data)
    found = find_images(folder, pattern)
    wanted = {name: _identity(path) for name, path in found.items()}
    before = _read_ledger(ledger)
    _refuse_foreign(data, wanted, before, found)
    # What lies there already and is not ours, though it equals the image, stays out of the ledger: it is never deleted.
    ours = {name: identity for name, identity in wanted.items() if not _is_foreign(data / name, before.get(name, []))}
    # The union comes first: a load that is killed midway is still known to the next one.
    _write_ledger(
        ledger,
        {name: [*before.get(name, []), identity] for name, identity in ours.items()}
        | {name: identities for name, identities in before.items() if name not in wanted},
    )
    added = sum(_bring(found[name], data / name, identity) for name, identity in ours.items())
    gone = [_remove(data, name, identities) for name, identities in before.items() if name not in wanted]
    _write_ledger(ledger, {name: [identity] for name, identity in ours.items()})
    return Loaded(images=len(wanted), added=added, removed=gone.count(True), kept=gone.count(False))


def holds_other_files(lake: Path) -> bool:
    """Tell whether the lake's ``data/`` has files that were put there in another way than by :func:`load_images`."""
    data = lake / "data"
    if not data.exists():
        return False
    loaded = _read_ledger(lake / LEDGER)
    others = (path for path in _walk(data, ["*"]) if path.suffix != ".loading")  # left by a load that was killed
    return any(path.relative_to(data).as_posix() not in loaded for path in others)


def _identity(path: Path) -> list[int]:
    """Size and modification time: what a link shares with its source, and a copy keeps."""
    try:
        status = path.stat()
    except FileNotFoundError:  # a dangling link
        status = path.lstat()
    return [status.st_size, status.st_mtime_ns]


def _refuse_overlap(folder: Path, data: Path) -> None:
    images, target = folder.resolve(), data.resolve()
    if images == target or target in images.parents:
        raise ImagesError(f"IMAGES={folder} is in the lake's own data folder; leave IMAGES out to take it as it is")
    if images in target.parents:
        raise ImagesError(f"IMAGES={folder} holds the lake's data folder {data}; set LAKE to a folder outside of it")


def _is_foreign(target: Path, loaded: list[list[int]]) -> bool:
    return os.path.lexists(target) and _identity(target) not in loaded


def _refuse_foreign(
    data: Path, wanted: dict[str, list[int]], before: dict[str, list[list[int]]], found: dict[str, Path]
) -> None:
    for name, identity in wanted.items():
        target = data / name
        for parent in target.relative_to(data).parents[:-1]:
            if os.path.lexists(data / parent) and not (data / parent).is_dir():
                raise ImagesError(f"{data / parent} is a file, and {found[name]} needs a folder there; move it away")
        if _is_foreign(target, [identity, *before.get(name, [])]):
            raise ImagesError(
                f"{target} is there, was not loaded by this command, and differs from {found[name]}; "
                "move one of them away"
            )


def _bring(source: Path, target: Path, identity: list[int]) -> bool:
    """Link the source to the target in one step, or copy it; tell whether anything was to do."""
    if os.path.lexists(target) and _identity(target) == identity:
        return False
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
    return True


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source.resolve())
    except OSError:
        shutil.copy2(source, target)


def _remove(data: Path, name: str, identities: list[list[int]]) -> bool | None:
    """Delete a file that was loaded before; False when it has changed since, None when it is gone already."""
    target = data / name
    if not os.path.lexists(target):
        return None
    if _identity(target) not in identities:
        return False
    target.unlink()
    for parent in target.parents:
        if parent == data or any(parent.iterdir()):
            break
        parent.rmdir()
    return True


def _read_ledger(ledger: Path) -> dict[str, list[list[int]]]:
    try:
        record: dict[str, list[list[int]]] = json.loads(ledger.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or not all(isinstance(item, list) for item in record.values()):
            raise ValueError("expected an object of lists")
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ImagesError(
            f"{ledger} is damaged ({error}); delete it: what was loaded before then stays in the lake as it is"
        ) from error
    return record


def _write_ledger(ledger: Path, record: dict[str, list[list[int]]]) -> None:
    ledger.parent.mkdir(parents=True, exist_ok=True)
    temporary = ledger.with_name(f"{ledger.name}.{uuid.uuid4().hex}")
    temporary.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
    temporary.replace(ledger)
