from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_jobs.errors import JobError
from spark_jobs.lake import parts
from spark_jobs.lake.parts import Piece
from spark_jobs.pca import blocks
from tests.spark_jobs.feature_runs import feature_file, feature_files, feature_name, path_of, realistic, write_run


def pieces_of(run: str) -> list[Piece]:
    return parts.pieces(feature_files(run))


def read(run: str, pieces: list[Piece], d: int) -> list[blocks.Block]:
    return list(blocks.read(f"{run}/segments", pieces, d))


def read_all(run: str, d: int) -> tuple[list[str], np.ndarray]:
    found = read(run, pieces_of(run), d)
    paths = [path for block in found for path in block.rows.column("path").to_pylist()]
    return paths, np.concatenate([block.vectors for block in found])


def change_features(run: str, change) -> None:
    """Write the features of the first file again as ``change`` returns them."""
    file = feature_file(Path(run.removeprefix("file://")), 0)
    table = pq.read_table(file)
    pq.write_table(table.set_column(2, "features", change(table["features"].combine_chunks())), file)


def test_features_come_in_the_order_of_their_files(tmp_path: Path) -> None:
    vectors = realistic(33, 4)
    run = write_run(tmp_path / "run", vectors, rows_a_file=7)
    pieces = pieces_of(run)
    assert [piece.path for piece in pieces] == [feature_name(number) for number in range(5)]
    paths, found = read_all(run, 4)
    assert paths == [path_of(row) for row in range(33)]
    np.testing.assert_array_equal(found, vectors)


def test_rows_come_in_bounded_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path, realistic(50, 3), rows_a_file=50)
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 16)
    assert [len(block.vectors) for block in read(run, pieces_of(run), 3)] == [16, 16, 16, 2]


def test_a_block_is_of_one_row_group(tmp_path: Path) -> None:
    vectors = realistic(20, 3)
    run = write_run(tmp_path, vectors, rows_a_file=20)
    file = feature_file(tmp_path, 0)
    pq.write_table(pq.read_table(file), file, row_group_size=8)
    found = read(run, pieces_of(run)[1:], 3)
    assert [(block.piece.row_group, len(block.vectors)) for block in found] == [(1, 8), (2, 4)]
    np.testing.assert_array_equal(np.concatenate([block.vectors for block in found]), vectors[8:])


@pytest.mark.parametrize("element", [pa.float16(), pa.float32(), pa.float64()], ids=str)
@pytest.mark.parametrize(
    "make", [pa.list_, pa.large_list, lambda element: pa.list_(element, 3)], ids=["list", "large", "fixed"]
)
def test_lists_of_any_floats_are_features(tmp_path: Path, element: pa.DataType, make) -> None:
    vectors = np.arange(12, dtype=np.float64).reshape(4, 3) / 8
    run = write_run(tmp_path, vectors)
    change_features(run, lambda features: features.cast(pa.list_(element)).cast(make(element)))
    _, found = read_all(run, 3)
    assert found.dtype == element.to_pandas_dtype()
    np.testing.assert_array_equal(found, vectors)


def test_features_that_are_no_floats_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    run = write_run(tmp_path, [[1.0, 2.0]])
    change_features(run, lambda features: features.cast(pa.list_(pa.int32())))
    with pytest.raises(JobError, match=r"features.parquet have type list<.*int32>: expected lists of floats"):
        read_all(run, 2)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path, [[1.0, 2.0]])
    file = feature_file(tmp_path, 0)
    pq.write_table(pq.read_table(file).drop_columns(["label"]), file)
    with pytest.raises(JobError, match=r"features.parquet has no column label: expected path, label, features"):
        read_all(run, 2)


def test_blocks_do_not_depend_on_the_sizes_of_batches() -> None:
    vectors = realistic(20, 3)
    for rows, cuts in itertools.product((1, 4, 100), ([], [1, 2, 3], [5, 5, 19], [12])):
        found = [block.copy() for block in blocks.refill(np.split(vectors, cuts), rows)]
        assert [len(block) for block in found] == [rows] * (20 // rows) + ([20 % rows] if 20 % rows else [])
        assert found[0].dtype == np.float64
        np.testing.assert_array_equal(np.concatenate(found), vectors)
        assert list(blocks.refill([], rows)) == []


@pytest.mark.parametrize(
    ("vector", "problem"),
    [
        ([1.0, 2.0], "has 2 values: expected 3 features"),
        ([1.0, 2.0, 3.0, 4.0], "has 4 values: expected 3 features"),
        ([], "has 0 values: expected 3 features"),
        (None, "has no vector: expected 3 features"),
        ([1.0, None, 3.0], "feature 1 of .* is null: expected a finite number"),
        ([1.0, 2.0, float("nan")], "feature 2 of .* is nan: expected a finite number"),
        ([float("-inf"), 2.0, 3.0], "feature 0 of .* is -inf: expected a finite number"),
    ],
)
def test_an_unusable_vector_is_an_error_that_names_the_image(tmp_path: Path, vector: object, problem: str) -> None:
    vectors = realistic(12, 3).tolist()
    vectors[8] = vector
    run = write_run(tmp_path, vectors)
    with pytest.raises(JobError, match=problem) as error:
        read_all(run, 3)
    assert path_of(8) in str(error.value)
