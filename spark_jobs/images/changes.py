"""The changes in a folder of images since the published state: a merge of two listings in the order of the paths.

Both listings are streams: images are not held in memory. An image version is path, size and ETag;
the modification time replaces the ETag where a store has none. Airflow calls this too, so pyarrow is imported late.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

from spark_jobs.args import CHANGES_FILE, GONE_FILE, LISTING_FILE, WORK_FILE
from spark_jobs.errors import JobError
from spark_jobs.fingerprint import differences
from spark_jobs.images import not_loaded
from spark_jobs.lake import storage
from spark_jobs.lake.image_walks import walk_through
from spark_jobs.lake.object_store import OpenBucket, open_bucket
from spark_jobs.left_out import advise, describe
from spark_jobs.records import ChangeCounts, Changes, Fingerprint, LeftOut, Segment
from spark_jobs.walk import Image, Walk

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROWS_PER_GROUP = 2048
"""Rows in a row group of the work list; a task reads only the row groups that contain its range."""

ROWS_READ = 32_768
"""Rows in a row group of the listing, and in memory at a time. Small groups would make a large footer."""


@dataclass(frozen=True)
class Published:
    """The published state, as far as changes depend on it.

    Attributes
    ----------
    listing : str
        URI of its listing.
    fingerprint : Fingerprint
        Of its features.
    segments : list of Segment
        Its segments, in order.
    first_version : str or None
        URI of the run's folder if the first version of the lake published it: its features become segments.
    run : str or None
        URI of the run's folder otherwise. The run's results for unchanged images may be kept.
    """

    listing: str
    fingerprint: Fingerprint
    segments: list[Segment]
    first_version: str | None = None
    run: str | None = None


class NoImagesError(JobError):
    """The folder of images does not exist, or contains no file that matches the pattern."""


class Folder(NamedTuple):
    """A folder of images, and the names that are images: as for :func:`spark_jobs.lake.image_walks.walk_through`."""

    uri: str
    pattern: str
    include_hidden: bool = False


class Version(NamedTuple):
    """An image version in the published listing; the path has no scheme."""

    path: str
    size: int
    modified: int
    etag: str | None


def find(
    folder: Folder,
    run: str,
    fingerprint: Fingerprint,
    published: Published | None,
    *,
    full_run: bool = False,
    buckets: OpenBucket = open_bucket,
) -> Changes:
    """Compare a folder of images with the published state, and write what featurize reads into a run's folder.

    ``listing.parquet`` has all images in the order of the paths' bytes, ``work.parquet`` those to compute, and
    ``gone.parquet`` the paths whose rows have to leave the segments. ``changes.json`` is written last.

    Parameters
    ----------
    folder : Folder
        What to list.
    run : str
        URI of the run's folder.
    fingerprint : Fingerprint
        Of the features that the run will compute.
    published : Published or None
        The published state; None before the first publication.
    full_run : bool
        Whether to compute all images again.
    buckets : callable
        Opens buckets.

    Raises
    ------
    NoImagesError
        If the folder does not exist, or nothing in it matches.
    JobError
        If a folder cannot be read, if the path of an image is not valid UTF-8 or, on S3, has two slashes in a row, or
        if the record of ``make run`` is damaged.
    """
    if not storage.is_folder(folder.uri, buckets):
        advice = f"put images at {folder.uri}/<label>/<name>.jpg"
        raise NoImagesError(f"the folder of images {folder.uri} does not exist; {advice}")
    everything = _reason(fingerprint, published, full_run=full_run)

    def compare(walk: Walk) -> Changes:
        counts = _write_lists(walk, folder.uri, run, published, everything=everything is not None, buckets=buckets)
        left_out = walk.left_out.record(folder.uri, folder.pattern)
        if not counts["listed"]:
            raise NoImagesError(_nothing_matches(left_out))
        # The record is read only if it was listed: a role may be refused an answer on an object that does not exist.
        others = [not_loaded.read(folder.uri, buckets)] if walk.has_record else []
        return {
            **counts,
            "folder": folder.uri,
            "fingerprint": fingerprint,
            "everything": everything,
            "segments": published.segments if published and everything is None else [],
            "first_version": published.first_version if published and everything is None else None,
            "published": published.run if published else None,
            "left_out": [left_out, *others],
        }

    changes = walk_through(folder.uri, folder.pattern, compare, include_hidden=folder.include_hidden, buckets=buckets)
    storage.write_json(storage.join(run, CHANGES_FILE), cast(dict[str, object], changes), buckets)
    return changes


def _reason(fingerprint: Fingerprint, published: Published | None, *, full_run: bool) -> str | None:
    """Return why all images have to be computed; None if only those that have changed do."""
    if published is None:
        return "no state is published yet"
    if full_run:
        return "full_run is set"
    if published.fingerprint["digest"] != fingerprint["digest"]:
        return f"the fingerprint of the features has changed ({differences(published.fingerprint, fingerprint)})"
    return None


def _write_lists(
    walk: Walk, folder: str, run: str, published: Published | None, *, everything: bool, buckets: OpenBucket
) -> ChangeCounts:
    from spark_jobs.lake import schemas

    scheme = folder.partition("://")[0] + "://"
    counts: ChangeCounts = {"listed": 0, "new": 0, "changed": 0, "gone": 0, "work": 0, "work_bytes": 0}
    before = _read_versions(published.listing, scheme, buckets) if published else iter(())
    with ExitStack() as stack:
        listing, work, gone = (
            stack.enter_context(_open_rows(storage.join(run, name), schema, rows, scheme, buckets))
            for name, schema, rows in (
                (LISTING_FILE, schemas.LISTING, ROWS_READ),
                (WORK_FILE, schemas.LISTING, ROWS_PER_GROUP),
                (GONE_FILE, schemas.GONE, ROWS_PER_GROUP),
            )
        )
        for image, version in _merge(walk.images(), before):
            is_changed = image is not None and version is not None and not _is_same(image, version)
            counts["new"] += version is None
            counts["changed"] += is_changed
            counts["gone"] += image is None
            if image is not None:
                listing.add(image)
                counts["listed"] += 1
                if everything or version is None or is_changed:
                    work.add(image)
                    counts["work"] += 1
                    counts["work_bytes"] += image.size
            if version is not None and not everything and (image is None or is_changed):
                gone.add(version)
    return counts


def _merge(images: Iterator[Image], versions: Iterator[Version]) -> Iterator[tuple[Image | None, Version | None]]:
    """Yield the images and versions of each path, in the order of the paths; None where one side lacks the path."""
    image, version = next(images, None), next(versions, None)
    while image is not None or version is not None:
        if version is None or (image is not None and image.path < version.path):
            yield image, None
            image = next(images, None)
        elif image is None or version.path < image.path:
            yield None, version
            version = next(versions, None)
        else:
            yield image, version
            image, version = next(images, None), next(versions, None)


def _is_same(image: Image, version: Version) -> bool:
    if image.size != version.size:
        return False
    if image.etag is None or version.etag is None:
        return image.modified == version.modified
    return image.etag == version.etag


def _read_versions(listing: str, scheme: str, buckets: OpenBucket) -> Iterator[Version]:
    """Yield the image versions of a listing; one of the first version of the lake has no ETags."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with storage.open_file(listing, buckets) as stream, pq.ParquetFile(stream) as file:
        names = [name for name in ("path", "size", "modification_time", "etag") if name in file.schema_arrow.names]
        for batch in file.iter_batches(ROWS_READ, columns=names, use_threads=False):
            paths = batch.column("path").to_pylist()
            modified = batch.column("modification_time").cast(pa.int64()).to_pylist()
            etags = batch.column("etag").to_pylist() if "etag" in names else [None] * len(paths)
            for path, size, time, etag in zip(paths, batch.column("size").to_pylist(), modified, etags, strict=True):
                yield Version(path.removeprefix(scheme), size, time, etag)


class _Rows:
    """Collects rows and writes them as row groups of a Parquet file."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema, rows: int, scheme: str) -> None:
        self._writer, self._schema, self._rows, self._scheme = writer, schema, rows, scheme
        self._waiting: list[Image] | list[Version] = []

    def add(self, row: Image | Version) -> None:
        self._waiting.append(row)  # type: ignore[arg-type]
        if len(self._waiting) == self._rows:
            self.flush()

    def flush(self) -> None:
        """Write the waiting rows, if there are any: an empty row group would have no statistics."""
        if not self._waiting:
            return
        import pyarrow as pa

        names = {"modification_time": "modified"}
        columns = {name: [getattr(row, names.get(name, name)) for row in self._waiting] for name in self._schema.names}
        columns["path"] = [f"{self._scheme}{path}" for path in columns["path"]]
        self._writer.write_table(pa.table(columns, schema=self._schema), row_group_size=self._rows)
        self._waiting = []


@contextmanager
def _open_rows(
    target: str, schema: pa.Schema, rows_per_group: int, scheme: str, buckets: OpenBucket
) -> Iterator[_Rows]:
    """Open a Parquet file for rows; it appears when the block ends, and not if it raises."""
    import pyarrow.parquet as pq

    with storage.writing(target, buckets) as stream, pq.ParquetWriter(stream, schema) as writer:
        rows = _Rows(writer, schema, rows_per_group, scheme)
        yield rows
        rows.flush()


def _nothing_matches(left_out: LeftOut) -> str:
    """Return the error message for a folder without images."""
    found = describe(left_out) or ["it is empty"]
    advice = f". {advise(left_out)}" if left_out["skipped"] else ""
    return f"no file in {left_out['folder']} matches the pattern {left_out['pattern']!r} ({'; '.join(found)}){advice}"
