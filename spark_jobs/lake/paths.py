"""Sorted lists of paths, such as those whose rows leave the segments."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spark_jobs.lake import storage


def read_paths(uri: str, first: str, last: str) -> pa.Array:
    """Return the paths from ``first`` to ``last``; only row groups that may have some are read.

    Parameters
    ----------
    uri : str
        A file of sorted paths (``schemas.GONE``).
    first, last : str
        The bounds, both included.
    """
    found: list[pa.Array] = []
    with storage.open_file(uri) as stream, pq.ParquetFile(stream) as file:
        for group in range(file.num_row_groups):
            statistics = file.metadata.row_group(group).column(0).statistics
            if statistics is not None and statistics.has_min_max and (statistics.max < first or statistics.min > last):
                continue
            paths = file.read_row_group(group, use_threads=False).column(0)
            inside = pc.and_(pc.greater_equal(paths, first), pc.less_equal(paths, last))
            found += paths.filter(inside).chunks
    return pa.concat_arrays(found) if found else pa.array([], pa.string())
