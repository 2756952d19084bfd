"""A small run folder with every file that the jobs write."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spark_jobs import args
from spark_jobs.lake import schemas
from tests.include.run_records import SLUG, featurize_summary, pca_summary

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
    }


def write_parquet(path: Path, columns: dict[str, Any], schema: pa.Schema, **options: Any) -> None:
    """Write one file of a dataset."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, schema=schema), path, **options)


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


def write_run(lake: Path, images: int = 5, slug: str = SLUG) -> Path:
    """Write a complete run with one reject and two files of features; return its folder."""
    run = lake / "runs" / slug
    write_parquet(run / args.LISTING_FILE, rows_of(images + 1), schemas.LISTING)
    first = images // 2
    for number, (count, offset) in enumerate([(first, 0), (images - first, first)]):
        path = run / args.FEATURES_FOLDER / f"part-{number:05d}-{slug}.c000.snappy.parquet"
        write_parquet(path, features_table(count, offset), schemas.FEATURES, compression="snappy")
    (run / args.FEATURES_FOLDER / "_SUCCESS").touch()
    (run / args.FEATURES_FOLDER / ".part-00000.crc").touch()
    rejects = rows_of(1, images) | {"reason": ["truncated"], "detail": ["at byte 7"]}
    write_parquet(run / args.REJECTS_FOLDER / "part-00000.parquet", rejects, schemas.REJECTS)
    write_json(run / args.FEATURIZE_SUMMARY_FILE, featurize_summary(listed=images + 1, features=images))
    write_json(run / args.PCA_SUMMARY_FILE, pca_summary(images=images, k=K))
    write_scores(run, np.arange(images * K, dtype=float).reshape(images, K) - 3.5)
    return run
