"""Columns of every dataset of the lake, once.

They are pyarrow schemas, so that what Spark writes, what pyarrow writes and what pandas reads have the same types.
"""

from __future__ import annotations

import pyarrow as pa

FILE_NAME = "part-{:05d}.parquet"
"""Name of a dataset's file, by its number: sorted by name, the files are in the order of the rows."""

LISTING = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("modification_time", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
"""One row a file that the pattern takes: ``path`` is the full URI as it is on the store (never URL-encoded), ``label``
the name of the folder that the file is in, ``size`` in bytes."""

FEATURES = pa.schema([*LISTING, pa.field("features", pa.list_(pa.float32()), nullable=False)])
"""One row an image; ``features`` has ``args.FEATURE_DIMENSIONS`` values."""

VECTORS_DIGEST = b"vectors_sha256"
"""Key in the footer of a file of features: the digest of its vectors, by which their moments know them."""

REJECTS = pa.schema(
    [
        *LISTING,
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)
"""One row a file that could not become features: ``reason`` from ``images.REASONS``, ``detail`` for a person."""

SCORES = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("components", pa.list_(pa.float64()), nullable=False),
    ]
)
"""One row an image, in the order of the features; ``components`` has k values, not centred, as in Spark ML."""
