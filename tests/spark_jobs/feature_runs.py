"""A run's folder as featurize leaves it, written by the tests themselves."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spark_jobs.args import FeaturizeArgs
from spark_jobs.featurize import segments
from spark_jobs.lake import parts
from spark_jobs.lake.parts import FeatureFile
from spark_jobs.lake.schemas import FEATURES, LISTING, VECTORS_DIGEST
from spark_jobs.records import Segment

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
    summary: dict[str, Any] | None = None,
    with_moments: bool = False,
) -> str:
    """Write features, in segments of some rows each, the list of the segments, and featurize's summary.

    ``vectors`` are the rows; a list may hold vectors of any length, None for a vector or for a value. ``summary``
    overrides figures of the summary. ``with_moments`` writes the segments as featurize does, with moments beside the
    features. The segments are in the run's own folder ``segments``. Returns the run's URI.
    """
    n = len(vectors)
    table = pa.table(
        [
            [path_of(row) for row in range(n)],
            labels or [f"Apple {row % 3}" for row in range(n)],
            [None if vector is None else list(vector) for vector in vectors],
        ],
        schema=pa.schema([field.with_nullable(True) for field in FEATURES]),
    )
    folder.mkdir(parents=True, exist_ok=True)
    target = segments.Target(f"file://{folder}/segments", "run-0badcafe", "0" * 64)
    for number, start in enumerate(range(0, n, rows_a_file)):
        rows, file = table.slice(start, rows_a_file), feature_file(folder, number)
        file.parent.mkdir(parents=True)
        pq.write_table(rows, file)
        if with_moments:
            segments.write(target, number, [segments.Source((f"file://{file}",), ())], None)
    write_live_segments(folder, [_segment(folder, number) for number in range(-(-n // rows_a_file))])
    dimensions = len(vectors[0]) if n else 4
    write_listing(folder, [(path, 1) for path in table.column("path").to_pylist()])
    arguments = asdict(FeaturizeArgs(images="file:///lake/data", run=f"file://{folder}", model="file:///lake/models/m"))
    counts = {"listed": n, "features": n, "rejects": 0, "dimensions": dimensions}
    record = {**counts, "first_rejects": [], "arguments": arguments, **(summary or {})}
    (folder / "featurize.json").write_text(json.dumps(record))
    return f"file://{folder}"


def write_listing(folder: Path, files: Sequence[tuple[str, int]]) -> None:
    """Write the listing of a run: paths and sizes."""
    rows = [
        {"path": path, "label": path.split("/")[-2], "size": size, "modification_time": MODIFIED}
        for path, size in sorted(files)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=LISTING), folder / "listing.parquet")


def _segment(folder: Path, number: int) -> Segment:
    """Return the record of a segment; what pca does not read is made up."""
    file = feature_file(folder, number)
    rows = pq.read_metadata(file).num_rows
    return {
        "id": file.parent.name,
        "fingerprint": "0" * 64,
        "images": rows,
        "features": rows,
        "rejects": 0,
        "bytes": file.stat().st_size,
        "vectors": None,
        "first_path": "",
        "last_path": "",
        "results": [],
    }


def write_live_segments(folder: Path, live: Sequence[Segment]) -> None:
    """Write ``segments.json`` into a run's folder, for segments in its own folder ``segments``."""
    record = {"folder": f"file://{folder}/segments", "segments": list(live)}
    (folder / "segments.json").write_text(json.dumps(record))


def feature_name(number: int) -> str:
    """The name of a file of features in the folder of all segments, by its number."""
    return f"run-0badcafe-{number:05d}/features.parquet"


def feature_file(folder: Path, number: int) -> Path:
    """A file of features of a run's folder that :func:`write_run` wrote."""
    return folder / "segments" / feature_name(number)


def moments_file(folder: Path, number: int) -> Path:
    """The moments of that file of features."""
    return feature_file(folder, number).with_name("moments.npz")


def feature_files(run: str) -> list[FeatureFile]:
    """The files of features of a run that :func:`write_run` wrote, in order."""
    live = json.loads(Path(run.removeprefix("file://"), "segments.json").read_text())
    return parts.files(live["folder"], [f"{segment['id']}/features.parquet" for segment in live["segments"]])


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
