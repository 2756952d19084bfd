"""Erases photos from a lake: ``make forget``."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from include.erasure.errors import IncompleteError, NoStateError, NothingFoundError, NothingLeftError
from include.erasure.forget import forget
from include.erasure.receipt import describe_receipt
from include.erasure.request import RequestError, read_request, split_words
from include.erasure.stored import DeletionError
from include.lake.commit import ConflictError
from include.lake.layout import Lake, read_root
from include.lake.objects import LakePath
from include.lake.state import DamagedLakeError
from include.settings.deployment import SettingsError, read_settings

REFUSALS = (
    ConflictError,
    DamagedLakeError,
    DeletionError,
    IncompleteError,
    NoStateError,
    NothingFoundError,
    NothingLeftError,
    RequestError,
    SettingsError,
)


def main(argv: list[str] | None = None) -> int:
    """Erase photos and print the place of the receipt; the exit code is 1 if that is refused."""
    parser = argparse.ArgumentParser(prog="python -m include.erasure", description=__doc__)
    parser.add_argument("--lake", help="folder, or s3://bucket; default: the lake of `make run`, .local/lake")
    parser.add_argument("--relative-to", default=".", help="folder to which relative paths refer")
    parser.add_argument("--paths", default="", help="photos, such as data/Kiwi/1.jpg; quotes keep spaces")
    parser.add_argument("--labels", default="", help="labels, all of whose photos are meant")
    parser.add_argument("--file", help="a text file with the path of a photo per line")
    parser.add_argument("--keep-photos", action="store_true", help="delete only what is derived from the photos")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    lake = Lake(read_root(options.lake, options.relative_to))
    try:
        if not LakePath(lake.root).exists():
            raise RequestError(f"there is no lake at {lake.root}: name one with LAKE=folder")
        paths = [*split_words(options.paths), *(_read_lines(options.file, options.relative_to) if options.file else [])]
        request = read_request(lake, paths, split_words(options.labels), keeps_photos=options.keep_photos)
        receipt = forget(lake, request, read_settings().kept_states, None)
    except REFUSALS as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(describe_receipt(lake, receipt)))
    return 0


def _read_lines(name: str, relative_to: str) -> list[str]:
    file = Path(relative_to, Path(name).expanduser())
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"FILE={name} cannot be read ({error}): expected a text file with a path per line") from None


if __name__ == "__main__":
    sys.exit(main())
