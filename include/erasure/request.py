"""What a person wants to be erased. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from include.lake.layout import Lake


class RequestError(ValueError):
    """The request names nothing, or something that cannot be in the lake."""


@dataclass(frozen=True)
class Request:
    """The photos to erase.

    Attributes
    ----------
    paths : tuple of str
        Paths relative to the lake's root, such as ``data/Kiwi/1.jpg``, sorted.
    labels : tuple of str
        All photos with these labels are meant, sorted.
    keeps_photos : bool
        Whether the photos themselves stay, and only what is derived from them is deleted.
    """

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    keeps_photos: bool = False


def read_request(lake: Lake, paths: Iterable[str], labels: Iterable[str], *, keeps_photos: bool = False) -> Request:
    """Return a request with the paths as the lake has them.

    Parameters
    ----------
    lake : Lake
        The lake.
    paths : iterable of str
        Paths relative to the lake's root, URIs, or for a lake in a folder absolute paths.
    labels : iterable of str
        Labels.
    keeps_photos : bool
        As in :class:`Request`.

    Raises
    ------
    RequestError
        If a path is not in the lake, or nothing is named.
    """
    named = sorted({_relative(lake, path) for path in paths if path.strip()})
    chosen = sorted({label for label in labels if label.strip()})
    if not named and not chosen:
        raise RequestError("nothing is named: expected paths such as data/Kiwi/1.jpg, or labels such as Kiwi")
    return Request(tuple(named), tuple(chosen), keeps_photos)


def _relative(lake: Lake, path: str) -> str:
    folder = lake.root.removeprefix("file://")
    relative = path.strip("\r\n")
    for root in (lake.root, folder):
        relative = relative.removeprefix(f"{root}/")
    parts = relative.split("/")
    if "://" in relative or relative.startswith("/") or len(parts) < 2 or not all(parts) or {".", ".."} & set(parts):
        raise RequestError(f"{path!r} is no photo in {lake.root}: expected a path such as data/Kiwi/1.jpg, or its URI")
    return relative


def split_words(text: str) -> list[str]:
    """Return the words of a text; quotes keep the spaces of a word, as in a shell.

    Raises
    ------
    RequestError
        If a quote is not closed.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise RequestError(
            f"{text!r} cannot be read ({error}): put names with spaces into quotes, or use FILE"
        ) from None


def label_of(path: str) -> str:
    """Return the label of a photo: the name of its folder."""
    return path.rpartition("/")[0].rpartition("/")[2]


def uris(roots: Sequence[str], paths: Iterable[str]) -> frozenset[str]:
    """Return the full URIs of paths, as the datasets have them, under each of some roots of the lake."""
    return frozenset(f"{root}/{path}" for path in paths for root in roots)
