"""Verification and publication in Airflow: seconds, memory and bytes read, for any number of images.

``python -m benchmarks.publishing COUNT …`` writes the outputs of a run for each number of images into a folder, and
verifies and publishes them in a new process, as ``verify_results`` and ``publish_results`` do.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import memory, process
from benchmarks.table import markdown
from include.lake.commit import commit
from include.lake.layout import Lake
from include.lake.manifest import select_counts
from include.lake.publication import show_published
from include.lake.verification import read_segments, verify_run
from include.records import FoundChanges, Manifest
from include.settings.parameters import RunParams
from spark_jobs.args import FEATURE_DIMENSIONS, RESULTS_FILE, FeaturizeArgs
from spark_jobs.featurize.segments import ROWS_PER_GROUP, ROWS_PER_SEGMENT
from spark_jobs.fingerprint import planned
from spark_jobs.lake import schemas

SLUG = "20261127T000000Z-01234567"
K = 2
CODE = "0badc0de"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure each number of images, and print the figures as a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.publishing", description=__doc__)
    parser.add_argument("counts", type=int, nargs="*", default=[10_000, 1_000_000], help="numbers of images")
    parser.add_argument("--lake", help="verify and publish the run in this lake, in this process")
    args = parser.parse_args(argv)
    if args.lake:
        print(json.dumps(publish(Lake(args.lake))))
        return 0
    rows = [row(count, measure(count)) for count in args.counts]
    print("\n".join(markdown(["images", "segments", "s", "peak MiB", "before, MiB", "read, MiB", "published"], rows)))
    return 0


def measure(count: int) -> dict[str, Any]:
    """Verify and publish a run in a new process, and return its figures."""
    with tempfile.TemporaryDirectory(prefix="fruits-bench-") as folder:
        work = Path(folder)
        write_run(work / "lake", count)
        measured = process.measure_module(
            "benchmarks.publishing",
            f"--lake=file://{work}/lake",
            folder=work,
            environment=os.environ,
            log_file=work / "log",
        )
        rows = sum(pq.read_metadata(file).num_rows for file in (work / "lake" / "results").iterdir())
    return {**measured.figures, "published": rows}


def write_run(root: Path, count: int) -> None:
    """Write the outputs of a run: its segments have the same vectors, since only their footers are read."""
    lake = Lake(f"file://{root}")
    run, features_of = root / "runs" / SLUG, planned("ab" * 32, FeaturizeArgs("i", "r", "m"))
    segments = []
    for number, start in enumerate(range(0, count, ROWS_PER_SEGMENT)):
        rows = range(start, min(count, start + ROWS_PER_SEGMENT))
        id_ = f"{SLUG}-00000000-{number:05d}"
        file = root / "segments" / id_ / "features.parquet"
        file.parent.mkdir(parents=True)
        _write_features(file, rows)
        segments.append(
            {
                "id": id_,
                "fingerprint": features_of["digest"],
                "images": len(rows),
                "features": len(rows),
                "rejects": 0,
                "bytes": file.stat().st_size,
                "vectors": "0" * 64,
                "first_path": _path(rows[0]),
                "last_path": _path(rows[-1]),
                "results": [RESULTS_FILE.format(id_)],
            }
        )
    (run / "pca" / "scores").mkdir(parents=True)
    _write_listing(run / "listing.parquet", count)
    _write_scores(run / "pca" / "scores" / "part-00000.parquet", count)
    with (run / "pca" / "pca_features.csv").open("wb") as stream:
        stream.truncate(60 * count)
    (run / "rejects").mkdir()
    pq.ParquetWriter(run / "rejects" / "part-00000.parquet", schemas.REJECTS).close()
    for name, record in _records(count, features_of, segments, lake).items():
        (run / name).write_text(json.dumps(record))


def _path(number: int) -> str:
    return f"s3://bucket/data/Apple/{number:09d}.jpg"


def _write_features(file: Path, rows: range) -> None:
    vectors = np.tile(np.random.default_rng(0).random(FEATURE_DIMENSIONS, np.float32), ROWS_PER_GROUP)
    with pq.ParquetWriter(file, schemas.FEATURES, compression="zstd", use_dictionary=True) as writer:
        for start in range(rows.start, rows.stop, ROWS_PER_GROUP):
            numbers = range(start, min(rows.stop, start + ROWS_PER_GROUP))
            offsets = np.arange(0, FEATURE_DIMENSIONS * (len(numbers) + 1), FEATURE_DIMENSIONS, dtype=np.int32)
            lists = pa.ListArray.from_arrays(offsets, vectors[: offsets[-1]])
            paths, labels = pa.array([_path(number) for number in numbers]), pa.array(["Apple"] * len(numbers))
            writer.write_table(pa.Table.from_arrays([paths, labels, lists], schema=schemas.FEATURES))


def _write_listing(file: Path, count: int) -> None:
    with pq.ParquetWriter(file, schemas.LISTING) as writer:
        for start in range(0, count, ROWS_PER_SEGMENT):
            numbers = range(start, min(count, start + ROWS_PER_SEGMENT))
            ones = [1] * len(numbers)
            columns = [
                [_path(number) for number in numbers],
                ["Apple"] * len(numbers),
                ones,
                ones,
                ["e"] * len(numbers),
            ]
            writer.write_table(pa.table(columns, schema=schemas.LISTING))


def _write_scores(file: Path, count: int) -> None:
    with pq.ParquetWriter(file, schemas.SCORES) as writer:
        for start in range(0, count, ROWS_PER_SEGMENT):
            numbers = range(start, min(count, start + ROWS_PER_SEGMENT))
            columns = [[_path(number) for number in numbers], ["Apple"] * len(numbers), [[1.0] * K] * len(numbers)]
            writer.write_table(pa.table(columns, schema=schemas.SCORES))


def _records(count: int, features_of: Any, segments: list[Any], lake: Lake) -> dict[str, Any]:
    featurize = {
        "code": CODE,
        "fingerprint": features_of,
        "listed": count,
        "featurized": count,
        "features": count,
        "rejects": 0,
        "dimensions": FEATURE_DIMENSIONS,
        "warnings": [],
    }
    pca = {
        "code": CODE,
        "images": count,
        "k": K,
        "variance_target": None,
        "n_components": K,
        "scores": "projected",
        "variance_reached": 0.5,
        "csv": {"rows": count, "columns": K + 1, "bytes": 60 * count},
        "drift": {"warnings": []},
        "warnings": [],
    }
    return {
        "changes.json": {"fingerprint": features_of},
        "featurize.json": featurize,
        "pca.json": pca,
        "segments.json": {"folder": lake.segments, "segments": segments},
    }


def publish(lake: Lake) -> dict[str, Any]:
    """Verify and publish the run, and return the figures of this process."""
    run = lake.run(SLUG)
    summaries = {
        name: json.loads(Path(run.root.removeprefix("file://"), f"{name}.json").read_text())
        for name in ("featurize", "pca")
    }
    count = summaries["featurize"]["listed"]
    found = cast(
        FoundChanges,
        {"run": SLUG, "listed": count, "new": count, "changed": 0, "gone": 0, "work": count, "work_bytes": 0},
    )
    before, read_before = memory.high_water_bytes(os.getpid()), _bytes_read()
    begin = time.perf_counter()
    verify_run(lake, SLUG, found, RunParams(variance_target=None, n_components=K), CODE, None)
    segments = read_segments(run, None)
    manifest = {
        "run": SLUG,
        "run_id": SLUG,
        "changes": select_counts(found),
        "segments": segments,
        "results": [name for segment in segments for name in segment["results"]],
        "params": asdict(RunParams()),
        "warnings": [],
        **summaries,
    }
    commit(lake, cast(Manifest, manifest), None, "2026-11-27T00:00:00+00:00", None)
    show_published(lake, None)
    return {
        "segments": len(segments),
        "seconds": time.perf_counter() - begin,
        "memory_mib": memory.high_water_bytes(os.getpid()) / 2**20,
        "memory_before_mib": before / 2**20,
        "read_mib": (_bytes_read() - read_before) / 2**20,
    }


def _bytes_read() -> int:
    """Return how many bytes this process has read from files (proc(5), ``rchar``)."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("rchar:")).split()[1])


def row(count: int, figures: dict[str, Any]) -> list[str]:
    """Return a row of the table."""
    sizes = (f"{figures[name]:.1f}" for name in ("memory_mib", "memory_before_mib", "read_mib"))
    return [f"{count:,}", f"{figures['segments']}", f"{figures['seconds']:.2f}", *sizes, f"{figures['published']:,}"]


if __name__ == "__main__":
    raise SystemExit(main())
