"""A run's folder as featurize leaves it, written by the tests themselves."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spark_jobs.featurize import staging
from spark_jobs.lake.schemas import FEATURES, VECTORS_DIGEST

MODIFIED = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC)


def realistic(n: int, d: int, seed: int = 20261122) -> NDArray[np.float32]:
    """Vectors like pooled ReLU6 activations: between 0 and 6, many near 0, means unlike zero, a steep spectrum."""
    random = np.random.default_rng(seed)
    factors = random.normal(size=(n, 40)) * np.geomspace(1, 0.02, 40)
    hidden = factors @ random.normal(size=(40, d)) * 0.4 + random.normal(size=(n, d)) * 0.05
    return np.clip(hidden + random.gamma(0.5, 0.6, size=d), 0, 6).astype(np.float32)


def write_run(
    folder: Path,
    vectors: Sequence[Any] | NDArray[np.floating[Any]],
    *,
    labels: Sequence[str] | None = None,
    rows_a_file: int = 5,
    summary: dict[str, int] | None = None,
    with_moments: bool = False,
) -> str:
    """Write features, in files of some rows each, and featurize's summary.

    ``vectors`` are the rows; a list may hold vectors of any length, None for a vector or for a value. ``summary``
    overrides figures of the summary. ``with_moments`` writes the files as featurize does, with moments beside them.
    Returns the run's URI.
    """
    n = len(vectors)
    table = pa.table(
        [
            [path_of(row) for row in range(n)],
            labels or [f"Apple {row % 3}" for row in range(n)],
            [1000] * n,
            [MODIFIED] * n,
            [None if vector is None else list(vector) for vector in vectors],
        ],
        schema=pa.schema([field.with_nullable(True) for field in FEATURES]),
    )
    (folder / "features").mkdir(parents=True)
    for number, start in enumerate(range(0, max(n, 1), rows_a_file)):
        rows, name = table.slice(start, rows_a_file), f"part-{number:05d}.parquet"
        if with_moments:
            staging.write_features(f"file://{folder}", name, iter(rows.cast(FEATURES).combine_chunks().to_batches()))
        else:
            pq.write_table(rows, folder / "features" / name)
    (folder / "features" / "_SUCCESS").touch()
    dimensions = len(vectors[0]) if n else 4
    record = {"listed": n, "features": n, "rejects": 0, "dimensions": dimensions, **(summary or {})}
    (folder / "featurize.json").write_text(json.dumps(record))
    return f"file://{folder}"


def rewrite(file: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write a file of features again as ``change`` returns its rows, with the digest in its footer as it was."""
    digest = pq.read_metadata(file).metadata[VECTORS_DIGEST]
    table = change(pq.read_table(file))
    with pq.ParquetWriter(file, table.schema) as writer:
        writer.add_key_value_metadata({VECTORS_DIGEST: digest})
        writer.write_table(table)


def path_of(row: int) -> str:
    """The image of a row."""
    return f"file:///lake/data/Apple {row % 3}/{row}_100.jpg"
