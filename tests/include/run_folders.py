"""A small lake: segments and run folders with every file that find_changes and the jobs write."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spark_jobs import args
from spark_jobs.lake import schemas
from tests.include.run_records import (
    MODEL_FILE,
    SLUG,
    basis_record,
    changes_record,
    featurize_summary,
    found_record,
    manifest,
    pca_summary,
    run_record,
    segment_record,
)

LABELS = ["Kiwi", "crème brûlée", 'a,"b"']
K = 2
MODIFIED = datetime(2026, 11, 22, tzinfo=UTC)


def rows_of(count: int, offset: int = 0) -> dict[str, list[Any]]:
    """Return the listing's columns for some images."""
    numbers = range(offset, offset + count)
    labels = [LABELS[number % len(LABELS)] for number in numbers]
    return {
        "path": [f"file:///lake/data/{label}/{number}.jpg" for number, label in zip(numbers, labels, strict=True)],
        "label": labels,
        "size": [100 + number for number in numbers],
        "modification_time": [MODIFIED] * count,
        "etag": [None] * count,
    }


def write_parquet(path: Path, columns: dict[str, Any], schema: pa.Schema, **options: Any) -> None:
    """Write one file of a dataset; one without rows has no row group, as the jobs write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns, schema=schema)
    if not table.num_rows:
        with pq.ParquetWriter(path, schema):
            return
    pq.write_table(table, path, **options)


def features_table(count: int, offset: int = 0) -> dict[str, Any]:
    """Return the columns of the features of some images."""
    values = np.random.default_rng(offset).random((count, args.FEATURE_DIMENSIONS), np.float32)
    return rows_of(count, offset) | {"features": list(values)}


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write a summary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record), encoding="utf-8")


def edit_json(path: Path, **changes: Any) -> None:
    """Change some entries of a summary."""
    write_json(path, json.loads(path.read_text(encoding="utf-8")) | changes)


def write_scores(run: Path, scores: np.ndarray[Any, Any]) -> None:
    """Write the scores and their CSV."""
    rows = rows_of(len(scores))
    columns = {"path": rows["path"], "label": rows["label"], "components": list(scores)}
    write_parquet(run / args.SCORES_FOLDER / "part-00000.parquet", columns, schemas.SCORES, use_dictionary=["label"])
    with (run / args.CSV_FILE).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*(f"F {number + 1}" for number in range(scores.shape[1])), "label"])
        writer.writerows([*values, label] for values, label in zip(scores.tolist(), rows["label"], strict=True))


def write_segment(lake: Path, id_: str, features: int, offset: int = 0, *, rejects: int = 0) -> dict[str, Any]:
    """Write a segment with the images from a number on, the rejects last; return its record."""
    folder = lake / args.SEGMENTS_FOLDER / id_
    file = folder / args.FEATURES_FILE
    if features:
        write_parquet(file, features_table(features, offset), schemas.FEATURES, compression="zstd")
        (folder / args.MOMENTS_FILE).write_bytes(b"moments")
    if rejects:
        rows = rows_of(rejects, offset + features) | {
            "reason": ["truncated"] * rejects,
            "detail": ["at byte 7"] * rejects,
        }
        write_parquet(folder / args.REJECTS_FILE, rows, schemas.REJECTS)
    paths = sorted(rows_of(features + rejects, offset)["path"], key=str.encode)
    record = segment_record(
        id_,
        images=features + rejects,
        features=features,
        rejects=rejects,
        bytes=file.stat().st_size if features else 0,
        vectors="ef" * 32 if features else None,
        first_path=paths[0],
        last_path=paths[-1],
        results=[args.RESULTS_FILE.format(id_)] if features else [],
    )
    write_json(folder / args.SEGMENT_FILE, record)
    return record


def write_run(
    lake: Path, images: int = 5, slug: str = SLUG, *, attempt: str = "00112233", kept: Sequence[dict[str, Any]] = ()
) -> Path:
    """Write a complete run; return its folder.

    Its state has the kept segments, and two new ones with so many images and one reject. ``attempt`` is in the ids of
    the new segments.
    """
    start, first = sum(each["images"] for each in kept), images // 2
    new = [
        write_segment(lake, f"{slug}-{attempt}-00000", first, start),
        write_segment(lake, f"{slug}-{attempt}-00001", images - first, start + first, rejects=1),
    ]
    return write_state(lake, slug, [*kept, *new], work=images + 1)


def write_state(lake: Path, slug: str, segments: Sequence[dict[str, Any]], *, work: int) -> Path:
    """Write the folder of a run whose state has these segments; return it."""
    run = lake / "runs" / slug
    listed = sum(each["images"] for each in segments)
    rows = rows_of(listed)
    write_parquet(run / args.LISTING_FILE, rows, schemas.LISTING)
    last = {name: column[listed - work :] for name, column in rows.items()}
    write_parquet(run / args.WORK_FILE, last, schemas.LISTING)
    write_parquet(run / args.GONE_FILE, {"path": []}, schemas.GONE)
    write_json(run / args.CHANGES_FILE, changes_record(listed=listed, new=work, work=work))
    write_outputs(lake, run, segments)
    return run


def write_outputs(lake: Path, run: Path, segments: Sequence[dict[str, Any]]) -> None:
    """Write what the jobs leave in a run's folder, beside the files of ``find_changes`` that are there."""
    changes = json.loads((run / args.CHANGES_FILE).read_text(encoding="utf-8"))
    features, rejects = (sum(each[name] for each in segments) for name in ("features", "rejects"))
    folder = f"file://{lake}/{args.SEGMENTS_FOLDER}"
    write_json(run / args.LIVE_SEGMENTS_FILE, {"folder": folder, "segments": list(segments)})
    rejected = rows_of(rejects, features) | {"reason": ["truncated"] * rejects, "detail": ["at byte 7"] * rejects}
    write_parquet(run / args.REJECTS_FOLDER / "part-00000.parquet", rejected, schemas.REJECTS)
    counts = {"listed": changes["listed"], "featurized": changes["work"], "segments": len(segments)}
    summary = featurize_summary(**counts, features=features, rejects=rejects, fingerprint=changes["fingerprint"])
    write_json(run / args.FEATURIZE_SUMMARY_FILE, summary)
    write_scores(run, np.arange(features * K, dtype=float).reshape(features, K) - 3.5)
    (run / args.PCA_MODEL_FILE).write_bytes(MODEL_FILE)
    csv_file = {"rows": features, "columns": K + 1, "bytes": (run / args.CSV_FILE).stat().st_size}
    basis = basis_record(since=run.name)
    write_json(run / args.PCA_SUMMARY_FILE, pca_summary(images=features, k=K, csv=csv_file, basis=basis))


def run_jobs(lake: Path, run: Path) -> list[dict[str, Any]]:
    """Do what the jobs do for a run whose ``find_changes`` has completed; return the segments of its state.

    Features are all zero, and no image is a reject.
    """
    changes = json.loads((run / args.CHANGES_FILE).read_text(encoding="utf-8"))
    work, gone = (pq.read_table(run / name).to_pylist() for name in (args.WORK_FILE, args.GONE_FILE))
    dropped = {row["path"] for row in gone}
    sources = [lake / args.SEGMENTS_FOLDER / each["id"] / args.FEATURES_FILE for each in changes["segments"]]
    if changes["first_version"]:
        sources += sorted(Path(changes["first_version"].removeprefix("file://")).glob("features/*.parquet"))
    found: list[dict[str, Any]] = []
    for number, file in enumerate(sources):
        rows = pq.read_table(file, columns=["path", "label"]).to_pylist()
        kept = [row for row in rows if row["path"] not in dropped]
        if len(kept) == len(rows) and not changes["first_version"]:
            found.append(changes["segments"][number])
        elif kept:
            found.append(_write_rows(lake, f"{run.name}-44556677-{number:05d}", kept))
    if work:
        found.append(_write_rows(lake, f"{run.name}-44556677-{len(sources):05d}", work))
    write_outputs(lake, run, found)
    return found


def _write_rows(lake: Path, id_: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in ("path", "label")}
    columns["features"] = list(np.zeros((len(rows), args.FEATURE_DIMENSIONS), np.float32))
    file = lake / args.SEGMENTS_FOLDER / id_ / args.FEATURES_FILE
    write_parquet(file, columns, schemas.FEATURES)
    return segment_record(
        id_,
        images=len(rows),
        features=len(rows),
        rejects=0,
        bytes=file.stat().st_size,
        results=[args.RESULTS_FILE.format(id_)],
    )


def found_of(run: Path, **changes: Any) -> dict[str, Any]:
    """Return the record that ``find_changes`` returned for a run."""
    record = json.loads((run / args.CHANGES_FILE).read_text(encoding="utf-8"))
    return {name: record.get(name) for name in found_record()} | {"run": run.name} | changes


def manifest_of(run: Path, **changes: Any) -> Any:
    """Return the manifest that publishes a run's state; ``changes`` are changes of the run's record."""
    featurize, pca, live = (
        json.loads((run / name).read_text(encoding="utf-8"))
        for name in (args.FEATURIZE_SUMMARY_FILE, args.PCA_SUMMARY_FILE, args.LIVE_SEGMENTS_FILE)
    )
    record = run_record(slug=run.name, run_id=f"id of {run.name}", **changes)
    return manifest(run=record, found=found_of(run), segments=live["segments"], featurize=featurize, pca=pca)
