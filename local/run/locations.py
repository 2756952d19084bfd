"""The locations that the commands of local runs take: photos, lake and storage."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from include.settings.readers import read_location
from local.airflow.home import RunError
from local.environment import LOCAL

DEFAULT_BUCKET = "s3://fruits"

REFUSED = ",?#{}[]*:"
"""Characters that Hadoop or spark-submit give a meaning in the path of a folder: lists, queries, patterns, schemes."""


def add_locations(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``make run`` and ``make up`` that name locations."""
    parser.add_argument(
        "--images",
        help="folder of photos, <label>/<name>.jpg at any depth; default: ../shared/fruits/Training if it exists, "
        "else a generated sample",
    )
    parser.add_argument(
        "--store",
        choices=("folder", "s3"),
        default="folder",
        help="storage of the lake: a folder, or the local S3 store (SeaweedFS), started for the run (default: folder)",
    )
    parser.add_argument(
        "--lake",
        help="the lake: a folder (default: .local/lake), or with --store s3 a bucket (default: s3://fruits; its data: "
        ".local/s3)",
    )
    parser.add_argument(
        "--relative-to",
        type=Path,
        default=Path(),
        help="folder from which relative paths of the other options start (default: the working directory)",
    )


def resolve_locations(options: argparse.Namespace) -> None:
    """Replace the options of :func:`add_locations` by an absolute path of the images and the root of the lake.

    Raises
    ------
    RunError
        If the lake is not valid for its storage.
    """
    options.images = absolute(options.images, options.relative_to) if options.images else None
    options.lake = locate_lake(options.lake, options.store, options.relative_to)


def absolute(text: str, base: Path) -> Path:
    """Return the absolute path of a folder that a user names; ``~`` is expanded here, since some shells do not."""
    path = Path(text)
    with contextlib.suppress(RuntimeError):  # no such user: the name begins with a tilde
        path = path.expanduser()
    return (base / path).absolute()


def locate_lake(text: str | None, store: str, base: Path = Path()) -> str:
    """Return the lake's root, given the values of ``LAKE`` and ``STORE``.

    Parameters
    ----------
    text : str or None
        A folder or a bucket; the default of the storage if it is None.
    store : str
        ``folder`` or ``s3``.
    base : Path
        Folder from which a relative path starts.

    Raises
    ------
    RunError
        If the lake is not valid for that storage.
    """
    if store == "s3":
        root = text or DEFAULT_BUCKET
        if not root.startswith("s3://"):
            raise RunError(f"LAKE={text}: expected s3://bucket[/folder] with STORE=s3")
        try:
            return read_location(root)
        except ValueError as error:
            raise RunError(f"LAKE={text}: expected {error}") from None
    if text is not None and "://" in text and not text.startswith("file:///"):
        raise RunError(f"LAKE={text}: expected a folder; for a bucket on the local S3 store, add STORE=s3")
    folder = absolute(text.removeprefix("file://"), base) if text else LOCAL / "lake"
    refused = sorted({character for character in str(folder) if character in REFUSED or not character.isprintable()})
    if refused:
        raise RunError(
            f"LAKE={folder}: Spark misreads paths with {' '.join(map(repr, refused))}; choose a folder without "
            "these characters"
        )
    return f"file://{folder}"
