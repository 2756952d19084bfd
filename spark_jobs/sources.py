"""The digest of the jobs' sources: Airflow computes it before a run, and each job computes it where it runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable


def sources_digest(package: Traversable | None = None) -> str:
    """Return the SHA-256 digest of the Python files of a package, with their paths.

    The digest depends on the sources only: not on times, modes or compiled files, and not on how a zip compresses them.

    Parameters
    ----------
    package : importlib.resources.abc.Traversable, optional
        The package's folder, also inside a zip; default: the package ``spark_jobs`` that this process has imported.
    """
    found = dict(_sources(files(__package__) if package is None else package, ""))
    total = hashlib.sha256()
    for path in sorted(found):
        total.update(f"{path}\0{hashlib.sha256(found[path]).hexdigest()}\n".encode())
    return total.hexdigest()


def _sources(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for item in folder.iterdir():
        if item.is_dir():
            yield from _sources(item, f"{prefix}{item.name}/")
        elif item.name.endswith(".py"):
            yield f"{prefix}{item.name}", item.read_bytes()
