from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from spark_jobs import blocks
from spark_jobs.blocks import Piece
from spark_jobs.errors import JobError
from tests.spark_jobs.feature_runs import path_of, realistic, write_run


def read_all(folder: str, pieces: list[Piece], d: int) -> tuple[list[str], np.ndarray]:
    read = list(blocks.read(folder, pieces, d))
    return [path for rows, _ in read for path in rows.column("path").to_pylist()], np.concatenate([v for _, v in read])


def test_features_come_in_the_order_of_their_files(tmp_path: Path) -> None:
    vectors = realistic(33, 4)
    folder = write_run(tmp_path / "run", vectors, rows_a_file=7) + "/features"
    pieces = blocks.pieces(folder)
    assert [Path(piece.path).name for piece in pieces] == [f"part-{number:05d}.parquet" for number in range(5)]
    paths, found = read_all(folder, pieces, 4)
    assert paths == [path_of(row) for row in range(33)]
    np.testing.assert_array_equal(found, vectors)


def test_what_is_not_data_is_not_read(tmp_path: Path) -> None:
    write_run(tmp_path, realistic(4, 3))
    features = tmp_path / "features"
    data = (features / "part-00000.parquet").read_bytes()
    for name in ("_temporary/0/part-00009.parquet", ".part-00000.parquet", "_metadata.parquet", "notes.txt"):
        (features / name).parent.mkdir(parents=True, exist_ok=True)
        (features / name).write_bytes(data)
    assert [Path(piece.path).name for piece in blocks.pieces(features.as_uri())] == ["part-00000.parquet"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"nowhere is not there: expected the features that featurize writes"):
        blocks.pieces((tmp_path / "nowhere").as_uri())


def test_a_large_file_is_split_by_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = realistic(100, 8)
    folder = write_run(tmp_path, vectors, rows_a_file=100) + "/features"
    file = tmp_path / "features" / "part-00000.parquet"
    pq.write_table(pq.read_table(file), file, row_group_size=30)
    (whole,) = blocks.pieces(folder)
    assert (whole.row_group, whole.bytes) == (None, file.stat().st_size)
    monkeypatch.setattr(blocks, "PART_BYTES", whole.bytes // 3)
    pieces = blocks.pieces(folder)
    assert [piece.row_group for piece in pieces] == [0, 1, 2, 3]
    assert 0.99 * whole.bytes < sum(piece.bytes for piece in pieces) <= whole.bytes
    parts = blocks.split(pieces)
    assert 1 < len(parts) <= 3
    np.testing.assert_array_equal(np.concatenate([read_all(folder, part, 8)[1] for part in parts]), vectors)


def test_rows_come_in_bounded_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_run(tmp_path, realistic(50, 3), rows_a_file=50) + "/features"
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 16)
    assert [len(vectors) for _, vectors in blocks.read(folder, blocks.pieces(folder), 3)] == [16, 16, 16, 2]


@pytest.mark.parametrize("count", [1, 2, 31, 33, 5000])
def test_parts_are_consecutive_bounded_and_lose_nothing(count: int) -> None:
    sizes = np.random.default_rng(count).integers(1, 3 * blocks.PART_BYTES, size=count)
    pieces = [Piece(str(number), int(size), None, int(size)) for number, size in enumerate(sizes)]
    parts = blocks.split(pieces)
    assert [piece for part in parts for piece in part] == pieces
    assert all(parts)
    assert len(parts) <= blocks.MAX_PARTS
    if count > blocks.MAX_PARTS * 10:
        loads = [sum(piece.bytes for piece in part) for part in parts]
        assert max(loads) < 1.1 * min(loads)


def test_few_bytes_are_one_part_and_nothing_is_none() -> None:
    assert len(blocks.split([Piece(str(number), 1000, None, 1000) for number in range(100)])) == 1
    assert blocks.split([]) == []


@pytest.mark.parametrize("rows", [1, 4, 100])
@pytest.mark.parametrize("cuts", [[], [1, 2, 3], [5, 5, 19], [12]])
def test_blocks_do_not_depend_on_how_the_rows_came(rows: int, cuts: list[int]) -> None:
    vectors = realistic(20, 3)
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
    folder = write_run(tmp_path, vectors) + "/features"
    with pytest.raises(JobError, match=problem) as error:
        list(blocks.read(folder, blocks.pieces(folder), 3))
    assert path_of(8) in str(error.value)
