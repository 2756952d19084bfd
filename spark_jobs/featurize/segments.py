"""Segments: immutable folders with the features and the rejects of some images, and the moments of these features.

A segment's ``segment.json`` is written last. Its id begins with the slug of the run that wrote it and a token of that
attempt of the job, so no writer ever replaces the file of another. Features are in their published form: publishing
copies them as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spark_jobs.args import FEATURES_FILE, MOMENTS_FILE, REJECTS_FILE, RESULTS_FILE, SEGMENT_FILE
from spark_jobs.lake import row_groups, schemas, storage
from spark_jobs.numerics import stored_moments
from spark_jobs.records import Segment

ROWS_PER_SEGMENT = 50_000
"""Approximate number of images of a full segment: 190 MB of features."""

ROWS_PER_GROUP = 2048
"""Rows in a row group of the features: 10 MB, the smallest amount that a task of pca reads."""

COMPRESSION = "zstd"
"""Codec of features, which are written once and kept (decision 0027)."""

DICTIONARY_COLUMNS = ["label", "reason"]
"""Columns with repeated values; a dictionary of the other columns costs time and saves nothing."""


@dataclass(frozen=True)
class Target:
    """Where a job writes its segments.

    Attributes
    ----------
    folder : str
        URI of the folder of all segments.
    prefix : str
        Beginning of the ids: the run's slug and a token of the attempt.
    fingerprint : str
        Digest of the fingerprint of the features.
    """

    folder: str
    prefix: str
    fingerprint: str

    def id(self, number: int) -> str:
        """Return the id of the attempt's segment with a number."""
        return f"{self.prefix}-{number:05d}"


@dataclass(frozen=True)
class Source:
    """Files whose rows go into a segment.

    Attributes
    ----------
    features, rejects : tuple of str
        URIs of Parquet files with at least the columns of ``schemas.FEATURES`` and of ``schemas.REJECTS``.
    """

    features: tuple[str, ...]
    rejects: tuple[str, ...]


def source(folder: str, segment: Segment) -> Source:
    """Return the files of a segment."""
    root = storage.join(folder, segment["id"])
    return Source(
        (storage.join(root, FEATURES_FILE),) if segment["features"] else (),
        (storage.join(root, REJECTS_FILE),) if segment["rejects"] else (),
    )


def write(
    target: Target, number: int, sources: Sequence[Source], dropped: pa.Array | None, results: list[str] | None = None
) -> Segment | None:
    """Write a segment from the rows of some files, in their order; a row group is in memory at a time.

    The name and the bytes of every file depend only on the arguments, and files are written atomically: if Spark runs a
    task twice, the second run replaces each file by an equal one.

    Parameters
    ----------
    target : Target
    number : int
        Number of the segment among those of this attempt.
    sources : sequence of Source
    dropped : Array of string or None
        Paths whose rows are left out.
    results : list of str, optional
        Names of the files in ``results/`` that have the rows already; by default a file of the segment's own.

    Returns
    -------
    Segment or None
        None if no row is left; then nothing is written.
    """
    id_ = target.id(number)
    root = storage.join(target.folder, id_)
    bounds = _Bounds()
    features, vectors = _write_features(root, _read(sources, "features", schemas.FEATURES, dropped), bounds)
    rejects = _write_rows(
        storage.join(root, REJECTS_FILE), schemas.REJECTS, _read(sources, "rejects", schemas.REJECTS, dropped), bounds
    )
    if not features + rejects:
        return None
    segment: Segment = {
        "id": id_,
        "fingerprint": target.fingerprint,
        "images": features + rejects,
        "features": features,
        "rejects": rejects,
        "bytes": (storage.size(storage.join(root, FEATURES_FILE)) or 0) if features else 0,
        "vectors": vectors,
        "first_path": bounds.first,
        "last_path": bounds.last,
        "results": ([RESULTS_FILE.format(id_)] if features else []) if results is None else results,
    }
    storage.write_json(storage.join(root, SEGMENT_FILE), segment)
    return segment


def count_dropped(source: Source, dropped: pa.Array) -> int:
    """Return how many rows of some files have one of the dropped paths; only the paths are read."""
    return sum(
        pc.sum(pc.is_in(batch.column(0), value_set=dropped)).as_py() or 0
        for uri in (*source.features, *source.rejects)
        for batch in _batches(uri, ["path"])
    )


class _Bounds:
    """The smallest and the largest path of a segment's rows."""

    def __init__(self) -> None:
        self.first, self.last = "", ""

    def add(self, paths: pa.Array) -> None:
        found = pc.min_max(paths).as_py()
        self.first = min(self.first or found["min"], found["min"])
        self.last = max(self.last, found["max"])


def _read(
    sources: Sequence[Source], kind: str, schema: pa.Schema, dropped: pa.Array | None
) -> Iterator[pa.RecordBatch]:
    for each in sources:
        for uri in getattr(each, kind):
            for batch in _batches(uri, schema.names):
                if dropped is not None:
                    batch = batch.filter(pc.invert(pc.is_in(batch.column("path"), value_set=dropped)))
                if batch.num_rows:
                    yield batch.cast(schema)


def _batches(uri: str, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield some columns of a Parquet file, a row group at a time; columns that the file lacks are null."""
    with storage.open_file(uri) as stream, pq.ParquetFile(stream) as file:
        present = [name for name in names if name in file.schema_arrow.names]
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=present, use_threads=False)
            for name in names:
                if name not in present:
                    table = table.append_column(name, pa.nulls(table.num_rows, schemas.REJECTS.field(name).type))
            yield from table.select(names).combine_chunks().to_batches()


def _write_features(root: str, batches: Iterator[pa.RecordBatch], bounds: _Bounds) -> tuple[int, str | None]:
    """Write the features and their moments; return the number of rows and the digest of the vectors."""
    accumulator = stored_moments.Accumulator()
    rows, digest = 0, None
    with ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        for batch in row_groups.regroup(batches, ROWS_PER_GROUP):
            if writer is None:
                writer = stack.enter_context(parquet_file(storage.join(root, FEATURES_FILE), schemas.FEATURES))
            writer.write_batch(batch)
            accumulator.add(batch.column("features").flatten().to_numpy().reshape(batch.num_rows, -1))
            bounds.add(batch.column("path"))
            rows += batch.num_rows
        stored = accumulator.result()
        if writer is not None and stored is not None:
            digest = stored_moments.overall(stored.digests)
            writer.add_key_value_metadata({schemas.VECTORS_DIGEST: digest})
    if stored is not None:
        storage.write_bytes(storage.join(root, MOMENTS_FILE), stored.to_npz())
    return rows, digest


def _write_rows(target: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch], bounds: _Bounds) -> int:
    """Write rows into a Parquet file and return their number; without rows, write no file."""
    rows = 0
    with ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        for batch in batches:
            if writer is None:
                writer = stack.enter_context(parquet_file(target, schema))
            writer.write_batch(batch)
            rows += batch.num_rows
            bounds.add(batch.column("path"))
    return rows


def write_rejects(target: str, folder: str, segments: Iterable[Segment]) -> None:
    """Write the rejects of some segments into one Parquet file; without rejects, it has no rows."""
    sources = [source(folder, segment) for segment in segments if segment["rejects"]]
    with parquet_file(target, schemas.REJECTS) as writer:
        for batch in _read(sources, "rejects", schemas.REJECTS, None):
            writer.write_batch(batch)


@contextmanager
def parquet_file(target: str, schema: pa.Schema, compression: str = COMPRESSION) -> Iterator[pq.ParquetWriter]:
    """Open a Parquet file for writing; it is not created if the block raises."""
    repeating = [name for name in DICTIONARY_COLUMNS if name in schema.names]
    with (
        storage.writing(target) as stream,
        pq.ParquetWriter(stream, schema, use_dictionary=repeating, compression=compression) as writer,
    ):
        yield writer
