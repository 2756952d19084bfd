"""From the tasks' files to the datasets: the results decide which files count, and the order is the listing's."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_jobs.featurize import extraction, staging
from spark_jobs.featurize.staging import Written
from spark_jobs.lake import parts, schemas
from spark_jobs.numerics import moments, stored_moments

MODIFIED = datetime(2026, 11, 22, tzinfo=UTC)


def row(number: int) -> dict[str, Any]:
    return {"path": f"file:///d/{number:04}.jpg", "label": "d", "size": 1, "modification_time": MODIFIED}


def stage(folder: Path, name: str, numbers: range) -> Written:
    """Write features of some images as a task does."""
    target = folder / staging.FOLDER / "features" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    rows = [row(number) | {"features": [float(number)] * 3} for number in numbers]
    pq.write_table(pa.Table.from_pylist(rows, schema=schemas.FEATURES), target)
    return Written(name, len(rows))


def gathered(folder: Path, kind: str = "features") -> pa.Table:
    files = sorted((folder / kind).glob("*"))
    return pa.concat_tables([pq.read_table(file) for file in files])


class Here:
    """What :func:`staging.gather` needs of a Spark context, in this process."""

    def parallelize(self, items: list[Any], parts: int) -> Here:
        assert len(items) == parts
        self._items = items
        return self

    def map(self, work: Any) -> Here:
        self._work = work
        return self

    def collect(self) -> list[Any]:
        for item in reversed(self._items):  # in any order, and each twice, as Spark may
            self._work(item)
        return [self._work(item) for item in self._items]


def test_only_files_that_results_name_are_gathered(tmp_path: Path) -> None:
    written = [
        {"features": stage(tmp_path, f"part-{task:05d}-b.parquet", range(task * 3, task * 3 + 3))} for task in range(4)
    ]
    stage(tmp_path, "part-00001-a.parquet", range(3, 6))  # a try that was lost after it had written all
    stage(tmp_path, "part-00002-c.parquet", range(6, 7))  # a speculative one, half done
    staging.gather(Here(), tmp_path.as_uri(), written)  # type: ignore[arg-type]
    assert gathered(tmp_path)["path"].to_pylist() == [row(number)["path"] for number in range(12)]
    assert gathered(tmp_path)["features"].to_pylist() == [[float(number)] * 3 for number in range(12)]


@pytest.mark.parametrize("rows_per_file", [1, 3, 4, 7, 100])
def test_order_and_rows_do_not_depend_on_the_files(
    tmp_path: Path, rows_per_file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "ROWS_PER_FILE", rows_per_file)
    tasks = [range(2), range(2, 3), range(3, 7), range(7, 12)]
    written = [{"features": stage(tmp_path, f"t{n}.parquet", numbers)} for n, numbers in enumerate(tasks)]
    staging.gather(Here(), tmp_path.as_uri(), [*written, {}])  # type: ignore[arg-type]
    table = gathered(tmp_path)
    assert table["path"].to_pylist() == [row(number)["path"] for number in range(12)]
    assert table.schema.equals(schemas.FEATURES)
    assert len(list((tmp_path / "features").iterdir())) <= len(tasks)


@pytest.mark.parametrize("rows_per_file", [3, 100])
def test_every_file_of_features_has_its_moments_beside_it(
    tmp_path: Path, rows_per_file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "ROWS_PER_FILE", rows_per_file)
    monkeypatch.setattr(extraction, "ROWS_PER_BATCH", 2)
    tasks = [range(2), range(2, 3), range(3, 7), range(7, 12)]
    written = [{"features": stage(tmp_path, f"t{n}.parquet", numbers)} for n, numbers in enumerate(tasks)]
    staging.gather(Here(), tmp_path.as_uri(), written)  # type: ignore[arg-type]
    files = parts.files((tmp_path / "features").as_uri())
    assert [path.stem for path in sorted((tmp_path / "moments").iterdir())] == [file.name[:-8] for file in files]
    stored = [stored_moments.read((tmp_path / "moments").as_uri(), file, 3) for file in files]
    assert [rows for each in stored for rows in each.rows] == [rows for file in files for rows in file.rows]
    assert max(rows for each in stored for rows in each.rows) == 2
    total = functools.reduce(moments.merge, (each.moments for each in stored))
    vectors = np.repeat(np.arange(12.0)[:, np.newaxis], 3, axis=1)
    np.testing.assert_allclose(total.covariance, np.cov(vectors.T), rtol=1e-13)
    np.testing.assert_allclose(total.mean, [5.5] * 3, rtol=1e-13)


def test_no_features_have_no_moments(tmp_path: Path) -> None:
    staging.gather(Here(), tmp_path.as_uri(), [])  # type: ignore[arg-type]
    assert gathered(tmp_path).num_rows == 0
    assert not (tmp_path / "moments").exists()


def test_a_kind_without_a_row_is_an_empty_dataset_with_its_schema(tmp_path: Path) -> None:
    staging.gather(Here(), tmp_path.as_uri(), [{"features": stage(tmp_path, "t.parquet", range(2))}])  # type: ignore[arg-type]
    assert gathered(tmp_path, "rejects").schema.equals(schemas.REJECTS)
    assert gathered(tmp_path, "rejects").num_rows == 0


def test_an_output_file_is_full_but_not_fuller() -> None:
    files = [Written(str(rows), rows) for rows in (20_000, 30_000, 1, 49_999, 50_001, 5)]
    assert staging.share_out(files) == [["20000", "30000"], ["1", "49999"], ["50001"], ["5"]]
    assert staging.share_out([]) == [[]]
