"""The two places where a lake can be: a folder of this machine, and a bucket."""

from __future__ import annotations

import io
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pandas as pd

from include.lake.commit import commit
from include.lake.layout import Lake
from include.lake.publication import show_published
from include.lake.state import read_pointer
from include.records import Current
from tests.include.run_folders import manifest_of
from tests.s3_store import Store


class Place(Protocol):
    """A lake, as someone sees it who does not use the code of the project."""

    conn: str | None

    @property
    def lake(self) -> Lake: ...

    def names(self) -> set[str]:
        """Return the paths of all files, except the locks of a folder."""

    def read(self, name: str) -> bytes: ...

    def write(self, name: str, data: bytes) -> None: ...

    def delete(self, name: str) -> None: ...


@dataclass
class Folder:
    root: Path
    conn: str | None = None

    @property
    def lake(self) -> Lake:
        return Lake(f"file://{self.root}")

    def names(self) -> set[str]:
        files = (path for path in self.root.rglob("*") if path.is_file() and path.suffix != ".lock")
        return {path.relative_to(self.root).as_posix() for path in files}

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """Replace a file as the product does: by a rename, since two names may be one file."""
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        temporary = self.root.with_name(f"{self.root.name}.new")
        temporary.write_bytes(data)
        temporary.replace(self.root / name)

    def delete(self, name: str) -> None:
        (self.root / name).unlink()


@dataclass
class Bucket:
    store: Store
    name: str
    conn: str | None

    @property
    def lake(self) -> Lake:
        return Lake(f"s3://{self.name}")

    def names(self) -> set[str]:
        return self.store.keys(self.name)

    def read(self, name: str) -> bytes:
        return self.store.read(self.name, name)

    def write(self, name: str, data: bytes) -> None:
        self.store.put(self.name, name, data)

    def delete(self, name: str) -> None:
        self.store.s3.delete_object(Bucket=self.name, Key=name)


READ_BY_PEOPLE = ("current.json", "results/", "results_csv/")


def files(place: Place, *prefixes: str) -> dict[str, bytes]:
    """Return the content of all files, or of those with a prefix."""
    return {name: place.read(name) for name in place.names() if name.startswith(prefixes or "")}


def upload(place: Place, root: Path) -> None:
    """Copy the files of a folder into a lake."""
    if isinstance(place, Folder):
        shutil.copytree(root, place.root, dirs_exist_ok=True)
        return
    for path in root.rglob("*"):
        if path.is_file():
            place.write(path.relative_to(root).as_posix(), path.read_bytes())


def rows(place: Place) -> pd.DataFrame:
    """Return the rows of ``results/``, in the order of the paths, as pandas reads them."""
    if isinstance(place, Folder):
        folder = place.root / "results"
        found = pd.read_parquet(folder) if folder.is_dir() and any(folder.iterdir()) else pd.DataFrame({"path": []})
    else:
        parts = [pd.read_parquet(io.BytesIO(data)) for _, data in sorted(files(place, "results/").items())]
        found = pd.concat(parts) if parts else pd.DataFrame({"path": []})
    return found.sort_values("path", ignore_index=True)


def base_of(place: Place) -> str | None:
    """Return what find_changes remembers of the published state."""
    pointer = read_pointer(place.lake, place.conn)
    return pointer.digest if pointer else None


def commit_run(place: Place, run: Path, **changes: str) -> Current:
    """Commit the state of a run, on top of the published one."""
    return commit(place.lake, manifest_of(run, **changes), base_of(place), "2026-11-22T12:06:00+00:00", place.conn)


def publish(place: Place, run: Path) -> Current:
    """Commit the state of a run and show it."""
    current = commit_run(place, run)
    show_published(place.lake, place.conn)
    return current
