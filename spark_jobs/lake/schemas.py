"""The schemas of the lake's datasets, as pyarrow writes them."""

from __future__ import annotations

import pyarrow as pa

FILE_NAME = "part-{:05d}.parquet"
"""Name of a dataset's file by its number. Sorted by name, the files are in the order of the rows."""

LISTING = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("modification_time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("etag", pa.string()),
    ]
)
"""One row per file that matches the pattern, in the order of the paths' bytes: ``path`` is the full URI as the store
names it, never URL-encoded; ``label`` is the name of the file's folder; ``size`` is in bytes; ``etag`` is null in a
folder of this machine."""

GONE = pa.schema([LISTING.field("path")])
"""The paths whose rows leave the segments, in the order of their bytes."""

FEATURES = pa.schema(
    [LISTING.field("path"), LISTING.field("label"), pa.field("features", pa.list_(pa.float32()), nullable=False)]
)
"""One row per image, as the notebook wrote it; ``features`` has ``args.FEATURE_DIMENSIONS`` values."""

VECTORS_DIGEST = b"vectors_sha256"
"""Key in the footer of a file of features: the digest of its vectors, which must match that of the stored moments."""

REJECTS = pa.schema(
    [
        *LISTING,
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)
"""One row per file without features: ``reason`` is a key of ``images.rejects.REASONS``, ``detail`` is for people."""

SCORES = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("components", pa.list_(pa.float64()), nullable=False),
    ]
)
"""One row per image, in the order of the features; ``components`` has k values, of the kind that ``--scores`` names."""

BASIS_DIGEST = b"basis_sha256"
"""Key in the footer of a file of scores: the digest of the basis on which the scores are projections."""
