"""What a task does with its share of the listing: read, decode, run the model.

The three overlap: files are fetched with many reads in flight, a child process decodes one image ahead, and the model,
which takes nine tenths of the time of a small photo, never waits for either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spark_jobs import decoder, mobilenet, prefetch, reading, schemas, storage
from spark_jobs.args import APPLY_ORIENTATION, FEATURES_FOLDER, LISTING_FILE, REJECTS_FOLDER, FeaturizeArgs
from spark_jobs.images import Pixels
from spark_jobs.rejects import Reject

LoadModel = Callable[[str, bytes], mobilenet.Extract]
"""From a model's digest and flatbuffer to the function that runs it; called once a task, in the worker."""

STAGING = pa.schema(
    [
        *schemas.LISTING,
        pa.field("features", pa.binary()),
        schemas.REJECTS.field("reason").with_nullable(True),
        schemas.REJECTS.field("detail").with_nullable(True),
        pa.field("kind", pa.string(), nullable=False),
    ]
)
"""The rows of both kinds, as a task hands them to Spark; ``kind`` is the name of the folder that a row goes to.

``features`` are the bytes of the floats, little-endian: Spark passes a row on as one value, where an array of 1280
would cost it 1280 calls in each direction.
"""

ROWS_PER_GROUP = 2048
"""Rows of a row group of the listing: a task reads only those that hold its share."""

ROWS_PER_BATCH = 256
"""Rows that are handed to Spark at a time: 1.3 MB of features."""

PICTURES_AHEAD = 3
"""Decoded images that wait for the model: a slow one then leaves it something to do."""


@dataclass(frozen=True)
class Engine:
    """How a worker turns bytes into features.

    Attributes
    ----------
    load_model : callable
        How it gets the function that runs the model.
    decode_program : sequence of str
        What its decode child runs, as :class:`spark_jobs.decoder.Decoder` takes it.
    """

    load_model: LoadModel = mobilenet.load_extractor
    decode_program: Sequence[str] = decoder.PROGRAM


def featurize_share(
    args: FeaturizeArgs, share: range, model: mobilenet.Model, engine: Engine
) -> Iterator[pa.RecordBatch]:
    """Yield the staging rows of a range of the listing's rows, in its order."""
    rows = read_listing(args.run, share)
    files = zip((path.partition("://")[2] for path in rows["path"].to_pylist()), rows["size"].to_pylist(), strict=True)
    with prefetch.ahead(_pictures(args, files, engine.decode_program), PICTURES_AHEAD) as pictures:
        extract = engine.load_model(model.digest, model.flatbuffer)
        for batch in rows.to_batches(max_chunksize=ROWS_PER_BATCH):
            yield _staging_batch(batch, [_features(item, extract) for item in islice(pictures, batch.num_rows)])


def read_listing(run: str, share: range) -> pa.Table:
    """Return a range of the listing's rows, reading only the row groups that hold them."""
    filesystem, path = storage.locate(storage.join(run, LISTING_FILE))
    groups = range(share.start // ROWS_PER_GROUP, -(-share.stop // ROWS_PER_GROUP))
    with pq.ParquetFile(path, filesystem=filesystem) as file:
        rows = file.read_row_groups(list(groups), use_threads=False)
    return rows.slice(share.start - groups.start * ROWS_PER_GROUP, len(share)).combine_chunks()


def _pictures(
    args: FeaturizeArgs, files: Iterable[tuple[str, int]], decode_program: Sequence[str]
) -> Iterator[Pixels | Reject]:
    """Yield the decoded images, in the order of the files."""
    limits = decoder.Limits(
        max_pixels=args.max_pixels,
        apply_orientation=args.exif_orientation == APPLY_ORIENTATION,
        memory_bytes=args.decode_memory_mb * 2**20,
        seconds=args.decode_seconds,
    )
    child = decoder.shared(limits, decode_program)
    contents = reading.read_ahead(
        files,
        reading.reader(args.images),
        max_reads=args.reads_in_flight,
        max_bytes=args.read_bytes_in_flight,
        max_file_bytes=args.max_file_bytes,
    )
    for content in contents:
        yield content if isinstance(content, Reject) else child.decode(content)


def _features(item: Pixels | Reject, extract: mobilenet.Extract) -> mobilenet.Features | Reject:
    if isinstance(item, Reject):
        return item
    features = extract(item)
    if not np.isfinite(features).all():
        return Reject("non_finite_features", f"{int((~np.isfinite(features)).sum())} of {features.size} values")
    return features


def _staging_batch(rows: pa.RecordBatch, outcomes: Sequence[mobilenet.Features | Reject]) -> pa.RecordBatch:
    """Put the outcomes beside the listing's rows that they belong to."""
    rejects = [outcome if isinstance(outcome, Reject) else None for outcome in outcomes]
    columns = {
        "features": _pack_features(outcomes),
        "reason": pa.array([reject and reject.reason for reject in rejects], pa.string()),
        "detail": pa.array([reject and _storable(reject.detail) for reject in rejects], pa.string()),
        "kind": pa.array([REJECTS_FOLDER if reject else FEATURES_FOLDER for reject in rejects], pa.string()),
    }
    return pa.RecordBatch.from_arrays([*rows.columns, *columns.values()], schema=STAGING)


def _storable(detail: str) -> str:
    """Return a text that is valid UTF-8, whatever bytes of a file an error message quotes."""
    return detail.encode("utf-8", "backslashreplace").decode()


def _pack_features(outcomes: Sequence[mobilenet.Features | Reject]) -> pa.BinaryArray:
    """Return the vectors as one column of bytes, null where there is a reject."""
    return pa.array(
        [None if isinstance(outcome, Reject) else outcome.astype("<f4", copy=False).tobytes() for outcome in outcomes],
        pa.binary(),
    )


def unpack_features(column: pa.BinaryArray) -> pa.ListArray:
    """Return a column of bytes as vectors of float32, without a copy of the values.

    Parameters
    ----------
    column : BinaryArray
        Of the staging rows, without nulls.
    """
    _, offsets, values = column.buffers()
    size = np.dtype("<f4").itemsize
    borders = np.frombuffer(offsets, np.int32, len(column) + 1, column.offset * 4)
    floats = pa.Array.from_buffers(pa.float32(), values.size // size, [None, values])
    return pa.ListArray.from_arrays(pa.array(borders // size), floats)
