from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from spark_jobs.errors import JobError
from spark_jobs.lake import parts
from spark_jobs.lake.parts import Piece
from spark_jobs.pca import blocks
from tests.spark_jobs.feature_runs import feature_file, feature_files, feature_name, realistic, write_run


def test_files_come_in_the_order_of_their_names_and_others_are_not_read(tmp_path: Path) -> None:
    folder = write_run(tmp_path, realistic(15, 3)) + "/segments"
    names = [feature_name(number) for number in (2, 0)]
    assert [file.name for file in parts.files(folder, names)] == names
    assert parts.files(folder, []) == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path, realistic(4, 3)) + "/segments"
    with pytest.raises(JobError, match=r"/nowhere.parquet does not exist: expected the features that featurize writes"):
        parts.files(folder, [feature_name(0), "nowhere.parquet"])


def test_a_file_is_split_by_row_groups_and_footers_tell_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = realistic(100, 8)
    run = write_run(tmp_path, vectors, rows_a_file=100)
    target = feature_file(tmp_path, 0)
    pq.write_table(pq.read_table(target), target, row_group_size=30)
    (file,) = feature_files(run)
    assert (file.name, file.bytes, file.rows) == (feature_name(0), target.stat().st_size, (30, 30, 30, 10))
    assert file.digest is None
    pieces = parts.pieces([file])
    assert [(piece.row_group, piece.rows) for piece in pieces] == [(0, 30), (1, 30), (2, 30), (3, 10)]
    monkeypatch.setattr(parts, "PART_ROWS", 33)
    shares = parts.split(pieces)
    assert [sum(piece.rows for piece in share) for share in shares] == [60, 30, 10]
    read = [block.vectors for share in shares for block in blocks.read(f"{run}/segments", share, 8)]
    np.testing.assert_array_equal(np.concatenate(read), vectors)


def test_files_without_rows_have_no_pieces(tmp_path: Path) -> None:
    run = write_run(tmp_path, realistic(8, 3), rows_a_file=4)
    target = feature_file(tmp_path, 1)
    pq.write_table(pq.read_table(target).slice(0, 0), target)
    files = feature_files(run)
    assert [sum(file.rows) for file in files] == [4, 0]
    assert [piece.path for piece in parts.pieces(files)] == [feature_name(0)]


@pytest.mark.parametrize("count", [1, 2, 31, 33, 5000])
def test_parts_are_consecutive_bounded_and_lose_nothing(count: int) -> None:
    rows = np.random.default_rng(count).integers(1, 3 * parts.PART_ROWS, size=count)
    pieces = [Piece(str(number), 1, 0, int(each)) for number, each in enumerate(rows)]
    shares = parts.split(pieces)
    assert [piece for share in shares for piece in share] == pieces
    assert all(shares)
    assert len(shares) <= parts.MAX_PARTS
    if count > parts.MAX_PARTS * 10:
        loads = [sum(piece.rows for piece in share) for share in shares]
        assert max(loads) < 1.1 * min(loads)


def test_few_rows_are_one_part_and_nothing_is_none() -> None:
    assert len(parts.split([Piece(str(number), 1000, 0, 2 * parts.PART_ROWS // 101) for number in range(100)])) == 1
    assert parts.split([]) == []
