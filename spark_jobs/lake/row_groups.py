"""The row groups of the Parquet files that the jobs write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa


def regroup(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Combine and split batches into batches of ``rows`` rows, in order; the last may be shorter.

    Parameters
    ----------
    batches : iterable of RecordBatch
        All with the same schema.
    rows : int
    """
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        waiting.append(batch)
        count += batch.num_rows
        if count >= rows:
            joined = pa.concat_batches(waiting)
            full = count - count % rows
            for start in range(0, full, rows):
                yield joined.slice(start, rows)
            waiting, count = [joined.slice(full)], count - full
    if count:
        yield pa.concat_batches(waiting)
