from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.decomposition import PCA

from benchmarks.pca import checks, synthetic
from spark_jobs.args import SEGMENTS_FOLDER

IMAGES, DIMENSIONS, TARGET = 400, 16, 0.8


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("checks") / "run"
    synthetic.write_run(run, IMAGES, DIMENSIONS)
    synthetic.link_without_moments(run, run.with_name("raw"))
    return run.with_name("raw") / SEGMENTS_FOLDER


@pytest.fixture(scope="module")
def reference(features: Path) -> checks.Reference:
    return checks.reference(features, TARGET)


@pytest.fixture(scope="module")
def scores(features: Path) -> tuple[pa.Table, list[float]]:
    """scikit-learn's centred scores and ratios of the features."""
    table = pq.read_table(features)
    vectors = np.array(table["features"].to_pylist(), dtype=np.float64)
    pca = PCA(TARGET, svd_solver="covariance_eigh").fit(vectors)
    return with_components(table.select(["path", "label"]), pca.transform(vectors)), list(pca.explained_variance_ratio_)


def with_components(table: pa.Table, matrix: np.ndarray, kind: pa.DataType | None = None) -> pa.Table:
    names = [name for name in table.column_names if name != "components"]
    column = pa.array(matrix.tolist(), pa.list_(kind or pa.float64()))
    return table.select(names).append_column("components", column)


def components(table: pa.Table) -> np.ndarray:
    return np.array(table["components"].to_pylist())


def checked(
    folder: Path, table: pa.Table, ratio: list[float], reference: checks.Reference, *, exact: bool = True
) -> checks.Difference:
    pq.write_table(table, folder / "scores.parquet")
    return checks.check(folder, ratio, reference, centred=True, exact=exact)


def test_the_reference_is_scikit_learns_pca(
    tmp_path: Path, scores: tuple[pa.Table, list[float]], reference: checks.Reference
) -> None:
    difference = checked(tmp_path, *scores, reference)
    assert 0 < difference.score < 1e-12
    assert difference.ratio < 1e-12


def test_signs_order_and_files_do_not_matter(
    tmp_path: Path, scores: tuple[pa.Table, list[float]], reference: checks.Reference
) -> None:
    table, ratio = scores
    flipped = components(table) * np.where(np.arange(reference.k) % 2, 1, -1)
    shuffled = with_components(table, flipped).take(np.random.default_rng(0).permutation(IMAGES))
    pq.write_table(shuffled.slice(0, 100), tmp_path / "part-1.parquet")
    pq.write_table(shuffled.slice(100), tmp_path / "part-0.parquet")
    assert checks.check(tmp_path, ratio, reference, centred=True, exact=True).score < 1e-12


def test_uncentred_scores_are_the_centred_scores_plus_their_mean(
    tmp_path: Path, scores: tuple[pa.Table, list[float]], reference: checks.Reference
) -> None:
    table, ratio = scores
    signs = np.sign((components(table) * (reference.projected - reference.mean)).sum(axis=0))
    pq.write_table(with_components(table, components(table) * signs + reference.mean), tmp_path / "part-0.parquet")
    assert checks.check(tmp_path, ratio, reference, centred=False, exact=True).score < 1e-12
    with pytest.raises(ValueError, match="a score differs"):
        checks.check(tmp_path, ratio, reference, centred=True, exact=True)


@pytest.mark.parametrize("wrong", [3e-5, np.nan])
def test_one_wrong_score_is_refused(
    tmp_path: Path, scores: tuple[pa.Table, list[float]], reference: checks.Reference, wrong: float
) -> None:
    table, ratio = scores
    matrix = components(table)
    matrix[7, -1] += wrong * np.abs(matrix).max()
    with pytest.raises(ValueError, match="a score differs"):
        checked(tmp_path, with_components(table, matrix), ratio, reference)


def test_scores_of_other_images_are_refused(
    tmp_path: Path, scores: tuple[pa.Table, list[float]], reference: checks.Reference
) -> None:
    table, ratio = scores
    with pytest.raises(ValueError, match="a score differs"):
        checked(tmp_path, with_components(table, np.roll(components(table), 1, axis=0)), ratio, reference)


@pytest.mark.parametrize(("exact", "wrong"), [(True, 2e-6), (False, 2e-3), (True, np.nan)])
def test_a_wrong_ratio_is_refused(
    tmp_path: Path, scores: tuple[pa.Table, list[float]], reference: checks.Reference, exact: bool, wrong: float
) -> None:
    table, ratio = scores
    with pytest.raises(ValueError, match="an explained variance ratio differs"):
        checked(tmp_path, table, [ratio[0] + wrong, *ratio[1:]], reference, exact=exact)


def test_the_difference_of_an_inexact_side_is_reported(
    tmp_path: Path, scores: tuple[pa.Table, list[float]], reference: checks.Reference
) -> None:
    table, ratio = scores
    matrix = components(table)
    matrix[7, 0] += 1e-3 * np.abs(matrix).max()
    difference = checked(tmp_path, with_components(table, matrix), ratio, reference, exact=False)
    assert difference.score == pytest.approx(1e-3, rel=1e-6)


def test_another_number_of_components_is_refused(
    tmp_path: Path, scores: tuple[pa.Table, list[float]], reference: checks.Reference
) -> None:
    table, ratio = scores
    with pytest.raises(ValueError, match=f"not every row has {reference.k} components"):
        checked(tmp_path, with_components(table, components(table)[:, :-1]), ratio, reference)
    with pytest.raises(ValueError, match="explained variance ratios: expected"):
        checked(tmp_path, table, ratio[:-1], reference)


def test_float32_scores_are_refused(
    tmp_path: Path, scores: tuple[pa.Table, list[float]], reference: checks.Reference
) -> None:
    table, ratio = scores
    with pytest.raises(ValueError, match="expected lists of float64"):
        checked(tmp_path, with_components(table, components(table), pa.float32()), ratio, reference)


@pytest.mark.parametrize("rows", [range(1, IMAGES), [*range(IMAGES), 3], [*range(IMAGES - 1), 0]])
def test_missing_and_duplicated_rows_are_refused(
    tmp_path: Path, scores: tuple[pa.Table, list[float]], reference: checks.Reference, rows: list[int]
) -> None:
    table, ratio = scores
    with pytest.raises(ValueError, match=r"rows for \d+ of the 400 images"):
        checked(tmp_path, table.take(list(rows)), ratio, reference)


def test_a_wrong_label_is_refused(
    tmp_path: Path, scores: tuple[pa.Table, list[float]], reference: checks.Reference
) -> None:
    table, ratio = scores
    labels = table["label"].to_pylist()
    labels[0] = "Lemon"
    relabelled = table.set_column(table.column_names.index("label"), "label", pa.array(labels))
    with pytest.raises(ValueError, match="1 rows have a wrong label"):
        checked(tmp_path, relabelled, ratio, reference)
