"""From the tasks' files to segments: the results decide which files count, and the order is that of the work list."""

from __future__ import annotations

import functools
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_jobs.featurize import segments, staging
from spark_jobs.featurize.staging import Written
from spark_jobs.lake import parts, schemas
from spark_jobs.numerics import moments, stored_moments
from spark_jobs.records import Segment
from tests.spark_jobs.in_process import Here

MODIFIED = datetime(2026, 11, 22, tzinfo=UTC)


def row(number: int) -> dict[str, Any]:
    return {"path": f"file:///d/{number:04}.jpg", "label": "d"}


def stage(folder: Path, name: str, numbers: range) -> Written:
    """Write features of some images as a task does."""
    target = folder / staging.FOLDER / "features" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    rows = [row(number) | {"features": [float(number)] * 3} for number in numbers]
    pq.write_table(pa.Table.from_pylist(rows, schema=schemas.FEATURES), target)
    return Written(name, len(rows))


def stage_rejects(folder: Path, name: str, numbers: list[int]) -> Written:
    target = folder / staging.FOLDER / "rejects" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    image = {"size": 1, "modification_time": MODIFIED, "etag": None, "reason": "corrupt", "detail": "x"}
    pq.write_table(pa.Table.from_pylist([row(number) | image for number in numbers], schema=schemas.REJECTS), target)
    return Written(name, len(numbers))


def gather(folder: Path, written: list[dict[str, Written]]) -> list[Segment]:
    """Gather the tasks' files into segments in ``<folder>/segments``."""
    target = segments.Target(f"file://{folder}/segments", "run-0badcafe", "f" * 64)
    return staging.gather(Here(), f"file://{folder}", target, written)  # type: ignore[arg-type]


def files_of(folder: Path, found: list[Segment], name: str = "features.parquet") -> list[Path]:
    return [folder / "segments" / segment["id"] / name for segment in found]


def rows_of(folder: Path, found: list[Segment]) -> pa.Table:
    return pa.concat_tables([pq.read_table(file) for file in files_of(folder, found)])


def test_only_files_that_results_name_are_gathered(tmp_path: Path) -> None:
    written = [
        {"features": stage(tmp_path, f"part-{task:05d}-b.parquet", range(task * 3, task * 3 + 3))} for task in range(4)
    ]
    stage(tmp_path, "part-00001-a.parquet", range(3, 6))  # a try that was lost after it had written all
    stage(tmp_path, "part-00002-c.parquet", range(6, 7))  # a speculative one, half done
    table = rows_of(tmp_path, gather(tmp_path, written))
    assert table["path"].to_pylist() == [row(number)["path"] for number in range(12)]
    assert table["features"].to_pylist() == [[float(number)] * 3 for number in range(12)]


TASKS = [range(2), range(2, 3), range(3, 7), range(7, 12)]


@pytest.mark.parametrize(("rows_per_segment", "expected"), [(1, 4), (3, 3), (4, 3), (7, 2), (100, 1)])
def test_order_and_rows_do_not_depend_on_the_segments(
    tmp_path: Path, rows_per_segment: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "ROWS_PER_SEGMENT", rows_per_segment)
    written = [{"features": stage(tmp_path, f"t{n}.parquet", numbers)} for n, numbers in enumerate(TASKS)]
    found = gather(tmp_path, [*written, {}])
    table = rows_of(tmp_path, found)
    assert table["path"].to_pylist() == [row(number)["path"] for number in range(12)]
    assert table.schema.equals(schemas.FEATURES)
    assert [segment["id"] for segment in found] == [f"run-0badcafe-{number:05d}" for number in range(expected)]
    assert sorted(path.name for path in (tmp_path / "segments").iterdir()) == [segment["id"] for segment in found]


def test_the_record_of_a_segment_is_what_its_files_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "ROWS_PER_SEGMENT", 6)
    written = [
        {"features": stage(tmp_path, "t0.parquet", range(3)), "rejects": stage_rejects(tmp_path, "t0.parquet", [3, 4])},
        {"rejects": stage_rejects(tmp_path, "t1.parquet", [5, 6, 7, 8])},
    ]
    first, second = gather(tmp_path, written)
    files = {path.name for path in (tmp_path / "segments" / first["id"]).iterdir()}
    assert files == {"features.parquet", "moments.npz", "rejects.parquet", "segment.json"}
    assert {path.name for path in (tmp_path / "segments" / second["id"]).iterdir()} == {
        "rejects.parquet",
        "segment.json",
    }
    (features,) = files_of(tmp_path, [first])
    digest = pq.read_metadata(features).metadata[schemas.VECTORS_DIGEST].decode()
    assert first == {
        "id": "run-0badcafe-00000", "fingerprint": "f" * 64, "images": 5, "features": 3, "rejects": 2,
        "bytes": features.stat().st_size, "vectors": digest, "first_path": row(0)["path"], "last_path": row(4)["path"],
        "results": ["part-run-0badcafe-00000.parquet"],
    }  # fmt: skip
    assert second == {
        "id": "run-0badcafe-00001", "fingerprint": "f" * 64, "images": 4, "features": 0, "rejects": 4, "bytes": 0,
        "vectors": None, "first_path": row(5)["path"], "last_path": row(8)["path"], "results": [],
    }  # fmt: skip
    for segment in (first, second):
        assert json.loads((tmp_path / "segments" / segment["id"] / "segment.json").read_text()) == segment
    rejects = pq.read_table(tmp_path / "segments" / second["id"] / "rejects.parquet")
    assert rejects.schema.equals(schemas.REJECTS)
    assert rejects["path"].to_pylist() == [row(number)["path"] for number in (5, 6, 7, 8)]


@pytest.mark.parametrize("rows_per_segment", [3, 100])
def test_every_segment_has_its_moments_beside_its_features(
    tmp_path: Path, rows_per_segment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "ROWS_PER_SEGMENT", rows_per_segment)
    monkeypatch.setattr(segments, "ROWS_PER_GROUP", 2)
    written = [{"features": stage(tmp_path, f"t{n}.parquet", numbers)} for n, numbers in enumerate(TASKS)]
    found = gather(tmp_path, written)
    folder = f"file://{tmp_path}/segments"
    files = parts.files(folder, [f"{segment['id']}/features.parquet" for segment in found])
    stored = [stored_moments.read(folder, file, 3) for file in files]
    assert [rows for each in stored for rows in each.rows] == [rows for file in files for rows in file.rows]
    assert max(rows for each in stored for rows in each.rows) == 2
    total = functools.reduce(moments.merge, (each.moments for each in stored))
    vectors = np.repeat(np.arange(12.0)[:, np.newaxis], 3, axis=1)
    np.testing.assert_allclose(total.covariance, np.cov(vectors.T), rtol=1e-13)
    np.testing.assert_allclose(total.mean, [5.5] * 3, rtol=1e-13)


@pytest.mark.parametrize("written", [[], [{}, {}]])
def test_nothing_written_is_no_segment(tmp_path: Path, written: list[dict[str, Written]]) -> None:
    assert gather(tmp_path, written) == []
    assert not (tmp_path / "segments").exists()


def test_a_run_without_rejects_has_an_empty_dataset_with_its_schema(tmp_path: Path) -> None:
    found = gather(tmp_path, [{"features": stage(tmp_path, "t.parquet", range(2))}])
    segments.write_rejects(f"file://{tmp_path}/rejects.parquet", f"file://{tmp_path}/segments", found)
    table = pq.read_table(tmp_path / "rejects.parquet")
    assert table.schema.equals(schemas.REJECTS)
    assert table.num_rows == 0


def test_a_segment_is_full_but_not_fuller() -> None:
    tasks = [{"features": Written(str(rows), rows)} for rows in (20_000, 30_000, 1, 49_999, 50_001, 5)]
    tasks[1] = {"features": Written("30000", 29_000), "rejects": Written("30000", 1_000)}
    names = [[task["features"].name for task in share] for share in staging.share_out(tasks)]
    assert names == [["20000", "30000"], ["1", "49999"], ["50001"], ["5"]]
    assert staging.share_out([]) == staging.share_out([{}]) == []
