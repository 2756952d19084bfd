"""The search for everything that is derived from some photos: in each place of the lake, and in old versions.

A Parquet file with a column ``path`` is searched for rows; JSON, HTML and lists of photos for names. Other files, such
as a fitted PCA or the scores as CSV, name no photo: they are judged by the folder in which they are
(:mod:`include.erasure.leftovers`). Old versions of derived files are not read: all of them count as found.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from include.erasure import scrubbing
from include.erasure.names import Names
from include.erasure.request import Request, label_of, uris
from include.erasure.stored import Stored, list_stored, read_stored
from include.lake.layout import Lake
from include.records import PlaceCounts
from spark_jobs.args import LOADED_IMAGES_FILE
from spark_jobs.erasure import rows
from spark_jobs.erasure.rows import Erased
from spark_jobs.keyed_hash import keyed_hash

DERIVED = (
    *("segments/", "runs/", "manifests/", "reports/", "results/", "results_csv/"),
    *("current.json", "results.json", LOADED_IMAGES_FILE),
)
"""The places of everything that is derived from photos; the last one is derived from their names."""

NOTHING_COUNTED: PlaceCounts = {"files": 0, "old_versions": 0, "files_found": 0, "rows_found": 0}
"""The counts of a place that was not searched."""

READS_AT_ONCE = 10
"""Number of files that are read concurrently: a read is mostly waiting time. botocore keeps so many connections."""


@dataclass(frozen=True)
class Wanted:
    """What is searched for.

    Attributes
    ----------
    request : Request
        The request.
    photos : frozenset of str
        The photos that are known to be meant, relative to the lake's root: those of the request's labels too.
    roots : tuple of str
        Roots of the lake that the paths in datasets may begin with.
    """

    request: Request
    photos: frozenset[str]
    roots: tuple[str, ...]

    @property
    def erased(self) -> Erased:
        """The photos as the datasets name them."""
        return Erased(uris(self.roots, self.photos), frozenset(self.request.labels))

    @property
    def names(self) -> Names:
        """The names that texts may have."""
        return Names(self.photos, self.request.labels)

    def relative(self, uri: str) -> str:
        """Return the path in the lake of a photo."""
        for root in self.roots:
            uri = uri.removeprefix(f"{root}/")
        return uri


@dataclass
class Findings:
    """What a search has found; paths are relative to the lake's root.

    Attributes
    ----------
    photos : dict of str to list of Stored
        The photos that are there, with all versions.
    rows : dict of str to list of str
        The Parquet files with rows of the photos, and the paths of these rows as the files have them.
    texts : set of str
        The other files that name a photo.
    files : list of str
        All files of the derived places.
    old_versions : list of Stored
        All old versions of these files, and markers of deleted ones.
    temporary : list of Stored
        What killed writers in a folder of this machine have left.
    vectors : set of str
        Keyed hashes of the photos' vectors.
    shown : set of str
        Paths of the photos that reports show, as ``insights.json`` has them.
    thumbnails : set of str
        Keyed hashes of their thumbnails.
    counts : dict of str to PlaceCounts
        The counts of each place.
    """

    photos: dict[str, list[Stored]] = field(default_factory=dict)
    rows: dict[str, list[str]] = field(default_factory=dict)
    texts: set[str] = field(default_factory=set)
    files: list[str] = field(default_factory=list)
    old_versions: list[Stored] = field(default_factory=list)
    temporary: list[Stored] = field(default_factory=list)
    vectors: set[str] = field(default_factory=set)
    shown: set[str] = field(default_factory=set)
    thumbnails: set[str] = field(default_factory=set)
    counts: dict[str, PlaceCounts] = field(default_factory=dict)

    def names(self, wanted: Wanted) -> frozenset[str]:
        """Return all photos that the request is now known to mean, relative to the lake's root."""
        found = {path for paths in self.rows.values() for path in paths} | self.shown
        return (
            wanted.photos
            | {wanted.relative(path) for path in found}
            | {path for path in self.photos if not path.endswith("/")}
        )

    @property
    def derived_files(self) -> set[str]:
        """The derived files that have something of a photo."""
        return {*self.rows, *self.texts}

    def is_clean(self, *, keeps_photos: bool) -> bool:
        """Return whether nothing is left: no photo, unless photos are kept, no row, no name and no old version."""
        return not (self.derived_files or self.old_versions or self.temporary or (self.photos and not keeps_photos))


def search(lake: Lake, wanted: Wanted, folders: Iterable[str], key: bytes, aws_conn_id: str | None) -> Findings:
    """Search the whole lake.

    Parameters
    ----------
    lake : Lake
        The lake.
    wanted : Wanted
        What to search for.
    folders : iterable of str
        The folders of photos, relative to the lake's root.
    key : bytes
        Key of the hashes.
    aws_conn_id : str or None
        Airflow's connection for S3.
    """
    found = Findings()
    for folder in folders:
        _search_photos(lake, wanted, folder, found, aws_conn_id)
    for place in DERIVED:
        if place == LOADED_IMAGES_FILE and wanted.request.keeps_photos:
            continue
        _search_place(lake, wanted, place, found, key, aws_conn_id)
    return found


def _search_photos(lake: Lake, wanted: Wanted, folder: str, found: Findings, aws_conn_id: str | None) -> None:
    """Find photos by name; without labels, only the named ones are listed."""
    labels = set(wanted.request.labels)
    inside = sorted(path for path in wanted.photos if path.startswith(f"{folder}/"))
    counts = NOTHING_COUNTED.copy()
    for prefix in [f"{folder}/"] if labels else inside:
        for file in list_stored(lake, prefix, aws_conn_id):
            counts["files"] += file.is_current and not file.is_marker
            if file.path in wanted.photos or (label_of(file.path) in labels):
                found.photos.setdefault(file.path, []).append(file)
    counts["files_found"] = len(found.photos)
    counts["old_versions"] = sum(
        not file.is_current or file.is_marker for each in found.photos.values() for file in each
    )
    found.counts[f"{folder}/"] = counts


def _search_place(lake: Lake, wanted: Wanted, place: str, found: Findings, key: bytes, aws_conn_id: str | None) -> None:
    current: list[Stored] = []
    old = 0
    for file in list_stored(lake, place, aws_conn_id):
        if file.is_temporary:
            found.temporary.append(file)
        elif file.is_current and not file.is_marker:
            current.append(file)
        else:
            found.old_versions.append(file)
            old += 1
    erased, names = wanted.erased, wanted.names

    def look(file: Stored) -> tuple[str, rows.FoundRows | None, bool]:
        """Return what a file has: rows, or a name."""
        try:
            if file.path.endswith(".parquet"):
                return file.path, rows.find(lake.absolute(file.path), erased, key), False
            if file.path.endswith(scrubbing.SEARCHED):
                data = read_stored(lake, file, aws_conn_id)
                has_name = scrubbing.has_name(file.path, data, names)
                if has_name and scrubbing.is_insights(file.path):
                    _note_shown(data, names, found, key)
                return file.path, None, has_name
        except FileNotFoundError:  # a run that is in progress deletes files of its own
            pass
        return file.path, None, False

    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        looked = list(pool.map(look, current))
    files_found = rows_found = 0
    for path, in_rows, has_name in looked:
        found.files.append(path)
        if in_rows is not None and in_rows.paths:
            found.rows[path] = in_rows.paths
            found.vectors |= in_rows.vectors
            rows_found += len(in_rows.paths)
            files_found += 1
        if has_name:
            found.texts.add(path)
            files_found += 1
    found.counts[place] = {
        "files": len(current), "old_versions": old, "files_found": files_found, "rows_found": rows_found
    }  # fmt: skip


def _note_shown(data: bytes, names: Names, found: Findings, key: bytes) -> None:
    for photo in scrubbing.erased_photos(data, names):
        found.shown.add(photo["path"])
        if thumbnail := photo.get("thumbnail"):
            found.thumbnails.add(keyed_hash(key, thumbnail.encode()))


def read_contents(lake: Lake, photos: Iterable[Stored], key: bytes, aws_conn_id: str | None) -> set[str]:
    """Return the keyed hashes of the bytes of photos, in all their versions.

    Parameters
    ----------
    lake : Lake
        The lake.
    photos : iterable of Stored
        Versions of photos.
    key : bytes
        Key of the hashes.
    aws_conn_id : str or None
        Airflow's connection for S3.
    """

    def read(file: Stored) -> str | None:
        try:
            data = read_stored(lake, file, aws_conn_id)
        except FileNotFoundError:
            return None
        return keyed_hash(key, data)

    readable = [file for file in photos if not file.is_marker and not file.path.endswith("/")]
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        return {digest for digest in pool.map(read, readable) if digest}
