from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_jobs import blocks, decomposition, moments, schemas, scores
from spark_jobs.schemas import SCORES
from tests.spark_jobs.feature_runs import path_of, realistic, write_run

LABELS = ["Apple 1", "comma, label", 'a "quoted" one', "Pêche à l'eau", "50 % #1+", "two\nlines", "", "NaN", " x "]


def fitted_on(vectors: np.ndarray, target: float = 0.9) -> decomposition.FittedPca:
    return decomposition.fit(moments.of(vectors.astype(np.float64)), target)


def test_scores_of_a_part_solved_by_hand(tmp_path: Path) -> None:
    folder = write_run(tmp_path, [[1.0, 2.0], [3.0, 4.0]]) + "/features"
    components = np.array([[0.6, 0.8], [0.8, -0.6]])
    fitted = decomposition.FittedPca(2, components, np.zeros(2), np.ones(2), np.full(2, 0.5))
    file = tmp_path / "part-00000.parquet"
    assert scores.write(folder, blocks.pieces(folder), fitted, file.as_uri()) == 2
    written = pq.read_table(file)
    assert written.schema.equals(SCORES)
    assert written.column("path").to_pylist() == [path_of(0), path_of(1)]
    assert written.column("label").to_pylist() == ["Apple 0", "Apple 1"]
    np.testing.assert_allclose(written.column("components").to_pylist(), [[2.2, -0.4], [5.0, 0.0]], atol=1e-15)


def test_row_groups_are_put_together_and_rows_stay_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = realistic(60, 5)
    folder = write_run(tmp_path, vectors, rows_a_file=4) + "/features"
    fitted = fitted_on(vectors)
    monkeypatch.setattr(scores, "ROW_GROUP_BYTES", 2000)
    file = tmp_path / "part-00000.parquet"
    scores.write(folder, blocks.pieces(folder), fitted, file.as_uri())
    assert 1 < pq.ParquetFile(file).num_row_groups < 15
    written = pq.read_table(file)
    assert written.column("path").to_pylist() == [path_of(row) for row in range(60)]
    expected = vectors.astype(np.float64) @ fitted.components.T
    np.testing.assert_allclose(np.array(written.column("components").to_pylist()), expected, rtol=1e-12, atol=1e-12)


def write_scores(folder: Path, values: np.ndarray, labels: list[str], rows_a_file: int) -> str:
    folder.mkdir()
    table = pa.table([[path_of(row) for row in range(len(values))], labels, values.tolist()], schema=SCORES)
    for number, start in enumerate(range(0, len(values), rows_a_file)):
        pq.write_table(table.slice(start, rows_a_file), folder / schemas.FILE_NAME.format(number))
    return folder.as_uri()


@pytest.mark.parametrize("csv_rows", [1, 4, 1000])
def test_the_csv_has_the_bytes_of_pandas(tmp_path: Path, csv_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(6)
    values = random.normal(size=(36, 3)) * 10.0 ** random.integers(-20, 20, size=(36, 3))
    values[0] = [0.0, -0.0, 1e16]
    values[1] = [1e-5, 123456789012345680.0, 5e-324]
    values[2] = [0.1, 1 / 3, 1.7976931348623157e308]
    labels = LABELS * 4
    folder = write_scores(tmp_path / "scores", values, labels, rows_a_file=5)
    monkeypatch.setattr(scores, "CSV_ROWS", csv_rows)
    file = tmp_path / "pca_features.csv"
    assert scores.write_csv(folder, file.as_uri()) == 36
    frame = pd.DataFrame(values, columns=["F 1", "F 2", "F 3"]).assign(label=labels)
    reference = tmp_path / "reference.csv"
    frame.to_csv(reference, index=False)
    assert file.read_bytes() == reference.read_bytes()
    back = pd.read_csv(file, keep_default_na=False, float_precision="round_trip")
    pd.testing.assert_frame_equal(back, frame)


def test_a_failure_leaves_the_csv_as_it_was(tmp_path: Path) -> None:
    folder = write_scores(tmp_path / "scores", np.ones((9, 2)), LABELS, rows_a_file=3)
    (tmp_path / "scores" / schemas.FILE_NAME.format(2)).write_bytes(b"not Parquet")
    file = tmp_path / "out" / "pca_features.csv"
    file.parent.mkdir()
    file.write_text("old")
    with pytest.raises(pa.ArrowInvalid):
        scores.write_csv(folder, file.as_uri())
    assert file.read_text() == "old"
    assert list(file.parent.iterdir()) == [file]
