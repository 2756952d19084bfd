from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from spark_jobs.errors import JobError
from spark_jobs.lake import parts
from spark_jobs.lake.parts import Piece
from spark_jobs.pca import blocks
from tests.spark_jobs.feature_runs import realistic, write_run


def test_what_is_not_data_is_not_read(tmp_path: Path) -> None:
    write_run(tmp_path, realistic(4, 3))
    features = tmp_path / "features"
    data = (features / "part-00000.parquet").read_bytes()
    for name in ("_temporary/0/part-00009.parquet", ".part-00000.parquet", "_metadata.parquet", "notes.txt"):
        (features / name).parent.mkdir(parents=True, exist_ok=True)
        (features / name).write_bytes(data)
    assert [file.name for file in parts.files(features.as_uri())] == ["part-00000.parquet"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"nowhere does not exist: expected the features that featurize writes"):
        parts.files((tmp_path / "nowhere").as_uri())


def test_a_file_is_split_by_row_groups_and_footers_tell_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = realistic(100, 8)
    folder = write_run(tmp_path, vectors, rows_a_file=100) + "/features"
    target = tmp_path / "features" / "part-00000.parquet"
    pq.write_table(pq.read_table(target), target, row_group_size=30)
    (file,) = parts.files(folder)
    assert (file.name, file.bytes, file.rows) == ("part-00000.parquet", target.stat().st_size, (30, 30, 30, 10))
    assert (file.digest, sum(file.sizes) < file.bytes) == (None, True)
    pieces = parts.pieces([file])
    assert [(piece.row_group, piece.rows) for piece in pieces] == [(0, 30), (1, 30), (2, 30), (3, 10)]
    monkeypatch.setattr(parts, "PART_BYTES", sum(file.sizes) // 3)
    shares = parts.split(pieces)
    assert 1 < len(shares) <= 3
    read = [block.vectors for share in shares for block in blocks.read(folder, share, 8)]
    np.testing.assert_array_equal(np.concatenate(read), vectors)


def test_files_without_rows_have_no_pieces(tmp_path: Path) -> None:
    folder = write_run(tmp_path, realistic(4, 3), rows_a_file=4) + "/features"
    target = tmp_path / "features" / "part-00000.parquet"
    pq.write_table(pq.read_table(target).slice(0, 0), target.with_name("part-00001.parquet"))
    files = parts.files(folder)
    assert [sum(file.rows) for file in files] == [4, 0]
    assert [Path(piece.path).name for piece in parts.pieces(files)] == ["part-00000.parquet"]


@pytest.mark.parametrize("count", [1, 2, 31, 33, 5000])
def test_parts_are_consecutive_bounded_and_lose_nothing(count: int) -> None:
    sizes = np.random.default_rng(count).integers(1, 3 * parts.PART_BYTES, size=count)
    pieces = [Piece(str(number), int(size), 0, 1, int(size)) for number, size in enumerate(sizes)]
    shares = parts.split(pieces)
    assert [piece for share in shares for piece in share] == pieces
    assert all(shares)
    assert len(shares) <= parts.MAX_PARTS
    if count > parts.MAX_PARTS * 10:
        loads = [sum(piece.bytes for piece in share) for share in shares]
        assert max(loads) < 1.1 * min(loads)


def test_few_bytes_are_one_part_and_nothing_is_none() -> None:
    assert len(parts.split([Piece(str(number), 1000, 0, 1, 1000) for number in range(100)])) == 1
    assert parts.split([]) == []
