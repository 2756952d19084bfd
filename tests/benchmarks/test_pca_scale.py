from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import pipeline, process
from benchmarks.pca import scale
from benchmarks.table import Bench
from spark_jobs.lake.schemas import SCORES

MATRIX = np.random.default_rng(0).normal(size=(7, 3)) * [1, 1e-9, 1e12]
LABELS = ["Apple", 'Pear, "green"', "Fruit 003", "", "Nectarine", "b", "Noël"]


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    folder = tmp_path / "scores"
    folder.mkdir()
    for number, rows in enumerate((slice(0, 4), slice(4, 7))):
        columns = [[str(row) for row in range(7)][rows], LABELS[rows], MATRIX[rows].tolist()]
        pq.write_table(pa.table(columns, schema=SCORES), folder / f"part-{number:05}.parquet")
    return folder


def write_csv(file: Path, matrix: np.ndarray, labels: list[str], columns: int = 3) -> Path:
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*(f"F {number}" for number in range(1, columns + 1)), "label"])
        writer.writerows([*map(repr, row), label] for row, label in zip(matrix.tolist(), labels, strict=True))
    return file


def test_a_csv_of_the_scores_is_accepted(tmp_path: Path, scores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "CSV_BLOCK_BYTES", 200)  # several blocks, which end within files of scores
    scale.check_csv(write_csv(tmp_path / "a.csv", MATRIX, LABELS), scores, 7, 3)


def test_a_csv_that_differs_in_the_last_bit_is_refused(tmp_path: Path, scores: Path) -> None:
    matrix = MATRIX.copy()
    matrix[5, 2] = np.nextafter(matrix[5, 2], np.inf)
    with pytest.raises(SystemExit, match=r"a.csv and the scores differ in values, labels or order"):
        scale.check_csv(write_csv(tmp_path / "a.csv", matrix, LABELS), scores, 7, 3)


def test_a_csv_in_another_order_is_refused(tmp_path: Path, scores: Path) -> None:
    with pytest.raises(SystemExit, match="labels or order"):
        scale.check_csv(write_csv(tmp_path / "a.csv", MATRIX, LABELS[::-1]), scores, 7, 3)
    with pytest.raises(SystemExit, match="labels or order"):
        scale.check_csv(write_csv(tmp_path / "a.csv", MATRIX[::-1], LABELS), scores, 7, 3)


def test_a_csv_without_a_row_is_refused(tmp_path: Path, scores: Path) -> None:
    file = write_csv(tmp_path / "a.csv", MATRIX[:-1], LABELS[:-1])
    with pytest.raises(SystemExit, match=r"a.csv has 6 rows, the scores have 7: expected 7 in both"):
        scale.check_csv(file, scores, 7, 3)


def test_fewer_scores_than_images_are_refused(tmp_path: Path, scores: Path) -> None:
    with pytest.raises(SystemExit, match=r"a.csv has 7 rows, the scores have 7: expected 8 in both"):
        scale.check_csv(write_csv(tmp_path / "a.csv", MATRIX, LABELS), scores, 8, 3)


def test_a_csv_of_other_columns_is_refused(tmp_path: Path, scores: Path) -> None:
    with pytest.raises(SystemExit, match=r"expected F 1 … F 2, label"):
        scale.check_csv(write_csv(tmp_path / "a.csv", MATRIX, LABELS), scores, 7, 2)


@pytest.mark.slow
def test_fits_and_the_csv_are_measured(tmp_path: Path) -> None:
    work = tmp_path / "pcascale"
    pipeline.write_code(work)
    bench = Bench(tmp_path, 0, tmp_path, tmp_path, work, "local[2]", laps=1, sizes=(40,))
    result = scale.measure(bench, dimensions=12)
    (fit,) = result["fits"]
    assert fit["images"] == 40
    for kind in ("stored", "raw"):
        assert 0 <= fit[kind]["moments_and_fit_seconds"] < fit[kind]["step_seconds"]
    assert fit["raw"]["moments_seconds"] > 0
    assert (result["csv"]["images"], result["csv"]["columns"]) == (400, 61)
    assert 150 < result["csv"]["driver_memory_mib"] < 1024
    shown = "\n".join(scale.lines(result))
    assert "CSV of 400 rows, 61 columns" in shown
    assert list(work.glob("runs/*")) == []


def test_the_drivers_memory_is_that_of_its_jvm_and_its_python() -> None:
    peaks = (
        ("bash spark-class org.apache.spark.deploy.SparkSubmit", 4.0),
        ("java -cp jars org.apache.spark.launcher.Main org.apache.spark.deploy.SparkSubmit pca.py", 60.0),
        ("java -Xmx1g org.apache.spark.deploy.SparkSubmit pca.py", 300.0),
        ("java -Xmx1g org.apache.spark.deploy.SparkSubmit pca.py", 290.0),  # a fork of it
        ("python pca.py --run=x", 200.0),
        ("python -m pyspark.daemon pyspark.worker", 45.0),
        ("python -m pyspark.daemon pyspark.worker", 250.0),
    )
    assert pipeline.driver_memory_mib(process.Measured("", 1.0, 700.0, peaks)) == 504
