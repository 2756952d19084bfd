from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from spark_jobs.errors import JobError
from spark_jobs.lake import parts
from spark_jobs.lake.parts import Piece
from spark_jobs.lake.schemas import SCORES
from spark_jobs.numerics import decomposition, moments
from spark_jobs.numerics.stored_moments import VectorsDigest
from spark_jobs.pca import blocks, scores
from spark_jobs.quality import sampling
from tests.spark_jobs.feature_runs import feature_files, path_of, realistic, write_run


def fitted_on(vectors: np.ndarray, target: float = 0.9) -> decomposition.FittedPca:
    return decomposition.fit(moments.compute(vectors.astype(np.float64)), target)


def pieces_of(run: str) -> list[Piece]:
    return parts.pieces(feature_files(run))


def test_scores_of_a_part_solved_by_hand(tmp_path: Path) -> None:
    run = write_run(tmp_path, [[1.0, 2.0], [3.0, 4.0]])
    components = np.array([[0.6, 0.8], [0.8, -0.6]])
    fitted = decomposition.FittedPca(2, components, np.zeros(2), np.ones(2), np.full(2, 0.5))
    file = tmp_path / "part-00000.parquet"
    scores.write(f"{run}/segments", pieces_of(run), fitted, file.as_uri())
    written = pq.read_table(file)
    assert written.num_rows == 2
    assert written.schema.equals(SCORES)
    assert written.column("path").to_pylist() == [path_of(0), path_of(1)]
    assert written.column("label").to_pylist() == ["Apple 0", "Apple 1"]
    np.testing.assert_allclose(written.column("components").to_pylist(), [[2.2, -0.4], [5.0, 0.0]], atol=1e-15)


def test_row_groups_are_put_together_and_rows_stay_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = realistic(60, 5)
    run = write_run(tmp_path, vectors, rows_a_file=4)
    fitted = fitted_on(vectors)
    monkeypatch.setattr(scores, "ROW_GROUP_BYTES", 16 * 8 * fitted.k)
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 16)
    file = tmp_path / "part-00000.parquet"
    scores.write(f"{run}/segments", pieces_of(run), fitted, file.as_uri())
    metadata = pq.read_metadata(file)
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [16, 16, 16, 12]
    written = pq.read_table(file)
    assert written.column("path").to_pylist() == [path_of(row) for row in range(60)]
    expected = vectors.astype(np.float64) @ fitted.components.T
    np.testing.assert_allclose(np.array(written.column("components").to_pylist()), expected, rtol=1e-12, atol=1e-12)


def test_a_worker_reports_digests_and_its_images_of_the_sample(tmp_path: Path) -> None:
    vectors = realistic(20, 3)
    run = write_run(tmp_path, vectors, rows_a_file=5)
    paths = [path_of(row) for row in range(20)]
    keys = sampling.keys(paths, seed=3)
    wanted = np.flatnonzero(keys <= np.sort(keys)[6])
    rule = scores.SampleRule(seed=3, largest_key=int(np.sort(keys)[6]))
    report = scores.write(
        f"{run}/segments", pieces_of(run), fitted_on(vectors), (tmp_path / "x.parquet").as_uri(), rule
    )
    assert pq.read_metadata(tmp_path / "x.parquet").num_rows == 20
    digests = []
    for start in range(0, 20, 5):
        digest = VectorsDigest()
        digest.update(vectors[start : start + 5])
        digests.append(str(digest))
    assert list(report.digests.values()) == digests
    found = sampling.merge(report.samples, 100)
    assert found.keys.tolist() == sorted(keys[wanted].tolist())
    assert sorted(map(tuple, found.vectors.tolist())) == sorted(map(tuple, vectors[wanted].tolist()))


def test_scores_that_are_not_finite_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    run = write_run(tmp_path, np.full((3, 4), 3e38))
    fitted = decomposition.FittedPca(3, np.full((1, 4), 1e300), np.zeros(4), np.ones(4), np.full(4, 0.25))
    with pytest.raises(JobError, match=r"features.parquet are not finite: its features are too large"):
        scores.write(f"{run}/segments", pieces_of(run), fitted, (tmp_path / "out" / "x.parquet").as_uri())
    assert list((tmp_path / "out").iterdir()) == []
