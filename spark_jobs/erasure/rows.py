"""Rows of erased photos in Parquet files: find them, and write the files without them.

A row belongs to a photo by its column ``path``. Whatever a file is, its rows can be found if it has this column.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spark_jobs.keyed_hash import keyed_hash
from spark_jobs.lake import storage


@dataclass(frozen=True)
class Erased:
    """The photos to erase.

    Attributes
    ----------
    paths : frozenset of str
        Full URIs, as columns ``path`` have them.
    labels : frozenset of str
        All photos with one of these labels are meant too.
    """

    paths: frozenset[str]
    labels: frozenset[str]


@dataclass
class FoundRows:
    """The rows of erased photos in a file.

    Attributes
    ----------
    rows : int
        Number of all rows of the file.
    paths : list of str
        The paths of the rows that were found.
    vectors : set of str
        Keyed hashes of the bytes of their vectors: of all columns that are lists of floats.
    """

    rows: int = 0
    paths: list[str] = field(default_factory=list)
    vectors: set[str] = field(default_factory=set)


def find(uri: str, erased: Erased, key: bytes) -> FoundRows | None:
    """Return the rows of erased photos in a Parquet file; of other rows, only paths and labels are read.

    Parameters
    ----------
    uri : str
        URI of the file.
    erased : Erased
    key : bytes
        Key of the hashes.

    Returns
    -------
    FoundRows or None
        None if the file is not Parquet, is not complete, or has no column ``path``.
    """
    try:
        with storage.open_file(uri) as stream, pq.ParquetFile(stream) as file:
            if "path" not in file.schema_arrow.names:
                return None
            return _find(file, erased, key)
    except pa.ArrowInvalid:
        return None


def _find(file: pq.ParquetFile, erased: Erased, key: bytes) -> FoundRows:
    found = FoundRows(rows=file.metadata.num_rows)
    schema = file.schema_arrow
    vectors = [
        each.name for each in schema if pa.types.is_list(each.type) and pa.types.is_floating(each.type.value_type)
    ]
    names = ["path", *(["label"] if erased.labels and "label" in schema.names else [])]
    wanted = _values(erased)
    for group in range(file.num_row_groups):
        rows = file.read_row_group(group, columns=names, use_threads=False)
        mask = _mask(rows, wanted)
        if not pc.any(mask).as_py():
            continue
        found.paths += rows.column("path").filter(mask).to_pylist()
        if vectors:
            matching = file.read_row_group(group, columns=vectors, use_threads=False).filter(mask)
            for column in matching.columns:
                found.vectors |= {keyed_hash(key, value.values.to_numpy().tobytes()) for value in column}
    return found


def _values(erased: Erased) -> dict[str, pa.Array]:
    return {
        "path": pa.array(sorted(erased.paths), pa.string()),
        "label": pa.array(sorted(erased.labels), pa.string()),
    }


def _mask(rows: pa.Table, wanted: dict[str, pa.Array]) -> pa.ChunkedArray:
    """Return which rows belong to erased photos."""
    mask = pc.is_in(rows.column("path"), value_set=wanted["path"])
    if "label" in rows.column_names and len(wanted["label"]):
        mask = pc.or_(mask, pc.is_in(rows.column("label"), value_set=wanted["label"]))
    return mask


def drop(source: str, target: str, erased: Erased) -> int:
    """Write a Parquet file without the rows of erased photos, in its order and codec; return the number of rows left.

    Parameters
    ----------
    source, target : str
        URIs of the file and of the new file, which may be the same: readers see either of both.
    erased : Erased
    """
    left = 0
    with storage.open_file(source) as stream, pq.ParquetFile(stream) as file:
        schema = file.schema_arrow
        groups = range(file.num_row_groups)
        codec = file.metadata.row_group(0).column(0).compression.lower() if len(groups) else "snappy"
        codec = "none" if codec == "uncompressed" else codec
        repeating = [name for name in ("label", "reason") if name in schema.names]
        with (
            storage.writing(target) as output,
            pq.ParquetWriter(output, schema, compression=codec, use_dictionary=repeating) as writer,
        ):
            for rows in _read_groups(file):
                rows = rows.filter(pc.invert(_mask(rows, _values(erased))))
                if rows.num_rows:
                    writer.write_table(rows)
                    left += rows.num_rows
    return left


def _read_groups(file: pq.ParquetFile) -> Iterator[pa.Table]:
    for group in range(file.num_row_groups):
        yield file.read_row_group(group, use_threads=False)
