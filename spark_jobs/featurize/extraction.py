"""The work of one task on its range of the work list: read, decode, run the model.

The three overlap: many reads are in flight, a child process decodes images ahead of the model, and the model, which
uses nine tenths of the time of a small photo, never waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spark_jobs.args import APPLY_ORIENTATION, FeaturizeArgs
from spark_jobs.images import decoder, denylist, prefetch, reading
from spark_jobs.images.changes import ROWS_PER_GROUP
from spark_jobs.images.decoding import Pixels
from spark_jobs.images.rejects import Reject
from spark_jobs.lake import schemas, storage
from spark_jobs.model import mobilenet

LoadModel = Callable[[str, bytes], mobilenet.Extract]
"""Maps a model's digest and flatbuffer to the function that runs it. It is called once per task, in the worker."""

FEATURES = "features"
REJECTS = "rejects"
"""The two kinds of output rows."""

ROWS_PER_BATCH = 2048
"""Rows in a batch: 10 MB of features."""

PICTURES_AHEAD = 3
"""Number of decoded images that wait for the model, so that it has work while a slow image is decoded."""


@dataclass(frozen=True)
class Engine:
    """How a worker computes features from bytes.

    Attributes
    ----------
    load_model : callable
        Returns the function that runs the model.
    decode_program : sequence of str
        The ``program`` of :class:`spark_jobs.images.decoder.Decoder`.
    """

    load_model: LoadModel = mobilenet.load_extractor
    decode_program: Sequence[str] = decoder.PROGRAM


def featurize_share(
    args: FeaturizeArgs, work_list: str, share: range, model: mobilenet.Model, engine: Engine
) -> Iterator[dict[str, pa.RecordBatch]]:
    """Yield the output rows for a range of the work list, in its order, by kind.

    Yields
    ------
    dict of str to RecordBatch
        ``features`` with ``schemas.FEATURES`` and ``rejects`` with ``schemas.REJECTS`` for the next rows of the
        work list; a kind without rows is left out.
    """
    rows = read_work(work_list, share)
    files = zip((path.partition("://")[2] for path in rows["path"].to_pylist()), rows["size"].to_pylist(), strict=True)
    with prefetch.ahead(_pictures(args, files, engine.decode_program), PICTURES_AHEAD) as pictures:
        extract = engine.load_model(model.digest, model.flatbuffer)
        for batch in rows.to_batches(max_chunksize=ROWS_PER_BATCH):
            yield _by_kind(batch, [_features(item, extract) for item in islice(pictures, batch.num_rows)])


def read_work(work_list: str, share: range) -> pa.Table:
    """Return a range of the work list's rows; only the row groups that contain them are read."""
    groups = range(share.start // ROWS_PER_GROUP, -(-share.stop // ROWS_PER_GROUP))
    with storage.open_file(work_list) as stream, pq.ParquetFile(stream) as file:
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
    denied = denylist.read(args.denylist)
    contents = reading.read_ahead(
        files,
        reading.reader(args.images),
        max_reads=args.reads_in_flight,
        max_bytes=args.read_bytes_in_flight,
        max_file_bytes=args.max_file_bytes,
    )
    for content in contents:
        yield content if isinstance(content, Reject) else denied.check(content) or child.decode(content)


def _features(item: Pixels | Reject, extract: mobilenet.Extract) -> mobilenet.Features | Reject:
    if isinstance(item, Reject):
        return item
    features = extract(item)
    if not np.isfinite(features).all():
        return Reject("non_finite_features", f"{int((~np.isfinite(features)).sum())} of {features.size} values")
    return features


def _by_kind(rows: pa.RecordBatch, outcomes: Sequence[mobilenet.Features | Reject]) -> dict[str, pa.RecordBatch]:
    """Join the outcomes to their rows of the work list."""
    rejects = [outcome for outcome in outcomes if isinstance(outcome, Reject)]
    vectors = [outcome for outcome in outcomes if not isinstance(outcome, Reject)]
    is_reject = pa.array([isinstance(outcome, Reject) for outcome in outcomes])
    batches = {}
    if vectors:
        lengths = np.cumsum([0, *(vector.size for vector in vectors)], dtype=np.int32)
        features = pa.ListArray.from_arrays(pa.array(lengths), pa.array(np.concatenate(vectors)))
        listed = rows.filter(pc.invert(is_reject))
        names = [listed.column("path"), listed.column("label")]
        batches[FEATURES] = pa.RecordBatch.from_arrays([*names, features], schema=schemas.FEATURES)
    if rejects:
        reasons = pa.array([reject.reason for reject in rejects])
        details = pa.array([_storable(reject.detail) for reject in rejects])
        listed = rows.filter(is_reject)
        batches[REJECTS] = pa.RecordBatch.from_arrays([*listed.columns, reasons, details], schema=schemas.REJECTS)
    return batches


def _storable(detail: str) -> str:
    """Return the text as valid UTF-8, also if an error message quotes arbitrary bytes of a file."""
    return detail.encode("utf-8", "backslashreplace").decode()
